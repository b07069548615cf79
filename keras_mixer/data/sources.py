"""Where examples come from: the embedded digits, a folder of class folders or of records, or a TFDS dataset.

A `Source` gives records in a reproducible order: record k of a shuffled stream is a pure function of (seed, k), so a
run that restarts at step t sees the very examples that it would have seen.
"""

import dataclasses
import hashlib
import os
import pathlib
import re
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from keras_mixer.data import checking
from keras_mixer.data.streams import indexed_records

MANIFEST = "manifest.json"  # tells a folder of records from one of images
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp")
IGNORED_FILES = ("Thumbs.db", "desktop.ini")  # what Windows leaves where someone looked at images
SPLIT_NAMES = ("train", "validation", "val", "test")
FLAT_TEST_FRACTION = 0.1


@dataclasses.dataclass(frozen=True)
class Source:
    """Labelled images in a reproducible order.

    Attributes:
        name: as the user gave it, with the split.
        num_examples: in one pass.
        class_names: label i is class_names[i].
        photographs: True where inception crops and horizontal flips keep the meaning of an image.
        records: (seed, start, rows=None) -> tf.data.Dataset of raw records; one pass in order from record `start` for
            seed None, else endless, each pass shuffled anew; only those in `streams.Rows` where given.
        parse: record -> (image, label), the image either encoded bytes () or pixels (H, W, 1 or 3) uint8.
        find_unreadable: names the first file, or shard and record, that cannot be read or decoded, or returns None;
            itself None if the source has no files.
        fingerprint: sha256 of the names and labels of a folder's files; other files are another run.
    """

    name: str
    num_examples: int
    class_names: tuple[str, ...]
    photographs: bool
    records: Callable[..., tf.data.Dataset]
    parse: Callable
    find_unreadable: Callable[[], str | None] | None = None
    fingerprint: str = ""


def open_source(
    dataset,
    split=None,
    data_dir=None,
    *,
    training,
    manual_dir=None,
    seed=0,
    on_bad_image="stop",
    max_bad_fraction=0.01,
):
    """Return the `Source` called `dataset`.

    Args:
        dataset: "digits", the path of a folder of class folders or of records (see `records`), or a TFDS name.
        split: for example "train" or "train[:99%]"; None takes "train" for training and the dataset's "validation",
            "val" or "test" otherwise, in this order.
        data_dir: where TFDS keeps its data, or the folder of one prepared dataset; None is TFDS's default.
        manual_dir: where archives lie that TFDS cannot download itself.
        training: whether the source is to train on.
        seed: of the split of a flat folder into train and test.
        on_bad_image: "stop" at a file that is no image when it is read; "skip", for a folder of images, to decode all
            of them first, leave out those that cannot be, and name them in a warning.
        max_bad_fraction: with "skip", more than this fraction of a split's files is an error.

    Raises:
        ValueError: for an unknown dataset (naming near ones), an unknown split, or one without images.

    Example:
        >>> open_source("digits", training=False).num_examples
        360
    """
    checking.check_policy(on_bad_image, max_bad_fraction)
    if not dataset:
        raise ValueError("dataset: must be digits, a folder or a TFDS name, got an empty text.")
    check_paths(dataset=dataset, data_dir=data_dir, manual_dir=manual_dir)
    dataset = os.path.expanduser(dataset)
    is_images = pathlib.Path(dataset).is_dir() and not (pathlib.Path(dataset) / MANIFEST).is_file()
    if on_bad_image == "skip" and not is_images:
        raise ValueError(
            f"on_bad_image: skip is for a folder of images, and {dataset!r} is none; records and TFDS data were "
            "checked when they were made. Use stop."
        )
    if dataset == "digits":
        source = _digits(split or ("train" if training else "test"))
    elif (pathlib.Path(dataset) / MANIFEST).is_file():
        from keras_mixer.data.records import open_records

        source = open_records(dataset, split, training)
    elif is_images:
        source = _image_folder(pathlib.Path(dataset), split, training, seed, on_bad_image, max_bad_fraction)
    elif ("/" in dataset and not re.fullmatch(r"[\w]+/[\w.:-]+", dataset)) or dataset.startswith((".", "~")):
        raise ValueError(f"dataset: the folder {dataset!r} does not exist or is not a folder.")
    else:
        from keras_mixer.data.tfds_source import tfds_source  # takes seconds to import

        source = tfds_source(dataset, split, data_dir, manual_dir, training)
    if not source.num_examples:
        raise ValueError(f"dataset: {source.name} has no images; give a split or a folder that has some.")
    return source


def check_paths(**paths):
    """Raise a ValueError where a path holds a null byte, which no file system takes; None is no path."""
    for name, path in paths.items():
        if path is not None and "\0" in os.fspath(path):
            raise ValueError(f"{name}: {os.fspath(path)!r} has a null byte, which no path can have; remove it.")


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
        if abs(at) > size:
            raise ValueError(f"split: {split!r} reaches beyond the {size:,} images that {name} has in {match[1]}.")
        return at + size if at < 0 else at

    return match[1], place(match[2], 0), place(match[3], size)


def _digits(split):
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise ValueError("dataset: digits needs scikit-learn; install it with pip install scikit-learn.") from None
    data = load_digits()  # 1,797 rows; the last 360 were written by other people
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
    )


def folder_splits(root):
    """Return the splits of a folder of images: its own, or train and test where it has only class folders.

    Raises:
        ValueError: where there are no class folders, or where those that define the labels are missing.
    """
    root = pathlib.Path(root)
    top = _folders(root)
    if "train" in top and _folders(root / "train"):
        return top
    if not top:
        raise ValueError(
            f"dataset: {root} has no class folders; expected {root}/<class>/<image> or <split>/<class>/<image>."
        )
    if set(top) <= set(SPLIT_NAMES):  # else validation images would be taken for a class called "val"
        raise ValueError(
            f"dataset: {root} has the folders {', '.join(top)}, but {root / 'train'} has no class folders, which "
            "define the labels; make them, or give a folder of class folders."
        )
    return ["train", "test"]


def folder_images(root, split, seed):
    """List the images of one split of a folder.

    Args:
        root: root/<split>/<class>/*, or root/<class>/* of which a seeded tenth of each class is "test".
        split: one of `folder_splits(root)`.
        seed: chooses the tenth.

    Returns:
        The class names; a list of (path, label); and the paths of files that are no images by their name. Classes take
        turns in proportion, each by path, so that every part of a split, such as train[:90%], has all of them. Hidden
        files and folders are no part of a dataset.

    Raises:
        ValueError: for an unknown split, a class without images, classes that differ from those of "train", or a flat
            folder that has one image per class and so no "test".
    """
    root = pathlib.Path(root)
    splits = folder_splits(root)
    if split not in splits:
        raise ValueError(f"split: {root} has no split {split!r}; it has {', '.join(splits)}.")
    flat = not _folders(root / "train")
    folder = root if flat else root / split
    class_names = _folders(root if flat else root / "train")
    _check_same_classes(folder, root / "train", _folders(folder), class_names)
    files, others = [], []
    for label, c in enumerate(class_names):
        visible = sorted(_visible_files(folder / c))
        paths = [path for path in visible if path.lower().endswith(IMAGE_SUFFIXES)]
        others += [path for path in visible if not path.lower().endswith(IMAGE_SUFFIXES)]
        if not paths and flat and c in SPLIT_NAMES:
            raise ValueError(
                f"dataset: {root} has class folders beside {c!r}, which has no images; remove {folder / c}, or move "
                f"the class folders into {root / 'train'}."
            )
        if not paths:
            raise ValueError(f"dataset: the class folder {folder / c} has no images; add some or remove the class.")
        if flat:
            held_out = max(1, round(len(paths) * FLAT_TEST_FRACTION)) if len(paths) > 1 else 0
            order = np.random.default_rng([seed, label]).permutation(len(paths))
            paths = [paths[i] for i in sorted(order[:held_out] if split == "test" else order[held_out:])]
        files += [((i + 0.5) / len(paths), label, path) for i, path in enumerate(paths)]
    files = [(path, label) for _, label, path in sorted(files)]
    if not files:
        raise ValueError(
            f"dataset: each class folder of {root} has a single image, which is for training, so none is held out for "
            "test; add images, or make the folders train and test yourself."
        )
    return tuple(class_names), files, others


def no_image(path):
    """Return the sentence for a file that is no image by its name."""
    return (
        f"dataset: {path} is not an image by its name ({', '.join(IMAGE_SUFFIXES)}); move it out of the class folders."
    )


def _folders(root):
    if not root.is_dir():
        return []
    return sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))


def _visible_files(folder):
    def stop(error):
        raise error  # `os.walk` leaves out, without a word, a folder that may not be read

    for parent, folders, names in os.walk(folder, onerror=stop):
        folders[:] = [name for name in folders if not name.startswith(".")]
        names = [name for name in names if not name.startswith(".") and name not in IGNORED_FILES]
        yield from (os.path.join(parent, name) for name in names)


def _check_same_classes(folder, train, found, class_names):
    for name in sorted(set(found) ^ set(class_names)):
        here, there = (folder, train) if name in found else (train, folder)
        raise ValueError(
            f"dataset: {here} has the class folder {name!r}, which {there} has not; both need the same classes."
        )


def _image_folder(root, split, training, seed, on_bad_image, max_bad_fraction):
    split = split or default_split(folder_splits(root), training, root)
    base = split.split("[")[0]
    class_names, files, others = folder_images(root, base, seed)
    if on_bad_image == "skip":
        files = checking.without_bad_images(root, base, files, others, max_bad_fraction)
    elif others:
        raise ValueError(no_image(others[0]))
    _, start, stop = select(split, {base: len(files)}, str(root))
    files = files[start:stop]
    # As bytes, since a name need not be UTF-8.
    paths, labels = np.array([os.fsencode(f) for f, _ in files], object), np.array([k for _, k in files], np.int64)
    names = "".join(f"{os.path.relpath(path, root)}\0{label}\0" for path, label in files)
    return Source(
        name=f"{root} {split}",
        num_examples=len(files),
        class_names=class_names,
        photographs=True,
        records=indexed_records(len(files), lambda i: {"path": tf.gather(paths, i), "label": tf.gather(labels, i)}),
        parse=lambda record: (tf.io.read_file(record["path"]), record["label"]),
        find_unreadable=lambda: next((path for path, _ in files if checking.read_image(path)[1]), None),
        fingerprint=hashlib.sha256(os.fsencode(names)).hexdigest(),
    )


def default_split(splits, training, name):
    for split in ["train"] if training else ["validation", "val", "test"]:
        if split in splits:
            return split
    raise ValueError(
        f"split: {name} has no default for {'training' if training else 'evaluation'}; "
        f"choose one of {', '.join(splits)}."
    )
