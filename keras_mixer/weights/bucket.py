"""A file of weights in a bucket, as a local copy that is kept."""

import hashlib
import os
import pathlib
from typing import Any

from keras_mixer import buckets, files

CACHE = "~/.cache/keras_mixer/buckets"


def fetched(path: str | os.PathLike[str]) -> pathlib.Path:
    """Return a local copy of an object, fetched again where the object has changed; a local path as it is.

    Raises:
        OSError: where the object cannot be read.

    Example:
        >>> fetched("runs/x/model.keras")
        PosixPath('runs/x/model.keras')
    """
    there = buckets.path_of(path)
    if not buckets.is_bucket(path):
        return there
    with buckets.as_os_errors():
        status: Any = there.stat()
        key = f"{there} {status.length} {status.mtime}"
        folder = pathlib.Path(CACHE).expanduser() / hashlib.sha256(key.encode()).hexdigest()[:32]
        if not (folder / there.name).exists():
            with files.writing(folder / there.name, "wb") as file:
                file.write(there.read_bytes())
    return folder / there.name
