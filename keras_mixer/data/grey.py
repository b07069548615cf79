"""Grey images for models of one channel."""

import tensorflow as tf

# Red, green and blue in 65,536ths, ITU-R 601-2, as Pillow weighs them. The sum is 65,536, so grey keeps its level.
LUMA = (19595, 38470, 7471)


def to_channels(images: tf.Tensor, channels: int) -> tf.Tensor:
    """Return images with as many channels as a model wants.

    Args:
        images: (..., H, W, 3), uint8 or float in [0, 255].
        channels: 3 returns them as they are; 1 returns their luma, equal to Pillow's `convert("L")` for uint8.

    Returns:
        (..., H, W, channels), of the same dtype.

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
