"""matplotlib's figures, imported when the first one is drawn."""

from typing import TYPE_CHECKING

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
