"""Folders of images as people and their systems leave them: which files are images, of which class and split.

docs/guides/image_files.md has the rules as tables.
"""

import functools
import logging
import os
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np

from keras_mixer.data import splits
from keras_mixer.types import File

logger = logging.getLogger("keras_mixer")

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".gif", ".webp", ".bmp", ".dib", ".tif", ".tiff"),
    *(".avif", ".heic", ".heif", ".jp2", ".j2k", ".ppm", ".pgm", ".pbm", ".pnm"),
)
# What systems leave where someone looked at images, in lower case: no data, and no news to anybody.
SYSTEM_NAMES = (
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "$recycle.bin", "system volume information"),
    *("@eadir", "#recycle", "__macosx", "lost+found", "network trash folder", "temporary items"),
)
FLAT_TEST_FRACTION = 0.1
NAMED = 5  # files that a message names


def is_hidden(name: str) -> bool:
    """Return whether a file or folder is hidden, or is what a system leaves, and so is no part of a dataset.

    Example:
        >>> is_hidden("THUMBS.DB"), is_hidden("._cat.jpg"), is_hidden("cat.jpg")
        (True, True, False)
    """
    return name.startswith(".") or name.lower() in SYSTEM_NAMES


def is_image_name(path: str | os.PathLike[str]) -> bool:
    """Return whether a file is an image by its name."""
    return os.fspath(path).lower().endswith(IMAGE_SUFFIXES)


def printable(path: str | os.PathLike[str]) -> str:
    """Return a path as text in which what cannot be printed is escaped."""
    text = os.fspath(path).encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def list_files(folder: str | os.PathLike[str]) -> tuple[list[str], list[str]]:
    """List the files of a folder and of all folders in it, linked ones too, but for what `is_hidden`.

    Returns:
        The paths of images by their name, and those of other files, each in the order of their names. What is no
        regular file, such as a pipe, is among the others.

    Raises:
        OSError: for a folder that may not be read.
    """
    images: list[str] = []
    others: list[str] = []
    for path, is_file in _walk(os.fspath(folder)):
        (images if is_file and is_image_name(path) else others).append(path)
    return sorted(images), sorted(others)


def told_of_others(folder: str | os.PathLike[str], others: Sequence[str]) -> tuple[str, ...]:
    """Return, and say once, how many files are left out since they are no images by their name, and name some."""
    if not others:
        return ()
    files = f"{len(others):,} files are no images by their names and are"
    files = "1 file is no image by its name and is" if len(others) == 1 else files
    sentence = f"{folder}: {files} left out: {_some(others, folder)}"
    _warn_once(sentence)
    return (f"{sentence}.",)


def told_of_strays(root: pathlib.Path, split: str) -> tuple[str, ...]:
    """Return, and say once, how many images lie beside the class folders of a split, and so have no class."""
    places = (root, root if _train_folder(root) is None else root / split)
    strays = [path for place in dict.fromkeys(places) for path in _strays(place)]
    if not strays:
        return ()
    sentence = f"{root}: {len(strays)} beside the class folders have no class and are left out: {_some(strays, root)}"
    _warn_once(sentence)
    return (f"{sentence}.",)


def _some(paths: Sequence[str], folder: str | os.PathLike[str]) -> str:
    names = ", ".join(printable(os.path.relpath(path, folder)) for path in paths[:NAMED])
    return names + (", ..." if len(paths) > NAMED else "")


def data_root(root: str | os.PathLike[str]) -> pathlib.Path:
    """Return the folder that has the class folders or splits: `root`, or what it wraps, as an unpacked archive does."""
    root = found = pathlib.Path(root)
    seen = {os.path.realpath(root)}
    while True:
        inner = _folders(found)
        wraps = len(inner) == 1 and splits.kind_of(inner[0]) is None and not _strays(found)
        if not wraps or not _folders(found / inner[0]) or _strays(found / inner[0]):
            break
        found = found / inner[0]
        if os.path.realpath(found) in seen:
            raise ValueError(f"dataset: {found} is a link back to a folder that it is in; remove it.")
        seen.add(os.path.realpath(found))
    if found != root:
        _warn_once(f"{root}: holds a single folder, so the classes or splits are those in {found}")
    return found


def folder_splits(root: str | os.PathLike[str]) -> list[str]:
    """Return the splits of a `data_root`: its own, or train and test where it has only class folders.

    Raises:
        ValueError: where there are no class folders, or where those that define the labels are missing.
    """
    root = pathlib.Path(root)
    top = _folders(root)
    train = _train_folder(root)
    if train:
        return top
    if not top:
        above = f" Give the folder above, {root.absolute().parent}?" if _strays(root) else ""
        raise ValueError(
            f"dataset: {root} has no class folders; expected {root}/<class>/<image> or <split>/<class>/<image>.{above}"
        )
    if all(splits.kind_of(name) for name in top):  # else validation images would be taken for a class called "val"
        raise ValueError(
            f"dataset: {root} has the folders {', '.join(top)}, but no folder train with class folders, which define "
            "the labels; make it, or give a folder of class folders."
        )
    return ["train", "test"]


def folder_images(root: str | os.PathLike[str], split: str, seed: int) -> tuple[tuple[str, ...], list[File], list[str]]:
    """List the images of one split of a `data_root`.

    It has root/<split>/<class>/*, or root/<class>/* of which a tenth of each class, chosen by the seed, is "test".

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
    if train is None:
        _check_flat(root)
    folder = root if train is None else root / split
    class_names = _class_names(root, train)
    if train is not None:
        beside = sorted({*all_splits} & {*class_names})
        if beside:
            raise ValueError(
                f"dataset: {root} has the class folder {beside[0]!r} beside {train.name!r}, which has one of that name "
                f"too; move its images into {train / beside[0]}."
            )
        _check_same_classes(folder, train, _folders(folder), class_names)
    told_of_strays(root, split)
    placed: list[tuple[float, int, str]] = []
    others: list[str] = []
    for label, name in enumerate(class_names):
        paths, no_images = list_files(folder / name)
        others += no_images
        if not paths:
            raise ValueError(f"dataset: the class folder {folder / name} has no images; add some or remove the class.")
        if train is None:
            held_out = max(1, round(len(paths) * FLAT_TEST_FRACTION)) if len(paths) > 1 else 0
            order = np.random.default_rng([seed, label]).permutation(len(paths))
            paths = [paths[i] for i in sorted(order[:held_out] if split == "test" else order[held_out:])]
        placed += [((i + 0.5) / len(paths), label, path) for i, path in enumerate(paths)]
    if not placed:
        raise ValueError(
            f"dataset: each class folder of {root} has a single image, which is for training, so none is held out for "
            "test; add images, or make the folders train and test yourself."
        )
    return tuple(class_names), [(path, label) for _, label, path in sorted(placed)], others


def _class_names(root: pathlib.Path, train: pathlib.Path | None) -> list[str]:
    """Return the names of the class folders of the training split, or of a flat folder."""
    names = _folders(train or root)
    if len(names) == 1:
        raise ValueError(
            f"dataset: {train or root} has one class folder, {names[0]!r}, and a classifier needs two "
            "or more; add another class, or give the folder that has the class folders."
        )
    for name in names:
        if name != printable(name):
            raise ValueError(
                f"dataset: the class folder {printable(name)!r} of {root} has a name that cannot be printed; rename it."
            )
    return names


def _train_folder(root: pathlib.Path) -> pathlib.Path | None:
    """Return the folder of a split called train in any usual way, if it has class folders, else None."""
    names = [name for name in _folders(root) if splits.kind_of(name) == "train" and _folders(root / name)]
    if len(names) > 1:
        raise ValueError(
            f"dataset: {root} has the folders {' and '.join(names)}, each for training; put the images into one."
        )
    return root / names[0] if names else None


def _folders(root: pathlib.Path) -> list[str]:
    if not root.is_dir():
        return []
    return sorted(path.name for path in root.iterdir() if path.is_dir() and not is_hidden(path.name))


def _strays(folder: pathlib.Path) -> list[str]:
    """Return the images that lie in a folder itself, and links to nothing, which might have been folders."""
    with os.scandir(folder) as entries:
        found = [e.path for e in entries if not is_hidden(e.name) and (is_image_name(e.name) or e.is_symlink())]
    return sorted(path for path in found if not os.path.isdir(path))


def _check_flat(root: pathlib.Path) -> None:
    """Refuse what looks like splits among class folders, or in them: it would be a class, or be trained on."""
    inner = {name: _folders(root / name) for name in _folders(root)}
    kinds = {splits.kind_of(name) for name in inner} - {None}
    for name in inner:
        kind = splits.kind_of(name)
        # A railway station's train may be a class, but not where its folder has folders, or stands beside a test.
        if kind and (kind != "train" or inner[name] or kinds != {"train"} or not list_files(root / name)[0]):
            raise ValueError(
                f"dataset: {root} has class folders beside {name!r}, which is the name of a split; move the class "
                f"folders into {root / 'train'}, or rename or remove {root / name}."
            )
        within = [part for part in inner[name] if splits.kind_of(part)]
        if within:
            raise ValueError(
                f"dataset: {root / name} has a folder {within[0]!r}, which is the name of a split; splits come first: "
                f"{root / within[0] / name}."
            )
    alike = [set(names) for name, names in inner.items() if not _strays(root / name)]
    if len(inner) > 1 and len(alike) == len(inner) and alike[0] and all(names == alike[0] for names in alike):
        raise ValueError(
            f"dataset: the folders {', '.join(inner)} of {root} have folders of the same names, so they look like "
            "splits; call them train, validation and test, or give one of them."
        )


def _walk(folder: str | os.PathLike[str]) -> Iterator[tuple[str, bool]]:
    """Yield (path, whether it is a regular file, or a link to nothing) of all that is no folder below a folder."""
    # Folders to list, with the real paths of the folders on the way.
    waiting: list[tuple[str, tuple[str, ...]]] = [(os.fspath(folder), (os.path.realpath(folder),))]
    while waiting:
        folder, above = waiting.pop()
        try:
            with os.scandir(folder) as listed:
                entries = [entry for entry in listed if not is_hidden(entry.name)]
        except OSError as error:
            raise OSError(
                f"dataset: the folder {folder} cannot be read ({error.strerror}); mend or remove it."
            ) from None
        for entry in entries:
            if not os.path.isdir(entry.path) if entry.is_symlink() else not entry.is_dir():
                yield entry.path, entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path))
                continue
            real = os.path.realpath(entry.path) if entry.is_symlink() else os.path.join(above[-1], entry.name)
            if real in above:
                _warn_once(f"{entry.path}: is a link back to a folder that it is in, and is not followed")
            else:
                waiting.append((entry.path, (*above, real)))


@functools.cache  # training and evaluation list the same folder
def _warn_once(sentence: str) -> None:
    logger.warning("%s.", sentence)


def _check_same_classes(folder: pathlib.Path, train: pathlib.Path, found: list[str], class_names: list[str]) -> None:
    for name in sorted(set(found) ^ set(class_names)):
        here, there = (folder, train) if name in found else (train, folder)
        raise ValueError(
            f"dataset: {here} has the class folder {name!r}, which {there} has not; both need the same classes."
        )
