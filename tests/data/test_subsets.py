"""Some records of a source, in its order, also shared by several parts, from an index or from a stream of shards."""

import os

import numpy as np
import pytest
import tensorflow as tf

from keras_mixer.data import opening, pipeline, subsets
from keras_mixer.data.record_writing import write_records


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    for name in ("a", "b"):
        for split in ("train", "test"):
            (root / split / name).mkdir(parents=True)
            for i in range(7):
                png = tf.io.encode_png(np.full((9, 9, 3), 10 * i + 100 * (name == "b"), np.uint8)).numpy()
                (root / split / name / f"{i}.png").write_bytes(png)
    return root


def _images(source, batch_size=4, part=(0, 1)):
    data = pipeline.eval_batches(source, batch_size=batch_size, image_size=8, part=part)
    parts = [(images.numpy()[mask > 0], labels.numpy()[mask > 0]) for images, labels, mask in data]
    return tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))


@pytest.mark.parametrize("kind", ["folder", "records"])
def test_a_subset_gives_these_images_in_order_and_in_parts(folder, tmp_path, kind):
    if kind == "records":
        write_records(folder, tmp_path / "records", num_shards=3)
    source = opening.open_source(str(folder if kind == "folder" else tmp_path / "records"), "test", training=False)
    whole = _images(source)
    some = subsets.subset(source, [9, 2, 5, 11, 13])
    for ours, theirs in zip(_images(some), whole, strict=True):
        np.testing.assert_array_equal(ours, theirs[[2, 5, 9, 11, 13]])
    np.testing.assert_array_equal(subsets.read_labels(some), whole[1][[2, 5, 9, 11, 13]])
    first, second = (_images(some, part=(i, 2))[0] for i in range(2))
    np.testing.assert_array_equal(np.concatenate([first[:2], second[:2], first[2:]]), _images(some)[0])


def test_labels_are_those_of_the_images(folder):
    source = opening.open_source(str(folder), training=False)
    np.testing.assert_array_equal(subsets.read_labels(source), _images(source)[1])
    names = [path.split("/")[-2] for path in subsets.read_paths(source)]
    assert [source.class_names[k] for k in subsets.read_labels(source)] == names
    assert subsets.read_paths(opening.open_source("digits", training=False)) is None


def test_the_key_changes_with_a_file_and_with_the_choice(folder):
    def source():
        return opening.open_source(str(folder), training=False)

    before = subsets.content_key(source())
    assert subsets.content_key(source()) == before
    assert len({subsets.content_key(subsets.subset(source(), some)) for some in ([0], [1], [0, 1])} | {before}) == 4
    path = folder / "test" / "a" / "0.png"
    os.utime(path, ns=(0, 12345))  # as after a change that keeps the size
    later = subsets.content_key(source())
    path.write_bytes(path.read_bytes() + b"more")
    os.utime(path, ns=(0, 12345))
    assert len({before, later, subsets.content_key(source())}) == 3


@pytest.mark.parametrize("indices", [[], [1, 1], [-1], [14]])
def test_other_indices_are_refused(folder, indices):
    with pytest.raises(ValueError, match="indices: must be different numbers from 0 to 13, at least one, got"):
        subsets.subset(opening.open_source(str(folder), training=False), indices)
