"""The parts of a page as plain values, made of the files of a run: what the template shows and nothing more."""

import datetime
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keras_mixer import buckets
from keras_mixer.pictures.grids import MOST_CLASSES, most_confused
from keras_mixer.report import charts, numbers
from keras_mixer.report.charts import Chart, Line
from keras_mixer.report.run_files import RunFiles
from keras_mixer.training.metrics import Run

MOST_PAIRS = 12
ECE = "expected_calibration_error"
MOST_ROWS = 1000  # of the table of classes
LARGEST_MATRIX = 1000
# Title, columns with their names, how a value reads, and whether the axis begins at zero.
Curve = tuple[str, dict[str, str], Callable[[float], str], bool]
FOUR: Callable[[float], str] = "{:.4f}".format
CURVES: tuple[Curve, ...] = (
    ("loss", {"train_loss": "training", "eval_loss": "evaluation", "ema_loss": "evaluation, averaged"}, FOUR, False),
    (
        "top-1",
        {"train_top1": "training", "eval_top1": "evaluation", "ema_top1": "evaluation, averaged"},
        numbers.percent,
        True,
    ),
    ("learning rate", {"learning_rate": "learning rate"}, "{:.3g}".format, True),
    ("gradient norm", {"gradient_norm": "gradient norm"}, "{:.3g}".format, True),
)


def headline(run: RunFiles) -> list[dict[str, Any]]:
    """Return a dict of each number that says how good the model is: name, text, value, note."""
    result = run.result
    if "top1" not in result:
        return _so_far(run)
    found = []
    counted = {"top1": "num_examples", "top5": "num_examples", "real_top1": "real_num_examples"}
    names = {"top1": "top-1", "top5": "top-5", "real_top1": "ReaL top-1", "raw_top1": "top-1 without averaging"}
    for key, name in names.items():
        if key in result:
            count = result.get(counted.get(key, "num_examples"))
            others = result.get("published", {}).get(key, {})
            notes = [_sureness(result[key], count)] if count else []
            if key == "top5" and 0 < number_of_classes(run) <= 5:
                notes.append("with five classes or fewer always all of them")
            notes += [f"published ({by}): {numbers.percent(value)}" for by, value in others.items()]
            found.append(_number(name, numbers.percent(result[key]), result[key], notes))
    found.append(_number("loss", FOUR(result["loss"]), result["loss"], ["mean cross-entropy per image"]))
    error = result.get("expected_calibration_error", run.evidence.get("calibration", {}).get(ECE))
    if error is not None:
        note = "how far the confidence is from the accuracy, on average"
        found.append(_number("calibration error", FOUR(error), error, [note]))
    return found


def number_of_classes(run: RunFiles) -> int:
    """Return how many classes there are, 0 where the folder does not say."""
    return len(run.classes) or len(run.about.get("settings", {}).get("class_names", []))


def facts(run: RunFiles) -> list[dict[str, Any]]:
    """Return a dict of each number that says how large the run was: name, text, value."""
    result, settings = run.result, run.settings
    of = {**run.about, **result}
    known = (
        ("images evaluated", of.get("num_examples"), numbers.whole),
        ("steps", result.get("steps"), numbers.whole),
        ("images seen", result.get("images_seen"), numbers.whole),
        ("training time", result.get("training_seconds"), numbers.duration),
        ("evaluation time", result.get("seconds"), numbers.duration),
        ("images per second", result.get("images_per_second"), "{:,.1f}".format),
        ("parameters", of.get("num_parameters"), numbers.whole),
        ("image size", of.get("image_size") or settings.get("image_size"), "{} px".format),
    )
    return [_number(name, form(value), value, []) for name, value, form in known if value is not None]


def curves(runs: Sequence[Run], names: Sequence[str]) -> list[Chart]:
    """Return the charts of training runs over each other; of one run what is trained and evaluated has its colours.

    Args:
        runs: from `training.metrics.read_run`.
        names: of the runs; one run needs none.
    """
    found = []
    for title, columns, form, from_zero in CURVES:
        lines = []
        for i, run in enumerate(runs):
            for j, (column, name) in enumerate(columns.items()):
                x, y = run.series(column)
                if len(runs) > 1:
                    name = f"{names[i]}, {name}" if len(columns) > 1 else names[i]
                dashed = column.startswith("train_") and len(runs) > 1
                lines.append(Line(name, x, y, i if len(runs) > 1 else j, dashed))
        share = title == "top-1"
        mark = "{:.0%}".format if share else numbers.short
        chart = charts.line_chart(title, lines, form=form, mark=mark, from_zero=from_zero)
        found += [chart] if chart else []
    return found


def confusion(run: RunFiles) -> dict[str, Any] | None:
    """Return what is taken for what: pairs, and a matrix of few classes; None without the files."""
    if not run.confused or not run.classes:
        return None
    images = {row["name"]: row["images"] for row in run.classes}
    wrong = sorted((pair for pair in run.confused if pair[0] != pair[1]), key=lambda pair: -pair[2])
    pairs = [
        {"true": true, "predicted": predicted, "images": count, "share": count / max(images.get(true, 0), count)}
        for true, predicted, count in wrong[:MOST_PAIRS]
    ]
    names = [row["name"] for row in run.classes]
    return {"pairs": pairs, "others": len(wrong) - len(pairs), "matrix": _matrix(run.confused, names)}


def classes(run: RunFiles) -> dict[str, Any] | None:
    """Return the table of classes: rows, which columns are known, how many classes there are in all; None for none."""
    data = run.evidence.get("data", {})
    counts = {part: about["per_class"] for part, about in data.get("parts", {}).items() if about["per_class"]}
    rows = [dict(row) for row in run.classes]
    if not rows and counts:
        rows = [{"class": k, "name": name} for k, name in enumerate(data["class_names"])]
        for row in rows:
            row["images"] = counts["evaluation"][row["class"]] if "evaluation" in counts else None
    if not rows:
        return None
    for row in rows if "training" in counts else []:
        row["training"] = counts["training"][row["class"]] if row["class"] < len(counts["training"]) else None
    count = len(rows)
    if count > MOST_ROWS:
        rows = sorted(rows, key=lambda row: row["f1"] if row.get("f1") is not None else 2)[:MOST_ROWS]
    columns = [
        (key, name, percentage)
        for key, name, percentage in (
            ("f1", "F1", True),
            ("precision", "precision", True),
            ("recall", "recall", True),
            ("images", "evaluated", False),
            ("training", "training", False),
            ("mean_confidence", "mean confidence", True),
        )
        if any(row.get(key) is not None for row in rows)
    ]
    return {"rows": rows, "columns": columns, "count": count}


def data(run: RunFiles) -> list[dict[str, Any]]:
    """Return a dict of each part of the data: part, name, images, what its smallest and largest class has, left_out."""
    parts = run.evidence.get("data", {}).get("parts", {})
    names = run.evidence.get("data", {}).get("class_names", [])
    found: list[dict[str, Any]] = []
    for part, about in parts.items():
        counts = about["per_class"]
        told = [sentence for row in found for sentence in row["left_out"]]  # of a folder once
        left_out = [sentence for sentence in about["left_out"] if sentence not in told]
        row: dict[str, Any] = {"part": part, "name": about["name"], "images": about["images"], "left_out": left_out}
        if counts:
            least, most = int(np.argmin(counts)), int(np.argmax(counts))
            row["least"] = (names[least], counts[least])
            row["most"] = (names[most], counts[most])
            row["ratio"] = f"{counts[most] / counts[least]:.3g}" if counts[least] else None
        found.append(row)
    if not found:
        sizes = (("training", "train_images"), ("evaluation", "eval_images"))
        known = run.about.get("settings", {})
        found = [
            {"part": part, "name": "", "images": known[key], "left_out": []} for part, key in sizes if key in known
        ]
    return found


def settings(run: RunFiles) -> dict[str, Any]:
    """Return the settings as texts: those that differ from the defaults, None where that is not known, and all."""
    values, defaults = run.settings, run.about.get("defaults")
    differ = None
    if defaults is not None:
        differ = [
            {"name": name, "value": numbers.setting(values.get(name)), "default": numbers.setting(default)}
            for name, default in sorted(defaults.items())
        ]
    return {"differ": differ, "all": [(name, numbers.setting(value)) for name, value in sorted(values.items())]}


def machine(run: RunFiles) -> list[tuple[str, str]]:
    """Return what the run ran on: versions and machine, and when it finished."""
    found = [(name, str(value)) for name, value in run.about.get("versions", {}).items()]
    path = run.folder / "result.json"
    if run.result and path.exists():
        when = datetime.datetime.fromtimestamp(buckets.time_of(path), datetime.UTC)
        found.append(("finished", f"{when:%Y-%m-%d %H:%M} UTC"))
    return found


def differing(runs: Sequence[RunFiles]) -> list[tuple[str, list[str]]]:
    """Return the settings in which runs that have them differ, with the text of each run's value."""
    names = dict.fromkeys(name for run in runs for name in sorted(run.settings) if name not in ("workdir", "overwrite"))
    rows = []
    for name in names:
        if len({json.dumps(run.settings[name]) for run in runs if name in run.settings}) > 1:
            rows.append((name, [numbers.setting(run.settings.get(name)) for run in runs]))
    return rows


def _number(name: str, text: str, value: Any, notes: list[str]) -> dict[str, Any]:
    return {"name": name, "text": text, "value": value, "notes": notes}


def _sureness(rate: float, count: int) -> str:
    low, high = numbers.wilson_interval(round(rate * count), count)
    return f"of {numbers.whole(count)} images; 95 % interval {numbers.percent(low)} to {numbers.percent(high)}"


def _so_far(run: RunFiles) -> list[dict[str, Any]]:
    """Return the last evaluation of a run that has not finished."""
    if run.metrics is None:
        return []
    found = []
    for column, name, form in (("eval_top1", "top-1 so far", numbers.percent), ("eval_loss", "loss so far", FOUR)):
        at, values = run.metrics.series(column)
        if len(values):
            found.append(_number(name, form(values[-1]), values[-1], [f"at step {numbers.whole(at[-1])}"]))
    return found


def _matrix(confused: Sequence[tuple[str, str, int]], names: Sequence[str]) -> dict[str, Any] | None:
    """Return names and rows of (images, share of the true class) of the most confused classes."""
    if len(names) > LARGEST_MATRIX:
        return None
    place = {name: i for i, name in enumerate(names)}
    matrix = np.zeros((len(names), len(names)), int)
    for true, predicted, count in confused:
        if true in place and predicted in place:
            matrix[place[true], place[predicted]] += count
    chosen = most_confused(matrix)
    sums = np.maximum(matrix.sum(1), 1)
    cells = [[(int(matrix[i, j]), round(float(matrix[i, j] / sums[i]), 3)) for j in chosen] for i in chosen]
    shown = [names[i] for i in chosen]
    return {"names": shown, "rows": cells, "of": len(names), "most": MOST_CLASSES}
