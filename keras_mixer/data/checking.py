"""Image files that are none: found by decoding each as a whole, and left out only up to a stated fraction."""

import concurrent.futures
import io
import logging
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import tensorflow as tf
from PIL import Image

from keras_mixer import buckets
from keras_mixer.data import decode, decode_pillow, image_limits
from keras_mixer.data.progress import Progress
from keras_mixer.data.shrinking import NO_SHRINKING, Shrinking, shrunk_file, shrunk_pixels
from keras_mixer.types import File

logger = logging.getLogger("keras_mixer")
MAX_THREADS = 8  # each may hold a decoded image
Result = TypeVar("Result")


class Reading(NamedTuple):
    """What becomes of bad images and of large ones, as `record_writing.write_records` takes it."""

    on_bad_image: str = "stop"
    max_bad_fraction: float = 0.01
    shrinking: Shrinking = NO_SHRINKING


def check_policy(on_bad_image: str, max_bad_fraction: float) -> None:
    """Raise a ValueError unless these are "stop" or "skip", and a fraction in [0, 1)."""
    if on_bad_image not in ("stop", "skip"):
        raise ValueError(f"on_bad_image: must be 'stop' or 'skip', got {on_bad_image!r}.")
    if not 0 <= max_bad_fraction < 1:
        raise ValueError(f"max_bad_fraction: must be at least 0 and less than 1, got {max_bad_fraction}.")


def num_threads() -> int:
    """Return how many threads to decode in."""
    return min(MAX_THREADS, os.cpu_count() or 1)


def without_bad_images(
    root: str | os.PathLike[str], split: str, files: Sequence[File], max_bad_fraction: float
) -> list[File]:
    """Decode every image once, and return those that can be; the others are counted and named in a warning.

    More than a fraction `max_bad_fraction` is a ValueError. Names in messages are relative to `root`.
    """
    bad = BadImages(root, split, len(files), max_bad_fraction)
    good = []
    with (
        concurrent.futures.ThreadPoolExecutor(num_threads()) as threads,
        Progress(f"checked {split}:", len(files), "images") as progress,
    ):
        for (path, label), fault in zip(files, threads.map(_fault_of, (path for path, _ in files)), strict=True):
            if fault:
                bad.add(path, fault)
            else:
                good.append((path, label))
            progress.update()
    check_classes_left(files, good, split)
    if bad.skipped:
        names = ", ".join(entry["path"] for entry in bad.skipped[:5]) + (" ..." if len(bad.skipped) > 5 else "")
        left_out = f"{len(bad.skipped)} of {bad.total} images cannot be read and are left out: {names}"
        logger.warning("split %s of %s: %s", split, root, left_out)
    return good


class BadImages:
    """Files left out of a split, with the reason; `max_fraction` None stops at the first."""

    def __init__(self, root: str | os.PathLike[str], split: str, total: int, max_fraction: float | None) -> None:
        self.root, self.split, self.total, self.max_fraction = root, split, total, max_fraction
        self.skipped: list[dict[str, str]] = []

    def add(self, path: str | os.PathLike[str], reason: str) -> None:
        """Stop, or leave out the file; stop as well above the fraction, with a ValueError."""
        if self.max_fraction is None:
            raise ValueError(f"dataset: {reason[:-1]}, or leave it out with --on_bad_image=skip.")
        self.skipped.append({"path": os.path.relpath(path, self.root), "reason": reason})
        if len(self.skipped) > self.max_fraction * self.total:
            first = ", ".join(bad["path"] for bad in self.skipped[:3])
            raise ValueError(
                f"dataset: {len(self.skipped)} or more of the {self.total:,} images of split {self.split} cannot be "
                f"read ({first} ...), above --max_bad_fraction={self.max_fraction:g}; mend them or raise it. The last "
                f"one, {reason}"
            )


@tf.function(input_signature=[tf.TensorSpec([], tf.string)])
def _decoded_height(encoded: tf.Tensor) -> tf.Tensor:
    return tf.shape(decode.decode_image(encoded))[0]


def read_image(path: str | os.PathLike[str]) -> tuple[bytes | None, str | None]:
    """Return (bytes, None), or (None, a sentence on what is wrong); the image is decoded as a whole."""

    def checked(encoded: bytes) -> bytes:
        _decoded_height(encoded)
        return encoded

    return _read(path, checked)


def read_for_records(
    path: str | os.PathLike[str], shrinking: Shrinking = NO_SHRINKING
) -> tuple[bytes | None, str, str | None]:
    """Return (bytes of a JPEG or PNG, what was done to the file, None for no fault).

    What was done is "shrunk", or "converted" for a PNG made of another kind of file, or "" where the bytes are those of
    the file. What is wrong with a file is a sentence, and there are no bytes then.
    """

    def stored(encoded: bytes) -> tuple[bytes, str]:
        if decode.in_tensorflow(encoded):
            if shrinking.max_side is None:
                _decoded_height(encoded)
                return encoded, ""
            smaller = shrunk_file(encoded, shrinking)
            return (encoded, "") if smaller is None else (smaller, "shrunk")
        pixels = decode_pillow.decode_bytes(encoded, alpha=None)
        smaller = shrunk_pixels(pixels, shrinking)
        if smaller is not None:
            return smaller, "shrunk"
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        if file.tell() > image_limits.MAX_BYTES:
            raise ValueError(f"as PNG it has {image_limits.TOO_MANY_BYTES}")
        return file.getvalue(), "converted"

    result, fault = _read(path, stored)
    return (*(result or (None, "")), fault)


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Return the bytes of a regular file.

    Raises:
        ValueError: with a sentence, where it is none, cannot be read, or has too many bytes, which are not read then.
    """
    try:
        if buckets.is_bucket(path):
            return _read_object(buckets.path_of(path))
        if not os.path.isfile(path):
            raise ValueError(f"{path}: is missing or no regular file; replace or remove it.")
        if os.path.getsize(path) > image_limits.MAX_BYTES:
            raise ValueError(f"{path}: {decode.BAD_IMAGE} ({image_limits.TOO_MANY_BYTES}); replace or remove it.")
        return pathlib.Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({buckets.reason(error)}); replace or remove it.") from None


def _read_object(path: pathlib.Path) -> bytes:
    with buckets.as_os_errors():
        if buckets.size_of(path) > image_limits.MAX_BYTES:
            raise ValueError(f"{path}: {decode.BAD_IMAGE} ({image_limits.TOO_MANY_BYTES}); replace or remove it.")
        return path.read_bytes()


def check_classes_left(files: Sequence[File], good: Sequence[File], split: str) -> None:
    """Raise a ValueError where all files of a class, in a list of (path, label), are bad."""
    lost = {label for _, label in files} - {label for _, label in good}
    if lost:
        name = next(name for name, label in files if label in lost)
        raise ValueError(
            f"dataset: every image is bad in the class folder of {name}, so split {split} would have none of that "
            "class; replace them or remove the class."
        )


def _read(path: str | os.PathLike[str], function: Callable[[bytes], Result]) -> tuple[Result | None, str | None]:
    """Return (function(bytes of a file), None), or (None, a sentence on what is wrong)."""
    try:
        encoded = read_bytes(path)
    except ValueError as error:
        return None, str(error)
    try:
        return function(encoded), None
    except tf.errors.OpError as error:
        return None, decode.describe_error(error, os.fspath(path))
    except ValueError as error:
        return None, f"{path}: {decode.BAD_IMAGE} ({error}); replace or remove it."


def _fault_of(path: str | os.PathLike[str]) -> str | None:
    return read_image(path)[1]  # without its bytes, so that no finished image waits in memory
