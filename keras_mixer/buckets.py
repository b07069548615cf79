"""Paths that may be in a bucket, gs://name/folder: TensorFlow's own client, through etils.epath, which TFDS brings.

An object appears whole when its upload ends, and there is no rename. So what belongs together is written in an order:
data first, and last the manifest or marker that names them.
"""

import contextlib
import errno
import io
import json
import logging
import os
import pathlib
import re
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

logger = logging.getLogger("keras_mixer")
SCHEME = "gs://"
BEAT, STALE = 10.0, 35.0  # seconds between two signs of life of who holds a claim, and after which none is left


def is_bucket(path: str | os.PathLike[str]) -> bool:
    """Whether a path is that of an object, or of a prefix of objects, in a bucket.

    Example:
        >>> is_bucket("gs://data/records"), is_bucket("runs/records")
        (True, False)
    """
    return os.fspath(path).startswith(SCHEME)


def path_of(path: str | os.PathLike[str], argument: str = "path") -> pathlib.Path:
    """Return a path to work with: a `pathlib.Path` with ~ expanded, or for gs:// one that reads and writes like it.

    Raises:
        ValueError: for another scheme, and a bucket without a name, naming the argument.

    Example:
        >>> path_of("runs/x") / "run.json"
        PosixPath('runs/x/run.json')
    """
    text = os.fspath(path)
    if "://" not in text:
        return pathlib.Path(text).expanduser()
    if not re.match(r"gs://[\w.-]+(/|$)", text):
        raise ValueError(f"{argument}: {text!r} is neither a local path nor one of a bucket; write gs://bucket/folder.")
    from etils import epath  # its first use of a bucket imports TensorFlow

    return epath.Path(text)


def reason(error: Exception) -> str | None:
    """Return what a file system says is wrong, in a line; None for an error that is none of a file system's."""
    if isinstance(error, OSError):
        return error.strerror or str(error).strip().split("\n")[0]
    if type(error).__module__.startswith("tensorflow.") and hasattr(error, "error_code"):
        told = str(getattr(error, "message", error)).strip()
        found = re.search(r"Error executing an HTTP request: ([^']*?)(?: with body|$)", told)
        told = found[1] if found else told.split("\n")[0]
        return told.replace("code 401", "code 401, without valid credentials")
    return None


@contextlib.contextmanager
def as_os_errors() -> Iterator[None]:
    """Turn the errors of a bucket's client into OSErrors, which every other file system raises."""
    try:
        yield
    except Exception as error:
        told = reason(error)
        if told is None or isinstance(error, OSError):
            raise
        raise OSError(told) from None


@contextlib.contextmanager
def naming(path: pathlib.Path, argument: str) -> Iterator[None]:
    """Turn the errors of reading a path in a bucket into an OSError that names the argument and the way out."""
    try:
        with as_os_errors():
            yield
    except OSError as error:
        raise OSError(
            f"{argument}: {path} cannot be read ({error}); see docs/guides/buckets.md for credentials."
        ) from None


def check_seen(path: pathlib.Path, argument: str) -> None:
    """Raise an OSError that names the argument where a path is in a bucket and nothing can be seen there."""
    if not is_bucket(path):
        return
    with naming(path, argument):
        there = path.exists()
    if not there:
        raise FileNotFoundError(f"{argument}: there is nothing at {path}; give another path.")


def make_folder(path: pathlib.Path) -> None:
    """Make a folder where it is missing; in a bucket, which needs none, look whether the bucket is there.

    An upload to a bucket that is not there would be tried again and again.
    """
    with as_os_errors():
        if is_bucket(path) and not path_of(SCHEME + str(path).split("/")[2]).exists():
            raise FileNotFoundError(errno.ENOENT, "there is no such bucket, or none that may be seen")
        path.mkdir(parents=True, exist_ok=True)


def open_binary(path: pathlib.Path) -> io.BufferedReader | io.BytesIO:
    """Open a file for reading at any place; an object is read whole."""
    if not is_bucket(path):
        return open(path, "rb")
    with as_os_errors():
        return io.BytesIO(path.read_bytes())


def size_of(path: pathlib.Path) -> int:
    """Return the bytes of a file."""
    status: Any = path.stat()
    return status.length if is_bucket(path) else status.st_size


def time_of(path: pathlib.Path) -> float:
    """Return when a file was changed, in seconds of the clock."""
    status: Any = path.stat()
    return status.mtime if is_bucket(path) else status.st_mtime


def upload(file: pathlib.Path, target: pathlib.Path) -> None:
    """Copy a local file to a bucket, where it appears, or takes the place of an older one, when it is whole."""
    content = file.read_bytes()  # whole, since an object that is closed after an error is one of the bytes so far
    with as_os_errors():
        target.write_bytes(content)


def files_below(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yield the objects whose names begin with that of a folder, in their order; epath has no rglob for them."""
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            yield from files_below(path)
        else:
            yield path


def upload_folder(folder: pathlib.Path, target: pathlib.Path, marker: str) -> None:
    """Copy a local folder to a bucket, its marker last; what an older one had besides is removed."""
    with as_os_errors():
        if (target / marker).exists():
            (target / marker).unlink()
        names = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
        for name in sorted(names, key=lambda name: (str(name) == marker, name)):
            upload(folder / name, target / name)
        for path in list(files_below(target)):
            if path.relative_to(target) not in names:
                path.unlink()


# ---- A lock without a file system: an object that its holder writes anew again and again


def claim(path: pathlib.Path, busy: str) -> contextlib.ExitStack:
    """Return a claim on a place in a bucket, held by an object with a sign of life; it ends with its block.

    What a killed process left is taken over once it has given no sign of life for `STALE` seconds.

    Raises:
        ValueError: with the sentence `busy`, if another process holds it.
        OSError: if the object cannot be written.
    """
    own, beats, ended = f"{socket.gethostname()} {os.getpid()} {os.urandom(8).hex()}", 0, threading.Event()

    def write() -> None:
        with as_os_errors():
            path.write_text(json.dumps({"holder": own, "beat": beats}))

    _wait_for_silence(path, busy)
    write()
    time.sleep(BEAT / 10)  # of two who came at once, the one who wrote last has it
    if own not in _read(path):
        raise ValueError(busy)

    def beat() -> None:
        nonlocal beats
        while not ended.wait(BEAT):
            beats += 1
            with contextlib.suppress(OSError):  # the next one may come through
                if own not in _read(path):
                    logger.warning("%s is another process's now, since this one was silent for too long.", path)
                    return
                write()

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()

    def end() -> None:
        ended.set()
        thread.join()
        with contextlib.suppress(OSError):  # it grows stale
            if own in _read(path):
                path.unlink()

    with contextlib.ExitStack() as stack:
        stack.callback(end)
        return stack.pop_all()


def _wait_for_silence(path: pathlib.Path, busy: str) -> None:
    found, since = _read(path), time.monotonic()
    if found:
        logger.info("%s is claimed; waiting up to %.0f s for a sign of life of its holder.", path, STALE)
    while found and time.monotonic() - since < STALE:
        time.sleep(BEAT / 5)
        now = _read(path)
        if now and now != found:
            raise ValueError(busy)
        found = now


def _read(path: pathlib.Path) -> str:
    with as_os_errors():
        try:
            return path.read_text()
        except FileNotFoundError:
            return ""
