"""The paper's Figures 2 (left) and 3 from its own tables, with what was measured beside them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from keras_mixer import files, paper
from keras_mixer.pictures.figure import new_figure
from keras_mixer.types import Path

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Point = dict[str, Any]  # model, accuracy in percent, cost; of most also pre_trained_on, image_size and epochs
LOOKS = dict(zip(paper.FAMILIES, (("#d6336c", "o"), ("#1c6dd0", "s"), ("#e39a00", "^")), strict=True))
ACCURACY = "ImageNet top-1, %"
CORE_DAYS, RATE = "pre-training, thousands of TPUv3 core-days", "images/s/core, TPUv3"
# Of Table 3, what the caption of Figure 2 adds "for context".
CONTEXT = (("Mixer-L/16", 448), ("ViT-L/16", 512), ("BiT-R200x3", 224))


def pareto(points: Sequence[Point]) -> list[Point]:
    """Return the points that no other is both cheaper and as accurate as, by rising cost.

    Example:
        >>> points = [dict(cost=2, accuracy=80), dict(cost=1, accuracy=85), dict(cost=3, accuracy=90)]
        >>> [point["cost"] for point in pareto(points)]
        [1, 3]
    """
    best: list[Point] = []
    for point in sorted(points, key=lambda point: (point["cost"], -point["accuracy"])):
        if not best or point["accuracy"] > best[-1]["accuracy"]:
            best.append(point)
    return best


def points_of_table_2(cost: str = "core_days") -> list[Point]:
    """Return the rows of Table 2 that have a `cost`, "core_days" or "throughput"; its Mixers are of 448 px."""
    side = lambda model: 448 if model.startswith("Mixer") else None  # the table's caption; of others it says nothing
    place = {"core_days": 7, "throughput": 6}[cost]
    points = [
        dict(pre_trained_on=row[0], model=row[1], image_size=side(row[1]), accuracy=row[2], cost=row[place])
        for row in paper.TABLE_2
    ]
    return [point for point in points if point["cost"] is not None]


def points_of_table_3(cost: str = "core_days") -> list[Point]:
    """Return the rows of Table 3 with their `cost`, "core_days" or "throughput"."""
    place = {"core_days": 8, "throughput": 7}[cost]
    keys = ("pre_trained_on", "model", "image_size", "epochs", "accuracy")
    return [dict(zip(keys, row, strict=False)) | {"cost": row[place]} for row in paper.TABLE_3]


def points_of_figure_2() -> list[Point]:
    """Return the points of Figure 2, left: Table 2, and what its caption adds from Table 3."""
    added = (p for p in points_of_table_3() if (p["model"], p["image_size"]) in CONTEXT and is_on_jft(p))
    return [*points_of_table_2(), *added]


def points_of_both(cost: str) -> list[Point]:
    """Return the rows of Tables 3 and 2, each once."""
    points = points_of_table_3(cost)
    known = {(point["pre_trained_on"], point["accuracy"]) for point in points}
    return points + [p for p in points_of_table_2(cost) if (p["pre_trained_on"], p["accuracy"]) not in known]


def is_on_jft(point: Point) -> bool:
    """Return whether a model was pre-trained on JFT-300M."""
    return point["pre_trained_on"] == paper.JFT


def write_costs(
    path: Path, title: str, published: Sequence[Point], measured: Sequence[Point], cost: str, frontier: bool = False
) -> None:
    """Write a picture of ImageNet top-1 against a cost on a logarithmic axis, by family of models.

    A family has a colour and a shape. The published points are filled, the measured ones are hollow and larger, and
    the Pareto frontier of the published is dashed.

    Args:
        path: of the picture; its suffix is its format.
        title: above it.
        published, measured: points with model, accuracy in percent and a positive cost.
        cost: what is said below the axis.
        frontier: whether to draw the frontier; of a cost, not of a rate.

    Raises:
        ValueError: without matplotlib.
        OSError: where the file cannot be written.
    """
    figure = new_figure(9, 5.5)
    axes = figure.subplots()
    axes.set_xscale("log")
    if frontier:
        best = pareto(published)
        axes.plot([p["cost"] for p in best], [p["accuracy"] for p in best], "--", color="0.55", zorder=1)
    for family, (colour, shape) in LOOKS.items():
        for points, here in ((published, False), (measured, True)):
            chosen = [point for point in points if paper.family_of(point["model"]) == family]
            if chosen or not here:
                _scatter(axes, chosen, colour, shape, family, here)
    axes.set_title(title, fontsize=10)
    axes.set(xlabel=cost, ylabel=ACCURACY)
    axes.grid(alpha=0.25, which="both")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.margins(0.09, 0.1)
    axes.legend(fontsize=8, loc="lower left" if cost.startswith(RATE) else "lower right")
    figure.draw_without_rendering()  # the labels' places follow from where the points lie
    _write_labels(axes, published, measured)
    with files.replacing(path) as file:
        figure.savefig(file, format=str(path).rpartition(".")[2], dpi=144)


def _scatter(axes: "Axes", points: Sequence[Point], colour: str, shape: str, family: str, here: bool) -> None:
    look: dict[str, Any] = dict(facecolors="none", s=140, linewidths=2.2) if here else dict(facecolors=colour, s=42)
    x, y = [point["cost"] for point in points], [point["accuracy"] for point in points]
    label = f"{family}, measured here" if here else f"{family}, published"
    axes.scatter(x, y, marker=shape, edgecolors=colour, zorder=3, label=label, **look)


def _write_labels(axes: "Axes", published: Sequence[Point], measured: Sequence[Point]) -> None:
    """Name each point, at the first place beside it that no earlier name and no point takes."""
    place_of = lambda point: axes.transData.transform((point["cost"], point["accuracy"]))
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in map(place_of, (*published, *measured))]
    for point in sorted((*measured, *published), key=lambda point: -point["accuracy"]):
        (x, y), text = place_of(point), _name(point)
        wide, high = 4.9 * len(text), 11.0  # pixels of a name at 100 dots per inch
        places = [(x + dx, y + dy) for dy in (-6, 4, -16, 14, -26, 24, -36, 34) for dx in (8, -8 - wide)]
        boxes = [(left, low, left + wide, low + high) for left, low in places]
        box = next((box for box in boxes if not any(_overlap(box, other) for other in taken)), boxes[0])
        taken.append(box)
        left, low = axes.transData.inverted().transform(box[:2])
        far = not -17 < box[1] - y < 5
        arrow = dict(arrowstyle="-", color="0.7", linewidth=0.5) if far else None
        where = (point["cost"], point["accuracy"])
        style: dict[str, Any] = dict(fontsize=6.5, fontweight="bold" if point in measured else "normal")
        axes.annotate(text, where, (left, low), va="bottom", arrowprops=arrow, parse_math=False, **style)


def _overlap(a: Sequence[float], b: Sequence[float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _name(point: Point) -> str:
    text = point["model"][:60] + (f" {point['image_size']}px" if (point.get("image_size") or 224) > 224 else "")
    text += {paper.I1K: ", I1k", paper.I21K: ", I21k"}.get(point.get("pre_trained_on", ""), "")
    return text + (", 7 epochs" if point.get("epochs") == 7 and point["model"] == "Mixer-L/16" else "")
