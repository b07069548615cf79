"""Files that are written whole or not at all."""

import contextlib
import os
import pathlib
from collections.abc import Iterator

from keras_mixer.types import Path


def open_folder(folder: Path) -> pathlib.Path:
    """Return the folder that --output names as a path, made where it is missing, once a file could be written there.

    Raises:
        ValueError: for an empty name.
        OSError: where it cannot be written.
    """
    if not str(folder):
        raise ValueError("output: must name a folder, got an empty text.")
    folder = pathlib.Path(folder).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".{os.getpid()}.probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OSError(f"output: cannot write to {folder} ({error.strerror}); choose another --output.") from None
    return folder


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[pathlib.Path]:
    """Give the path of a temporary file; it takes the place of `path` at the end, or is removed on an error."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
