"""Pictures of what a classifier gets wrong: the confusion matrix, and the images of its worst mistakes."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from keras_mixer import files
from keras_mixer.pictures.figure import new_figure
from keras_mixer.types import Path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_CLASSES = 30  # that one can read in a picture
_NAME_LENGTH = 24


def most_confused(matrix: np.ndarray, count: int = MOST_CLASSES) -> np.ndarray:
    """Return the `count` classes with the most mistakes, theirs and others' for them, in the order of the classes.

    Example:
        >>> most_confused(np.array([[9, 0, 1], [0, 9, 0], [2, 0, 5]]), count=2).tolist()
        [0, 2]
    """
    mistakes = matrix.sum(0) + matrix.sum(1) - 2 * np.diagonal(matrix)
    return np.sort(np.argsort(-mistakes, kind="stable")[:count])


def write_confusion(
    path: Path, matrix: np.ndarray, class_names: Sequence[str], title: str = "", count: int = MOST_CLASSES
) -> None:
    """Write a PNG of a confusion matrix: counts, coloured by their share of the true class's images.

    Of more than `count` classes it shows the most confused ones; shares are still of all images of a class.

    Args:
        path: of the PNG; its folder is made where it is missing.
        matrix: (K, K) counts, [true class, predicted class].
        class_names: K names.
        title: a line above it.
        count: the most classes to show.

    Raises:
        ValueError: for a matrix that does not match the names, or without matplotlib.
        OSError: where the file cannot be written.
    """
    matrix = np.asarray(matrix)
    if matrix.shape != (len(class_names),) * 2:
        raise ValueError(f"matrix: must be (K, K) for {len(class_names)} class names, got {matrix.shape}.")
    chosen = most_confused(matrix, count)
    shown = matrix[np.ix_(chosen, chosen)]
    shares = shown / np.maximum(matrix.sum(1)[chosen, None], 1)
    if len(chosen) < len(matrix):
        title = f"{title}\nthe {len(chosen)} most confused of {len(matrix):,} classes".strip()
    side = max(4.0, 0.32 * len(chosen) + 2.5)
    figure = new_figure(side + 0.6, side)
    axes = figure.subplots()
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(picture, label="share of the true class", shrink=0.8)
    names = [_plain(class_names[k], _NAME_LENGTH) for k in chosen]
    axes.set_xticks(range(len(chosen)), names, rotation=90, fontsize=7)
    axes.set_yticks(range(len(chosen)), names, fontsize=7)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    axes.set_title(_plain(title, 1000), fontsize=9)
    for i, j in zip(*np.nonzero(shown), strict=True):
        axes.text(j, i, shown[i, j], ha="center", va="center", fontsize=6, color="white" if shares[i, j] > 0.5 else "k")
    _save(figure, path)


def write_mistakes(
    path: Path, images: ArrayLike, captions: Sequence[Sequence[str]], title: str = "", columns: int = 6
) -> None:
    """Write a PNG of images with a caption of several lines under each.

    Args:
        path: of the PNG; its folder is made where it is missing.
        images: (B, H, W, 3 or 1) float in [-1, 1].
        captions: B lists of lines.
        title: a line above the images.
        columns: images per row.

    Raises:
        ValueError: for captions that do not match the images, or without matplotlib.
        OSError: where the file cannot be written.
    """
    images = np.asarray(images)
    if images.ndim != 4 or not len(images) or len(captions) != len(images):
        raise ValueError(f"images: must be (B, H, W, 3) with B captions, got {images.shape} and {len(captions)}.")
    rows, lines = math.ceil(len(images) / columns), max(map(len, captions))
    figure = new_figure(1.8 * columns, rows * (1.5 + 0.14 * lines) + 0.5)
    figure.suptitle(_plain(title, 1000), fontsize=9)
    for axes in figure.subplots(rows, columns, squeeze=False).flat:
        axes.set_axis_off()
    for axes, image, caption in zip(figure.axes, images, captions, strict=False):
        axes.imshow(np.clip((image + 1) / 2, 0, 1), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set_title("\n".join(_plain(line, 28) for line in caption), fontsize=6, y=0, pad=-3, va="top")
    _save(figure, path)


def _save(figure: "Figure", path: Path) -> None:
    with files.replacing(path) as file:
        figure.savefig(file, format="png", dpi=144)


def _plain(text: str, length: int) -> str:
    """Shorten from the left, since the end of a path says most; a $ would start a formula."""
    text = str(text)
    text = text if len(text) <= length else "…" + text[len(text) - length + 1 :]
    return text.replace("$", r"\$")
