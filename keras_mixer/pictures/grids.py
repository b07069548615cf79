"""Grids of pictures: a training batch with its labels, a confusion matrix, and the images of the worst mistakes."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from keras_mixer.pictures.figure import new_figure, write_png
from keras_mixer.types import Path

CAPTION_LENGTH = 22  # characters that fit under an image of a batch
MOST_CLASSES = 30  # that one can read in a picture
NAME_LENGTH = 24  # of a class beside the matrix


def caption(label: ArrayLike, class_names: Sequence[str]) -> str:
    """Return what a label (K,) float says, a line per class: "cat", or "0.72 cat" and "0.28 dog" of a mixed image.

    Two classes are named, and the others counted.

    Example:
        >>> caption([0.0, 0.75, 0.25], ["ant", "bee", "cat"])
        '0.75 bee\\n0.25 cat'
    """
    label = np.asarray(label)
    if len(label) != len(class_names):
        raise ValueError(f"class_names: {len(class_names)} names for labels of {len(label)} classes; give one each.")
    order = [k for k in np.argsort(-label, kind="stable") if label[k] > 0]
    if len(order) == 1 and abs(label[order[0]] - 1) < 1e-6:
        return _shorten(class_names[order[0]], CAPTION_LENGTH)
    lines = [f"{_weight(label[k])} {_shorten(class_names[k], CAPTION_LENGTH - 6)}" for k in order[:2]]
    return "\n".join(lines + [f"{len(order) - 2} more"] * (len(order) > 2))


def write_contact_sheet(
    path: Path, images: ArrayLike, labels: ArrayLike, class_names: Sequence[str], title: str = "", columns: int = 8
) -> None:
    """Write a PNG of a batch, each image with its caption, below a title; its folder is made where it is missing.

    Args:
        path: of the PNG.
        images: (B, H, W, 3 or 1) float in [-1, 1].
        labels: (B, K) float, weights of the classes.
        class_names: K names.
        title, columns: a line above the images, and images per row.

    Raises:
        ValueError: for images of another shape or range, labels that do not match, or without matplotlib.
        OSError: where the file cannot be written.
    """
    images, labels = np.asarray(images), np.asarray(labels)
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or not len(images) or len(labels) != len(images):
        raise ValueError(f"images: must be (B, H, W, 3 or 1), and B labels, got {images.shape}, {len(labels)} labels.")
    if not (images.min() >= -1.001 and images.max() <= 1.001):
        raise ValueError(f"images: must be in [-1, 1], got {images.min():.4g} to {images.max():.4g}.")
    captions = [caption(label, class_names) for label in labels]
    columns = min(columns, len(images))
    rows, lines = math.ceil(len(images) / columns), max(text.count("\n") + 1 for text in captions)
    tile = 1.5  # inches
    width = max(columns * tile, 0.075 * len(title))
    height = rows * (tile * images.shape[1] / images.shape[2] + 0.15 * lines) + 0.4
    _write_images(path, images, captions, title, (rows, columns), (width, height), fontsize=7)


def most_confused(matrix: np.ndarray, count: int = MOST_CLASSES) -> np.ndarray:
    """Return the `count` classes with the most mistakes, theirs and others' for them, in the order of the classes.

    Example:
        >>> most_confused(np.array([[9, 0, 1], [0, 9, 0], [2, 0, 5]]), count=2).tolist()
        [0, 2]
    """
    mistakes = matrix.sum(0) + matrix.sum(1) - 2 * np.diagonal(matrix)
    return np.sort(np.argsort(-mistakes, kind="stable")[:count])


def write_confusion(path: Path, matrix: np.ndarray, class_names: Sequence[str], title: str = "") -> None:
    """Write a PNG of a confusion matrix: counts, coloured by their share of the true class's images.

    Of more than `MOST_CLASSES` it shows the most confused ones; shares are still of all images of a class.

    Args:
        path, class_names, title: of `write_contact_sheet`.
        matrix: (K, K) counts, [true class, predicted class].

    Raises:
        ValueError: for a matrix that does not match the names, or without matplotlib.
        OSError: where the file cannot be written.
    """
    matrix = np.asarray(matrix)
    if matrix.shape != (len(class_names),) * 2:
        raise ValueError(f"matrix: must be (K, K) for {len(class_names)} class names, got {matrix.shape}.")
    chosen = most_confused(matrix)
    shown = matrix[np.ix_(chosen, chosen)]
    shares = shown / np.maximum(matrix.sum(1)[chosen, None], 1)
    if len(chosen) < len(matrix):
        title = f"{title}\nthe {len(chosen)} most confused of {len(matrix):,} classes".strip()
    side = max(4.0, 0.32 * len(chosen) + 2.5)
    figure = new_figure(side + 0.6, side)
    axes = figure.subplots()
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(picture, label="share of the true class", shrink=0.8)
    names = [_plain(class_names[k], NAME_LENGTH) for k in chosen]
    axes.set_xticks(range(len(chosen)), names, rotation=90, fontsize=7)
    axes.set_yticks(range(len(chosen)), names, fontsize=7)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    axes.set_title(_plain(title, 1000), fontsize=9)
    for i, j in zip(*np.nonzero(shown), strict=True):
        axes.text(j, i, shown[i, j], ha="center", va="center", fontsize=6, color="white" if shares[i, j] > 0.5 else "k")
    write_png(figure, path)


def write_mistakes(
    path: Path, images: ArrayLike, captions: Sequence[Sequence[str]], title: str = "", columns: int = 6
) -> None:
    """Write a PNG of images (B, H, W, 3 or 1) float in [-1, 1], each above the lines of its caption.

    Raises:
        ValueError: for captions that do not match the images, or without matplotlib.
        OSError: where the file cannot be written.
    """
    images = np.asarray(images)
    if images.ndim != 4 or not len(images) or len(captions) != len(images):
        raise ValueError(f"images: must be (B, H, W, 3) with B captions, got {images.shape} and {len(captions)}.")
    rows, lines = math.ceil(len(images) / columns), max(map(len, captions))
    size = 1.8 * columns, rows * (1.5 + 0.14 * lines) + 0.5
    texts = ["\n".join(_plain(line, 28) for line in caption) for caption in captions]
    _write_images(path, images, texts, _plain(title, 1000), (rows, columns), size, fontsize=6)


def _write_images(
    path: Path,
    images: np.ndarray,
    captions: Sequence[str],
    title: str,
    shape: tuple[int, int],
    size: tuple[float, float],
    fontsize: float,
) -> None:
    """Draw images (B, H, W, 3 or 1) in [-1, 1], each above its caption, in rows and columns on so many inches."""
    figure = new_figure(*size)
    if title:
        figure.suptitle(title, fontsize=9)
    grid = figure.subplots(*shape, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, image, text in zip(grid.flat, images, captions, strict=False):
        axes.imshow(np.clip((image + 1) / 2, 0, 1), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set_title(text, fontsize=fontsize, y=0, pad=-3, va="top")
    write_png(figure, path)


def _weight(value: float) -> str:
    return "<0.01" if value < 0.01 else ">0.99" if value > 0.99 else f"{value:.2f}"


def _shorten(name: str, length: int) -> str:
    name = str(name).replace("_", " ").replace("$", r"\$")  # a $ starts a formula
    return name if len(name) <= length else name[: length - 1].rstrip() + "…"


def _plain(text: str, length: int) -> str:
    """Shorten from the left, since the end of a path says most; a $ would start a formula."""
    text = str(text)
    text = text if len(text) <= length else "…" + text[len(text) - length + 1 :]
    return text.replace("$", r"\$")
