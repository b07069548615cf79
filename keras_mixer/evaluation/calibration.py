"""How far the confidence of a classifier is from its accuracy, in bins of confidence (Guo et al. 2017)."""

import numpy as np
from numpy.typing import ArrayLike

CALIBRATION_BINS = 15


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
    index = _bin_of(confidence, bins)
    gaps = np.bincount(index, weights=correct - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(confidence))


def calibration_rows(
    confidence: ArrayLike, correct: ArrayLike, bins: int = CALIBRATION_BINS
) -> list[dict[str, float | None]]:
    """Return a dict for each bin of `expected_calibration_error`: low, high, images, accuracy, confidence.

    The last two are means over the images in the bin, None where it has none. Arguments are those of
    `expected_calibration_error`.

    Example:
        >>> calibration_rows([0.75, 0.75, 0.25], [True, False, True], bins=2)[1]
        {'low': 0.5, 'high': 1.0, 'images': 2, 'accuracy': 0.5, 'confidence': 0.75}
    """
    confidence, correct = np.asarray(confidence, np.float64), np.asarray(correct, np.float64)
    index, rows = _bin_of(confidence, bins), []
    for i in range(bins):
        inside = index == i
        row: dict[str, float | None] = {"low": i / bins, "high": (i + 1) / bins, "images": int(inside.sum())}
        means = {"accuracy": correct[inside], "confidence": confidence[inside]}
        rows.append(row | {name: float(values.mean()) if len(values) else None for name, values in means.items()})
    return rows


def _bin_of(confidence: np.ndarray, bins: int) -> np.ndarray:
    return np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
