"""Files and folders that are written whole or not at all: under another name beside their own, synced, then renamed.

After an error nothing of the new one is left and an older one is unchanged; after a kill what is left has a name that
starts with a dot and ends in .tmp or .old. (`weights/download.py` has its own way, with a part that is resumed.)
"""

import contextlib
import ctypes
import fcntl
import itertools
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator
from typing import IO, Any

from keras_mixer import buckets
from keras_mixer.types import Path

AT_FDCWD, RENAME_EXCHANGE = -100, 2  # of Linux's renameat2


class SaveError(OSError):
    """A file of a run could not be written; the message names it and what is still there."""

    exit_code = 1


# ---- What cannot be written, as one sentence


def unwritable(path: Path, reason: object, kept: str = "what was saved before is kept") -> SaveError:
    """Return the `SaveError` for a file or folder of a run that cannot be written."""
    return SaveError(
        f"workdir: {path} cannot be written ({reason}); {kept}. Make room or mend the folder, and run the same command "
        "again to continue."
    )


@contextlib.contextmanager
def naming_unwritable(path: Path, kept: str = "what was saved before is kept") -> Iterator[None]:
    """Turn an OSError, such as that of a full disk, into a `SaveError` that names `path` and what is `kept`."""
    try:
        with buckets.as_os_errors():
            yield
    except OSError as error:
        raise unwritable(path, buckets.reason(error), kept) from None


@contextlib.contextmanager
def naming_path(owner: str, path: Path) -> Iterator[None]:
    """Turn an OSError of the system into one of the same kind that names the function `owner` and its `path`."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # a sentence already
            raise
        message = f"{owner}: path {os.fspath(path)!r} cannot be written ({error.strerror or error})."
        raise type(error)(error.errno, message) from None


@contextlib.contextmanager
def naming_folder(argument: str, folder: Path, other: str = "") -> Iterator[None]:
    """Turn an OSError into the sentence for a folder that `argument` names; `other` is what to choose another of."""
    try:
        with buckets.as_os_errors():
            yield
    except OSError as error:
        why = buckets.reason(error)
        raise OSError(
            f"{argument}: cannot write to {folder} ({why}); choose another {other or f'--{argument}'}."
        ) from None


# ---- Places, looked at before long work


def open_folder(folder: Path, argument: str = "output") -> pathlib.Path:
    """Return the folder that an argument names as a path, made where it is missing, once a file could be written there.

    Raises:
        ValueError: for an empty name.
        OSError: where it cannot be written.
    """
    if not str(folder):
        raise ValueError(f"{argument}: must name a folder, got an empty text.")
    folder = buckets.path_of(folder, argument)
    with naming_folder(argument, folder):
        buckets.make_folder(folder)
        _probe(folder / "probe")
    return folder


def target_path(owner: str, path: Path, suffix: str, overwrite: bool = True) -> pathlib.Path:
    """Return the path of a file that the function `owner` is to write, with ~ expanded, once that could be begun.

    Raises:
        ValueError: if it is no path, or has another suffix.
        OSError: if it is there without `overwrite`, is a directory, or its folder does not exist or take files.
    """
    if not isinstance(path, (str, os.PathLike)) or not isinstance(os.fspath(path), str):
        raise ValueError(f"{owner}: path must be a path that ends in {suffix}, got {type(path).__name__}.")
    text = os.fspath(path)
    path = buckets.path_of(path)
    if path.suffix.lower() != suffix:
        raise ValueError(f"{owner}: path must end in {suffix}, got {text!r}.")
    with naming_path(owner, text):
        if path.is_dir():
            raise IsADirectoryError(f"{owner}: path must be that of a file, but {text!r} is a directory.")
        if path.exists() and not overwrite:
            raise FileExistsError(f"{owner}: {text!r} exists; give overwrite=True to replace it, or another path.")
        folder = os.fspath(path.parent)
        if buckets.is_bucket(path):
            return path
        if not path.parent.exists():
            raise FileNotFoundError(
                f"{owner}: path must be in a folder that exists, but {folder!r} of {text!r} does not; create it."
            )
        if not path.parent.is_dir():
            raise NotADirectoryError(f"{owner}: path must be in a folder, but {folder!r} of {text!r} is a file.")
        _probe(path)
    return path


def lock(path: Path, busy: str) -> contextlib.ExitStack:
    """Return the lock of a file, made if missing, or of a folder; it ends with its block, or with the process.

    Raises:
        ValueError: with the sentence `busy`, if another process has it.
        OSError: if it cannot be opened.
    """
    if buckets.is_bucket(path):
        return buckets.claim(buckets.path_of(path), busy)
    # An exclusive lock on NFS needs a file that is open for writing.
    descriptor = os.open(path, os.O_RDONLY if os.path.isdir(path) else os.O_RDWR | os.O_CREAT, 0o666)
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = os.path.samestat(os.fstat(descriptor), os.stat(path))
        except (BlockingIOError, FileNotFoundError):
            held = False
        if not held:  # also where who had it has just renamed or removed it
            raise ValueError(busy)
        return stack.pop_all()


def move_aside(path: pathlib.Path) -> None:
    """Rename what stands in the way of a file, to the first free name of `path`.moved_0, .moved_1 and so on."""
    names = (path.with_name(f"{path.name}.moved_{i}") for i in itertools.count())
    os.rename(path, next(name for name in names if not name.exists()))


# ---- Files


@contextlib.contextmanager
def replacing(path: Path, ending: str = ".tmp") -> Iterator[pathlib.Path]:
    """Give the path of a temporary file to write; at the end it takes the place of `path`, on an error it is removed.

    Args:
        path: of the file; its folder is made if missing.
        ending: of the temporary name, for who knows a file by its suffix.

    Example:
        >>> import pathlib
        >>> from keras_mixer import files
        >>> with files.replacing("numbers.txt") as temporary:
        ...     _ = temporary.write_text("1 2 3")
        >>> pathlib.Path("numbers.txt").read_text()
        '1 2 3'
    """
    path = buckets.path_of(path)
    if buckets.is_bucket(path):
        with tempfile.TemporaryDirectory() as folder:
            yield pathlib.Path(folder, f"{path.name}{ending}")
            buckets.upload(pathlib.Path(folder, f"{path.name}{ending}"), path)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path, ending)
    try:
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):  # the first error says more
            temporary.unlink()
        raise
    _sync_folder(path.parent)


@contextlib.contextmanager
def writing(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Give a file open for writing, text in UTF-8, which takes the place of `path` at the end; see `replacing`."""
    with replacing(path) as temporary, open(temporary, mode, encoding=None if "b" in mode else "utf-8") as file:
        yield file


def write_text(path: Path, text: str) -> None:
    """Write a text file of a run; raise a `SaveError` where that cannot be done."""
    with naming_unwritable(path), writing(path) as file:
        file.write(text)


def write_json(path: Path, value: object) -> None:
    """Write `value` as an indented JSON file of a run; raise a `SaveError` where that cannot be done."""
    write_text(path, json.dumps(value, indent=2) + "\n")


# ---- Folders


@contextlib.contextmanager
def replacing_folder(target: Path, temporary: Path, marker: str = "") -> Iterator[pathlib.Path]:
    """Give an empty folder to fill; at the end it takes the place of `target`, on an error it is removed.

    An older folder stays at `target` until the new one is whole. The caller holds a lock, and names by it what a killed
    process leaves: first of all a folder that one had moved aside is put back, and a half-filled one is emptied.

    Args:
        target: the folder, in one that exists.
        temporary: a name beside it that ends in .tmp; with .old instead it is that of the older folder in between.
        marker: the name of the file in it that says that the folder is whole; to a bucket it is written last.
    """
    if buckets.is_bucket(target):
        with tempfile.TemporaryDirectory() as filled:
            yield pathlib.Path(filled)
            buckets.upload_folder(pathlib.Path(filled), buckets.path_of(target), marker)
        return
    target, temporary = pathlib.Path(target), pathlib.Path(temporary)
    former = temporary.with_suffix(".old")
    try:
        put_back(former, target)
        temporary.mkdir(exist_ok=True)
        for leftover in temporary.iterdir():
            (shutil.rmtree if leftover.is_dir() else os.unlink)(leftover)
        yield temporary
        for path in [*temporary.rglob("*"), temporary]:
            (_sync_folder if path.is_dir() else _sync)(path)
        if not target.exists():
            os.rename(temporary, target)
        elif _exchange(temporary, target):
            with contextlib.suppress(OSError):  # the new one is in its place, whatever becomes of the old one
                os.rename(temporary, former)
        else:  # two steps; `put_back` mends a kill or an error between them
            os.rename(target, former)
            os.rename(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        with contextlib.suppress(OSError):
            put_back(former, target)
        raise
    _sync_folder(target.parent)
    shutil.rmtree(former, ignore_errors=True)


def put_back(former: pathlib.Path, target: pathlib.Path) -> None:
    """Give a folder that was moved aside its name again, or remove it where a newer one has taken its place."""
    if target.exists():
        shutil.rmtree(former, ignore_errors=True)
    elif former.exists():
        os.rename(former, target)


def _exchange(one: pathlib.Path, other: pathlib.Path) -> bool:
    """Exchange the names of two folders in one step; False where the system cannot."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    return rename is not None and not rename(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE)


# ---- Beneath


def _temporary(path: pathlib.Path, ending: str = ".tmp") -> pathlib.Path:
    # Random, since threads have one process id, and processes in containers the same ones.
    return path.with_name(f".{path.name}.{os.urandom(4).hex()}{ending}")


def _probe(path: pathlib.Path) -> None:
    temporary = _temporary(path)
    temporary.write_bytes(b"")
    temporary.unlink()


def _sync(path: pathlib.Path) -> None:
    """Have what is in a file or folder outlive a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(path: pathlib.Path) -> None:
    with contextlib.suppress(OSError):  # some file systems cannot, and the names are already there
        _sync(path)
