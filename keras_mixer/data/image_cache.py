"""A cache of decoded images: each file of a folder is decoded once, at a size that serves every crop.

What is kept are the pixels themselves, as large as any crop needs them and no larger. An image that does not fit is
made from its file again and again, by the same function: so its pixels are the same, and only the speed is another.
"""

import dataclasses
import hashlib
import logging
import math
import os
import pathlib
import threading
import time
import zlib
from typing import Protocol

import numpy as np
import tensorflow as tf
from PIL import Image

from keras_mixer import files
from keras_mixer.data import checking, crops, decode, decode_pillow
from keras_mixer.data.augment_settings import Augmentation
from keras_mixer.data.pixel_settings import PixelSettings
from keras_mixer.data.shrinking import shrunk
from keras_mixer.data.source import Record, Source
from keras_mixer.types import Size

logger = logging.getLogger("keras_mixer")
MAGIC = b"keras_mixer pixels 1"  # an entry begins with it; another number where the pixels of a file change
ENDING = ".pixels"
STALE = 3600  # seconds after which an unfinished entry is one that a killed process has left
SAMPLE = 200  # images whose sizes are looked at before a run


class Store(Protocol):
    """Where decoded images are kept, by the paths of their files."""

    def get(self, path: bytes) -> np.ndarray | None:
        """Return the pixels (H, W, 3) uint8 of a file, or None where they are not kept."""

    def put(self, path: bytes, pixels: np.ndarray) -> None:
        """Keep the pixels of a file, if there is room."""


class Memory:
    """A `Store` in the memory of this process, of at most `most` bytes; what came first stays."""

    def __init__(self, most: int) -> None:
        self.most, self.used = most, 0
        self._kept: dict[bytes, np.ndarray] = {}
        self._lock = threading.Lock()

    def get(self, path: bytes) -> np.ndarray | None:
        """Return what `Store.get` does."""
        return self._kept.get(path)

    def put(self, path: bytes, pixels: np.ndarray) -> None:
        """Do what `Store.put` does."""
        with self._lock:
            if path not in self._kept and self.used + pixels.nbytes <= self.most:
                self._kept[path] = np.array(pixels)
                self.used += pixels.nbytes


class Folder:
    """A `Store` in a folder, of at most `most` bytes, which outlives the process.

    An entry is named by the bytes of the image file and by `how` its pixels are made, so a changed file is another. It
    appears whole, and has a checksum: a damaged one counts as missing, and is made again.

    Args:
        folder: is made if missing; several processes may share it, each of which counts what it adds.
        most: bytes of all entries.
        how: a text that changes with the pixels that files become.
    """

    def __init__(self, folder: str | os.PathLike[str], most: int, how: str) -> None:
        self.folder, self.most, self._how = files.open_folder(folder, "cache_dir"), most, how.encode()
        self._names: dict[bytes, pathlib.Path] = {}  # hashed once: a file that changes meanwhile is not looked for
        self._busy: set[pathlib.Path] = set()  # entries that a thread is writing
        self._lock = threading.Lock()
        for path in self.folder.glob(f".*{ENDING}.*.tmp"):
            if time.time() - path.stat().st_mtime > STALE:
                path.unlink(missing_ok=True)
        self.used = sum(path.stat().st_size for path in self.folder.glob(f"*{ENDING}"))

    def get(self, path: bytes) -> np.ndarray | None:
        """Return what `Store.get` does."""
        try:
            entry = self._entry(path).read_bytes()
        except (OSError, ValueError):  # what is wrong with a file says who decodes it
            return None
        return _pixels_of(entry)

    def put(self, path: bytes, pixels: np.ndarray) -> None:
        """Do what `Store.put` does; a full disk is room that is used up."""
        entry = _entry_of(pixels)
        target = self._entry(path)
        with self._lock:
            known = target.stat().st_size if target.is_file() else 0  # a damaged one
            if target in self._busy or self.used - known + len(entry) > self.most:
                return
            self.used += len(entry) - known
            self._busy.add(target)
        try:
            with files.writing(target, "wb") as file:
                file.write(entry)
        except OSError as error:
            if self.most:
                logger.warning("cache_dir: %s takes no more images (%s).", self.folder, error.strerror or error)
            self.most = 0
        finally:
            self._busy.discard(target)

    def _entry(self, path: bytes) -> pathlib.Path:
        if path not in self._names:
            content = hashlib.sha256(self._how + b"\0" + checking.read_bytes(os.fsdecode(path)))
            self._names[path] = self.folder / f"{content.hexdigest()}{ENDING}"
        return self._names[path]


def _entry_of(pixels: np.ndarray) -> bytes:
    """Return the bytes of an entry: what it is, the sides, the checksum, the pixels."""
    content = pixels.tobytes()
    return MAGIC + np.array([*pixels.shape[:2], zlib.crc32(content)], "<u4").tobytes() + content


def _pixels_of(entry: bytes) -> np.ndarray | None:
    """Return the pixels of an entry, or None for one that is damaged."""
    start = len(MAGIC) + 12
    if not entry.startswith(MAGIC) or len(entry) < start:
        return None
    height, width, checksum = (int(number) for number in np.frombuffer(entry, "<u4", 3, len(MAGIC)))
    content = memoryview(entry)[start:]
    if len(content) != height * width * 3 or zlib.crc32(content) != checksum:
        return None
    return np.frombuffer(content, np.uint8).reshape(height, width, 3)


def remove(folder: str | os.PathLike[str]) -> None:
    """Remove the entries of a `Folder`, and the folder where nothing else is in it."""
    place = pathlib.Path(folder)
    for path in [*place.glob(f"*{ENDING}"), *place.glob(f".*{ENDING}.*.tmp")]:
        path.unlink(missing_ok=True)
    if place.is_dir() and not any(place.iterdir()):
        place.rmdir()


def side_for(image_size: Size, how: Augmentation) -> int:
    """Return the shorter side in pixels at which an image serves every crop: none is enlarged that needs not be.

    The smallest crop of a square image of side s has a shorter side of s * sqrt(area * aspect), which shall be that of
    the model's images.

    Example:
        >>> side_for(224, Augmentation(crop_area=(0.05, 1.0), crop_aspect=(0.75, 1.33)))
        1157
    """
    larger = max(crops.sides_of("image_size", image_size))
    if how.augmentation == "none":
        return larger
    narrow = 1.0 if how.augmentation == "hyper_rule" else min(how.crop_aspect[0], 1 / how.crop_aspect[1], 1.0)
    return math.ceil(larger / math.sqrt(how.crop_area[0] * narrow))


def check_source(source: Source) -> None:
    """Raise a ValueError unless a source is of image files in a folder, which alone can be kept."""
    if not source.loose_files:
        raise ValueError(
            f"cache: is for a folder of images, and {source.name} is none; leave it out. Records are made smaller once "
            "and for all by make_records.py --max_side=512."
        )


def cached(source: Source, store: Store, side: int, pixels: PixelSettings) -> Source:
    """Return a source of the same records whose images are pixels (H, W, 3) uint8, each decoded once where it fits.

    They stand upright and on the background that `pixels` names. Those whose shorter side has more than `side` pixels
    are shrunk to it by area. An image is the same whether or not it was kept.

    Args:
        source: of a folder.
        store: a `Memory` or a `Folder`.
        side: from `side_for`.
        pixels: a `PixelSettings`.

    Raises:
        ValueError: for a source that is no folder of images.

    Example:
        >>> cached(opening.open_source("photos", training=True), Memory(10**9), 437, PixelSettings())  # doctest: +SKIP
    """
    check_source(source)

    def get(path: bytes | np.ndarray) -> tuple[np.ndarray, bool]:
        found = store.get(_bytes_of(path))
        return (np.zeros((0, 0, 3), np.uint8), False) if found is None else (found, True)

    def put(path: bytes | np.ndarray, image: np.ndarray) -> np.ndarray:
        store.put(_bytes_of(path), image)
        return image

    @tf.autograph.experimental.do_not_convert
    def parse(record: Record) -> tuple[tf.Tensor, tf.Tensor]:
        label = source.parse(record)[1]  # without its file, which is read only to be decoded
        kept, found = tf.numpy_function(get, [record["path"]], (tf.uint8, tf.bool))

        def made() -> tf.Tensor:
            image = decode.decode_image(source.parse(record)[0], pixels.alpha, pixels.exif_rotation)
            return tf.numpy_function(put, [record["path"], _at_most(image, side)], tf.uint8)

        image = tf.cond(tf.ensure_shape(found, []), lambda: kept, made)
        return tf.ensure_shape(image, [None, None, 3]), label

    return dataclasses.replace(source, parse=parse)


def _bytes_of(path: bytes | np.ndarray) -> bytes:
    return np.asarray(path, object).item()  # bytes in a graph, an array of them outside


def _at_most(image: tf.Tensor, side: int) -> tf.Tensor:
    """Return an image (H, W, 3) uint8 whose shorter side has at most `side` pixels."""
    shape = tf.shape(image)[:2]
    shorter = tf.reduce_min(shape)
    sides = tf.cast(tf.round(tf.cast(shape, tf.float64) * side / tf.cast(shorter, tf.float64)), tf.int32)
    return tf.cond(shorter > side, lambda: shrunk(image, sides[0], sides[1]), lambda: image)


def estimated_bytes(source: Source, side: int) -> int:
    """Return about how many bytes the images of a folder take in a cache, from the headers of some of them."""
    paths = list(source.records(None, 0).map(lambda record: record["path"]).as_numpy_iterator())
    sizes = [size for path in paths[:: max(1, len(paths) // SAMPLE)] if (size := _size_of(path, side))]
    return round(len(paths) * sum(sizes) / max(1, len(sizes)))


def _size_of(path: bytes, side: int) -> int | None:
    decode_pillow.register_heic()
    try:
        with Image.open(os.fsdecode(path)) as picture:
            height, width = picture.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None  # the run will name it
    scale = min(1.0, side / max(1, min(height, width)))
    return round(height * scale) * round(width * scale) * 3
