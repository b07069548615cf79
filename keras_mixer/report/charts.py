"""Charts as geometry, which the template draws as SVG: axes with round marks, lines, and points to hover over."""

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np

from keras_mixer.report import numbers

WIDTH, HEIGHT = 460, 260
LEFT, RIGHT, TOP, BOTTOM = 56, 22, 12, 36
MOST_POINTS = 240  # of a line; a longer one shows each n-th row


@dataclasses.dataclass(frozen=True)
class Line:
    """A line of a chart.

    Attributes:
        name: of the legend.
        x, y: (n,) values; those that are not finite are left out.
        colour: number of a colour of the page, from 0.
        dashed: as is what is measured in training.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    colour: int = 0
    dashed: bool = False


@dataclasses.dataclass(frozen=True)
class Point:
    """A point of a line: its place in the picture, and what it says."""

    x: float
    y: float
    text: str


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A line in the picture: its path in SVG, and its points."""

    name: str
    path: str
    points: list[Point]
    colour: int
    dashed: bool


@dataclasses.dataclass(frozen=True)
class Chart:
    """What the template draws: `x_marks` and `y_marks` are (place, text); `rows` is the chart as a table."""

    title: str
    x_name: str
    lines: list[Drawn]
    x_marks: list[tuple[float, str]]
    y_marks: list[tuple[float, str]]
    summary: str
    rows: list[list[str]]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


def round_marks(low: float, high: float, about: int = 5) -> list[float]:
    """Return round numbers that enclose a range, about so many.

    Example:
        >>> round_marks(0, 0.93)
        [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
        >>> round_marks(3, 3)  # a level line has a range too
        [3.0, 3.2, 3.4, 3.6, 3.8, 4.0]
    """
    if not high > low:
        high = low + (abs(low) or 1) * (1 / 3)
    rough = (high - low) / about
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{k * step:.10g}") for k in range(first, last + 1)]


def line_chart(
    title: str,
    lines: Sequence[Line],
    *,
    x_name: str = "step",
    form: Callable[[float], str] = "{:.4g}".format,
    mark: Callable[[float], str] = numbers.short,
    from_zero: bool = False,
) -> Chart | None:
    """Return the chart of lines, or None where none of them has a point.

    Args:
        title, x_name: what stands above and below.
        lines: each is thinned to `MOST_POINTS`.
        form: of a value that is read off.
        mark: of a value at the axis.
        from_zero: whether the axis of values begins at zero.

    Example:
        >>> chart = line_chart("loss", [Line("train", np.array([1, 2]), np.array([2.0, 1.0]))])
        >>> chart.lines[0].points[1].text
        'step 2: train 1'
    """
    kept = [dataclasses.replace(line, x=line.x[good], y=line.y[good]) for line in lines for good in [_finite(line)]]
    kept = [_thinned(line) for line in kept if len(line.x)]
    if not kept:
        return None
    xs, ys = (np.concatenate([getattr(line, axis) for line in kept]) for axis in ("x", "y"))
    x_ends = (0.0, float(xs.max()) or 1.0)
    y_values = round_marks(min(0.0, float(ys.min())) if from_zero else float(ys.min()), float(ys.max()))
    x_of = _scale(x_ends, (LEFT, WIDTH - RIGHT))
    y_of = _scale((y_values[0], y_values[-1]), (HEIGHT - BOTTOM, TOP))
    drawn = []
    for line in kept:
        places = [(x_of(x), y_of(y)) for x, y in zip(line.x, line.y, strict=True)]
        texts = [f"{x_name} {x:,.0f}: {line.name} {form(y)}" for x, y in zip(line.x, line.y, strict=True)]
        points = [Point(round(x, 1), round(y, 1), text) for (x, y), text in zip(places, texts, strict=True)]
        path = "M" + "L".join(f"{point.x:g} {point.y:g}" for point in points)
        drawn.append(Drawn(line.name, path, points, line.colour, line.dashed))
    x_values = [value for value in round_marks(*x_ends, about=4) if value <= x_ends[1] * 1.0001]
    return Chart(
        title=title,
        x_name=x_name,
        lines=drawn,
        x_marks=[(round(x_of(value), 1), numbers.short(value)) for value in x_values],
        y_marks=[(round(y_of(value), 1), mark(value)) for value in y_values],
        summary=f"{title} against {x_name}. " + " ".join(_told(line, form) for line in kept),
        rows=_table(kept, form),
    )


def reliability(rows: Sequence[dict[str, float]]) -> Chart:
    """Return the reliability diagram of `evaluation.calibration.calibration_rows`: accuracy against confidence."""
    filled = [row for row in rows if row["images"]]
    ends = ((LEFT, WIDTH - RIGHT), (HEIGHT - BOTTOM, TOP))
    x_of, y_of = (_scale((0.0, 1.0), place) for place in ends)
    points = [
        Point(
            round(x_of(row["confidence"]), 1),
            round(y_of(row["accuracy"]), 1),
            f"confidence {row['low']:.0%} to {row['high']:.0%}: {row['images']:,} image{'s' * (row['images'] != 1)}, "
            f"mean confidence {row['confidence']:.1%}, accuracy {row['accuracy']:.1%}",
        )
        for row in filled
    ]
    path = "M" + "L".join(f"{point.x:g} {point.y:g}" for point in points)
    even = f"M{x_of(0):g} {y_of(0):g}L{x_of(1):g} {y_of(1):g}"
    marks = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    return Chart(
        title="accuracy",
        x_name="confidence",
        lines=[Drawn("as sure as right", even, [], 5, True), Drawn("this model", path, points, 0, False)],
        x_marks=[(round(x_of(value), 1), f"{value:.0%}") for value in marks],
        y_marks=[(round(y_of(value), 1), f"{value:.0%}") for value in marks],
        summary="Accuracy against confidence, in bins of confidence. "
        + ". ".join(point.text for point in points)
        + ".",
        rows=[
            ["confidence", "images", "mean confidence", "accuracy"],
            *(
                [
                    f"{row['low']:.0%} to {row['high']:.0%}",
                    f"{row['images']:,}",
                    f"{row['confidence']:.1%}",
                    f"{row['accuracy']:.1%}",
                ]
                for row in filled
            ),
        ],
    )


def _finite(line: Line) -> np.ndarray:
    return np.isfinite(line.x) & np.isfinite(line.y)


def _thinned(line: Line) -> Line:
    """Return a line of at most `MOST_POINTS`, its last point among them."""
    step = -(-len(line.x) // MOST_POINTS)
    rows = np.arange(len(line.x) - 1, -1, -step)[::-1]
    return dataclasses.replace(line, x=line.x[rows], y=line.y[rows])


def _scale(values: tuple[float, float], places: tuple[float, float]) -> Callable[[float], float]:
    slope = (places[1] - places[0]) / (values[1] - values[0])
    return lambda value: places[0] + (value - values[0]) * slope


def _told(line: Line, form: Callable[[float], str]) -> str:
    first, last = form(line.y[0]), form(line.y[-1])
    return f"{line.name}: {first} at {line.x[0]:,.0f}, {last} at {line.x[-1]:,.0f}."


def _table(lines: Sequence[Line], form: Callable[[float], str]) -> list[list[str]]:
    """Return a head and a row for each x of the lines, with their values."""
    values = [dict(zip(line.x.tolist(), line.y.tolist(), strict=True)) for line in lines]
    places = sorted({x for of in values for x in of})
    body = [[f"{x:,.0f}", *(form(of[x]) if x in of else "" for of in values)] for x in places]
    return [["step", *(line.name for line in lines)], *body]
