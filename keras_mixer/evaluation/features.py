"""What a function of a model gives for every image once, in the dataset's order, on any strategy."""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf


def per_image(
    function: Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, ...]],
    batches: tf.data.Dataset | tf.distribute.DistributedDataset,
    strategy: tf.distribute.Strategy | None = None,
    on_batch: Callable[[int], None] | None = None,
) -> list[np.ndarray]:
    """Return what `function` gives for each image of one pass, in order, without the filling of the last batch.

    Args:
        function: (images (B, H, W, 3), labels (B,)) -> a tuple of tensors (B, ...) of numbers; several
            devices cannot gather truth values.
        batches: a dataset of images (B, H, W, 3), labels (B,) and mask (B,), as from `data.pipeline.eval_batches`; or
            one that the strategy has distributed already.
        strategy: the `tf.distribute` strategy the model was built under; None for the current one.
        on_batch: called with the number of images of each finished batch, for progress.

    Returns:
        An array (N, ...) for each tensor. Every worker of several gets them all.

    Example:
        >>> batches = tf.data.Dataset.from_tensors((tf.ones((2, 4, 4, 3)), [7, 0], [1.0, 0.0]))
        >>> [array.tolist() for array in per_image(lambda images, labels: (labels,), batches)]
        [[7]]
    """
    strategy = strategy or tf.distribute.get_strategy()
    if isinstance(batches, tf.data.Dataset):
        batches = strategy.experimental_distribute_dataset(batches)

    @tf.function
    def run(images: tf.Tensor, labels: tf.Tensor, mask: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return strategy.run(lambda *batch: (*function(*batch[:2]), batch[2]), args=(images, labels, mask))

    parts = []
    for batch in batches:
        *values, mask = (strategy.gather(value, axis=0).numpy() for value in run(*batch))
        kept = mask > 0
        parts.append([value[kept] for value in values])
        if on_batch and kept.any():
            on_batch(int(kept.sum()))
    return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]


def extract_features(
    model: keras.Model,
    batches: tf.data.Dataset | tf.distribute.DistributedDataset,
    strategy: tf.distribute.Strategy | None = None,
    on_batch: Callable[[int], None] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return what `model` gives for every image, and the labels.

    Args:
        model: images (B, H, W, 3) in [-1, 1] -> features (B, C), such as `MLPMixer(include_top=False, pooling="avg")`.
        batches, strategy, on_batch: see `per_image`.

    Returns:
        float32 (N, C) and int64 (N,), in the order of the dataset.
    """

    def step(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.cast(model(images, training=False), tf.float32), tf.cast(labels, tf.int64)

    features, labels = per_image(step, batches, strategy, on_batch)
    return features, labels
