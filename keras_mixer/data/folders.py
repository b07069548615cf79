"""Folders of images as people and their systems leave them: which files are images, of which class and split.

docs/images.md has the rules as a table, with the test of each.
"""

import functools
import logging
import os
import pathlib

import numpy as np

from keras_mixer.data import splits

logger = logging.getLogger("keras_mixer")

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".gif", ".webp", ".bmp", ".dib", ".tif", ".tiff"),
    *(".avif", ".heic", ".heif", ".jp2", ".j2k", ".ppm", ".pgm", ".pbm", ".pnm"),
)
# What systems leave where someone looked at images, in lower case: no data, and no news to anybody.
SYSTEM_NAMES = (
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "$recycle.bin", "recycler", "system volume information"),
    *("@eadir", "#recycle", "__macosx", "lost+found", "network trash folder", "temporary items"),
)
FLAT_TEST_FRACTION = 0.1
NAMED = 5  # files that a message names


def is_hidden(name):
    """Return whether a file or folder is hidden, or is what a system leaves, and so is no part of a dataset.

    Example:
        >>> is_hidden("THUMBS.DB"), is_hidden("._cat.jpg"), is_hidden("cat.jpg")
        (True, True, False)
    """
    return name.startswith(".") or name.lower() in SYSTEM_NAMES


def is_image_name(path):
    """Return whether a file is an image by its name."""
    return os.fspath(path).lower().endswith(IMAGE_SUFFIXES)


def list_files(folder):
    """List the files of a folder and of all folders in it, linked ones too, but for what `is_hidden`.

    Returns:
        The paths of images by their name, and those of other files, each in the order of their names.

    Raises:
        OSError: for a folder that may not be read.
    """
    files = sorted(_walk(os.fspath(folder), (os.path.realpath(folder),)))
    return [path for path in files if is_image_name(path)], [path for path in files if not is_image_name(path)]


def warn_of_others(folder, others):
    """Say once how many files are left out since they are no images by their name, and name some."""
    if others:
        names = ", ".join(os.path.relpath(path, folder) for path in others[:NAMED])
        more = ", ..." if len(others) > NAMED else ""
        files = (
            "1 file is no image by its name and is"
            if len(others) == 1
            else (f"{len(others):,} files are no images by their names and are")
        )
        _warn_once(f"{folder}: {files} left out: {names}{more}")


def data_root(root):
    """Return the folder that has the class folders or splits: `root`, or what it wraps, as an unpacked archive does."""
    root = found = pathlib.Path(root)
    while True:
        inner = _folders(found)
        wraps = len(inner) == 1 and splits.kind_of(inner[0]) is None and not _has_images(found)
        if not wraps or not _folders(found / inner[0]) or _has_images(found / inner[0]):
            break
        found = found / inner[0]
    if found != root:
        _warn_once(f"{root}: holds a single folder, so the classes or splits are those in {found}")
    return found


def folder_splits(root):
    """Return the splits of a folder of images: its own, or train and test where it has only class folders.

    Args:
        root: from `data_root`.

    Raises:
        ValueError: where there are no class folders, or where those that define the labels are missing.
    """
    root = pathlib.Path(root)
    top = _folders(root)
    train = _train_folder(root)
    if train:
        return top
    if not top:
        raise ValueError(
            f"dataset: {root} has no class folders; expected {root}/<class>/<image> or <split>/<class>/<image>."
        )
    if all(splits.kind_of(name) for name in top):  # else validation images would be taken for a class called "val"
        raise ValueError(
            f"dataset: {root} has the folders {', '.join(top)}, but no folder train with class folders, which define "
            "the labels; make it, or give a folder of class folders."
        )
    return ["train", "test"]


def folder_images(root, split, seed):
    """List the images of one split of a folder.

    Args:
        root: from `data_root`: root/<split>/<class>/*, or root/<class>/* of which a seeded tenth of each class is
            "test".
        split: one of `folder_splits(root)`.
        seed: chooses the tenth.

    Returns:
        The class names; a list of (path, label); and the paths of files that are no images by their name. Classes take
        turns in proportion, each by path, so that every part of a split, such as train[:90%], has all of them.

    Raises:
        ValueError: for an unknown split, a single class, a class without images, classes that differ from those of
            "train", or a flat folder that has one image per class and so no "test".
    """
    root = pathlib.Path(root)
    all_splits = folder_splits(root)
    if split not in all_splits:
        raise ValueError(f"split: {root} has no split {split!r}; it has {', '.join(all_splits)}.")
    train = _train_folder(root)
    flat = train is None
    nested = [name for name in _folders(root) if flat and splits.kind_of(name) and _folders(root / name)]
    if nested:  # else the images of a test set would be a class called "test"
        raise ValueError(
            f"dataset: {root} has class folders beside {nested[0]!r}, which has folders itself; move the class folders "
            f"into {root / 'train'}."
        )
    folder = root if flat else root / split
    class_names = _folders(root if flat else train)
    if len(class_names) == 1:
        raise ValueError(
            f"dataset: {root if flat else train} has one class folder, {class_names[0]!r}, and a classifier needs two "
            "or more; add another class, or give the folder that has the class folders."
        )
    if not flat:
        _check_same_classes(folder, train, _folders(folder), class_names)
    files, others = [], []
    for label, name in enumerate(class_names):
        paths, no_images = list_files(folder / name)
        others += no_images
        if not paths and flat and splits.kind_of(name):
            raise ValueError(
                f"dataset: {root} has class folders beside {name!r}, which has no images; remove {folder / name}, or "
                f"move the class folders into {root / 'train'}."
            )
        if not paths:
            raise ValueError(f"dataset: the class folder {folder / name} has no images; add some or remove the class.")
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


def _train_folder(root):
    """Return the folder of a split called train in any usual way, if it has class folders, else None."""
    names = [name for name in _folders(root) if splits.kind_of(name) == "train" and _folders(root / name)]
    if len(names) > 1:
        raise ValueError(
            f"dataset: {root} has the folders {' and '.join(names)}, each for training; put the images into one."
        )
    return root / names[0] if names else None


def _folders(root):
    if not root.is_dir():
        return []
    return sorted(path.name for path in root.iterdir() if path.is_dir() and not is_hidden(path.name))


def _has_images(folder):
    return any(path.is_file() and is_image_name(path) and not is_hidden(path.name) for path in folder.iterdir())


def _walk(folder, above):
    """Yield the files below a folder; `above` are the real paths of the folders on the way."""
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if is_hidden(name):
            continue
        if not os.path.isdir(path):
            yield path
        elif os.path.realpath(path) in above:
            _warn_once(f"{path}: is a link back to a folder that it is in, and is not followed")
        else:
            yield from _walk(path, (*above, os.path.realpath(path)))


@functools.cache  # training and evaluation list the same folder
def _warn_once(sentence):
    logger.warning("%s.", sentence)


def _check_same_classes(folder, train, found, class_names):
    for name in sorted(set(found) ^ set(class_names)):
        here, there = (folder, train) if name in found else (train, folder)
        raise ValueError(
            f"dataset: {here} has the class folder {name!r}, which {there} has not; both need the same classes."
        )
