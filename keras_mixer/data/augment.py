"""Augmentation besides RandAugment: mixup of a batch, flips, small moves of a drawn sign; plain stateless TF."""

import tensorflow as tf


def fold_seed(seed, *values):
    """Return an int32 (2,) seed for `tf.random.stateless_*` that depends on every value."""
    key = tf.stack([tf.cast(seed, tf.int32), tf.constant(0, tf.int32)])
    for value in values:
        value = tf.cast(value, tf.int64)
        key = tf.random.experimental.stateless_fold_in(key, value)
    return key


def mixup(images, labels, seed, alpha):
    """Mix each image and label with its neighbour in the batch, as the authors do (paper section 3, Zhang et al. 2018).

    One weight a ~ Beta(alpha, alpha) for the whole batch, a = max(a, 1 - a), so that the image itself prevails; the
    partner is the batch rolled by one.

    Args:
        images: (B, H, W, 3) float.
        labels: (B, K) float, rows that sum to 1.
        seed: int32 (2,).
        alpha: p > 0 of the Beta distribution; 0 returns the input.

    Returns:
        Mixed images and labels, same shapes.

    Example:
        >>> mixed, _ = mixup(tf.eye(2)[:, :, None, None], tf.eye(2), [0, 1], alpha=0.5)
        >>> mixed.shape
        TensorShape([2, 2, 1, 1])
    """
    if not alpha:
        return images, labels
    # Beta(p, p) from two Gamma(p) draws, in logarithms where p is small enough for both to underflow.
    gammas = tf.random.stateless_gamma([2], seed, alpha=alpha, dtype=tf.float64)
    gammas = tf.maximum(gammas, 1e-300)
    a = tf.cast(gammas[0] / (gammas[0] + gammas[1]), images.dtype)
    a = tf.maximum(a, 1 - a)
    mix = lambda x: tf.cast(a, x.dtype) * x + (1 - tf.cast(a, x.dtype)) * tf.roll(x, 1, axis=0)
    return mix(images), mix(labels)


def random_flip(image, seed):
    """Mirror an image (H, W, 3) left to right, half of the time."""
    return tf.image.stateless_random_flip_left_right(image, seed)


def small_affine(image, seed, rotation=12.0, shift=0.1, zoom=0.12):
    """Rotate, shift and zoom a drawn sign a little, bilinearly, on black.

    Args:
        image: (H, W, channels) uint8.
        seed: int32 (2,).
        rotation: largest angle, degrees.
        shift: largest shift, fraction of the side.
        zoom: largest change of each side, fraction.

    Returns:
        (H, W, channels) uint8.
    """
    draws = tf.random.stateless_uniform([5], seed, -1.0, 1.0)
    height, width = tf.cast(tf.shape(image)[0], tf.float32), tf.cast(tf.shape(image)[1], tf.float32)
    angle = draws[0] * (rotation * 3.14159265 / 180)
    zoom_y, zoom_x = 1 + zoom * draws[1], 1 + zoom * draws[2]
    cos, sin = tf.cos(angle), tf.sin(angle)
    a, b, c, d = cos * zoom_x, -sin * zoom_y, sin * zoom_x, cos * zoom_y
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    # The transform maps output to input pixels: turn and zoom about the centre, then shift.
    move_x = centre_x - a * centre_x - b * centre_y + shift * draws[3] * width
    move_y = centre_y - c * centre_x - d * centre_y + shift * draws[4] * height
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(image, tf.float32)[None],
        transforms=tf.stack([a, b, move_x, c, d, move_y, 0.0, 0.0])[None],
        output_shape=tf.shape(image)[:2],
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
        fill_value=0.0,
    )[0]
    return tf.cast(tf.clip_by_value(tf.round(moved), 0, 255), tf.uint8)
