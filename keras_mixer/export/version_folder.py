"""A version folder that is never half written: made under another name beside its own, synced, then renamed."""

import contextlib
import ctypes
import fcntl
import os
import pathlib
import shutil
from collections.abc import Iterator

from keras_mixer.types import Path

AT_FDCWD, RENAME_EXCHANGE = -100, 2  # of Linux's renameat2


class ExportError(OSError):
    """An export could not be written; nothing of it is left, and what was there before is unchanged."""


@contextlib.contextmanager
def new_version(output: Path, version: int, overwrite: bool = False) -> Iterator[pathlib.Path]:
    """Give an empty folder to fill, which becomes `<output>/<version>` when the block ends without an error.

    Its name until then starts with a dot, so that TensorFlow Serving, which watches `output` for numbers, does not
    see it. What a killed process left there is removed first.

    Args:
        output: the folder of the versions; it is made if missing.
        version: a whole number.
        overwrite: True replaces an older folder of that version, which stays until the new one is whole.

    Raises:
        ValueError: if another process is exporting to `output`.
        OSError: if the version exists without `overwrite`, is no exported one, or `output` is not a folder that can be
            written; an `ExportError` where writing fails later, such as on a full disk.
    """
    output, made = check_output(output), False
    target = check_version(output, version, overwrite)
    try:
        made = not output.exists()
        output.mkdir(parents=True, exist_ok=True)
        lock = os.open(output, os.O_RDONLY)
    except OSError as error:
        raise OSError(f"output: cannot write to {output} ({error.strerror}); choose another folder.") from None
    temporary = output / f".{version}.{os.getpid()}.tmp"
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"output: another process is exporting to {output}; wait until it has ended.") from None
        try:
            _remove_leftovers(output)
            temporary.mkdir()
            yield temporary
            _sync(temporary)
            _put(temporary, target, overwrite)
            os.fsync(lock)
        except ExportError:
            raise
        except OSError as error:
            raise unwritable(target, error) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        os.close(lock)
        if made and not target.exists():
            with contextlib.suppress(OSError):
                output.rmdir()


def check_output(output: Path) -> pathlib.Path:
    """Return the folder of the versions as a path, with ~ expanded, or raise an error if it cannot be one."""
    if not isinstance(output, (str, os.PathLike)) or not str(output):
        raise ValueError(f"output: must name a folder, got {output!r}.")
    if "://" in str(output):
        raise ValueError(f"output: must be a folder of this machine, got {output!r}; copy it there afterwards.")
    path = pathlib.Path(output).expanduser()
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f"output: {path} is a file; name a folder.")
    return path


def check_version(output: pathlib.Path, version: int, overwrite: bool) -> pathlib.Path:
    """Return the path of a version, or raise an error if it is not free."""
    target = output / str(version)
    if os.path.lexists(target) and not overwrite:
        raise FileExistsError(
            f"output: {target} exists; choose another --version, or --overwrite (overwrite=True) to replace it."
        )
    if os.path.lexists(target) and (target.is_symlink() or not (target / "saved_model.pb").is_file()):
        raise FileExistsError(f"output: {target} is not an exported model, so it is kept; choose another version.")
    return target


def unwritable(target: pathlib.Path, error: Exception) -> ExportError:
    """Return the `ExportError` for an error of the disk."""
    reason = getattr(error, "strerror", None) or str(getattr(error, "message", error)).splitlines()[0]
    return ExportError(
        f"output: {target} cannot be written ({reason}); nothing is left of it. Make room and try again."
    )


def _remove_leftovers(output: pathlib.Path) -> None:
    """Remove what killed processes left; an older version that one of them had moved aside is put back."""
    for old in output.glob(".*.tmp.old"):
        target = output / old.name.split(".")[1]
        if target.exists():
            shutil.rmtree(old)
        else:
            os.rename(old, target)
    for path in output.glob(".*.tmp"):
        if path.name.split(".")[1].isdecimal() and path.is_dir():
            shutil.rmtree(path)


def _sync(folder: pathlib.Path) -> None:
    """Have all that is in a folder outlive a loss of power."""
    for path in [*folder.rglob("*"), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _put(temporary: pathlib.Path, target: pathlib.Path, overwrite: bool) -> None:
    """Give a folder its name; an older one of that name ends where the new one was, for its removal."""
    if not (overwrite and target.exists()):
        os.rename(temporary, target)
    elif not _exchange(temporary, target):
        # Two steps where the file system cannot exchange names; `_remove_leftovers` mends a kill between them.
        old = temporary.with_name(f"{temporary.name}.old")
        os.rename(target, old)
        os.rename(temporary, target)
        shutil.rmtree(old, ignore_errors=True)


def _exchange(one: pathlib.Path, other: pathlib.Path) -> bool:
    """Exchange the names of two folders in one step; False where the system cannot."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    return rename is not None and not rename(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE)
