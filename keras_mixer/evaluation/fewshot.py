"""Linear few-shot accuracy on frozen features: regularised least squares to targets of +-1 (paper section 3)."""

import numbers
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

Fit = tuple[np.ndarray, np.ndarray, np.ndarray]  # W (C + 1, K), mean (C,) and deviation (C,), float64
BIAS_COLUMN = 100.0  # so large that the regulariser hardly holds the bias back
DEVIATION_FLOOR = 1e-5  # added to every deviation: a feature that never varies becomes zero, not NaN
_ROWS = 4096  # test images whose scores are in memory at a time


def draw_examples(
    labels: ArrayLike, shots: int, seed: int, num_classes: int | None = None, class_names: Sequence[str] | None = None
) -> np.ndarray:
    """Return the indices of `shots` examples of each class, class by class.

    Class k's examples are the first of the permutation by `numpy.random.default_rng([seed, k])` of its indices, so
    that the draw of fewer shots is a part of the draw of more, and of one class does not depend on the others.

    Args:
        labels: (N,) whole numbers from 0.
        shots: examples per class.
        seed: chooses the examples.
        num_classes: K; None for the largest label plus one.
        class_names: K names for the error.

    Raises:
        ValueError: for a class with fewer examples than `shots`, or a number that is not positive.

    Example:
        >>> draw_examples(np.array([1, 0, 1, 0]), shots=1, seed=0).shape
        (2,)
    """
    _check_whole("shots", shots, 1)
    _check_whole("seed", seed, 0)
    labels = np.asarray(labels)
    order = np.argsort(labels, kind="stable")
    counts = np.bincount(labels, minlength=num_classes or 0)
    if counts.min() < shots:
        k = int(np.argmax(counts < shots))
        what = f"class {k}" if class_names is None else f"class {k}, {class_names[k]!r},"
        remedy = f"use at most {counts.min()}" if counts.min() else "leave out classes without any"
        raise ValueError(
            f"shots: {what} has {counts[k]} training examples, fewer than {shots} shots; {remedy}, or add examples."
        )
    groups = np.split(order, np.cumsum(counts)[:-1])
    return np.concatenate([np.random.default_rng([seed, k]).permutation(g)[:shots] for k, g in enumerate(groups)])


def possible_shots(
    labels: ArrayLike, shots: Sequence[int], num_classes: int, class_names: Sequence[str]
) -> tuple[list[int], str]:
    """Return those of `shots` that every class can fill, ascending, and a sentence about the others, "" for none.

    Args:
        labels: (N,) whole numbers from 0.
        shots: numbers of examples per class.
        num_classes: K.
        class_names: K names for the sentence.

    Raises:
        ValueError: where none is left.

    Example:
        >>> possible_shots([0, 0, 0, 1, 1], (1, 2, 5, 10), 2, ["cat", "dog"])
        ([1, 2], "skipped shots 5, 10: class 'dog' has 2 training images.")
    """
    counts = np.bincount(np.asarray(labels), minlength=num_classes)
    k = int(counts.argmin())
    left = sorted(n for n in shots if n <= counts[k])
    skipped = sorted(set(shots) - set(left))
    has = f"class {class_names[k]!r} has {counts[k] or 'no'} training image{'' if counts[k] == 1 else 's'}"
    if not left:
        remedy = f"use at most {counts[k]}, or add images" if counts[k] else "add images, or remove the class"
        raise ValueError(f"shots: {has}, fewer than {min(shots)}; {remedy}.")
    return left, f"skipped shots {', '.join(map(str, skipped))}: {has}." if skipped else ""


def fit_least_squares(features: ArrayLike, labels: ArrayLike, num_classes: int, l2: float = 1024.0) -> Fit:
    """Return what minimises |X W - Y|^2 + l2 |W|^2, in float64.

    X are the features, whitened by their own mean and deviation (plus 1e-5), with a constant column of 100 appended; Y
    is +1 in the column of the label and -1 elsewhere. The constant column's row of W is regularised like the others:
    its column being 100, a bias b costs only l2 (b / 100)^2. Solved for whichever is smaller, columns or examples.

    Args:
        features: (N, C) float.
        labels: (N,) whole numbers in [0, num_classes).
        num_classes: K.
        l2: lambda, positive.

    Returns:
        W, mean and deviation.

    Raises:
        ValueError: for arrays that do not match or are not finite, or an l2 that is not positive.
    """
    features, labels = _checked("train", features, labels)
    if isinstance(l2, bool) or not isinstance(l2, numbers.Real) or not 0 < l2 < float("inf"):
        raise ValueError(f"l2: must be a positive number, got {l2!r}.")
    features = features.astype(np.float64)
    mean, deviation = features.mean(0), features.std(0) + DEVIATION_FLOOR
    x = _whiten(features, mean, deviation)
    y = np.where(labels[:, None] == np.arange(num_classes), 1.0, -1.0)
    if x.shape[1] <= x.shape[0]:
        weights = np.linalg.solve(x.T @ x + l2 * np.eye(x.shape[1]), x.T @ y)
    else:  # the same solution: (X'X + l2)^-1 X' = X' (XX' + l2)^-1
        weights = x.T @ np.linalg.solve(x @ x.T + l2 * np.eye(x.shape[0]), y)
    return weights, mean, deviation


def accuracy(fit: Fit, features: ArrayLike, labels: ArrayLike) -> float:
    """Return the fraction of rows whose highest score is their label's; of equal scores the first class counts.

    Args:
        fit: from `fit_least_squares`.
        features: (M, C) float.
        labels: (M,) whole numbers from 0.

    Raises:
        ValueError: for arrays that do not match each other or the fit, or are not finite.

    Example:
        >>> features, labels = np.array([[0.0], [0.1], [1.0], [1.1]]), np.array([0, 0, 1, 1])
        >>> drawn = draw_examples(labels, shots=1, seed=0)
        >>> accuracy(fit_least_squares(features[drawn], labels[drawn], num_classes=2), features, labels)
        1.0
    """
    weights, mean, deviation = fit
    features, labels = _checked("test", features, labels)
    if features.shape[1] != len(mean):
        raise ValueError(
            f"test_features: {features.shape[1]} columns, but train_features has {len(mean)}; take both from one model."
        )
    hits = 0
    for start in range(0, len(features), _ROWS):
        x = _whiten(features[start : start + _ROWS].astype(np.float64), mean, deviation)
        hits += int(((x @ weights).argmax(-1) == labels[start : start + _ROWS]).sum())
    return hits / len(features)


def _checked(name: str, features: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return both as arrays, or raise a ValueError that starts with their name, "train" or "test"."""
    features, labels = np.asarray(features), np.asarray(labels)
    if features.ndim != 2 or not features.size or labels.shape != features.shape[:1]:
        raise ValueError(
            f"{name}_features: must be (N, C) with {name}_labels (N,), got {features.shape} and {labels.shape}."
        )
    if labels.dtype.kind not in "iu" or labels.min() < 0:
        raise ValueError(f"{name}_labels: must be whole numbers from 0, got {labels.dtype} from {labels.min()}.")
    if not np.isfinite(features).all():
        raise ValueError(f"{name}_features: must be finite, and hold values that are NaN or infinite.")
    return features, labels


def _whiten(features: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    x = (features - mean) / deviation
    return np.concatenate([x, np.full((len(x), 1), BIAS_COLUMN)], axis=1)


def _check_whole(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise ValueError(f"{name}: must be a whole number of at least {least}, got {value!r}.")
