"""The folder of one version of an export, which is never half written, among those of other versions; and of a page."""

import contextlib
import os
import pathlib
import shutil
from collections.abc import Iterator

from keras_mixer import buckets, files
from keras_mixer.types import Path


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
    check_version(output, version, overwrite)
    with files.naming_folder("output", output, "folder"):
        made = not output.exists()
        buckets.make_folder(output)
        lock = lock_output(output)
    target = output / str(version)
    try:
        with lock:
            with explained(target):
                _remove_leftovers(output)
            check_version(output, version, overwrite)  # again, now that nobody else writes
            temporary = output / f".{version}.{os.getpid()}.tmp"
            with explained(target), files.replacing_folder(target, temporary, "saved_model.pb") as folder:
                yield folder
    finally:
        if made and not target.exists():
            with contextlib.suppress(OSError):
                output.rmdir()


def check_output(output: Path) -> pathlib.Path:
    """Return the folder of the versions as a path, with ~ expanded, or raise an error if it cannot be one."""
    if not isinstance(output, (str, os.PathLike)) or not str(output):
        raise ValueError(f"output: must name a folder, got {output!r}.")
    path = buckets.path_of(output, "output")
    if buckets.is_bucket(path):
        return path
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f"output: {path} is a file; name a folder.")
    return path


def lock_output(output: pathlib.Path) -> contextlib.ExitStack:
    """Return the lock of a folder of exports, or raise a ValueError where another process has it."""
    place = output / ".exporting" if buckets.is_bucket(output) else output
    return files.lock(place, f"output: another process is exporting to {output}; wait until it has ended.")


def check_version(output: pathlib.Path, version: int, overwrite: bool) -> pathlib.Path:
    """Return the path of a version, or raise an error if it is not free."""
    target = output / str(version)
    there, linked = _stands(target)
    if there and not overwrite:
        taken = [int(path.name) for path in output.iterdir() if path.name.isdecimal()]
        raise FileExistsError(
            f"output: {target} exists; the next free version is {max(taken) + 1}, and overwrite (--overwrite) replaces "
            "this one."
        )
    if there and (linked or not (target / "saved_model.pb").is_file()):
        raise FileExistsError(f"output: {target} is not an exported model, so it is kept; choose another version.")
    return target


def check_page(folder: Path, overwrite: bool) -> pathlib.Path:
    """Return the folder of an exported page as a path, or raise an error if it is not free, nor to be replaced."""
    target = check_output(folder)
    there, linked = _stands(target)
    if there and not overwrite:
        raise FileExistsError(f"output: {target} exists; choose another --output, or --overwrite to replace it.")
    if there and (linked or not (target / "settings.json").is_file()):
        raise FileExistsError(f"output: {target} is not an exported page, so it is kept; choose another folder.")
    return target


def _stands(target: pathlib.Path) -> tuple[bool, bool]:
    """Return whether something is at a path, and whether that is a link."""
    linked = not buckets.is_bucket(target) and target.is_symlink()
    return linked or target.exists(), linked


def unwritable(target: pathlib.Path, error: Exception) -> ExportError:
    """Return the `ExportError` for an error of the disk."""
    reason = getattr(error, "strerror", None) or str(getattr(error, "message", error)).splitlines()[0]
    return ExportError(
        f"output: {target} cannot be written ({reason}); nothing is left of it. Make room and try again."
    )


@contextlib.contextmanager
def explained(target: pathlib.Path) -> Iterator[None]:
    """Turn an error of the disk into an `ExportError` that names `target`."""
    try:
        yield
    except ExportError:
        raise
    except OSError as error:
        raise unwritable(target, error) from None


def _remove_leftovers(output: pathlib.Path) -> None:
    """Remove what killed processes left; an older version that one of them had moved aside is put back."""
    if buckets.is_bucket(output):
        return
    for path in (*output.glob(".*.old"), *output.glob(".*.tmp")):
        version = path.name.split(".")[1]
        if not version.isdecimal() or not path.is_dir():
            continue
        if path.suffix == ".old":
            files.put_back(path, output / version)
        else:
            shutil.rmtree(path)
