"""Names of the classes of the released heads, and `decode_predictions`."""

import functools
import numbers
import pathlib
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_mixer.types import Tensor

NAMES = {"imagenet1k": 1000, "imagenet21k": 21843}
_CLASSES_RULE = "classes must be 'imagenet1k', 'imagenet21k' or a list with a name for each class"


@functools.cache
def imagenet_classes(name: str) -> tuple[tuple[str, str], ...]:
    """Return a tuple of (WordNet synset id, lemmas), one for each class of a released head, in its order.

    Args:
        name: "imagenet1k" (1,000 classes) or "imagenet21k" (21,843).

    Raises:
        ValueError: for another name.

    Example:
        >>> imagenet_classes("imagenet1k")[0]
        ('n01440764', 'tench, Tinca tinca')
    """
    if name not in NAMES:
        raise ValueError(f"imagenet_classes: name must be 'imagenet1k' or 'imagenet21k', got {name!r}.")
    text = (pathlib.Path(__file__).parent / "assets" / f"{name}.tsv").read_text("utf-8")
    return tuple((line.split("\t")[0], line.split("\t")[1]) for line in text.splitlines())


def decode_predictions(
    predictions: Tensor, top: int = 5, classes: str | Sequence[Any] | np.ndarray | None = None
) -> list[list[tuple[Any, str, float]]]:
    """Return the classes with the highest probabilities of each image, best first.

    Args:
        predictions: (B, K) probabilities in [0, 1]; an array or a tensor.
        top: how many classes to return for each image, at most K.
        classes: "imagenet1k", "imagenet21k" or a list of K names. None takes ImageNet's names for K = 1,000 and
            ImageNet-21k's for K = 21,843, in the order of the released heads.

    Returns:
        A list for each image of (class id, name, probability): the WordNet synset id, or the index for a list of names.

    Raises:
        ValueError: if the predictions are not (B, K), real, finite and in [0, 1], as logits are not; if `classes` is
            neither a name nor a list, K is not the number of names, or `top` is not in [1, K].

    Example:
        >>> decode_predictions(np.array([[0.1, 0.7, 0.2]]), top=2, classes=["cat", "dog", "fox"])
        [[(1, 'dog', 0.7), (2, 'fox', 0.2)]]
    """
    scores = _scores(predictions)
    width = scores.shape[1]
    if classes is None:
        classes = next((name for name, size in NAMES.items() if size == width), None)
        if classes is None:
            raise ValueError(
                f"decode_predictions: predictions have {width} classes, neither 1000 nor 21843; give classes, a "
                f"list of {width} names."
            )
    if isinstance(classes, str):
        if classes not in NAMES:
            raise ValueError(f"decode_predictions: {_CLASSES_RULE}, got {classes!r}.")
        ids: Sequence[Any] = [identity for identity, _ in imagenet_classes(classes)]
        names = [words for _, words in imagenet_classes(classes)]
    else:
        ordered = isinstance(classes, (Sequence, np.ndarray)) and not isinstance(classes, bytes)
        names = list(classes) if ordered and np.iterable(classes) else []
        if not names or not all(isinstance(name, (str, numbers.Number)) for name in names):
            raise ValueError(f"decode_predictions: {_CLASSES_RULE}, got {classes!r}.")
        names = [str(name) for name in names]
        ids = range(len(names))
    if len(names) != width:
        raise ValueError(f"decode_predictions: predictions have {width} classes, but classes has {len(names)} names.")
    if isinstance(top, bool) or not isinstance(top, (int, np.integer)) or not 1 <= top <= width:
        raise ValueError(f"decode_predictions: top must be a whole number from 1 to {width}, got {top!r}.")
    best = np.argsort(-scores, axis=1, kind="stable")[:, :top]
    return [[(ids[k], names[k], float(row[k])) for k in order] for row, order in zip(scores, best, strict=True)]


def _scores(predictions: Tensor) -> np.ndarray:
    """Return predictions as finite float64 (B, K), which ranks every real dtype; unsigned integers have no negative."""
    try:
        scores = np.asarray(keras.ops.convert_to_numpy(predictions))
    except Exception:  # whatever a backend raises for rows of different lengths, or for what is no array
        raise ValueError(
            "decode_predictions: predictions must be one array of shape (images, classes), got a "
            f"{type(predictions).__name__} that is none; perhaps its rows differ in length."
        ) from None
    if scores.dtype.kind not in "iuf" and "float" not in scores.dtype.name:  # bfloat16 is of no kind of NumPy's
        raise ValueError(
            f"decode_predictions: predictions must be real numbers, integer or floating, got the dtype {scores.dtype}."
        )
    scores = scores.astype(np.float64)
    if (
        scores.ndim == 2
        and scores.size
        and np.isfinite(scores).all()
        and not 0 <= scores.min() <= scores.max() <= 1 + 1e-6
    ):
        worst = scores.min() if scores.min() < 0 else scores.max()
        raise ValueError(
            f"decode_predictions: predictions must be probabilities in [0, 1], got {worst:.4g}, as logits have; give "
            "keras.ops.softmax(predictions), or the sigmoid where each class has its own, or build the model with "
            "classifier_activation='softmax'; or use keras_mixer.load_run, which knows the names and what a run needs."
        )
    if scores.ndim != 2 or not np.isfinite(scores).all():
        raise ValueError(
            "decode_predictions: predictions must be finite scores of shape (images, classes), got the shape "
            f"{scores.shape}" + ("." if scores.ndim != 2 else " with a value that is NaN or infinite.")
        )
    return scores
