"""matplotlib's figures, imported when the first one is drawn."""

from typing import TYPE_CHECKING

from keras_mixer import files
from keras_mixer.types import Path

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width: float, height: float) -> "Figure":
    """Return an empty matplotlib figure of that many inches; it opens no window.

    Raises:
        ValueError: where matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ValueError("plot: pictures need matplotlib; install it with pip install matplotlib.") from None
    return Figure(figsize=(width, height), layout="constrained")


def write_png(figure: "Figure", path: Path, dpi: int = 144) -> None:
    """Write a figure whole or not at all; its folder is made where it is missing."""
    with files.replacing(path) as file:
        figure.savefig(file, format="png", dpi=dpi)
