"""Open a dataset by what a user calls it: the embedded digits, a folder of class folders or of records, a TFDS name."""

import hashlib
import os
import pathlib
import re
from typing import Any

import numpy as np
import tensorflow as tf

from keras_mixer import buckets
from keras_mixer.data import checking, folders
from keras_mixer.data.records import MANIFEST, open_records
from keras_mixer.data.source import Source, check_paths, indexed_records
from keras_mixer.data.splits import default_split, select


def open_source(
    dataset: str,
    split: str | None = None,
    data_dir: str | None = None,
    *,
    training: bool,
    manual_dir: str | None = None,
    seed: int = 0,
    on_bad_image: str = "stop",
    max_bad_fraction: float = 0.01,
) -> Source:
    """Return the `Source` called `dataset`.

    Args:
        dataset: "digits", the path of a folder of class folders or of records (see `records`), or a TFDS name.
        split: for example "train" or "train[:99%]"; None takes the dataset's split for training, otherwise that for
            validation, or for test. Any usual name does, such as "val" for "Valid".
        data_dir: where TFDS keeps its data, or the folder of one prepared dataset; None is TFDS's default.
        manual_dir: where archives lie that TFDS cannot download itself.
        training: whether the source is to train on.
        seed: of the split of a flat folder into train and test.
        on_bad_image: "stop" at a file that is no image when it is read; "skip", for a folder of images, to decode all
            of them first, leave out those that cannot be, and name them in a warning.
        max_bad_fraction: with "skip", more than this fraction of a split's files is an error.

    Raises:
        ValueError: for an unknown dataset (naming near ones), an unknown split, one without images, or a single class.

    Example:
        >>> open_source("digits", training=False).num_examples
        360
    """
    checking.check_policy(on_bad_image, max_bad_fraction)
    if not dataset:
        raise ValueError("dataset: must be digits, a folder or a TFDS name, got an empty text.")
    check_paths(dataset=dataset, data_dir=data_dir, manual_dir=manual_dir)
    if buckets.is_bucket(dataset) and not _has_manifest(dataset):
        raise ValueError(
            f"dataset: {dataset} has no {MANIFEST}, so it is no folder of records, which is what a bucket holds; make "
            "them with recipes/make_records.py, or for TFDS give --data_dir."
        )
    dataset = os.path.expanduser(dataset)
    is_images = pathlib.Path(dataset).is_dir() and not (pathlib.Path(dataset) / MANIFEST).is_file()
    if on_bad_image == "skip" and not is_images:
        raise ValueError(
            f"on_bad_image: skip is for a folder of images, and {dataset!r} is none; records and TFDS data were "
            "checked when they were made. Use stop."
        )
    if dataset == "digits":
        source = _digits(split or ("train" if training else "test"))
    elif buckets.is_bucket(dataset) or (pathlib.Path(dataset) / MANIFEST).is_file():
        source = open_records(dataset, split, training)
    elif is_images:
        source = _image_folder(pathlib.Path(dataset), split, training, seed, on_bad_image, max_bad_fraction)
    elif is_path(dataset):
        raise ValueError(f"dataset: the folder {dataset!r} does not exist or is not a folder.")
    else:
        from keras_mixer.data.tfds import tfds_source  # takes seconds to import

        source = tfds_source(dataset, split, data_dir, manual_dir, training)
    if not source.num_examples:
        raise ValueError(f"dataset: {source.name} has no images; give a split or a folder that has some.")
    if len(source.class_names) < 2:
        raise ValueError(f"dataset: {source.name} has one class, and a classifier needs two or more; give another.")
    return source


def _has_manifest(dataset: str) -> bool:
    try:
        with buckets.as_os_errors():
            return (buckets.path_of(dataset, "dataset") / MANIFEST).is_file()
    except OSError as error:
        raise ValueError(
            f"dataset: {dataset} cannot be read ({buckets.reason(error)}); the account that this machine runs as needs "
            "the right to read the bucket."
        ) from None


def is_path(dataset: str) -> bool:
    """Return whether a text is a path rather than a TFDS name, which may have a slash too.

    Example:
        >>> is_path("photos/cats/train"), is_path("./photos"), is_path("glue/cola:1.0.0")
        (True, True, False)
    """
    return dataset.startswith((".", "~")) or ("/" in dataset and not re.fullmatch(r"[\w]+/[\w.:-]+", dataset))


def is_prepared(name: str, data_dir: str | None) -> bool:
    """Return whether a TFDS name can be read without a download; a ValueError for a name that TFDS does not know."""
    from keras_mixer.data.tfds import has_splits  # takes seconds to import

    return has_splits(name, data_dir)


def _digits(split: str) -> Source:
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise ValueError("dataset: digits needs scikit-learn; install it with pip install scikit-learn.") from None
    data: Any = load_digits()  # 1,797 rows; the last 360 were written by other people
    num_train = len(data.images) - 360
    base, start, stop = select(split, {"train": num_train, "test": 360}, "digits")
    offset = num_train if base == "test" else 0
    rows = slice(offset + start, offset + stop)
    images = np.round(data.images[rows, :, :, None] * (255 / 16)).astype(np.uint8)  # 0..16 -> 0..255, (N, 8, 8, 1)
    labels = data.target[rows].astype(np.int64)
    return Source(
        name=f"digits {split}",
        num_examples=len(images),
        class_names=tuple(str(name) for name in data.target_names),
        photographs=False,
        records=indexed_records(len(images), lambda i: {"image": tf.gather(images, i), "label": tf.gather(labels, i)}),
        parse=lambda record: (record["image"], record["label"]),
        num_bytes=lambda: images.nbytes,
    )


def _image_folder(
    root: pathlib.Path, split: str | None, training: bool, seed: int, on_bad_image: str, max_bad_fraction: float
) -> Source:
    root = folders.data_root(root)
    names = folders.folder_splits(root)
    split = split or default_split(names, training, root)
    base = select(split.partition("[")[0], dict.fromkeys(names, 0), root)[0]
    class_names, files, others = folders.folder_images(root, base, seed)
    left_out = folders.told_of_others(root, others) + folders.told_of_strays(root, base)
    if on_bad_image == "skip":
        found, files = len(files), checking.without_bad_images(root, base, files, max_bad_fraction)
        if len(files) < found:
            left_out += (
                f"{root}: {found - len(files):,} of {found:,} files of {base} cannot be decoded and are left out.",
            )
    _, start, stop = select(split, {base: len(files)}, root)
    files = files[start:stop]
    # As bytes, since a name need not be UTF-8.
    paths, labels = np.array([os.fsencode(f) for f, _ in files], object), np.array([k for _, k in files], np.int64)
    contents = "".join(f"{os.path.relpath(path, root)}\0{label}\0" for path, label in files)
    return Source(
        name=f"{root} {split}",
        num_examples=len(files),
        class_names=class_names,
        photographs=True,
        records=indexed_records(len(files), lambda i: {"path": tf.gather(paths, i), "label": tf.gather(labels, i)}),
        parse=lambda record: (tf.io.read_file(record["path"]), record["label"]),
        find_unreadable=lambda: next((path for path, _ in files if checking.read_image(path)[1]), None),
        fingerprint=hashlib.sha256(os.fsencode(contents)).hexdigest(),
        loose_files=True,
        num_bytes=lambda: sum(os.path.getsize(path) for path, _ in files),
        left_out=left_out,
    )
