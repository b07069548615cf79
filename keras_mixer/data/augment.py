"""Augmentation besides RandAugment: mixup, flips, small moves of a drawn sign, all stateless; and that of keras-cv."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import tensorflow as tf

Seed: TypeAlias = tf.Tensor | Sequence[int]  # int32 (2,), as `tf.random.stateless_*` take it


def fold_seed(seed: int | tf.Tensor, *values: int | tf.Tensor) -> tf.Tensor:
    """Return an int32 (2,) seed for `tf.random.stateless_*` that depends on every value."""
    key = tf.stack([tf.cast(seed, tf.int32), tf.constant(0, tf.int32)])
    for value in values:
        value = tf.cast(value, tf.int64)
        key = tf.random.experimental.stateless_fold_in(key, value)
    return key


def mixup(images: tf.Tensor, labels: tf.Tensor, seed: Seed, alpha: float) -> tuple[tf.Tensor, tf.Tensor]:
    """Mix each image and label with its neighbour in the batch, as the authors do (paper section 3, Zhang et al. 2018).

    One weight a ~ Beta(alpha, alpha) for the whole batch, a = max(a, 1 - a), so that the image itself prevails; the
    partner is the batch rolled by one. Alpha, the paper's p, of 0 returns the input.

    Args:
        images: (B, H, W, 3) float.
        labels: (B, K) float, rows that sum to 1.
        seed: int32 (2,).

    Example:
        >>> mixed, _ = mixup(tf.eye(2)[:, :, None, None], tf.eye(2), [0, 1], alpha=0.5)
        >>> mixed.shape
        TensorShape([2, 2, 1, 1])
    """
    if not alpha:
        return images, labels
    a = draw_mixup(seed, alpha)
    return _mix(images, a), _mix(labels, a)


def draw_mixup(seed: Seed, alpha: float) -> tf.Tensor:
    """Return the weight of the image itself in `mixup`, a scalar in [0.5, 1]."""
    a = _beta(seed, alpha)
    return tf.maximum(a, 1 - a)


def cutmix(images: tf.Tensor, labels: tf.Tensor, seed: Seed, alpha: float) -> tuple[tf.Tensor, tf.Tensor]:
    """Paste one rectangle of each image's neighbour into it, for the whole batch (Yun et al. 2019).

    The rectangle has the share 1 - a, a ~ Beta(alpha, alpha), of the image, around a uniform centre; what lies outside
    is cut off. Labels are mixed by the share that was really pasted.

    Args, Returns: as `mixup`.
    """
    if not alpha:
        return images, labels
    inside, share = draw_cutmix(seed, alpha, images.shape[1:3])
    return tf.where(inside[..., None], tf.roll(images, 1, axis=0), images), _mix(labels, 1 - share)


def draw_cutmix(seed: Seed, alpha: float, size: Sequence[int]) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the rectangle of `cutmix`, (H, W) booleans, and its share of the image, which is that of its label."""
    a = _beta(seed, alpha)
    centre = tf.random.stateless_uniform([2], fold_seed(seed[0], seed[1], 7))
    rows = _span(centre[0], tf.sqrt(1 - a), size[0])  # (H, 1), True inside
    columns = _span(centre[1], tf.sqrt(1 - a), size[1])  # (W, 1)
    inside = rows & tf.transpose(columns)
    return inside, tf.reduce_mean(tf.cast(inside, tf.float32))


def smooth_labels(labels: tf.Tensor, smoothing: float) -> tf.Tensor:
    """Move the fraction `smoothing` of each label (B, K) evenly to all K classes (Szegedy et al. 2016)."""
    return labels * (1 - smoothing) + smoothing / labels.shape[-1]


def random_erasing(image: tf.Tensor, seed: Seed, rate: float) -> tf.Tensor:
    """Replace a rectangle of an image (H, W, 3) uint8 by noise, for the fraction `rate` of seeds (Zhong et al. 2020).

    The rectangle has 2 to 33 % of the image's area and an aspect of 0.3 to 3.3.
    """
    draws = tf.random.stateless_uniform([5], seed)
    area = 0.02 + 0.31 * draws[1]
    aspect = tf.exp(tf.math.log(0.3) + (tf.math.log(3.3) - tf.math.log(0.3)) * draws[2])
    rows = _span(draws[3], tf.sqrt(area * aspect), tf.shape(image)[0])
    columns = _span(draws[4], tf.sqrt(area / aspect), tf.shape(image)[1])
    noise = tf.random.stateless_uniform(tf.shape(image), fold_seed(seed[0], seed[1], 7), 0, 256, tf.int32)
    erased = tf.where((rows & tf.transpose(columns))[..., None], tf.cast(noise, tf.uint8), image)
    return tf.where(draws[0] < rate, erased, image)


def _beta(seed: Seed, alpha: float) -> tf.Tensor:
    """Draw Beta(alpha, alpha), from two Gamma draws in float64, which do not both underflow."""
    gammas = tf.maximum(tf.random.stateless_gamma([2], seed, alpha=alpha, dtype=tf.float64), 1e-300)
    return tf.cast(gammas[0] / (gammas[0] + gammas[1]), tf.float32)


def _mix(x: tf.Tensor, a: tf.Tensor) -> tf.Tensor:
    a = tf.cast(a, x.dtype)
    return a * x + (1 - a) * tf.roll(x, 1, axis=0)


def _span(centre: tf.Tensor, fraction: tf.Tensor, size: int | tf.Tensor) -> tf.Tensor:
    """Return (size, 1) booleans: True where a span of that fraction of the side, around `centre` in [0, 1), reaches."""
    size = tf.cast(size, tf.float32)
    distance = tf.abs(tf.range(size)[:, None] + 0.5 - centre * size)
    return distance < fraction * size / 2


def random_flip(image: tf.Tensor, seed: Seed, rate: float = 0.5) -> tf.Tensor:
    """Mirror an image (H, W, 3) left to right, in the fraction `rate` of all seeds."""
    mirrored = tf.random.stateless_uniform([], seed) < rate
    return tf.cond(mirrored, lambda: tf.reverse(image, [1]), lambda: tf.identity(image))


def small_affine(
    image: tf.Tensor, seed: Seed, rotation: float = 12.0, shift: float = 0.1, zoom: float = 0.12
) -> tf.Tensor:
    """Rotate, shift and zoom a drawn sign (H, W, channels) uint8 a little, bilinearly, on black.

    At the most by so many degrees, so large a fraction of the side, and so large a change of each side.
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


def make_keras_cv_augmenter(
    randaugment_magnitude: float, mixup_alpha: float
) -> Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """Return (images (B, H, W, 3) uint8, labels (B, K)) -> (images uint8, labels) of keras-cv, to compare with.

    It differs from the paper's: magnitudes end at 10 (1.0 in keras-cv); Rotate, Invert, Posterize and SolarizeAdd are
    missing; each image of a batch is mixed with a partner of a random permutation. Its draws follow no seed, so a run
    cannot be repeated or resumed exactly.

    Raises:
        ValueError: if keras-cv is not installed, or the magnitude is above 10, which it cannot express.
    """
    try:
        import keras_cv
    except ImportError:
        raise ValueError(
            "augmentation: keras_cv needs the package keras-cv; install it with pip install keras-cv."
        ) from None
    if randaugment_magnitude > 10:
        raise ValueError(
            f"randaugment_magnitude: keras-cv can express at most 10, got {randaugment_magnitude}; use "
            "--augmentation=paper for more."
        )
    layers = keras_cv.layers
    rand_augment = layers.RandAugment((0, 255), augmentations_per_image=2, magnitude=randaugment_magnitude / 10)
    mix_up = layers.MixUp(alpha=mixup_alpha) if mixup_alpha else None

    def augment(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        images = tf.cast(images, tf.float32)
        if randaugment_magnitude:
            images = rand_augment(images)
        if mix_up is not None:
            mixed = mix_up({"images": images, "labels": labels})
            images, labels = mixed["images"], mixed["labels"]
        return tf.cast(tf.clip_by_value(tf.round(images), 0, 255), tf.uint8), labels

    return augment
