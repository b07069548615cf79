"""Accuracy against several valid labels per image, as ReaL has them (Beyer et al. 2020)."""

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import ArrayLike


def real_accuracy(predicted: ArrayLike, label_sets: Sequence[Collection[int]]) -> dict[str, float]:
    """Return the fraction of images whose predicted class is one of their valid labels.

    An image without any valid label is skipped: it counts neither as a hit nor as a miss.

    Args:
        predicted: (N,) whole numbers, the class of the highest logit of each image.
        label_sets: the valid labels of each of the N images.

    Returns:
        dict of real_top1, real_num_examples (that count) and real_skipped.

    Raises:
        ValueError: for another number of sets than of images, or no image with a valid label.

    Example:
        >>> real_accuracy([3, 3, 3], [[1, 3], [1], []])
        {'real_top1': 0.5, 'real_num_examples': 2, 'real_skipped': 1}
    """
    predicted = np.asarray(predicted)
    if len(predicted) != len(label_sets):
        raise ValueError(f"real_labels: {len(label_sets)} label sets for {len(predicted)} images; give one for each.")
    hits = [int(k) in labels for k, labels in zip(predicted, map(set, label_sets), strict=True) if labels]
    if not hits:
        raise ValueError("real_labels: no image has a valid label, so there is nothing to count; give other labels.")
    return {
        "real_top1": float(np.mean(hits)),
        "real_num_examples": len(hits),
        "real_skipped": len(predicted) - len(hits),
    }
