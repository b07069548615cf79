"""A part of a JPEG, decoded alone, and at a half, a quarter or an eighth of the size where the result is much smaller.

libjpeg can leave out the fine half of each 8 x 8 block, or more of it, which costs less than to compute and average it.
"""

import functools
from collections.abc import Sequence
from typing import TypeAlias

import tensorflow as tf

from keras_mixer.data import exif

RATIOS = (1, 2, 4, 8)  # of libjpeg: a picture decoded at a ratio has so many times fewer rows and columns
AT_LEAST = 2  # the decoded part is so many times the result, on both sides, wherever a ratio is used
MIN_PIXELS = 1_000_000  # of a picture; one of fewer is decoded whole in a few milliseconds, and keeps its exact pixels
MARGIN = 4  # pixels around a part; the decoder smooths colour across neighbours, which the edge of a part lacks
ALIGNED = 1 / 8  # of a decoded pixel: how far rows of the result may be from where decoded ones begin
Window: TypeAlias = tuple[tf.Tensor, tf.Tensor]  # begin (row, column) and extent (height, width), (2,) int32 each


def stored(encoded: tf.Tensor, exif_rotation: bool) -> tuple[tf.Tensor, tf.Tensor]:
    """Return (H, W) of a JPEG as it is stored, (2,) int32, and the orientation to turn it by, () int32 in 1 ... 8."""
    orientation = exif.jpeg_orientation(encoded) if exif_rotation else tf.constant(1)
    return tf.image.extract_jpeg_shape(encoded)[:2], orientation


def ratio_index(shape: tf.Tensor, extent: tf.Tensor, size: tf.Tensor | Sequence[int]) -> tf.Tensor:
    """Return which of `RATIOS` to decode a part of a picture at, () int32; 0 is the full size.

    It is 0 unless the part has 4 times the pixels of the result on either side, and the picture `MIN_PIXELS`. What is
    decoded then has twice as many as the result at least.

    Args:
        shape: (H, W) of the picture.
        extent: (height, width) of the part, either way up as `size` is.
        size: (height, width) of the result.

    Example:
        >>> [RATIOS[ratio_index([4000, 4000], [side, 4000], [224, 224])] for side in (895, 896, 1791, 1792, 3584)]
        [1, 2, 2, 4, 8]
    """
    shape, extent, size = (tf.cast(sides, tf.float32) for sides in (shape, extent, size))
    times = tf.where(tf.reduce_prod(shape) >= MIN_PIXELS, tf.reduce_min(extent / size), 0.0)
    return tf.reduce_sum(tf.cast([times >= AT_LEAST * ratio for ratio in RATIOS[1:]], tf.int32))


def upright_sides(shape: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Return (height, width) of a stored picture once it stands upright, or of an upright one as it is stored."""
    return tf.where(orientation >= 5, shape[::-1], shape)


def as_stored(window: Window, shape: tf.Tensor, orientation: tf.Tensor) -> Window:
    """Return where a window of the upright picture, whose (H, W) is `shape`, lies in the picture as it is stored.

    So `exif.upright` of the stored window is the window of the upright picture.
    """
    begin, extent = window
    from_the_end = tf.stack([tf.reduce_any(orientation == [3, 4, 7, 8]), tf.reduce_any(orientation == [2, 3, 6, 7])])
    begin = tf.where(from_the_end, shape - begin - extent, begin)
    return upright_sides(begin, orientation), upright_sides(extent, orientation)


def at_ratio(window: Window, index: tf.Tensor) -> Window:
    """Return the window of the picture decoded at `RATIOS[index]` that covers one of the full picture."""
    begin, extent = window
    ratio = tf.gather(RATIOS, index)
    start = begin // ratio
    return start, -(-(begin + extent) // ratio) - start


def decode_part(encoded: tf.Tensor, shape: tf.Tensor, window: Window, ratio: int = 1) -> tf.Tensor:
    """Decode a window of a JPEG, (height, width, 3) uint8: the very pixels of the whole picture at that ratio.

    Args:
        encoded: () string.
        shape: (H, W) of the stored picture, int32.
        window: of the picture at that ratio, within it.
        ratio: one of `RATIOS`.
    """
    begin, extent = window
    start = tf.maximum(begin - MARGIN, 0)
    stop = tf.minimum(begin + extent + MARGIN, -(-shape // ratio))  # parts of a pixel count as one
    part = tf.image.decode_and_crop_jpeg(encoded, tf.concat([start, stop - start], axis=0), channels=3, ratio=ratio)
    return tf.slice(part, tf.concat([begin - start, [0]], axis=0), tf.concat([extent, [3]], axis=0))


def decode_part_at(encoded: tf.Tensor, shape: tf.Tensor, window: Window, index: tf.Tensor) -> tf.Tensor:
    """Return `decode_part` at the ratio `RATIOS[index]`; index is () int32."""
    return tf.switch_case(index, [functools.partial(decode_part, encoded, shape, window, ratio) for ratio in RATIOS])


def aligned_around(window: Window, sides: tf.Tensor, decoded: tf.Tensor) -> tuple[Window, Window]:
    """Return what to decode and resize for a window of a resized picture, so that its pixels are those of the whole.

    Args:
        window: of the resized picture.
        sides: (height, width) that the whole picture is resized to, int32.
        decoded: (height, width) of the whole picture as it is decoded, (2,) float32, with fractions of a pixel.

    Returns:
        The window of the picture as it is decoded; and the window of the resized picture that it becomes, which has
        a pixel more than `window` at least on every side where there is one.
    """
    begin, extent = window
    from_decoded, from_resized = [], []
    for axis in range(2):
        places = tf.range(sides[axis] + 1)
        starts = tf.cast(places, tf.float32) * (decoded[axis] / tf.cast(sides[axis], tf.float32))
        # Both ends of the picture count as aligned, so there is always such a place.
        fits = tf.abs(starts - tf.round(starts)) <= ALIGNED
        before = fits & (places < begin[axis])
        behind = fits & (places > begin[axis] + extent[axis])
        first = tf.reduce_max(tf.where(before, places, 0))
        last = tf.reduce_min(tf.where(behind, places, sides[axis]))
        start, stop = tf.unstack(tf.cast(tf.round(tf.gather(starts, [first, last])), tf.int32))
        from_decoded.append((start, stop - start))
        from_resized.append((first, last - first))
    decoded_window = tuple(tf.stack(pair) for pair in zip(*from_decoded, strict=True))
    return decoded_window, tuple(tf.stack(pair) for pair in zip(*from_resized, strict=True))
