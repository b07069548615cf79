"""Where examples come from: the embedded digits, a folder of class folders, or a TFDS dataset.

A `Source` gives records in a reproducible order: record k of a shuffled stream is a pure function of (seed, k), so a
run that restarts at step t sees the very examples that it would have seen.
"""

import dataclasses
import pathlib
import re
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from keras_mixer.data import decode

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp")
FLAT_TEST_FRACTION = 0.1


@dataclasses.dataclass(frozen=True)
class Source:
    """Labelled images in a reproducible order.

    Attributes:
        name: as the user gave it, with the split.
        num_examples: in one pass.
        class_names: label i is class_names[i].
        photographs: True where inception crops and horizontal flips keep the meaning of an image.
        records: (seed, start) -> tf.data.Dataset of raw records; one pass in order from record `start` for seed None,
            else endless, each pass shuffled anew.
        parse: record -> (image, label), the image either encoded bytes () or pixels (H, W, 1 or 3) uint8.
        find_unreadable: names the first file that cannot be decoded; None if the source has no files.
    """

    name: str
    num_examples: int
    class_names: tuple[str, ...]
    photographs: bool
    records: Callable[[int | None, int], tf.data.Dataset]
    parse: Callable
    find_unreadable: Callable[[], str | None] | None = None


def open_source(dataset, split=None, data_dir=None, *, training, seed=0):
    """Return the `Source` called `dataset`.

    Args:
        dataset: "digits", the path of a folder of class folders, or a TFDS name.
        split: for example "train" or "train[:99%]"; None takes "train" for training and the dataset's "validation",
            "val" or "test" otherwise, in this order.
        data_dir: where TFDS keeps its data; None is its default.
        training: whether the source is to train on.
        seed: of the split of a flat folder into train and test.

    Raises:
        ValueError: for an unknown dataset (naming near ones), an unknown split, or one without images.

    Example:
        >>> open_source("digits", training=False).num_examples
        360
    """
    if dataset == "digits":
        source = _digits(split or ("train" if training else "test"))
    elif pathlib.Path(dataset).is_dir():
        source = _image_folder(pathlib.Path(dataset), split, training, seed)
    elif ("/" in dataset and not re.fullmatch(r"[\w]+/[\w.:-]+", dataset)) or dataset.startswith((".", "~")):
        raise ValueError(f"dataset: the folder {dataset!r} does not exist or is not a folder.")
    else:
        from keras_mixer.data.tfds_source import tfds_source  # takes seconds to import

        source = tfds_source(dataset, split, data_dir, training)
    if not source.num_examples:
        raise ValueError(f"dataset: {source.name} has no images; give a split or a folder that has some.")
    return source


def indexed_records(num_examples, gather):
    """Return `Source.records` for data that can be read by index: fully random, and free to start anywhere."""

    def records(seed, start):
        if seed is None:
            return tf.data.Dataset.range(start, num_examples).map(gather)

        def shuffled(k):
            epoch, position = k // num_examples, k % num_examples
            key = tf.stack([tf.cast(seed, tf.int64), epoch])
            return gather(tf.random.experimental.index_shuffle(position, key, num_examples - 1))

        return tf.data.Dataset.range(start, np.iinfo(np.int64).max).map(shuffled)

    return records


def select(split, splits, name):
    """Return (base split, start, stop) for "train", "train[:99%]" or "train[100:200]"; `splits` maps name -> size."""
    match = re.fullmatch(r"([\w-]+)(?:\[(-?\d+%?)?:(-?\d+%?)?\])?", split)
    if not match or match[1] not in splits:
        raise ValueError(f"split: {name} has no split {split!r}; it has {', '.join(splits)}, and parts as train[:99%].")
    size = splits[match[1]]

    def place(text, default):
        if text is None:
            return default
        at = round(int(text[:-1]) / 100 * size) if text.endswith("%") else int(text)
        return min(max(at + size if at < 0 else at, 0), size)

    return match[1], place(match[2], 0), place(match[3], size)


def _digits(split):
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise ValueError("dataset: digits needs scikit-learn; install it with pip install scikit-learn.") from None
    data = load_digits()  # 1,797 rows; the last 360 were written by other people
    base, start, stop = select(split, {"train": len(data.images) - 360, "test": 360}, "digits")
    rows = (
        slice(start, stop) if base == "train" else slice(len(data.images) - 360 + start, len(data.images) - 360 + stop)
    )
    images = np.round(data.images[rows, :, :, None] * (255 / 16)).astype(np.uint8)  # 0..16 -> 0..255, (N, 8, 8, 1)
    labels = data.target[rows].astype(np.int64)
    return Source(
        name=f"digits {split}",
        num_examples=len(images),
        class_names=tuple(str(name) for name in data.target_names),
        photographs=False,
        records=indexed_records(len(images), lambda i: {"image": tf.gather(images, i), "label": tf.gather(labels, i)}),
        parse=lambda record: (record["image"], record["label"]),
    )


def _folders(root):
    return sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))


def _images(folder):
    return sorted(str(p) for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())


def _image_folder(root, split, training, seed):
    """root/<split>/<class>/*, or root/<class>/* of which a seeded tenth of each class is "test"."""
    top = _folders(root)
    if "train" in top and _folders(root / "train"):
        split = split or default_split(top, training, root)
        base = split.split("[")[0]
        if base not in top:
            raise ValueError(f"split: {root} has no split {split!r}; it has {', '.join(top)}.")
        class_names = _folders(root / "train")
        unknown = sorted(set(_folders(root / base)) - set(class_names))
        if unknown:
            raise ValueError(
                f"dataset: {root / base} has the class folder {unknown[0]!r}, which {root / 'train'} has not; "
                "both need the same classes."
            )
        files = [(path, label) for label, c in enumerate(class_names) for path in _images(root / base / c)]
    else:
        split, class_names = split or ("train" if training else "test"), top
        base = split.split("[")[0]
        if base not in ("train", "test"):
            raise ValueError(
                f"split: {root} is a flat folder of classes; its splits are train and test, not {split!r}."
            )
        files = []
        for label, c in enumerate(class_names):
            paths = _images(root / c)
            held_out = max(1, round(len(paths) * FLAT_TEST_FRACTION)) if len(paths) > 1 else 0
            order = np.random.default_rng([seed, label]).permutation(len(paths))
            chosen = order[:held_out] if base == "test" else order[held_out:]
            files += [(paths[i], label) for i in sorted(chosen)]
    if not class_names:
        raise ValueError(
            f"dataset: {root} has no class folders; expected {root}/<class>/<image> or <split>/<class>/<image>."
        )
    _, start, stop = select(split, {base: len(files)}, str(root))
    files = files[start:stop]
    paths, labels = np.array([f for f, _ in files], object), np.array([k for _, k in files], np.int64)
    return Source(
        name=f"{root} {split}",
        num_examples=len(files),
        class_names=tuple(class_names),
        photographs=True,
        records=indexed_records(len(files), lambda i: {"path": tf.gather(paths, i), "label": tf.gather(labels, i)}),
        parse=lambda record: (tf.io.read_file(record["path"]), record["label"]),
        find_unreadable=lambda: next((path for path in paths if not _readable(path)), None),
    )


def _readable(path):
    try:
        return bool(decode.decode_image(tf.io.read_file(path)).shape[0])
    except tf.errors.OpError:
        return False


def default_split(splits, training, name):
    for split in ["train"] if training else ["validation", "val", "test"]:
        if split in splits:
            return split
    raise ValueError(
        f"split: {name} has no default for {'training' if training else 'evaluation'}; "
        f"choose one of {', '.join(splits)}."
    )
