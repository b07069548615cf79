"""A picture of a training batch: each image as the model sees it, with what its label says."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from keras_mixer import files
from keras_mixer.pictures.figure import new_figure
from keras_mixer.types import Path

CAPTION_LENGTH = 22  # characters that fit under a tile


def caption(label: ArrayLike, class_names: Sequence[str], most: int = 2) -> str:
    """Return what a label row says, a line per class: "cat", or "0.72 cat" and "0.28 dog" of a mixed image.

    Args:
        label: (K,) float, weights of the classes.
        class_names: K names.
        most: classes to name; the others are counted.

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
    lines = [f"{_weight(label[k])} {_shorten(class_names[k], CAPTION_LENGTH - 6)}" for k in order[:most]]
    return "\n".join(lines + [f"{len(order) - most} more"] * (len(order) > most))


def write_contact_sheet(
    path: Path, images: ArrayLike, labels: ArrayLike, class_names: Sequence[str], title: str = "", columns: int = 8
) -> None:
    """Write a PNG of a batch, each image with its caption.

    Args:
        path: of the PNG; its folder is made where it is missing.
        images: (B, H, W, 3 or 1) float in [-1, 1].
        labels: (B, K) float, weights of the classes.
        class_names: K names.
        title: a line above the images.
        columns: images per row.

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
    figure = new_figure(
        max(columns * tile, 0.075 * len(title)), rows * (tile * images.shape[1] / images.shape[2] + 0.15 * lines) + 0.4
    )
    if title:
        figure.suptitle(title, fontsize=9)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, image, text in zip(grid.flat, images, captions, strict=False):
        axes.imshow(np.clip((image + 1) / 2, 0, 1), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set_title(text, fontsize=7, y=0, pad=-3, va="top")
    with files.replacing(path) as file:
        figure.savefig(file, format="png", dpi=144)


def _weight(value: float) -> str:
    return "<0.01" if value < 0.01 else ">0.99" if value > 0.99 else f"{value:.2f}"


def _shorten(name: str, length: int) -> str:
    name = str(name).replace("_", " ").replace("$", r"\$")  # a $ starts a formula
    return name if len(name) <= length else name[: length - 1].rstrip() + "…"
