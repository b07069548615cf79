"""The paper's Figure 1: the way of an image through a Mixer, with the shapes of a model."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from keras_mixer import files
from keras_mixer.pictures.figure import new_figure
from keras_mixer.types import Path

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PATCH, TOKENS, CHANNELS, PLAIN = "#f3d9a4", "#f5b8cc", "#b9d4f4", "#ececec"
MOST_CELLS = 28  # of an image's side; more would be a grey square


def write_drawing(path: Path, name: str, shapes: Mapping[str, int]) -> None:
    """Write a drawing of a Mixer: patches, table of tokens and channels, blocks, head; below it one block.

    Args:
        path: of the picture; its suffix is its format.
        name: of the model.
        shapes: image_size and patch_size in pixels, image_channels, tokens, channels, num_blocks, tokens_mlp_dim,
            channels_mlp_dim and classes.

    Raises:
        ValueError: without matplotlib.
        OSError: where the file cannot be written.
    """
    figure = new_figure(12, 5.6)
    axes = figure.subplots()
    axes.set(xlim=(0, 120), ylim=(0, 54), aspect="equal", title=f"{name} at {shapes['image_size']} px")
    axes.set_axis_off()
    _draw_model(axes, shapes)
    _draw_block(axes, shapes)
    with files.replacing(path) as file:
        figure.savefig(file, format=str(path).rpartition(".")[2], dpi=144)


def _draw_model(axes: "Axes", n: Mapping[str, int]) -> None:
    """Draw the upper row, from the image to the logits."""
    side, patch, tokens, channels = n["image_size"], n["patch_size"], n["tokens"], n["channels"]
    _grid(axes, (2, 38), (14, 14), (min(side // patch, MOST_CELLS),) * 2, PATCH)
    _text(axes, 9, 35.5, f"image {side} x {side} x {n['image_channels']}\n{tokens} patches of {patch} x {patch}")
    _box(
        axes,
        (21, 40, 15, 10),
        f"stem\nfully connected,\neach patch\n{patch * patch * n['image_channels']} to {channels}",
    )
    _grid(axes, (42, 38), (9, 14), (14, 9), TOKENS)
    _text(axes, 46.5, 35.5, f"table: S = {tokens} tokens,\nC = {channels} channels")
    _box(axes, (57, 40, 16, 10), f"{n['num_blocks']} blocks\n(below)\n{tokens} x {channels}")
    _box(axes, (78, 40, 16, 10), f"LayerNorm,\nmean over tokens\npre_logits: {channels}")
    _box(axes, (99, 40, 16, 10), f"head\nfully connected\n{channels} to {n['classes']} logits")
    for start, end in ((16.5, 20.5), (36.5, 41.5), (51.5, 56.5), (73.5, 77.5), (94.5, 98.5)):
        _arrow(axes, (start, 45), (end, 45))


def _draw_block(axes: "Axes", n: Mapping[str, int]) -> None:
    """Draw the lower row: token mixing and channel mixing, each around which the table also goes unchanged."""
    tokens, channels = n["tokens"], n["channels"]
    halves = (
        (2, TOKENS, "token_mixing", tokens, n["tokens_mlp_dim"], f"on each of {channels} columns,\nthe same weights"),
        (
            62,
            CHANNELS,
            "channel_mixing",
            channels,
            n["channels_mlp_dim"],
            f"on each of {tokens} rows,\nthe same weights",
        ),
    )
    for x, colour, name, outside, inside, shared in halves:
        _box(axes, (x + 5, 12, 8, 8), "Layer-\nNorm")
        text = f"{name}\nDense {outside} to {inside}, GELU,\nDense {inside} to {outside}\n{shared}"
        _box(axes, (x + 17, 8, 26, 16), text, colour)
        axes.text(x + 50, 16, "+", ha="center", va="center", bbox=dict(boxstyle="circle", fc="white", ec="0.3"))
        for start, end in ((x - 1, x + 4.5), (x + 13.5, x + 16.5), (x + 43.5, x + 48), (x + 52, x + 58)):
            _arrow(axes, (start, 16), (end, 16))
        axes.plot([x + 2, x + 2, x + 50], [16, 27, 27], color="0.3", linewidth=1)
        _arrow(axes, (x + 50, 27), (x + 50, 17.8))
        _text(axes, x + 26, 29, "unchanged")
    _text(axes, 60, 4, "One block. The table keeps its shape, and LayerNorm is over channels.")


def _box(axes: "Axes", place: tuple[float, float, float, float], text: str, colour: str = PLAIN) -> None:
    from matplotlib.patches import FancyBboxPatch

    x, y, width, height = place
    axes.add_patch(FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0.3", fc=colour, ec="0.3"))
    axes.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=8)


def _grid(
    axes: "Axes", corner: tuple[float, float], size: tuple[float, float], cells: tuple[int, int], colour: str
) -> None:
    """Draw rows x columns of cells."""
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle(corner, *size, fc=colour, ec="0.3"))
    (x, y), (width, height), (rows, columns) = corner, size, cells
    axes.vlines([x + width * i / columns for i in range(1, columns)], y, y + height, color="white", linewidth=1)
    axes.hlines([y + height * i / rows for i in range(1, rows)], x, x + width, color="white", linewidth=1)


def _arrow(axes: "Axes", start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.annotate("", end, start, arrowprops=dict(arrowstyle="->", color="0.3"))


def _text(axes: "Axes", x: float, y: float, text: str) -> None:
    axes.text(x, y, text, ha="center", va="top", fontsize=8)
