"""What a classifier says of every image of a dataset once, on any strategy, and how right it is."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import TypeAlias

import keras
import numpy as np
import tensorflow as tf

from keras_mixer.data.mixing import to_model_range
from keras_mixer.evaluation.calibration import expected_calibration_error
from keras_mixer.types import Loss

Batches: TypeAlias = tf.data.Dataset | tf.distribute.DistributedDataset
EachImage: TypeAlias = Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, ...]]
NOT_FINITE = tf.int32.max  # the rank where a logit is NaN or infinite, which no top-k counts


def rank_of(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Return (B,) int32, how many other classes score at least as high as the label, `NOT_FINITE` without a ranking.

    A tie counts as a miss, so that equal logits score nothing; NaN compares as false, which would be a hit.

    Args:
        logits: (B, K) float32.
        labels: (B,) whole numbers in [0, K).

    Example:
        >>> rank_of(tf.constant([[3.0, 1.0, 2.0], [5.0, 5.0, 0.0]]), tf.constant([2, 0])).numpy().tolist()
        [1, 1]
    """
    own = tf.gather(logits, labels, batch_dims=1)[:, None]
    rank = tf.reduce_sum(tf.cast(logits >= own, tf.int32), axis=-1) - 1
    return tf.where(tf.reduce_all(tf.math.is_finite(logits), axis=-1), rank, NOT_FINITE)


def make_evaluator(
    model: keras.Model, batches: Batches, loss: Loss, strategy: tf.distribute.Strategy | None = None
) -> Callable[[], dict[str, float]]:
    """Return a function without arguments that evaluates the model's present weights on `batches`.

    The step is traced once and used again at every call. Images count by their mask, so that filling up the last
    batch, which devices and compilers want, changes nothing.

    Args:
        model: images (B, H, W, 3) in [-1, 1] -> logits (B, K).
        batches: a dataset of images (B, H, W, 3) in [-1, 1], or uint8, labels (B,) and mask (B,), as from
            `data.pipeline.eval_batches`; or one that the strategy has distributed already.
        loss: (labels (B, K), logits (B, K)) -> (B,).
        strategy: the `tf.distribute` strategy the model was built under; None for the current one.

    Returns:
        A function that gives top1 and top5 (fractions), loss (mean per image) and num_examples. top5 is 1 for K <= 5.
    """
    strategy, batches = _distributed(strategy, batches)

    def step(images: tf.Tensor, labels: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        images = to_model_range(images) if images.dtype == tf.uint8 else images
        logits = tf.cast(model(images, training=False), tf.float32)  # (B, K)
        rank, losses = rank_of(logits, labels), loss(tf.one_hot(labels, logits.shape[-1]), logits)
        each = [rank < 1, rank < 5, losses, tf.ones_like(losses)]
        return tf.stack([tf.reduce_sum(tf.cast(x, tf.float64) * tf.cast(mask, tf.float64)) for x in each])

    @tf.function(autograph=False)
    def run(images: tf.Tensor, labels: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        return strategy.reduce("SUM", strategy.run(step, args=(images, labels, mask)), axis=None)

    def evaluate() -> dict[str, float]:
        totals = sum(run(*batch).numpy() for batch in batches)
        hits1, hits5, loss_sum, count = (float(t) for t in totals)
        return {"top1": hits1 / count, "top5": hits5 / count, "loss": loss_sum / count, "num_examples": round(count)}

    return evaluate


def per_image(
    function: EachImage,
    batches: Batches,
    strategy: tf.distribute.Strategy | None = None,
    on_batch: Callable[[int], None] | None = None,
) -> list[np.ndarray]:
    """Return what `function` gives for each image of one pass, in order, without the filling of the last batch.

    Args:
        function: (images (B, H, W, 3), labels (B,)) -> a tuple of tensors (B, ...) of numbers; several
            devices cannot gather truth values.
        batches, strategy: see `make_evaluator`.
        on_batch: called with the number of images of each finished batch, for progress.

    Returns:
        An array (N, ...) for each tensor. Every worker of several gets them all.

    Example:
        >>> batches = tf.data.Dataset.from_tensors((tf.ones((2, 4, 4, 3)), [7, 0], [1.0, 0.0]))
        >>> [array.tolist() for array in per_image(lambda images, labels: (labels,), batches)]
        [[7]]
    """
    return _traced_once(function, strategy)(batches, on_batch)


def _traced_once(function: EachImage, strategy: tf.distribute.Strategy | None) -> Callable[..., list[np.ndarray]]:
    """Return `per_image` of a function as a function of (batches, on_batch), which equal batches trace once only."""
    strategy = strategy or tf.distribute.get_strategy()

    @tf.function(autograph=False)
    def run(images: tf.Tensor, labels: tf.Tensor, mask: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return strategy.run(lambda *batch: (*function(*batch[:2]), batch[2]), args=(images, labels, mask))

    def each(batches: Batches, on_batch: Callable[[int], None] | None = None) -> list[np.ndarray]:
        parts = []
        for batch in _distributed(strategy, batches)[1]:
            *values, mask = (strategy.gather(value, axis=0).numpy() for value in run(*batch))
            kept = mask > 0
            parts.append([value[kept] for value in values])
            if on_batch and kept.any():
                on_batch(int(kept.sum()))
        return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]

    return each


def extract_features(
    model: keras.Model,
    batches: Batches,
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


@dataclasses.dataclass(frozen=True)
class Predictions:
    """What a model said of N images, in the dataset's order.

    Attributes:
        labels: (N,) int64.
        predicted: (N,) int64, the class of the highest logit. Where the label's logit is equal to the highest of the
            others, it is one of those: a tie is a mistake, here as in `make_evaluator`.
        confidence: (N,) float32, the probability of `predicted`.
        rank: (N,) int32, how many classes score at least as high as the label.
        loss: (N,) float32.
        num_classes: K.
    """

    labels: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray
    rank: np.ndarray
    loss: np.ndarray
    num_classes: int

    @property
    def correct(self) -> np.ndarray:
        """(N,) bool, whether the class of the highest logit is the label."""
        return self.rank < 1

    def totals(self) -> dict[str, float]:
        """Return top1 and top5 (fractions), loss (mean per image), num_examples, expected_calibration_error."""
        return {
            "top1": float((self.rank < 1).mean()),
            "top5": float((self.rank < 5).mean()),
            "loss": float(self.loss.astype(np.float64).mean()),
            "num_examples": len(self.labels),
            "expected_calibration_error": expected_calibration_error(self.confidence, self.correct),
        }


def predict_images(
    model: keras.Model,
    batches: Batches,
    loss: Loss,
    probabilities: Callable[[tf.Tensor], tf.Tensor] = tf.nn.softmax,
    strategy: tf.distribute.Strategy | None = None,
    on_batch: Callable[[int], None] | None = None,
) -> Predictions:
    """Return the `Predictions` of a model for every image of one pass.

    Args:
        model: images (B, H, W, 3) in [-1, 1] -> logits (B, K).
        loss: (labels (B, K), logits (B, K)) -> (B,).
        probabilities: logits (B, K) -> (B, K), such as `tf.nn.softmax` or `tf.nn.sigmoid`.
        batches, strategy, on_batch: see `per_image`.

    Raises:
        ValueError: where a logit is NaN or infinite.
    """

    return Predictor(model, loss, probabilities, strategy).predict(batches, on_batch)


class Predictor:
    """A model that is asked several times; batches of one shape are traced once.

    Args:
        model, loss, probabilities, strategy: see `predict_images`.
    """

    def __init__(
        self,
        model: keras.Model,
        loss: Loss,
        probabilities: Callable[[tf.Tensor], tf.Tensor] = tf.nn.softmax,
        strategy: tf.distribute.Strategy | None = None,
    ) -> None:
        def step(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, ...]:
            logits = tf.cast(model(images, training=False), tf.float32)  # (B, K)
            mask = tf.one_hot(labels, logits.shape[-1], True, False)  # (B, K), of the label
            rank = rank_of(logits, labels)
            best_other = tf.argmax(tf.where(mask, logits.dtype.min, logits), axis=-1)
            predicted = tf.where(rank < 1, tf.cast(labels, tf.int64), best_other)
            likely = probabilities(logits)
            own, confidence = (tf.gather(likely, which, batch_dims=1) for which in (labels, predicted))
            losses = loss(tf.cast(mask, tf.float32), logits)
            return tf.cast(labels, tf.int64), predicted, confidence, rank, losses, own

        self.num_classes = model.output_shape[-1]
        self._each = _traced_once(step, strategy)

    def predict(self, batches: Batches, on_batch: Callable[[int], None] | None = None) -> Predictions:
        """Return the `Predictions` of every image of one pass; arguments and errors are those of `predict_images`."""
        labels, predicted, confidence, rank, losses, _ = self._each(batches, on_batch)
        found = Predictions(labels, predicted, confidence, rank, losses, num_classes=self.num_classes)
        bad = found.rank == NOT_FINITE
        if bad.any():
            raise ValueError(
                f"weights: the logits of {bad.sum()} of {len(bad)} images are NaN or infinite; use other weights, or "
                "--precision=float32."
            )
        return found

    def probability_of_label(self, batches: Batches) -> np.ndarray:
        """Return (N,) float32, the probability of each image's label, whatever class is the most probable one."""
        return self._each(batches)[-1]


def class_rows(predictions: Predictions, class_names: Sequence[str]) -> list[dict[str, float | str]]:
    """Return a dict for each class, with "" for what has no value, such as the accuracy of a class without images.

    It has class, name, images, correct, top1, top5, mean_confidence (of the class's images); predicted (images taken
    for it), precision (of those the part that is right), recall (which is top1) and f1, their harmonic mean.
    """
    rows = []
    order = np.argsort(predictions.labels, kind="stable")
    ends = np.searchsorted(predictions.labels[order], np.arange(predictions.num_classes), side="right")
    taken = np.bincount(predictions.predicted, minlength=predictions.num_classes).tolist()
    for k, own in enumerate(np.split(order, ends[:-1])):
        rank = predictions.rank[own]
        correct = int((rank < 1).sum())
        row: dict[str, float | str] = {"class": k, "name": class_names[k], "images": len(own), "correct": correct}
        means = {"top1": rank < 1, "top5": rank < 5, "mean_confidence": predictions.confidence[own]}
        row |= {name: float(np.mean(values)) if len(own) else "" for name, values in means.items()}
        row |= {"predicted": taken[k], "precision": correct / taken[k] if taken[k] else "", "recall": row["top1"]}
        rows.append(row | {"f1": 2 * correct / (len(own) + taken[k]) if len(own) + taken[k] else ""})
    return rows


def worst_mistakes(predictions: Predictions, count: int) -> np.ndarray:
    """Return the indices of the mistakes with the highest confidence, highest first."""
    mistakes = np.flatnonzero(~predictions.correct)
    return mistakes[np.argsort(-predictions.confidence[mistakes], kind="stable")[:count]]


def surest_hits(predictions: Predictions, count: int) -> np.ndarray:
    """Return the indices of the right predictions with the highest confidence, highest first."""
    hits = np.flatnonzero(predictions.correct)
    return hits[np.argsort(-predictions.confidence[hits], kind="stable")[:count]]


def _distributed(strategy: tf.distribute.Strategy | None, batches: Batches) -> tuple[tf.distribute.Strategy, Batches]:
    """Return the current strategy for None, and the batches as that strategy has distributed them."""
    strategy = strategy or tf.distribute.get_strategy()
    if isinstance(batches, tf.data.Dataset):
        batches = strategy.experimental_distribute_dataset(batches)
    return strategy, batches
