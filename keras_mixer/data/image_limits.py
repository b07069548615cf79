"""The limits of an image file, so that none takes more than about 1 GB of memory; and numbers in its bytes."""

from collections.abc import Callable

import tensorflow as tf

MAX_BYTES = 64 * 2**20  # of a file; photographs of 24 million pixels without loss have 30 to 60 MB
MAX_PIXELS = 89_478_485  # 256 MiB as RGB
MAX_WEBP_PIXELS = 50_000_000  # libwebp holds four copies of an image
MAX_ASPECT = 100  # of the longer side to the shorter; resized, a picture of 1 x 80,000,000 pixels would fill any memory
TOO_MANY_BYTES = f"more than {MAX_BYTES} bytes"
TOO_MANY_PIXELS = f"more than {MAX_PIXELS} pixels"
TOO_MANY_WEBP_PIXELS = f"more than {MAX_WEBP_PIXELS} pixels in a WebP"
TOO_LONG = f"one side more than {MAX_ASPECT} times the other"
EMPTY = "no pixels"


def fault_of(num_bytes: int, height: int, width: int, webp: bool = False) -> str:
    """Return what is wrong with the size of an image, or ""."""
    if num_bytes > MAX_BYTES:
        return TOO_MANY_BYTES
    if min(height, width) < 1:
        return EMPTY
    if height * width > MAX_PIXELS:
        return TOO_MANY_PIXELS
    if webp and height * width > MAX_WEBP_PIXELS:
        return TOO_MANY_WEBP_PIXELS
    return TOO_LONG if max(height, width) > MAX_ASPECT * min(height, width) else ""


def bounded(
    encoded: tf.Tensor, height: tf.Tensor, width: tf.Tensor, pixels: Callable[[], tf.Tensor], webp: bool = False
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return what `pixels()`, (height, width, 3) uint8, decodes where a file is within the limits; and its fault.

    Beyond a limit the image is (0, 0, 3); within them the fault, () string, is empty.
    """
    height, width = tf.cast(height, tf.int64), tf.cast(width, tf.int64)
    shorter, longer = tf.minimum(height, width), tf.maximum(height, width)
    faults = [
        (num_bytes(encoded) > MAX_BYTES, TOO_MANY_BYTES),
        (shorter < 1, EMPTY),
        (height * width > MAX_PIXELS, TOO_MANY_PIXELS),
        *([(height * width > MAX_WEBP_PIXELS, TOO_MANY_WEBP_PIXELS)] if webp else []),
        (longer > MAX_ASPECT * shorter, TOO_LONG),
    ]
    conditions = tf.stack([condition for condition, _ in faults])
    bad = tf.reduce_any(conditions)
    named = lambda: tf.gather([text for _, text in faults], tf.argmax(tf.cast(conditions, tf.int32)))
    fault = tf.cond(bad, named, lambda: tf.constant(""))  # texts take longer than numbers, and are rarely needed
    return tf.cond(bad, lambda: tf.zeros((0, 0, 3), tf.uint8), pixels), fault


def num_bytes(encoded: tf.Tensor) -> tf.Tensor:
    """Return the length of a file, () string, in bytes, () int64."""
    return tf.cast(tf.strings.length(encoded), tf.int64)


def byte_values(encoded: tf.Tensor, start: int | tf.Tensor, count: int) -> tf.Tensor:
    """Return `count` bytes of a string from `start` on, (count,) int64, zeros beyond its end."""
    start = tf.clip_by_value(tf.cast(start, tf.int64), 0, num_bytes(encoded))  # `substr` refuses others
    some = tf.strings.substr(encoded, start, tf.constant(count, tf.int64))
    return tf.ensure_shape(tf.cast(tf.io.decode_raw(some, tf.uint8, fixed_length=count), tf.int64), [count])


def little_endian(values: tf.Tensor) -> tf.Tensor:
    """Return the number in (..., length) int64 bytes, of which the first weighs least."""
    return tf.reduce_sum(values * [256**i for i in range(values.shape[-1])], axis=-1)


def big_endian(values: tf.Tensor) -> tf.Tensor:
    """Return the number in (..., length) int64 bytes, of which the last weighs least."""
    return little_endian(values[..., ::-1])
