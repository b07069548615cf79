"""keras-cv's RandAugment and MixUp, for those who want to compare; the extra keras_cv. Not the paper's: see below."""

from collections.abc import Callable

import tensorflow as tf


def make_augmenter(
    randaugment_magnitude: float, mixup_alpha: float
) -> Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """Return (images (B, H, W, 3) uint8, labels (B, K)) -> (images uint8, labels), by keras-cv.

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
