"""Transparent pixels on a plain background, and grey images; in whole numbers, so that all give the same bytes."""

import numpy as np
import tensorflow as tf

BAND_PIXELS = 2**22  # composited at a time, which bounds the memory of intermediate results
BACKGROUNDS = {"white": 255, "black": 0}
# Red, green and blue in 65,536ths, ITU-R 601-2, as Pillow weighs them. The sum is 65,536, so grey keeps its level.
LUMA = (19595, 38470, 7471)


def composite(image: tf.Tensor, alpha: str) -> tf.Tensor:
    """Put RGBA (H, W, 4) uint8 on a background, white or black: (H, W, 3) uint8, rounded to the nearest level.

    The colours are not multiplied by alpha; "drop" takes them as they are stored.
    """
    if alpha == "drop":
        return image[:, :, :3]
    height, width = tf.shape(image)[0], tf.shape(image)[1]

    def banded() -> tf.Tensor:
        rows = tf.maximum(BAND_PIXELS // width, 1)
        count = -(-height // rows)
        bands = tf.TensorArray(tf.uint8, count, infer_shape=False, element_shape=[None, None, 3])
        step = lambda i, bands: (i + 1, bands.write(i, _blend(image[i * rows : (i + 1) * rows], alpha)))
        return tf.while_loop(lambda i, _: i < count, step, (0, bands), parallel_iterations=1)[1].concat()

    return tf.cond(height * width > BAND_PIXELS, banded, lambda: _blend(image, alpha))


def composite_numpy(image: np.ndarray, alpha: str) -> np.ndarray:
    """Do what `composite` does to an image (H, W, 4) uint8, byte for byte."""
    if alpha == "drop":
        return image[:, :, :3]
    opacity = image[:, :, 3:].astype(np.uint16)
    return _over(np.asarray(image[:, :, :3], np.uint16), opacity, BACKGROUNDS[alpha]).astype(np.uint8)


def to_channels(images: tf.Tensor, channels: int) -> tf.Tensor:
    """Return images (..., H, W, 3), uint8 or float in [0, 255], with as many channels as a model wants.

    3 leaves them as they are; 1 is their luma, equal to Pillow's `convert("L")` for uint8.

    Example:
        >>> to_channels(tf.constant([[[255, 0, 0], [7, 7, 7]]], tf.uint8), 1).numpy().ravel().tolist()
        [76, 7]
    """
    if channels == 3:
        return images
    if images.dtype == tf.uint8:
        sums = tf.reduce_sum(tf.cast(images, tf.int32) * LUMA, axis=-1, keepdims=True)
        return tf.cast(tf.bitwise.right_shift(sums + 2**15, 16), tf.uint8)
    return tf.reduce_sum(images * [share / 2**16 for share in LUMA], axis=-1, keepdims=True)


def _blend(image: tf.Tensor, alpha: str) -> tf.Tensor:
    colours, opacity = tf.cast(image[:, :, :3], tf.uint16), tf.cast(image[:, :, 3:], tf.uint16)
    return tf.cast(_over(colours, opacity, BACKGROUNDS[alpha]), tf.uint8)


def _over(colours: np.ndarray | tf.Tensor, opacity: np.ndarray | tf.Tensor, background: int) -> np.ndarray | tf.Tensor:
    """colours * opacity / 255 + background * (1 - opacity / 255) in uint16, rounded; no sum exceeds 65,407."""
    product = opacity * (background - colours if background else colours) + 128
    # (x + 128 + (x + 128) / 256) / 256 is x / 255 to the nearest whole number, for any x up to 255 * 255.
    share = (product + product // 256) // 256
    return background - share if background else share
