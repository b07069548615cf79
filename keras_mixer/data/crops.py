"""Crops and resizing: uint8 images of any size to those of the model, with the authors' pixels unless told otherwise.

The authors resize bilinearly without a filter, the short side of an evaluation by area, and then cut off the fraction.
"""

from collections.abc import Sequence
from typing import TypeAlias

import tensorflow as tf

from keras_mixer.data import decode, exif, jpeg_parts, resizing
from keras_mixer.data.image_limits import bounded
from keras_mixer.data.pixel_settings import DEFAULT_PIXELS, PixelSettings
from keras_mixer.types import Range, Size

Seed: TypeAlias = tf.Tensor | Sequence[int]  # int32 (2,), as `tf.random.stateless_*` take it
EVALUATION_CROPS = ("resmall", "resize", "none")
CROP_AREA = (0.05, 1.0)  # of an inception crop, fraction of the image
LEAST = 1e-6  # of a range; TensorFlow's sampler computes in float32
CROP_ASPECT = (0.75, 1.33)  # width / height; 1.33, not 4/3, is the authors'


@tf.autograph.experimental.do_not_convert
def decode_and_inception_crop(
    encoded: bytes | tf.Tensor,
    seed: Seed,
    size: Size,
    area: Range = CROP_AREA,
    aspect: Range = CROP_ASPECT,
    pixels: PixelSettings = DEFAULT_PIXELS,
    python: bool = True,
) -> tf.Tensor:
    """Decode and take an inception crop; of a JPEG only the cropped part is decoded.

    Equal to `inception_crop(decode_image(encoded, ...), seed, size, ...)`, pixel for pixel, unless the part of a
    large JPEG has 4 times the size on either side and `pixels.exact_decoding` is False: then it is decoded smaller.
    Arguments and errors are theirs, but damage to a JPEG below the cropped part goes unseen, and so is harmless.

    Example:
        >>> encoded = tf.io.encode_jpeg(tf.zeros((50, 70, 3), tf.uint8))
        >>> decode_and_inception_crop(encoded, seed=[0, 1], size=32).shape
        TensorShape([32, 32, 3])
    """
    check_ranges(area, aspect)
    size = sides_of("size", size)
    encoded = tf.convert_to_tensor(encoded, tf.string)

    def of_part() -> tf.Tensor:
        stored, orientation = jpeg_parts.stored(encoded, pixels.exif_rotation)

        def part() -> tf.Tensor:
            shape = jpeg_parts.upright_sides(stored, orientation)
            begin, extent = inception_window(shape, seed, area, aspect)
            return _resized_part(encoded, stored, orientation, (begin[:2], extent[:2]), size, pixels)

        image, fault = bounded(encoded, stored[0], stored[1], part)
        return decode.checked(image, fault)

    def of_whole() -> tf.Tensor:
        image = decode.decode_image(encoded, pixels.alpha, pixels.exif_rotation, python)
        return inception_crop(image, seed, size, area, aspect, pixels.antialias)

    return tf.ensure_shape(tf.cond(decode.is_jpeg(encoded), of_part, of_whole), [*size, 3])


@tf.autograph.experimental.do_not_convert
def inception_crop(
    image: tf.Tensor,
    seed: Seed,
    size: Size,
    area: Range = CROP_AREA,
    aspect: Range = CROP_ASPECT,
    antialias: bool = False,
) -> tf.Tensor:
    """Cut out a random part and resize it (Szegedy et al. 2015; the paper's training crop).

    Args:
        image, size, antialias: of `resize`.
        seed: int32 (2,); the crop is a pure function of it and of H and W.
        area: smallest and largest fraction of the image's area.
        aspect: smallest and largest width / height. The whole image is taken where 100 draws do not fit in it.

    Raises:
        ValueError: for a size or range that makes no sense.

    Example:
        >>> inception_crop(tf.zeros((50, 70, 3), tf.uint8), seed=[0, 1], size=32).shape
        TensorShape([32, 32, 3])
    """
    check_ranges(area, aspect)
    size = sides_of("size", size)
    return resize(tf.slice(image, *inception_window(tf.shape(image)[:2], seed, area, aspect)), size, antialias)


def evaluation_crop(image: tf.Tensor, crop: str, size: Size, antialias: bool = False) -> tf.Tensor:
    """Return what the model sees of an image (H, W, 3) uint8 in an evaluation: (height, width, 3) uint8.

    Args:
        image, size, antialias: of `resize`; "resmall" averages areas either way.
        crop: "resmall", the short side to 8/7 of `size`, or "resize", both sides to 8/7 of it, and the centre cut out;
            or "none", the whole image resized, as for drawn signs.

    Raises:
        ValueError: for another crop, or a size that is not positive.

    Example:
        >>> evaluation_crop(tf.zeros((50, 70, 3), tf.uint8), "resmall", 32).shape
        TensorShape([32, 32, 3])
    """
    height, width = sides_of("size", size)
    check_crop(crop)
    if crop == "none":
        return resize(image, (height, width), antialias)
    if crop == "resmall":
        return resmall_crop(image, _larger(min(height, width)), (height, width))
    return resize_crop(image, (_larger(height), _larger(width)), (height, width), antialias)


def resmall_crop(image: tf.Tensor, resize_small: int, size: Size) -> tf.Tensor:
    """Resize the short side by area averaging, keeping the aspect, and cut out the centre (the paper's Table 3).

    Args:
        image, size: of `resize`.
        resize_small: the new short side in pixels, 256 for a size of 224; more where that would not cover `size`.

    Raises:
        ValueError: for a size that is not positive, or `resize_small` below the shorter side of `size`.
    """
    size = sides_of("size", size)
    if not isinstance(resize_small, int) or resize_small < min(size):
        raise ValueError(f"resize_small: must be at least {min(size)} pixels for size {size}, got {resize_small!r}.")
    image = tf.ensure_shape(tf.convert_to_tensor(image, tf.uint8), [None, None, 3])
    shape = _resmall_sides(tf.shape(image)[:2], resize_small, size)
    # Cut first and cast then, which is the same and spares the bytes of what is cut off.
    return tf.cast(tf.image.resize_with_crop_or_pad(tf.image.resize(image, shape, method="area"), *size), tf.uint8)


def resize_crop(image: tf.Tensor, resize_to: Size, size: Size, antialias: bool = False) -> tf.Tensor:
    """Resize both sides, whatever the aspect, and cut out the centre (the paper's Table 2).

    Args:
        image, size, antialias: of `resize`.
        resize_to: side after resizing in pixels, or (height, width); 256 for a size of 224.

    Raises:
        ValueError: for a size that is not positive, or larger than `resize_to`.
    """
    size, sides = sides_of("size", size), sides_of("resize_to", resize_to)
    if sides[0] < size[0] or sides[1] < size[1]:
        raise ValueError(f"resize_to: {sides} is less than the size {size} to cut out; use at least {size}.")
    return tf.image.resize_with_crop_or_pad(resize(image, sides, antialias), *size)


def random_crop(image: tf.Tensor, seed: Seed, resize_to: Size, size: Size, antialias: bool = False) -> tf.Tensor:
    """Resize both sides, whatever the aspect, and cut out a random part (BiT's training crop).

    Args:
        image, size, antialias: of `resize`.
        seed: int32 (2,); the crop is a pure function of it.
        resize_to: of `resize_crop`.

    Raises:
        ValueError: for a size that is not positive.

    Example:
        >>> random_crop(tf.zeros((50, 70, 3), tf.uint8), seed=[0, 1], resize_to=40, size=32).shape
        TensorShape([32, 32, 3])
    """
    return tf.image.stateless_random_crop(resize(image, resize_to, antialias), (*sides_of("size", size), 3), seed)


def resize(image: tf.Tensor, size: Size, antialias: bool = False) -> tf.Tensor:
    """Resize bilinearly.

    Args:
        image: (H, W, 3) uint8.
        size: side of the (height, width, 3) uint8 result in pixels, or (height, width).
        antialias: False takes the four pixels nearest to each place and cuts off the fraction, as the authors do, bit
            for bit. True filters before shrinking and rounds.

    Raises:
        ValueError: for a size that is not positive.

    Example:
        >>> resize(tf.zeros((50, 70, 3), tf.uint8), 32).shape
        TensorShape([32, 32, 3])
    """
    image = tf.ensure_shape(tf.convert_to_tensor(image, tf.uint8), [None, None, 3])
    size = sides_of("size", size)
    return tf.ensure_shape(resizing.bilinear(image, size, antialias), [*size, 3])


def resized_sides(crop: str, shape: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """Return the (height, width), (2,) int32, that an evaluation resizes an image of (H, W) to before it cuts it."""
    if crop == "none":
        return tf.constant(size)
    if crop == "resize":
        return tf.constant([_larger(side) for side in size])
    return _resmall_sides(shape, _larger(min(size)), size)


def resized(image: tf.Tensor, sides: tf.Tensor, crop: str, antialias: bool) -> tf.Tensor:
    """Resize (H, W, 3) uint8 to sides, (2,) int32, as the crop of an evaluation does."""
    if crop == "resmall":
        return tf.cast(tf.image.resize(image, sides, method="area"), tf.uint8)
    return resizing.bilinear(image, sides, antialias)


def check_crop(crop: str) -> None:
    """Raise a ValueError unless `crop` is one of `evaluation_crop`."""
    if crop not in EVALUATION_CROPS:
        raise ValueError(f"crop: must be resmall, resize or none, got {crop!r}.")


def sides_of(name: str, size: object) -> tuple[int, int]:
    """Return (height, width) for a number of pixels or a pair, or raise a ValueError that starts with `name`."""
    sides = (size, size) if isinstance(size, int) else tuple(size) if isinstance(size, (tuple, list)) else ()
    if len(sides) != 2 or any(isinstance(side, bool) or not isinstance(side, int) or side < 1 for side in sides):
        raise ValueError(f"{name}: must be a positive number of pixels or (height, width), got {size!r}.")
    return sides


def check_ranges(area: Range, aspect: Range) -> None:
    """Raise a ValueError unless these are ranges that an inception crop can have."""
    for name, values, limit in (("crop_area", area, 1), ("crop_aspect", aspect, float("inf"))):
        if len(values) != 2 or not LEAST <= values[0] <= values[1] <= limit:
            at_most = f" and at most {limit}" if limit == 1 else ""
            raise ValueError(f"{name}: must be the smallest and the largest, positive{at_most}, got {tuple(values)}.")


def _larger(side: int) -> int:
    """Return 8/7 of a side, of which an evaluation cuts out the centre: 256 of 224."""
    return round(side * 8 / 7)


def _resmall_sides(shape: tf.Tensor, resize_small: int, size: tuple[int, int]) -> tf.Tensor:
    shape = tf.cast(shape, tf.float32)
    scale = tf.maximum(resize_small / tf.reduce_min(shape), tf.reduce_max(tf.constant(size, tf.float32) / shape))
    return tf.maximum(tf.cast(tf.round(shape * scale), tf.int32), size)


def inception_window(shape: tf.Tensor, seed: Seed, area: Range, aspect: Range) -> tuple[tf.Tensor, tf.Tensor]:
    """Return begin (row, column, 0) and extent (height, width, -1) for `tf.slice`, int32."""
    return tf.image.stateless_sample_distorted_bounding_box(
        tf.concat([shape, [3]], axis=0), tf.zeros((1, 0, 4)), seed, 0.0, aspect, area, 100, True
    )[:2]


def _resized_part(
    encoded: tf.Tensor,
    stored: tf.Tensor,
    orientation: tf.Tensor,
    window: jpeg_parts.Window,
    size: tuple[int, int],
    pixels: PixelSettings,
) -> tf.Tensor:
    """Decode a window of the upright picture of a JPEG, no larger than its resizing needs, and resize it."""
    shape = jpeg_parts.upright_sides(stored, orientation)
    window_stored = jpeg_parts.as_stored(window, shape, orientation)
    if pixels.exact_decoding:
        part = jpeg_parts.decode_part(encoded, stored, window_stored)
        return resize(exif.upright(part, orientation), size, pixels.antialias)
    index = jpeg_parts.ratio_index(stored, window[1], size)
    part = jpeg_parts.decode_part_at(encoded, stored, jpeg_parts.at_ratio(window_stored, index), index)
    exact = lambda: resize(exif.upright(part, orientation), size, pixels.antialias)

    def reduced() -> tf.Tensor:  # has other pixels than the authors' anyway, and once it is resized less is turned
        small = resizing.bilinear(part, jpeg_parts.upright_sides(tf.constant(size), orientation), pixels.antialias)
        return exif.upright(small, orientation)

    return tf.cond(index == 0, exact, reduced)
