"""Pictures of what a Mixer has learnt: hidden units of its token mixing, and units of its stem (paper section 3.5)."""

import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from keras_mixer.pictures.figure import new_figure, write_png
from keras_mixer.types import Grid, Path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TILES = {100: 96, 10**9: 56}  # up to so many units: pixels of a unit's longer side, at most
PAIR_GAP, GAP = 3, 11  # pixels between the two units of a pair, and around it
WIDEST, NARROWEST = 1600, 760  # pixels of a picture; narrower, its caption would be a column
MARGIN, LINE = 16, 18  # pixels
DPI = 100
BACKGROUND = 0.75  # a grey that neither the white of a zero weight nor the grey of a stem's zero is


def hidden_unit_images(kernel: np.ndarray, grid: Grid) -> np.ndarray:
    """Return the units of a `token_mixing.dense_0`, (S, D), as images (D, rows, columns): patches in their places.

    Raises:
        ValueError: if the grid, (rows, columns), has another number of patches than the kernel.

    Example:
        >>> hidden_unit_images(np.zeros((12, 5)), grid=(3, 4)).shape
        (5, 3, 4)
    """
    kernel, (rows, columns) = np.asarray(kernel), grid
    if kernel.ndim != 2 or kernel.shape[0] != rows * columns:
        raise ValueError(
            f"grid: {rows} x {columns} patches need a kernel of ({rows * columns}, D), got {kernel.shape}; give the "
            "rows and columns of the images that it was trained on."
        )
    return kernel.T.reshape(-1, rows, columns)


def stem_unit_images(kernel: np.ndarray) -> np.ndarray:
    """Return the units of a stem, (P, P, 3, C), as images (C, P, P, 3); grey images become three equal channels.

    Raises:
        ValueError: for a kernel of another shape.
    """
    kernel = np.asarray(kernel)
    if kernel.ndim != 4 or kernel.shape[2] not in (1, 3):
        raise ValueError(f"kernel: of a stem must be (P, P, 3, C) to be shown in colours, got {kernel.shape}.")
    images = np.moveaxis(kernel, -1, 0)
    return np.repeat(images, 3, axis=-1) if images.shape[-1] == 1 else images


def spatial_frequency(images: np.ndarray) -> np.ndarray:
    """Return the frequency of each image: the root mean square of its spatial frequencies, weighted by their energy.

    Computed from differences between neighbours: the sum of their squares over the sum of squares of all values. In a
    cosine transform a component of w radians per pixel counts as 2 sin(w/2), in each direction; so an even image has 0,
    a chessboard the highest, towards sqrt(8). From (N, H, W) or (N, H, W, channels) to (N,) float64; infinity for an
    image of zeros, which has none and so comes last.

    Example:
        >>> spatial_frequency(np.ones((1, 8, 8)))
        array([0.])
    """
    images = np.asarray(images, np.float64)
    rest = tuple(range(1, images.ndim))
    energy = np.square(images).sum(rest)
    changes = sum(np.square(np.diff(images, axis=axis)).sum(rest) for axis in (1, 2))
    return np.sqrt(np.divide(changes, energy, out=np.full(len(images), np.inf), where=energy > 0))


def pair_inverses(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Order units (N, H, W[, channels]) in pairs: low spatial frequency first, each with the closest to its inverse.

    Greedy: of the units that are left, the one of the lowest `spatial_frequency` comes next, and after it the one whose
    cosine with it is the most negative. The cosine ignores how large a unit is, which the next layer can undo.

    Returns:
        (order (N,) int, cosines (N // 2,) float64): pair k is order[2k], order[2k + 1], of cosine cosines[k].

    Example:
        >>> ramp = np.outer(np.ones(4), [-3, -1, 1, 3.0])
        >>> order, cosines = pair_inverses(np.stack([ramp, np.ones((4, 4)), -2 * ramp, np.full((4, 4), -0.1)]))
        >>> order.tolist(), cosines.round(6).tolist()
        ([1, 3, 0, 2], [-1.0, -1.0])
    """
    units = np.asarray(images, np.float64).reshape(len(images), -1)
    norms = np.linalg.norm(units, axis=1, keepdims=True)
    units = np.divide(units, norms, out=np.zeros_like(units), where=norms > 0)
    left = np.argsort(spatial_frequency(images), kind="stable")
    order, cosines = [], []
    while len(left):
        first, left = left[0], left[1:]
        order.append(first)
        if len(left):
            similar = units[left] @ units[first]
            place = similar.argmin()
            order.append(left[place])
            cosines.append(similar[place])
            left = np.delete(left, place)
    return np.array(order, int), np.array(cosines)


def write_token_mixing(path: Path, kernel: np.ndarray, grid: Grid, name: str, block: int, most: int = 384) -> str:
    """Write a PNG of the hidden units of one token-mixing MLP, in pairs as `pair_inverses` orders them.

    Each unit has its own symmetric scale: red is its largest absolute weight, blue the negative of it, white zero.

    Args:
        path: of the PNG; its folder is made where it is missing.
        kernel, grid: of `hidden_unit_images`.
        name, block: of the checkpoint, and the number of the block, for the caption.
        most: units to show, the first in the order.

    Returns:
        The caption.

    Raises:
        ValueError: for a grid that does not fit, `most` below 1, or without matplotlib.
        OSError: where the file cannot be written.
    """
    figure = new_figure(1, 1)  # says at once where matplotlib is missing
    from matplotlib import colormaps

    images = hidden_unit_images(kernel, grid)
    order, cosines = pair_inverses(images)
    shown = _shown(len(order), most)
    text = f"{shown} hidden units, one weight for each of {grid[0]} x {grid[1]} patches. Low spatial frequency first"
    cosines = cosines[: most // 2]  # of the pairs that are shown
    if len(cosines):
        text += (
            ", and beside it the unit closest to its inverse of those left (cosine of a pair: median "
            f"{np.median(cosines):.2f}, from {cosines.min():.2f} to {cosines.max():.2f})"
        )
    text += ". Red is positive, blue negative, white zero; each unit has its own scale."
    tiles = colormaps["RdBu_r"](_half_scaled(images[order[:most]]))[..., :3]
    _write(path, figure, tiles, f"Token mixing in block {block} of {name}", text, pairs=True)
    return text


def write_side_by_side(path: Path, kernels: Mapping[int, np.ndarray], grid: Grid, name: str, most: int = 128) -> str:
    """Write a PNG of the hidden units of several token-mixing MLPs beside each other, as the paper's Figure 4.

    Args:
        kernels: the number of a block -> its kernel, of `hidden_unit_images`.
        most: units of each block, the first in the order of `pair_inverses`.

    Other arguments, the result and errors are those of `write_token_mixing`.
    """
    figure = new_figure(1, 1)
    from matplotlib import colormaps

    panels, units = [], {kernel.shape[-1] for kernel in kernels.values()}
    if len(units) != 1:
        raise ValueError(f"kernels: must be one or more of equally many units, got {sorted(units)}.")
    count = _shown(units.pop(), most)
    for kernel in kernels.values():
        images = hidden_unit_images(kernel, grid)
        shown = _half_scaled(images[pair_inverses(images)[0][:most]])
        panels.append(_mosaic(colormaps["RdBu_r"](shown)[..., :3], pairs=True, across=4))
    gap = np.ones((len(panels[0]), 2 * GAP, 3))
    picture = np.concatenate([part for panel in panels for part in (gap, panel)][1:], axis=1)
    blocks = ", ".join(map(str, kernels))
    text = (
        f"{count} hidden units of each of the blocks {blocks}, from left to right, each beside the one closest to its "
        "inverse. Low spatial frequency first; red is positive, blue negative, white zero."
    )
    _write_picture(path, figure, picture, f"Token mixing of {name}", text)
    return text


def write_stem(path: Path, kernel: np.ndarray, name: str, most: int = 384) -> str:
    """Write a PNG of the units of a stem (P, P, 3, C) as P x P images, low spatial frequency first; return its caption.

    Other arguments are those of `write_token_mixing`.

    Raises:
        ValueError: for a kernel of another shape, `most` below 1, or without matplotlib.
        OSError: where the file cannot be written.
    """
    figure = new_figure(1, 1)
    images = stem_unit_images(kernel)
    shown, side = _shown(len(images), most), images.shape[1]
    text = (
        f"{shown} units, each a patch of {side} x {side} pixels in red, green and blue. Low spatial frequency first. "
        "Grey is zero; each unit has its own scale."
    )
    order = np.argsort(spatial_frequency(images), kind="stable")[:most]
    _write(path, figure, _half_scaled(images[order]), f"Stem of {name}", text, pairs=False)
    return text


def _shown(count: int, most: int) -> str:
    if most < 1:
        raise ValueError(f"units: must be a positive number of units to show, got {most}.")
    return f"{count}" if count <= most else f"{most} of {count}"


def _half_scaled(images: np.ndarray) -> np.ndarray:
    """Map each image to [0, 1], zero to 0.5, by its own largest absolute value."""
    images = np.asarray(images, np.float64)
    largest = np.abs(images).max(tuple(range(1, images.ndim)), keepdims=True)
    return 0.5 + 0.5 * np.divide(images, largest, out=np.zeros_like(images), where=largest > 0)


def _write(path: Path, figure: "Figure", tiles: np.ndarray, title: str, text: str, pairs: bool) -> None:
    """Write tiles (N, H, W, 3) in [0, 1] below a title and a text, every weight a square of whole pixels."""
    _write_picture(path, figure, _mosaic(tiles, pairs), title, text)


def _write_picture(path: Path, figure: "Figure", picture: np.ndarray, title: str, text: str) -> None:
    """Write a picture (H, W, 3) in [0, 1] below a title and a text, pixel by pixel."""
    width = max(picture.shape[1] + 2 * MARGIN, NARROWEST)
    room = width - 2 * MARGIN
    heading = textwrap.wrap(title, int(room / 9.3))  # pixels of a letter, all of them in a font of fixed width
    lines = heading + textwrap.wrap(text, int(room / 8))
    top = MARGIN + LINE * len(lines) + 4
    height = top + 8 + picture.shape[0] + MARGIN
    figure.set_size_inches(width / DPI, height / DPI)
    figure.set_dpi(DPI)
    figure.set_layout_engine("none")  # there are no axes to lay out
    figure.figimage(picture, MARGIN, MARGIN, origin="upper")
    for i, line in enumerate(lines):
        figure.text(
            MARGIN / width,
            1 - (MARGIN + LINE * i) / height,
            line.replace("$", r"\$"),  # a $ starts a formula
            fontsize=11 if i < len(heading) else 9.5,
            fontweight="bold" if i < len(heading) else "normal",
            va="top",
            family="DejaVu Sans Mono",  # comes with matplotlib
        )
    write_png(figure, path, DPI)


def _mosaic(tiles: np.ndarray, pairs: bool, across: int | None = None) -> np.ndarray:
    """Return one picture (H, W, 3) of all tiles, row by row; of `pairs`, two tiles stay together.

    In a row are `across` tiles or pairs, or a number that makes the picture a little wider than high.
    """
    count, rows, columns, _ = tiles.shape
    side = next(side for most, side in TILES.items() if count <= most)
    scale = max(1, side // max(rows, columns))
    tiles = tiles.repeat(scale, axis=1).repeat(scale, axis=2)
    high, wide = tiles.shape[1:3]
    together = 2 if pairs else 1
    step = together * wide + (together - 1) * PAIR_GAP + GAP, high + GAP  # of a pair, across and down
    groups = -(-count // together)
    if across is None:
        most = round((1.6 * groups * step[1] / step[0]) ** 0.5)
        most = min(max(most, 1), max((WIDEST - 2 * MARGIN - GAP) // step[0], 1), groups)
        # Near it the number that leaves the last row the fullest.
        across = min(range(-(-most * 4 // 5), most + 1), key=lambda n: (-groups % n, most - n))
    across = min(across, groups)
    picture = np.full((-(-groups // across) * step[1] + GAP, across * step[0] + GAP, 3), BACKGROUND)
    for i, tile in enumerate(tiles):
        group, second = divmod(i, together)
        x = GAP + group % across * step[0] + second * (wide + PAIR_GAP)
        y = GAP + group // across * step[1]
        picture[y : y + high, x : x + wide] = tile
    return picture
