"""Small folders of images and the records of them, for the tests of writing and of reading records."""

import numpy as np
import tensorflow as tf

from keras_mixer.data import record_writing

COUNT = {"train": 12, "val": 3}  # images of each class


def png(value, side=9):
    return tf.io.encode_png(np.full((side, side + 1, 3), value, np.uint8)).numpy()


def jpeg():
    return tf.io.encode_jpeg(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)).numpy()


def write_originals(root):
    """Write root/images, of two splits and two classes, and root/records of them; return root."""
    for split, count in COUNT.items():
        for label, name in enumerate(["ant", "bee"]):
            (root / "images" / split / name).mkdir(parents=True)
            for i in range(count):
                (root / "images" / split / name / f"{i:02d}.png").write_bytes(png(100 * label + i))
    record_writing.write_records(root / "images", root / "records", num_shards=3)
    return root


def one_sentence(error):
    text = str(error.value)
    assert "\n" not in text
    assert text.endswith(".")
    return text


def read(source, seed=None, start=0, count=-1):
    return [tuple(x.numpy() for x in source.parse(r)) for r in source.records(seed, start).take(count)]
