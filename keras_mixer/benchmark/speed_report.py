"""Tables and pictures of what `throughput` measured."""

import json
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from keras_mixer import cost_model, files, paper
from keras_mixer.benchmark import markdown, throughput
from keras_mixer.benchmark.throughput import Row
from keras_mixer.pictures.figure import new_figure, write_png
from keras_mixer.types import Path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#2f6fb0", "#c8553d", "#3a8f5c", "#8a5fa8", "#b8860b", "#5f6b7a", "#d0709f", "#20959b", "#7a4a2b", "#303030")


def table(rows: Sequence[Row]) -> str:
    """Return a Markdown table, a line for each configuration; of one that failed, why."""
    lines = [
        "| mode | batch | | images/s | range | GFLOP/image | GFLOP/s | of the peak | peak memory, MiB | compile, s |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        start = f"| {row['mode']} | {row['batch_size']} | {row['name']} |"
        if "error" in row:
            lines.append(f"{start} {row['error']} | | | | | | |")
            continue
        low, high = row["range"]
        share = "" if row["share_of_peak"] is None else f"{row['share_of_peak']:.0%}"
        lines.append(
            f"{start} {row['images_per_second']:,.4g} | {low:,.4g} to {high:,.4g} | {row['gflop_per_image']:.4g} | "
            f"{row['gflops']:,.0f} | {share} | {row['peak_mib']:,.0f} | {row['compile_seconds']:.1f} |"
        )
    return "\n".join(lines) + "\n"


def wide_tables(rows: Sequence[Row], model: str) -> str:
    """Return a Markdown table for each mode: images/s, range and share of the peak, a column for each batch size.

    The fastest Mixer of each column is in bold.
    """
    tables = []
    for mode in dict.fromkeys(row["mode"] for row in rows):
        found = {(row["name"], row["batch_size"]): row for row in rows if row["mode"] == mode}
        sizes = list(dict.fromkeys(size for _, size in found))
        mixers = [row for row in found.values() if "error" not in row and not _is_other(row["name"])]
        best = {
            n: max([row["images_per_second"] for row in mixers if row["batch_size"] == n], default=0) for n in sizes
        }
        lines = []
        for name in dict.fromkeys(name for name, _ in found):
            cells = [_rate(found[name, size], best[size]) if (name, size) in found else "" for size in sizes]
            lines.append([name, *cells])
        title = f"{paper.title_of(model) if model in paper.VARIANTS else model}, {mode}, images/s, range (of the peak)"
        tables.append(markdown.table([title, *(f"batch {size}" for size in sizes)], lines))
    return "\n".join(tables)


def _is_other(name: str) -> bool:
    """Whether a configuration is a ViT or a ResNet."""
    return name.removeprefix("keras_").startswith(("vit", "resnet"))


def _rate(row: Row, best: float) -> str:
    if "error" in row:
        return "failed"
    rate, (low, high) = row["images_per_second"], row["range"]
    bold = "**" if rate == best and not _is_other(row["name"]) else ""
    share = "" if row["share_of_peak"] is None else f" ({100 * row['share_of_peak']:.0f} %)"
    return f"{bold}{rate:,.2f}{bold}, {low:,.2f} to {high:,.2f}{share}"


def ratio_table(rows: Sequence[Row], model: str, image_size: int) -> str:
    """Return a Markdown table of each Mixer's speed over that of each ViT and ResNet, or "" where there is none.

    Each is taken at its best batch size, as in the paper's Table 3, whose ratio stands beside it where it has one. Only
    those of one dtype are compared.
    """
    best = throughput.best_rates(rows, "inference")
    dtypes = {row["name"]: row["facts"]["precision"].removeprefix("mixed_") for row in rows if "facts" in row}
    others = [name for name in best if _is_other(name)]
    lines = ["| best over the batch sizes | images/s | over | images/s | ratio | paper |", "|---|---|---|---|---|---|"]
    for ours in [name for name in best if name not in others]:
        for other in [name for name in others if dtypes[name] == dtypes[ours]]:
            ratio = f"{best[ours] / best[other]:.2f}"
            published = _published_ratio(model, other) if image_size == 224 else ""
            lines.append(f"| {ours} | {best[ours]:,.4g} | {other} | {best[other]:,.4g} | {ratio} | {published} |")
    return "\n".join(lines) + "\n" if len(lines) > 2 else ""


def _published_ratio(model: str, other: str) -> str:
    ours = paper.title_of(model)
    theirs = "BiT-R50x1" if other.startswith("resnet") else ours.replace("Mixer", "ViT")
    known = {ours, theirs} <= {*paper.SPEEDS}
    return f"{paper.SPEEDS[ours] / paper.SPEEDS[theirs]:.2f}" if known else ""


def scaling_table(rows: Sequence[Row]) -> str:
    """Return a Markdown table of each axis, and one of the slopes of `slopes`; of a point that failed, why."""
    tables = []
    for axis in dict.fromkeys(row["axis"] for row in rows):
        lines = []
        for row in (row for row in rows if row["axis"] == axis):
            if "error" in row:
                numbers = [row["error"], "", ""]
            else:
                time = row["ms_per_image"]
                numbers = [f"{time:,.0f}" if time >= 100 else f"{time:.3g}"]
                numbers += [f"{row['gflop_per_image']:.3g}", f"{row['working_mib']:,.0f}"]
            lines.append([row["label"], row["name"], *numbers])
        tables.append(markdown.table([axis, "", "ms/image", "GFLOP/image", "working memory, MiB"], lines))
    lines = []
    for (axis, name), values in slopes(rows).items():
        lines.append([axis, name, *("" if value is None else f"{value:.2f}" for value in values.values())])
    tables.append(markdown.table(["axis", "", "slope of time", "of memory", "of operations"], lines))
    return "\n".join(tables)


def slopes(rows: Sequence[Row]) -> dict[tuple[str, str], dict[str, float | None]]:
    """Return (axis, name) -> slopes on logarithmic axes of a batch's time, working memory and GFLOP; see the docs.

    Working memory is what the process took above the built model. Points where it took nothing that can be measured
    do not count; a slope is None with fewer than two points.
    """
    found: dict[tuple[str, str], dict[str, float | None]] = {}
    for key in dict.fromkeys((row["axis"], row["name"]) for row in rows):
        points = [row for row in rows if (row["axis"], row["name"]) == key and "error" not in row]
        found[key] = {}
        for quantity in ("ms_per_batch", "working_mib", "gflop_per_batch"):
            pairs = [(row["value"], row[quantity]) for row in points if row[quantity] > 0]
            enough = len({x for x, _ in pairs}) > 1
            found[key][quantity] = cost_model.log_log_slope(*zip(*pairs, strict=True)) if enough else None
    return found


def write(folder: Path, stem: str, result: Mapping[str, Any], text: str, figure: "Figure | None") -> list[pathlib.Path]:
    """Write stem.json, stem.md and, where there is a figure, stem.png, each whole or not at all; return their paths.

    Raises:
        OSError: where the folder cannot be written.
    """
    paths = [pathlib.Path(folder) / f"{stem}.{suffix}" for suffix in ("json", "md", "png")]
    try:
        with files.replacing(paths[0]) as file:
            file.write_text(json.dumps(result, indent=2) + "\n")
        with files.replacing(paths[1]) as file:
            file.write_text(text)
        if figure is None:
            return paths[:2]
        write_png(figure, paths[2], 120)
    except OSError as error:
        raise OSError(f"output: cannot write into {folder} ({error.strerror}); choose another --output.") from None
    return paths


def speed_figure(rows: Sequence[Row], title: str) -> "Figure":
    """Draw images/s, and the share of the matmul peak, over the batch size; a column for each mode."""
    good = [row for row in rows if "error" not in row]
    modes = list(dict.fromkeys(row["mode"] for row in good))
    names = list(dict.fromkeys(row["name"] for row in good))
    shares = any(row["share_of_peak"] is not None for row in good)
    figure = new_figure(1.5 + 4.5 * len(modes), 7.2 if shares else 4.4)
    grid = figure.subplots(1 + shares, len(modes), squeeze=False, sharex="col")
    for column, mode in enumerate(modes):
        for name in names:
            points = [row for row in good if (row["mode"], row["name"]) == (mode, name)]
            sizes = [row["batch_size"] for row in points]
            rates, ranges = ([row[key] for row in points] for key in ("images_per_second", "range"))
            spread = _spread(rates, ranges)
            style = dict(color=COLOURS[names.index(name) % len(COLOURS)], marker="o", markersize=4, linewidth=1.4)
            grid[0, column].errorbar(sizes, rates, yerr=spread, capsize=2, label=name, **style)
            if shares:
                share = [100 * row["share_of_peak"] for row in points]
                grid[1, column].plot(sizes, share, label=name, **style)
        grid[0, column].set_title(mode, fontsize=10, loc="left")
        grid[0, column].set_ylabel("images/s, median and range")
        if shares:
            grid[1, column].set_ylabel("% of the matmul peak")
        sizes = sorted({row["batch_size"] for row in good if row["mode"] == mode})
        for axes in grid[:, column]:
            _furnish(axes)
            axes.set_xscale("log", base=2)
            axes.set_xticks(sizes, [str(size) for size in sizes])
            axes.minorticks_off()
            axes.set_ylim(0, 1.08 * axes.get_ylim()[1])
        grid[-1, column].set_xlabel("batch size")
    figure.suptitle(title, fontsize=10, parse_math=False)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)), frameon=False, fontsize=9)
    return figure


def scaling_figure(rows: Sequence[Row], title: str) -> "Figure":
    """Draw time and working memory over each axis on logarithmic scales, the slopes in the legends."""
    good = [row for row in rows if "error" not in row]
    axes_names = list(dict.fromkeys(row["axis"] for row in good))
    names = list(dict.fromkeys(row["name"] for row in good))
    slope_of = slopes(rows)
    figure = new_figure(1 + 3.6 * len(axes_names), 7)
    from matplotlib.ticker import LogLocator  # after the line that says where matplotlib is missing

    grid = figure.subplots(2, len(axes_names), squeeze=False, sharex="col")
    for column, axis in enumerate(axes_names):
        for line, (quantity, label) in enumerate((("ms_per_batch", "ms per batch"), ("working_mib", "working MiB"))):
            axes = grid[line, column]
            for name in names:
                points = [row for row in good if (row["axis"], row["name"]) == (axis, name) and row[quantity] > 0]
                if not points:
                    continue
                slope = slope_of[axis, name][quantity]
                text = name if slope is None else f"{name}: slope {slope:.2f}"
                colour = COLOURS[names.index(name) % len(COLOURS)]
                xs, ys = [row["value"] for row in points], [row[quantity] for row in points]
                axes.plot(xs, ys, color=colour, marker="o", markersize=4, linewidth=1.4, label=text)
            _furnish(axes)
            axes.set_xscale("log")
            axes.set_yscale("log")
            labels = {row["value"]: row["label"] for row in good if row["axis"] == axis}
            axes.set_xticks(list(labels), list(labels.values()), rotation=45 if axis == "pixels" else 0, fontsize=8)
            axes.tick_params(axis="x", which="minor", bottom=False)
            axes.xaxis.set_minor_formatter("")
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
            axes.yaxis.set_minor_formatter(lambda value, _: f"{value:g}")
            if axes.lines:
                axes.legend(frameon=False, fontsize=8)
            if not column:
                axes.set_ylabel(label)
        grid[1, column].set_xlabel(axis)
    figure.suptitle(title, fontsize=10, parse_math=False)
    return figure


def start_up_figure(rows: Sequence[Row]) -> "Figure":
    """Draw seconds and peak memory as bars."""
    names = [row["name"] for row in rows][::-1]
    figure = new_figure(10, 1.2 + 0.3 * len(names))
    left, right = figure.subplots(1, 2, sharey=True)
    seconds = [row["seconds"] for row in rows][::-1]
    every = [[run["seconds"] for run in row["rounds"]] for row in rows][::-1]
    left.barh(
        names, seconds, xerr=_spread(seconds, every), color=COLOURS[0], error_kw={"elinewidth": 1, "ecolor": "#303030"}
    )
    right.barh(names, [row["peak_mib"] for row in rows][::-1], color="#c9d6e6")
    right.barh(names, [row["added_mib"] for row in rows][::-1], color=COLOURS[0])
    left.set_xlabel("seconds, median and range")
    right.set_xlabel("peak memory, MiB; dark: of it added")
    for axes in (left, right):
        _furnish(axes)
        axes.margins(y=0.02)
    return figure


def peak_line(peaks: Mapping[str, Sequence[float]]) -> str:
    """Return a sentence of the matrix products' speed: dtype -> list of GFLOP/s."""
    parts = [f"{dtype} {statistics.median(values):,.0f} GFLOP/s" for dtype, values in peaks.items() if values]
    return f"Matmul peak, median over the run: {', '.join(parts)}." if parts else ""


def _spread(medians: Sequence[float], every: Sequence[Sequence[float]]) -> list[list[float]]:
    """Return how far the values of each median go below and above it, as matplotlib draws them."""
    pairs = [(m - min(values), max(values) - m) for m, values in zip(medians, every, strict=True)]
    return [[pair[side] for pair in pairs] for side in (0, 1)]


def _furnish(axes: "Axes") -> None:
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
