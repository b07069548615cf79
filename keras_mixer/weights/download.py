"""Fetch one file by URL: into a cache, resumed, retried, locked, verified, and never half there."""

import contextlib
import errno
import fcntl
import hashlib
import http.client
import logging
import os
import pathlib
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

logger = logging.getLogger("keras_mixer")
ATTEMPTS = 5
FIRST_WAIT = 1.0  # seconds before the second attempt, doubled before each further one
TIMEOUT = 30.0  # seconds without a byte
CHUNK = 2**20
_PASSING = {408, 425, 429, 500, 502, 503, 504}  # HTTP statuses that are worth another attempt


def is_url(text: str) -> bool:
    """Whether `text` is a URL that can be fetched."""
    return text.lower().startswith(("http://", "https://", "file://", "gs://"))


def cache_folder() -> pathlib.Path:
    """Return the folder of this package in the Keras cache, ~/.keras/models/keras_mixer unless KERAS_HOME says else."""
    home = os.environ.get("KERAS_HOME") or os.path.join(os.path.expanduser("~"), ".keras")
    return pathlib.Path(home) / "models" / "keras_mixer"


def fetch_url(url: str, verify: Callable[[pathlib.Path], None]) -> pathlib.Path:
    """Return the cached copy of any URL's file, fetched and verified where it is not there yet; see `fetch`."""
    folder = cache_folder() / "urls" / hashlib.sha256(url.encode()).hexdigest()[:16]
    return fetch(url, folder / pathlib.PurePosixPath(urllib.parse.urlsplit(url).path).name, verify)


def fetch(
    url: str, path: pathlib.Path, verify: Callable[[pathlib.Path], None], size: int | None = None, hint: str = ""
) -> pathlib.Path:
    """Return `path`, having fetched it from `url` unless it is there.

    A partial download is kept beside it and resumed, by this process or a later one; only what `verify` accepts gets
    the final name. The sha256 of the first verified download is recorded beside it, and checked from then on.

    Args:
        url: http, https, file, or gs (as the public https address of the bucket).
        path: of the file in a cache.
        verify: function of a path that raises a ValueError where its content is wrong.
        size: exact bytes, where they are known.
        hint: the way out where the server cannot be reached, as the end of a sentence.

    Raises:
        OSError: if the server cannot be reached or does not have the file, or the cache cannot be written.
        ValueError: if what it sends is not the file.
    """
    path = pathlib.Path(path)
    partial = path.with_name(path.name + ".part")
    with _explained(url, path, hint):
        if path.is_file():
            check_size(path, size)
            _check_sha256(path, path)
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path):
            if not path.is_file():  # another process may have been quicker
                _download_verified(https_url(url), path, partial, verify, size)
    return path


def https_url(url: str) -> str:
    """Return the https address of a gs URL, and any other URL as it is; STORAGE_EMULATOR_HOST is honoured."""
    if not url.lower().startswith("gs://"):
        return url
    host = os.environ.get("STORAGE_EMULATOR_HOST", "https://storage.googleapis.com").rstrip("/")
    return f"{host}/{url[len('gs://') :]}"


def check_size(path: pathlib.Path, size: int | None) -> None:
    """Raise a ValueError unless the file has exactly this many bytes; `size` None accepts any."""
    found = path.stat().st_size
    if size is not None and found != size:
        raise ValueError(
            f"weights: {path} has {found:,} bytes, the released file {size:,}; delete it to fetch it again."
        )


@contextlib.contextmanager
def _locked(path: pathlib.Path) -> Iterator[None]:
    """Hold the file's lock, which the system releases when a process ends, however it ends."""
    with open(path.with_name(path.name + ".lock"), "wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.warning("weights: waiting for another process that fetches %s", path)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _download_verified(
    url: str, path: pathlib.Path, partial: pathlib.Path, verify: Callable[[pathlib.Path], None], size: int | None
) -> None:
    resumed = partial.exists() and partial.stat().st_size > 0
    _download(url, partial, size)
    try:
        check_size(partial, size)
        verify(partial)
        digest = _check_sha256(path, partial)
    except ValueError as error:
        partial.unlink()  # nothing of it can be trusted
        if resumed:  # perhaps only its older half was wrong
            return _download_verified(url, path, partial, verify, size)
        reason = str(error).replace(str(partial), "it").removeprefix("weights: ")
        raise ValueError(f"weights: what {url} sent is not the file: {reason}") from None
    # Not through `files`: this module is to load without any other, and a part that is resumed keeps its name.
    with open(partial, "rb+") as file:
        os.fsync(file.fileno())
    record = _record(path)
    temporary = record.with_name(record.name + ".tmp")
    temporary.write_text(f"{digest}  {path.name}\n", "utf-8")
    os.replace(temporary, record)
    os.replace(partial, path)


def _download(url: str, partial: pathlib.Path, size: int | None) -> None:
    for attempt in range(ATTEMPTS):
        try:
            return _download_once(url, partial, size)
        except urllib.error.HTTPError as error:
            if error.code == 416:  # the partial file is longer than the server's
                partial.unlink(missing_ok=True)
            elif error.code not in _PASSING or attempt == ATTEMPTS - 1:
                raise
            reason = f"HTTP {error.code}"
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            if attempt == ATTEMPTS - 1 or isinstance(getattr(error, "reason", None), FileNotFoundError):
                raise
            reason = str(getattr(error, "reason", None) or error)
        wait = FIRST_WAIT * 2**attempt
        logger.warning("weights: %s: %s; attempt %d of %d in %.0f s", url, reason, attempt + 2, ATTEMPTS, wait)
        time.sleep(wait)
    raise ConnectionError(f"{ATTEMPTS} attempts")


def _download_once(url: str, partial: pathlib.Path, size: int | None) -> None:
    done = partial.stat().st_size if partial.exists() else 0
    if size is not None and done >= size:
        if done == size:
            return
        partial.unlink()
        done = 0
    request = urllib.request.Request(url, headers={"User-Agent": "keras-mixer", "Accept-Encoding": "identity"})
    if done:
        request.add_header("Range", f"bytes={done}-")
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
        if done and not (response.headers.get("Content-Range") or "").startswith(f"bytes {done}-"):
            done = 0  # a server without ranges sends all of it
        length = response.headers.get("Content-Length")
        total = done + int(length) if length else size
        if size is not None and total != size:
            raise ValueError(
                f"weights: {url} offers {total:,} bytes, the released file has {size:,}; it is not fetched."
            )
        if total and shutil.disk_usage(partial.parent).free < total - done:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(partial))
        with open(partial, "ab" if done else "wb") as file, _progress(partial, total, done) as progress:
            while chunk := response.read(CHUNK):
                file.write(chunk)
                done += len(chunk)
                progress.update(len(chunk))
                if total and done > total:
                    raise ValueError(f"weights: {url} sends more than the {total:,} bytes that it should.")
        if total and done < total:
            raise http.client.IncompleteRead(b"", total - done)


def _progress(partial: pathlib.Path, total: int | None, done: int) -> Any:
    from tqdm import tqdm

    # disable=None: no bar where standard error is no terminal.
    return tqdm(total=total, initial=done, unit="B", unit_scale=True, desc=partial.stem, disable=None)


def _record(path: pathlib.Path) -> pathlib.Path:
    return path.with_name(path.name + ".sha256")


def _check_sha256(path: pathlib.Path, content: pathlib.Path) -> str:
    """Return the sha256 of `content`; raise a ValueError if it is not the one recorded for `path`."""
    with open(content, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    record = _record(path)
    recorded = record.read_text("utf-8").split()[:1] if record.is_file() else []
    if recorded and recorded != [digest]:
        raise ValueError(
            f"weights: {content} has the sha256 {digest}, but {recorded[0]} was recorded when it was first verified; "
            f"delete it to fetch it again, and {record} too if the file was meant to change."
        )
    return digest


@contextlib.contextmanager
def _explained(url: str, path: pathlib.Path, hint: str) -> Iterator[None]:
    """Give every failure of the network or the disk one sentence: what, where, and the way out."""
    way_out = f"; {hint}" if hint else f"; or put the file at {path} by hand"
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()
        raise OSError(f"weights: {url} answers HTTP {error.code} {error.reason}{way_out}.") from None
    except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
        reason = getattr(error, "reason", None) or error or type(error).__name__
        raise ConnectionError(f"weights: {url} cannot be fetched ({reason}){way_out}.") from None
    except OSError as error:
        raise type(error)(
            error.errno, f"weights: the cache folder {path.parent} cannot be used ({error.strerror}) for {url}{way_out}"
        ) from None
