"""Curves of training runs, drawn over each other."""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from keras_mixer import buckets, files
from keras_mixer.pictures.figure import new_figure
from keras_mixer.training import metrics
from keras_mixer.training.metrics import Run
from keras_mixer.types import Path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

Style = dict[str, Any]  # of matplotlib's lines
Colour = tuple[float, float, float, float]
AXES = {"step": "step", "images": "training images", "seconds": "seconds of training, without evaluation"}

# Title, then per column its style. Only what is measured on a few batches is smoothed.
TRAIN: Style = dict(linestyle=(0, (4, 2)), linewidth=0.9)
EVAL: Style = dict(linestyle="-", linewidth=1.8)
EMA: Style = dict(linestyle=(0, (1, 1)), linewidth=1.8)  # evaluation of averaged weights
EXACT: Style = dict(linestyle="-", linewidth=1.2)
OTHER: Style = dict(linestyle=":", linewidth=1.2)
PANELS = (
    ("loss", {"train_loss": TRAIN, "eval_loss": EVAL, "ema_loss": EMA}),
    ("top-1", {"train_top1": TRAIN, "eval_top1": EVAL, "ema_top1": EMA}),
    ("learning rate", {"learning_rate": EXACT}),
    ("images/s", {"images_per_second": EXACT}),
    ("norm: gradient solid, weight dotted", {"gradient_norm": EXACT, "weight_norm": OTHER}),
)
SMOOTHED = ("train_loss", "train_top1", "images_per_second", "gradient_norm")
MEANS = SMOOTHED  # what a row holds the mean of, since the row before
SHORT_ROW = 0.5  # of the steps of the row before; a last row of fewer is not drawn
FROM_ZERO = ("learning rate", "images/s")
FEW_POINTS = 25  # up to so many are marked
MOST_SETTINGS, LONGEST_LINE = 5, 130  # of the title, lines and characters


def smoothed(values: ArrayLike, weight: float) -> np.ndarray:
    """Return the running mean in which each older value counts `weight` times the next, (n,) to (n,) float64.

    The mean is over what there is: the first value stays as it is. A value that is not finite stays, and counts for no
    other.

    Raises:
        ValueError: for a weight outside [0, 1).

    Example:
        >>> smoothed([1.0, 3.0, 3.0], 0.5).round(3).tolist()
        [1.0, 2.333, 2.714]
    """
    if not 0 <= weight < 1:
        raise ValueError(f"smooth: must be at least 0 and below 1, got {weight}; use 0 for none.")
    result = np.array(values, np.float64)
    total = count = 0.0
    for i, value in enumerate(result):
        if np.isfinite(value):
            total, count = weight * total + value, weight * count + 1
            result[i] = total / count
    return result


def write_curves(path: Path, runs: Sequence[Run], smooth: float = 0.0, x: str = "step") -> list[str]:
    """Draw loss, top-1, learning rate and speed of runs, and norms where a run has them; return the runs' names.

    One colour per run. What is measured in training is dashed and thin, in evaluation solid, and in evaluation of
    averaged weights dotted.

    Args:
        path: of the picture; its suffix is a format that matplotlib writes, such as .png, .svg or .pdf.
        smooth: weight in [0, 1) of `smoothed`, for what is measured in training; the plain values stay visible.
        x: step, images or seconds.

    Raises:
        ValueError: for a value outside these, a folder given twice, or without matplotlib.
        OSError: where the file cannot be written.
    """
    path = buckets.path_of(path, "output")
    names = metrics.run_names([run.folder for run in runs])
    smoothed([], smooth)  # checks the weight
    if x not in AXES:
        raise ValueError(f"x: must be one of {', '.join(AXES)}, got {x!r}.")
    panels = [
        (title, styles)
        for title, styles in PANELS
        if not title.startswith("norm") or any(set(styles) & set(run.columns) for run in runs)
    ]
    rows = (len(panels) + 1) // 2
    figure = new_figure(11, 2.9 * rows + 1.2)
    suffixes = sorted(figure.canvas.get_supported_filetypes())
    if path.suffix.lower().lstrip(".") not in suffixes:
        raise ValueError(f"output: {path} must end in one of {', '.join('.' + name for name in suffixes)}.")
    if path.is_dir():
        raise ValueError(f"output: {path} is a folder; name a file in it.")
    grid = figure.subplots(rows, 2, sharex=True).flat
    colours = _colours(len(runs))
    for axes, (title, styles) in zip(grid, panels, strict=False):
        for run, colour in zip(runs, colours, strict=True):
            for column, style in styles.items():
                at, values = _curve(run, column, x)
                weight = smooth if column in SMOOTHED else 0
                style = style | dict(color=colour, marker="." if len(at) <= FEW_POINTS else "")
                if weight:
                    axes.plot(at, values, color=colour, alpha=0.25, linewidth=0.8)
                axes.plot(at, smoothed(values, weight), **style)
        _furnish(axes, title)
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    for axes in grid[len(panels) - 2 : len(panels)]:
        axes.set_xlabel(AXES[x])
        axes.xaxis.set_major_formatter("{x:,.10g}" if x != "images" else _engineering())
        axes.tick_params(labelbottom=True)
    figure.suptitle(_title(runs, names), fontsize=10, parse_math=False)
    _add_legend(figure, runs, names, colours)
    try:
        with files.replacing(path) as file:
            figure.savefig(file, format=path.suffix.lower().lstrip("."), dpi=144)
    except OSError as error:
        raise OSError(f"output: cannot write {path} ({error.strerror}); choose another --output.") from None
    except RuntimeError as error:  # .pgf without LaTeX
        raise ValueError(f"output: matplotlib cannot write {path} ({error}); choose .png, .svg or .pdf.") from None
    return names


def _curve(run: Run, column: str, x: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the points of a curve: of what is a mean over steps, without a last row of few steps.

    Where the last step is no multiple of those between rows, the last row is a mean over what was left, perhaps a
    single batch: beside the rows before it is noise, and nearly above them.
    """
    at, values = run.series(column, x)
    steps = run.series(column)[0]
    if column in MEANS and len(steps) > 2 and steps[-1] - steps[-2] < SHORT_ROW * (steps[-2] - steps[-3]):
        return at[:-1], values[:-1]
    return at, values


def _colours(number: int) -> list[Colour]:
    """Ten that are easy to tell apart, or as many as needed."""
    import matplotlib

    if number <= 10:
        return [matplotlib.colormaps["tab10"](i) for i in range(number)]
    return [matplotlib.colormaps["turbo"](i / (number - 1)) for i in range(number)]


def _engineering() -> "EngFormatter":
    from matplotlib.ticker import EngFormatter

    return EngFormatter(sep="")  # 50k, 1.2M: ImageNet for 300 passes is 384M images


def _furnish(axes: "Axes", title: str) -> None:
    axes.set_title(title, fontsize=10, loc="left")
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlim(left=0)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    if not any(np.size(line.get_xdata()) for line in axes.lines):
        axes.text(0.5, 0.5, "no values", transform=axes.transAxes, ha="center", color="0.5")
    elif title in FROM_ZERO:
        axes.set_ylim(0, 1.05 * axes.get_ylim()[1])
    elif title.startswith("norm") and any(np.any(np.greater(line.get_ydata(), 0)) for line in axes.lines):
        axes.set_yscale("log")


def _title(runs: Sequence[Run], names: Sequence[str]) -> str:
    """What differs between the runs; of a single run, what it is."""
    if len(runs) == 1:
        known = {key: runs[0].settings.get(key) for key in ("model", "dataset", "preset", "total_steps")}
        return ", ".join([names[0], *(f"{key} {value}" for key, value in known.items() if value is not None)])
    lines = metrics.differing_settings(runs, names)
    more = [f"{len(lines) - MOST_SETTINGS + 1} more settings differ"] if len(lines) > MOST_SETTINGS else []
    lines = lines[: MOST_SETTINGS - len(more)] + more or ["no setting differs"]
    return "\n".join(textwrap.shorten(line, LONGEST_LINE, placeholder=" …") for line in lines)


def _add_legend(figure: "Figure", runs: Sequence[Run], names: Sequence[str], colours: Sequence[Colour]) -> None:
    """A line per run, then what is dashed and what is solid."""
    from matplotlib.lines import Line2D

    texts = [name if run.columns["step"] else f"{name} (no rows yet)" for run, name in zip(runs, names, strict=True)]
    lines = [Line2D([], [], color=colour, linewidth=2.5) for colour in colours]
    styles: dict[str, Style] = {"train": TRAIN, "eval": EVAL}
    if any(len(run.series("ema_loss")[0]) for run in runs):
        styles["eval of averaged weights"] = EMA
    lines += [Line2D([], [], color="0.3", **style) for style in styles.values()]
    texts += styles
    columns = max(1, min(len(texts), LONGEST_LINE // (max(map(len, texts)) + 5)))
    # A label that starts with _ would be left out, and one with two $ read as a formula: the texts come afterwards.
    legend = figure.legend(
        lines, ["x"] * len(lines), loc="outside lower center", ncols=columns, frameon=False, fontsize=9
    )
    for text, content in zip(legend.get_texts(), texts, strict=True):
        text.set_parse_math(False)
        text.set_text(content)
