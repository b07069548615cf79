"""The crops of an evaluation: uint8 images of any size to those of the model."""

import tensorflow as tf

from keras_mixer.data.resizing import resize, sides_of, to_uint8

EVALUATION_CROPS = ("resmall", "resize", "none")


def evaluation_crop(image, crop, size):
    """Return the pixels of an image that the model sees in an evaluation.

    Args:
        image: (H, W, 3) uint8.
        crop: "resmall", the short side to 8/7 of `size`, or "resize", both sides to 8/7 of it, and the centre cut out;
            or "none", the whole image resized, as for drawn signs.
        size: side of the (height, width, 3) uint8 result in pixels, or (height, width).

    Raises:
        ValueError: for another crop, or a size that is not positive.

    Example:
        >>> evaluation_crop(tf.zeros((50, 70, 3), tf.uint8), "resmall", 32).shape
        TensorShape([32, 32, 3])
    """
    height, width = sides_of("size", size)
    if crop not in EVALUATION_CROPS:
        raise ValueError(f"crop: must be resmall, resize or none, got {crop!r}.")
    if crop == "none":
        return resize(image, (height, width))
    if crop == "resmall":
        return resmall_crop(image, round(min(height, width) * 8 / 7), (height, width))
    return resize_crop(image, (round(height * 8 / 7), round(width * 8 / 7)), (height, width))


def resmall_crop(image, resize_small, size):
    """Resize the short side by area averaging, keeping the aspect, and cut out the centre (the paper's Table 3).

    Args:
        image: (H, W, 3) uint8.
        resize_small: the new short side in pixels, 256 for a size of 224; more where that would not cover `size`.
        size: side of the (height, width, 3) uint8 result in pixels, or (height, width).

    Raises:
        ValueError: for a size that is not positive, or `resize_small` below the shorter side of `size`.

    Example:
        >>> resmall_crop(tf.zeros((50, 70, 3), tf.uint8), resize_small=36, size=32).shape
        TensorShape([32, 32, 3])
    """
    size = sides_of("size", size)
    if not isinstance(resize_small, int) or resize_small < min(size):
        raise ValueError(f"resize_small: must be at least {min(size)} pixels for size {size}, got {resize_small!r}.")
    image = tf.ensure_shape(tf.convert_to_tensor(image, tf.uint8), [None, None, 3])
    shape = tf.cast(tf.shape(image)[:2], tf.float32)
    scale = tf.maximum(resize_small / tf.reduce_min(shape), tf.reduce_max(tf.constant(size, tf.float32) / shape))
    shape = tf.maximum(tf.cast(tf.round(shape * scale), tf.int32), size)
    return tf.image.resize_with_crop_or_pad(to_uint8(tf.image.resize(image, shape, method="area")), *size)


def resize_crop(image, resize_to, size):
    """Resize both sides, whatever the aspect, and cut out the centre (the paper's Table 2).

    Args:
        image, size: as for `resmall_crop`.
        resize_to: side after resizing in pixels, or (height, width); 256 for a size of 224.

    Raises:
        ValueError: for a size that is not positive, or larger than `resize_to`.

    Example:
        >>> resize_crop(tf.zeros((50, 70, 3), tf.uint8), resize_to=36, size=32).shape
        TensorShape([32, 32, 3])
    """
    size, sides = sides_of("size", size), sides_of("resize_to", resize_to)
    if sides[0] < size[0] or sides[1] < size[1]:
        raise ValueError(f"resize_to: {sides} is less than the size {size} to cut out; use at least {size}.")
    return tf.image.resize_with_crop_or_pad(resize(image, sides), *size)
