"""From a source to batches. The batch of step t is a pure function of (seed, t), whatever runs in parallel."""

import tensorflow as tf

from keras_mixer.data import augment, decode
from keras_mixer.data.randaugment import randaugment

LABEL_ERROR = "label outside the range"  # what `training` reports as bad input, not as a crash
DECODE_ERROR = "image cannot be decoded"


def train_batches(
    source,
    *,
    batch_size,
    image_size,
    seed,
    start_step=0,
    augmentation="paper",
    randaugment_magnitude=0,
    mixup_alpha=0.0,
):
    """Return an endless dataset of augmented training batches, starting with the batch of step `start_step`.

    Photographs get an inception crop (area 5 to 100 %, aspect 3/4 to 4/3) and a flip, then RandAugment where asked;
    drawn signs such as digits get a small rotation, shift and zoom instead, since a crop or flip changes their meaning.

    Args:
        source: a `sources.Source`.
        batch_size: images in the global batch.
        image_size: side in pixels, or (height, width).
        seed: of order, augmentation and mixup.
        start_step: the step to start with, without reading what comes before.
        augmentation: "paper", or "none" to only resize.
        randaugment_magnitude: the paper's m, 0 for none; always two layers.
        mixup_alpha: the paper's p, 0 for none.

    Yields:
        images (B, H, W, 3) float32 in [-1, 1]; labels (B, K) float32.

    Raises:
        ValueError: for a non-positive size, an unknown augmentation, or fewer images than a batch.
    """
    height, width = check_image_size(image_size)
    if batch_size < 1:
        raise ValueError(f"batch_size: must be a positive number of images, got {batch_size}.")
    if source.num_examples < batch_size:
        raise ValueError(
            f"batch_size: {source.name} has {source.num_examples} images, fewer than a batch of {batch_size}; "
            "use a smaller --batch_size."
        )
    if augmentation not in ("paper", "none"):
        raise ValueError(f"augmentation: must be 'paper' or 'none', got {augmentation!r}.")
    for name, value in (("mixup_alpha", mixup_alpha), ("randaugment_magnitude", randaugment_magnitude)):
        if value < 0:
            raise ValueError(f"{name}: must not be negative, got {value}; use 0 for none.")
    num_classes = len(source.class_names)

    def example(k, record):
        image, label = source.parse(record)
        image = _augmented(
            image, augment.fold_seed(seed, k), source, augmentation, (height, width), randaugment_magnitude
        )
        return image, _one_hot(label, num_classes)

    def batch(step, data):
        images, labels = data
        return augment.mixup(to_model_range(images), labels, augment.fold_seed(seed, step, 1), mixup_alpha)

    start = start_step * batch_size
    data = source.records(seed, start).enumerate(start)
    data = data.map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    data = data.batch(batch_size, drop_remainder=True).enumerate(start_step)
    data = data.map(batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return data.prefetch(tf.data.AUTOTUNE)


def eval_batches(source, *, batch_size, image_size, crop="resmall"):
    """Return one pass over a source in order, every image once, the last batch filled up with zeros.

    Args:
        source: a `sources.Source`.
        batch_size: images in the global batch.
        image_size: side in pixels, or (height, width).
        crop: "resmall" (short side to 8/7 of the size, centre crop) or "resize" (both sides to 8/7, centre crop) for
            photographs; drawn signs are only resized.

    Yields:
        images (B, H, W, 3) float32 in [-1, 1]; labels (B,) int64; mask (B,) float32, 1 for an image, 0 for filling.

    Raises:
        ValueError: for a non-positive size or an unknown crop.
    """
    height, width = check_image_size(image_size)
    if crop not in ("resmall", "resize"):
        raise ValueError(f"crop: must be 'resmall' or 'resize', got {crop!r}.")

    def example(record):
        image, label = source.parse(record)
        image = _pixels(image)
        if not source.photographs:
            image = decode.resize(image, (height, width))
        elif crop == "resmall":
            image = decode.resmall_crop(image, round(min(height, width) * 8 / 7), (height, width))
        else:
            image = decode.resize_crop(image, (round(height * 8 / 7), round(width * 8 / 7)), (height, width))
        _one_hot(label, len(source.class_names))
        return image, label, tf.constant(1.0)

    data = source.records(None, 0).map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    filling = -source.num_examples % batch_size
    if filling:
        empty = (
            tf.zeros((filling, height, width, 3), tf.uint8),
            tf.zeros((filling,), tf.int64),
            tf.zeros((filling,), tf.float32),
        )
        data = data.concatenate(tf.data.Dataset.from_tensor_slices(empty))
    data = data.batch(batch_size, drop_remainder=True)
    data = data.map(lambda images, *rest: (to_model_range(images), *rest), num_parallel_calls=tf.data.AUTOTUNE)
    return data.prefetch(tf.data.AUTOTUNE)


def to_model_range(images):
    """Map uint8 pixels to float32 in [-1, 1]; the same arithmetic as `keras_mixer.preprocess_input`."""
    return tf.cast(images, tf.float32) / 127.5 - 1.0


def check_image_size(image_size):
    """Return (height, width) in pixels, or raise a ValueError."""
    sides = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if len(sides) != 2 or any(not isinstance(s, int) or s < 1 for s in sides):
        raise ValueError(f"image_size: must be a positive number of pixels or (height, width), got {image_size!r}.")
    return sides


def _pixels(image):
    """Decode where the source gave bytes; three channels either way."""
    if image.dtype == tf.string:
        return decode.decode_image(image)
    return tf.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image


def _augmented(image, seed, source, augmentation, size, magnitude):
    seeds = [augment.fold_seed(seed[0], seed[1], i) for i in range(3)]
    if augmentation == "none":
        return decode.resize(_pixels(image), size)
    if not source.photographs:
        image = augment.small_affine(decode.resize(_pixels(image), size), seeds[0])
    else:
        if image.dtype == tf.string:
            image = decode.decode_and_inception_crop(image, seeds[0], size)
        else:
            image = decode.inception_crop(image, seeds[0], size)
        image = augment.random_flip(image, seeds[1])
    return randaugment(image, seeds[2], magnitude) if magnitude else image


def _one_hot(label, num_classes):
    """`tf.one_hot` turns a bad label into zeros; here it stops the run."""
    check = tf.debugging.Assert(
        (label >= 0) & (label < num_classes), [LABEL_ERROR, "0 to", num_classes - 1, "- the dataset has", label]
    )
    with tf.control_dependencies([check]):
        return tf.one_hot(label, num_classes)
