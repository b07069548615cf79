"""What a classifier said of every image, and what follows from it: accuracies, calibration, confusions, mistakes."""

import dataclasses
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from keras_mixer.evaluation.features import per_image
from keras_mixer.types import Loss

CALIBRATION_BINS = 15


@dataclasses.dataclass(frozen=True)
class Predictions:
    """What a model said of N images, in the dataset's order.

    Attributes:
        labels: (N,) int64.
        predicted: (N,) int64, the class of the highest logit. Where the label's logit is equal to the highest of the
            others, it is one of those: a tie is a mistake, here as in `classification.make_evaluator`.
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
    batches: tf.data.Dataset | tf.distribute.DistributedDataset,
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
        batches, strategy, on_batch: see `features.per_image`.

    Raises:
        ValueError: where a logit is NaN or infinite.
    """

    def step(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, ...]:
        logits = tf.cast(model(images, training=False), tf.float32)  # (B, K)
        mask = tf.one_hot(labels, logits.shape[-1], True, False)  # (B, K), of the label
        own = tf.gather(logits, labels, batch_dims=1)[:, None]
        rank = tf.reduce_sum(tf.cast(logits >= own, tf.int32), axis=-1) - 1
        best_other = tf.argmax(tf.where(mask, logits.dtype.min, logits), axis=-1)
        predicted = tf.where(rank < 1, tf.cast(labels, tf.int64), best_other)
        confidence = tf.gather(probabilities(logits), predicted, batch_dims=1)
        finite = tf.reduce_all(tf.math.is_finite(logits), axis=-1)
        losses = loss(tf.cast(mask, tf.float32), logits)
        return tf.cast(labels, tf.int64), predicted, confidence, rank, losses, tf.cast(finite, tf.int32)

    *values, finite = per_image(step, batches, strategy, on_batch)
    if not finite.all():
        raise ValueError(
            f"weights: the logits of {(finite == 0).sum()} of {len(finite)} images are NaN or infinite; use other "
            "weights, or --precision=float32."
        )
    labels, predicted, confidence, rank, losses = values
    return Predictions(labels, predicted, confidence, rank, losses, num_classes=model.output_shape[-1])


def expected_calibration_error(confidence: ArrayLike, correct: ArrayLike, bins: int = CALIBRATION_BINS) -> float:
    """Return how far confidence is from accuracy: sum over bins of (images in it / N) |accuracy - mean confidence|.

    The bins have equal widths; bin i of `bins` holds i / bins < confidence <= (i + 1) / bins, and the first one 0 too
    (Guo et al. 2017).

    Args:
        confidence: (N,) probability of the predicted class.
        correct: (N,) bool.

    Example:
        >>> expected_calibration_error([0.9, 0.9, 0.9, 0.9], [True, True, False, False])
        0.4
    """
    confidence, correct = np.asarray(confidence, np.float64), np.asarray(correct, np.float64)
    index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(index, weights=correct - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(confidence))


def confusion_matrix(labels: ArrayLike, predicted: ArrayLike, num_classes: int) -> np.ndarray:
    """Return (K, K) int64: entry [i, j] counts the images of class i that were taken for class j.

    Example:
        >>> confusion_matrix([0, 0, 1], [0, 1, 1], 2).tolist()
        [[1, 1], [0, 1]]
    """
    index = np.asarray(labels, np.int64) * num_classes + np.asarray(predicted, np.int64)
    return np.bincount(index, minlength=num_classes**2).reshape(num_classes, num_classes)


def class_rows(predictions: Predictions, class_names: Sequence[str]) -> list[dict[str, float | str]]:
    """Return a dict for each class: class, name, images, correct, top1, top5, mean_confidence; "" without images."""
    rows = []
    order = np.argsort(predictions.labels, kind="stable")
    ends = np.searchsorted(predictions.labels[order], np.arange(predictions.num_classes), side="right")
    for k, own in enumerate(np.split(order, ends[:-1])):
        rank = predictions.rank[own]
        row: dict[str, float | str] = {
            "class": k,
            "name": class_names[k],
            "images": len(own),
            "correct": int((rank < 1).sum()),
        }
        means = {"top1": rank < 1, "top5": rank < 5, "mean_confidence": predictions.confidence[own]}
        rows.append(row | {name: float(np.mean(values)) if len(own) else "" for name, values in means.items()})
    return rows


def worst_mistakes(predictions: Predictions, count: int) -> np.ndarray:
    """Return the indices of the mistakes with the highest confidence, highest first."""
    mistakes = np.flatnonzero(~predictions.correct)
    return mistakes[np.argsort(-predictions.confidence[mistakes], kind="stable")[:count]]
