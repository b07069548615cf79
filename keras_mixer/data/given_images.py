"""Images as people hand them to a model: files, folders, patterns, bytes, arrays and Pillow images, to uint8 pixels."""

import concurrent.futures
import functools
import glob
import io
import itertools
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image

from keras_mixer import buckets
from keras_mixer.data import checking, colours, crops, decode, file_crops, folders
from keras_mixer.data.pixel_settings import PixelSettings
from keras_mixer.data.source import check_paths
from keras_mixer.types import Size

KINDS = "a path, the bytes of a file, a uint8 array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), or a Pillow image"
GivenImage = str | os.PathLike[str] | bytes | np.ndarray | Image.Image  # one of `KINDS`
PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")  # of Pillow, that a PNG keeps without loss


class Batch(NamedTuple):
    """Images of one batch that could be read, and what is wrong with the others.

    Attributes:
        indices: of the images that could be read, in the order of all images.
        images: (B, height, width, channels) uint8, those images.
        faults: index -> one sentence, of each of the others.
    """

    indices: list[int]
    images: np.ndarray
    faults: dict[int, str]


def find_images(places: Sequence[str | os.PathLike[str]]) -> list[str]:
    """Return the paths of all images that files, folders and patterns name, each once, in their order.

    A folder stands for every image in it and in the folders within; what is left out of it is said in a warning.

    Raises:
        ValueError: for a place that names no image.
    """
    found: dict[str, None] = {}
    for place in places:
        text = os.fspath(place)
        if not text:
            raise ValueError("image: must name a file, a folder or a pattern, got an empty text.")
        check_paths(image=text)
        path = buckets.path_of(text, "image")
        if buckets.is_bucket(path):
            matches, fault = _in_bucket(path), f"nothing is called {text!r}, or no image is in it"
        elif path.is_dir():
            matches = _images_of(path)
            fault = f"the folder {text!r} has no images"
        elif os.path.lexists(path):
            matches, fault = [str(path)], ""
        else:
            found_here = sorted(glob.glob(str(path), recursive=True))
            inside = [_images_of(p) if os.path.isdir(p) and "**" not in text else [] for p in found_here]
            matches = [p for p in found_here if not os.path.isdir(p)] + list(itertools.chain(*inside))
            fault = f"no file matches {text!r}" if glob.has_magic(text) else f"no file is called {text!r}"
        if not matches:
            raise ValueError(f"image: {fault}; give files, folders or patterns such as 'photos/*.jpg'.")
        found |= dict.fromkeys(matches)
    return list(found)


def listed(images: GivenImage | Iterable[GivenImage]) -> list[GivenImage]:
    """Return one image or a sequence of them, each of `KINDS`, as a list; an array (B, H, W, channels) is B images.

    Every folder and pattern in it is replaced by the images that it stands for; one without any is a ValueError.
    """
    if isinstance(images, str | os.PathLike | bytes | Image.Image) or (
        isinstance(images, np.ndarray) and images.ndim < 4
    ):
        images = [images]
    return [
        one for image in images for one in (find_images([image]) if isinstance(image, str | os.PathLike) else [image])
    ]


@functools.lru_cache(maxsize=8)  # its graphs take about a second to trace
def loader(size: Size, crop: str, pixels: PixelSettings) -> Callable[[GivenImage], np.ndarray]:
    """Return a function of an image of `KINDS` that gives what an evaluation shows the model, (H, W, channels) uint8.

    It raises a ValueError or tf.errors.OpError for what is no image. Size and crop are of `crops.evaluation_crop`.
    """

    @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
    def of_bytes(encoded: tf.Tensor) -> tf.Tensor:
        image = file_crops.decode_and_evaluation_crop(encoded, crop, size, pixels)
        return colours.to_channels(image, pixels.channels)

    @tf.function(input_signature=[tf.TensorSpec([None, None, 3], tf.uint8)])
    def of_array(image: tf.Tensor) -> tf.Tensor:
        return colours.to_channels(crops.evaluation_crop(image, crop, size, pixels.antialias), pixels.channels)

    def load(image: GivenImage) -> np.ndarray:
        if isinstance(image, str | os.PathLike):
            image = checking.read_bytes(image)
        elif isinstance(image, Image.Image):
            image = _png_of(image)
        elif not isinstance(image, bytes):
            array = np.asarray(image)
            if array.ndim == 2:
                array = array[:, :, None]
            if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] not in (1, 3, 4) or not array.size:
                raise ValueError(f"image: must be {KINDS}, got {array.dtype} of shape {np.shape(image)}.")
            if array.shape[2] == 4:
                image = _png_of(Image.fromarray(array, "RGBA"))
            else:
                return of_array(np.repeat(array, 3, axis=2) if array.shape[2] == 1 else array).numpy()
        return of_bytes(image).numpy()

    return load


def read_ahead(
    images: Sequence[GivenImage], names: Sequence[str], load: Callable[[GivenImage], np.ndarray], batch_size: int
) -> Iterator[Batch]:
    """Yield a `Batch` for each `batch_size` images, reading the next one meanwhile; a bad image costs itself alone.

    The names are for the sentences about bad ones; `load` is a `loader`.
    """

    def read(index: int) -> tuple[np.ndarray | None, str]:
        try:
            return load(images[index]), ""
        except ValueError as error:
            return None, str(error)
        except tf.errors.OpError as error:
            return None, decode.describe_error(error, names[index])

    groups = [range(i, min(i + batch_size, len(images))) for i in range(0, len(images), batch_size)]
    with concurrent.futures.ThreadPoolExecutor(checking.num_threads()) as threads:
        waiting = [threads.submit(read, index) for index in (groups[0] if groups else [])]
        for group, following in zip(groups, [*groups[1:], range(0)], strict=True):
            ahead = [threads.submit(read, index) for index in following]
            results = {index: future.result() for index, future in zip(group, waiting, strict=True)}
            waiting = ahead
            good = {index: image for index, (image, _) in results.items() if image is not None}
            faults = {index: fault for index, (image, fault) in results.items() if image is None}
            yield Batch(list(good), np.array(list(good.values())), faults)


def _images_of(folder: str | os.PathLike[str]) -> list[str]:
    images, others = folders.list_files(folder)
    folders.told_of_others(folder, others if images else [])
    return images


def _in_bucket(path: pathlib.Path) -> list[str]:
    """Return an object, or the images below a prefix, or those that match a pattern."""
    with buckets.naming(path, "image"):
        if glob.has_magic(str(path)):
            first = next(i for i, part in enumerate(path.parts) if glob.has_magic(part))
            base = buckets.path_of(str(path).split(path.parts[first])[0].rstrip("/"))
            return sorted(str(found) for found in base.glob("/".join(path.parts[first:])) if not found.is_dir())
        if path.is_dir():
            return [str(found) for found in buckets.files_below(path) if folders.is_image_name(found)]
        return [str(path)] if path.exists() else []


def _png_of(image: Image.Image) -> bytes:
    """Return a Pillow image as the bytes of a PNG with its EXIF data, so that it is treated as any file is."""
    stored = io.BytesIO()
    whole = image if image.mode in PNG_MODES else image.convert("RGB")
    whole.save(stored, "PNG", compress_level=0, exif=image.getexif())
    return stored.getvalue()
