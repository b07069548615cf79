"""Top-1, top-5 and loss over every image exactly once, on any strategy."""

from collections.abc import Callable

import keras
import tensorflow as tf

from keras_mixer.types import Loss


def make_evaluator(
    model: keras.Model,
    batches: tf.data.Dataset | tf.distribute.DistributedDataset,
    loss: Loss,
    strategy: tf.distribute.Strategy | None = None,
) -> Callable[[], dict[str, float]]:
    """Return a function without arguments that evaluates the model's present weights on `batches`.

    The step is traced once and used again at every call. Images count by their mask, so that filling up the last
    batch, which devices and compilers want, changes nothing.

    Args:
        model: images (B, H, W, 3) in [-1, 1] -> logits (B, K).
        batches: a dataset of images (B, H, W, 3) in [-1, 1], labels (B,) and mask (B,), as from
            `data.pipeline.eval_batches`; or one that the strategy has distributed already.
        loss: (labels (B, K), logits (B, K)) -> (B,).
        strategy: the `tf.distribute` strategy the model was built under; None for the current one.

    Returns:
        A function that gives top1 and top5 (fractions), loss (mean per image) and num_examples. top5 is 1 for K <= 5.
    """
    strategy = strategy or tf.distribute.get_strategy()
    distributed = batches
    if isinstance(batches, tf.data.Dataset):
        distributed = strategy.experimental_distribute_dataset(batches)

    def step(images: tf.Tensor, labels: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        logits = tf.cast(model(images, training=False), tf.float32)  # (B, K)
        num_classes = logits.shape[-1]
        losses = loss(tf.one_hot(labels, num_classes), logits)  # (B,)
        # The rank of the label among the logits; a tie counts as a miss, so that equal logits score nothing.
        own = tf.gather(logits, labels, batch_dims=1)[:, None]
        ahead = tf.reduce_sum(tf.cast(logits >= own, tf.int32), axis=-1) - 1  # (B,)
        finite = tf.reduce_all(tf.math.is_finite(logits), axis=-1)  # NaN compares as false, which would be a hit
        count = lambda hit: tf.reduce_sum(tf.cast(hit & finite, tf.float64) * tf.cast(mask, tf.float64))
        return tf.stack(
            [
                count(ahead < 1),
                count(ahead < 5),
                tf.reduce_sum(tf.cast(losses, tf.float64) * tf.cast(mask, tf.float64)),
                tf.reduce_sum(tf.cast(mask, tf.float64)),
            ]
        )

    @tf.function
    def run(images: tf.Tensor, labels: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        return strategy.reduce("SUM", strategy.run(step, args=(images, labels, mask)), axis=None)

    def evaluate() -> dict[str, float]:
        totals = sum(run(*batch).numpy() for batch in distributed)
        hits1, hits5, loss_sum, count = (float(t) for t in totals)
        return {"top1": hits1 / count, "top5": hits5 / count, "loss": loss_sum / count, "num_examples": round(count)}

    return evaluate
