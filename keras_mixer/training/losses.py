"""The two losses of the authors' recipes, per image, on logits."""

from collections.abc import Callable

from keras import ops

from keras_mixer.types import Loss, Tensor


def softmax_cross_entropy(labels: Tensor, logits: Tensor) -> Tensor:
    """Softmax cross-entropy: labels (B, K) that sum to 1, logits (B, K) -> (B,) float32."""
    return -ops.sum(labels * ops.log_softmax(ops.cast(logits, "float32")), axis=-1)


def sigmoid_cross_entropy(labels: Tensor, logits: Tensor) -> Tensor:
    """Sigmoid cross-entropy summed over the classes: labels (B, K) in [0, 1], logits (B, K) -> (B,) float32.

    The sum, not the mean that Keras takes, is what the authors' learning rates are for.
    """
    logits = ops.cast(logits, "float32")
    # log(1 + exp(-|x|)) never overflows.
    per_class = ops.relu(logits) - logits * labels + ops.log1p(ops.exp(-ops.abs(logits)))
    return ops.sum(per_class, axis=-1)


LOSSES = {"softmax": softmax_cross_entropy, "sigmoid": sigmoid_cross_entropy}


def get_loss(name: str) -> Loss:
    """Return the loss function called "softmax" or "sigmoid"; ValueError for another name."""
    if name not in LOSSES:
        raise ValueError(f"loss: must be 'softmax' or 'sigmoid', got {name!r}.")
    return LOSSES[name]


def get_probabilities(name: str) -> Callable[[Tensor], Tensor]:
    """Return what makes probabilities (B, K) of the logits (B, K) of a model trained with the loss of this name."""
    get_loss(name)
    return {"softmax": ops.softmax, "sigmoid": ops.sigmoid}[name]
