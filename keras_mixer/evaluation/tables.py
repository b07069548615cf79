"""The paper's Tables 2 and 3: the tasks that make a row, the figures published, and the two side by side.

docs/guides/reproducing.md says where the figures are from. Results come as numbers.
"""

import csv
import dataclasses
import io
import itertools
import statistics
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from keras_mixer import paper
from keras_mixer.data.tasks import TASKS
from keras_mixer.types import Path

Row = dict[str, Any]  # of a table, by column: texts, numbers, None where there is no figure
# From a seed, a number or its text, to an accuracy as a fraction; from None alone where no seed has a part in it.
BySeed = Mapping[Any, float]
Scores = Mapping[str, BySeed]  # of tasks by their keys

_KEYS = {group: tuple(tasks) for group, tasks in itertools.groupby(TASKS, lambda key: TASKS[key].group)}
FULL = _KEYS.pop("full")  # whose mean is "Avg 5"
_GROUPS = {f"vtab_{group}": keys for group, keys in _KEYS.items()}
PARTS = {  # metric -> the scores that it is the mean of
    "imagenet": ("imagenet",),
    "real": ("real",),
    "avg5": FULL,
    "vtab": tuple(key for keys in _GROUPS.values() for key in keys),
    **_GROUPS,
    "fewshot": ("fewshot",),
}
TITLES = {
    "imagenet": "ImageNet top-1",
    "real": "ReaL top-1",
    "avg5": "Avg 5 top-1",
    "vtab": "VTAB-1k, 19 tasks",
    "vtab_natural": "natural, 7",
    "vtab_specialized": "specialized, 4",
    "vtab_structured": "structured, 8",
    "fewshot": "5-shot linear ImageNet",
}

_ACCURACIES = ("imagenet", "real", "avg5")
_ABOUT = ("pre_trained_on", "model", "image_size", "epochs")
_SPEED = ("throughput", "core_days")


def _published_2(trained_on: str, model: str, *numbers: float | None) -> Row:
    side = 448 if model.startswith("Mixer") else None  # the table's caption; it has no such column
    keys = (*_ACCURACIES, "vtab", *_SPEED)
    return dict(zip((*_ABOUT, *keys), (trained_on, model, side, None, *numbers), strict=True))


def _published_3(*row: str | float | None) -> Row:
    published: Row = dict(zip((*_ABOUT, *_ACCURACIES, *_SPEED), row, strict=True))
    return published | {"marks": paper.marks_of(*(published[key] for key in _ABOUT[:3]))}


@dataclasses.dataclass(frozen=True)
class Table:
    """One of the paper's tables.

    Attributes:
        number: in the paper.
        image_size: side in pixels at which a suite fine-tunes the five full tasks.
        crop: of the evaluation, as `pipeline.eval_batches` takes it.
        metrics: keys of `PARTS`, in the order of the columns.
        published: accuracies in percent; None where the paper, or our source of it, has no figure.
    """

    number: int
    image_size: int
    crop: str
    metrics: tuple[str, ...]
    published: tuple[Row, ...]

    @property
    def tasks(self) -> tuple[str, ...]:
        """Keys of `data.tasks.TASKS` that the columns need."""
        keys = dict.fromkeys(key for metric in self.metrics for key in PARTS[metric])
        return tuple(key for key in keys if key != "real")


TABLES = {
    2: Table(2, 448, "resize", (*_ACCURACIES, "vtab", *_GROUPS), tuple(_published_2(*row) for row in paper.TABLE_2)),
    3: Table(3, 224, "resmall", _ACCURACIES, tuple(_published_3(*row) for row in paper.TABLE_3)),
}


def published_row(table: Table, weights: Path | None, model: str | None, image_size: int) -> Row | None:
    """Return the row of a released checkpoint, fine-tuned at `image_size` px, or None where the table has none.

    Example:
        >>> published_row(TABLES[3], "imagenet21k", "b16", 224)["avg5"]
        92.5
    """
    trained_on = {"imagenet": paper.I1K, "imagenet1k": paper.I1K, "imagenet21k": paper.I21K}.get(str(weights))
    wanted = (trained_on, paper.title_of(model) if model else None, image_size)
    rows = [r for r in table.published if (r["pre_trained_on"], r["model"], r["image_size"]) == wanted]
    return rows[0] if rows else None


def average(scores: Scores, keys: Sequence[str]) -> tuple[float | None, float | None, str]:
    """Return the mean of the tasks `keys` over tasks and seeds in percent, its deviation, and such as "5 of 5".

    The mean is None unless every task is there. The deviation is that of the population of seeds, of the mean over
    tasks in percent, and None with one seed or none. A score without seeds counts with each seed of the others.

    Raises:
        ValueError: where tasks have other seeds than the first.

    Example:
        >>> average({"pets": {0: 0.5, 1: 0.75}, "flowers": {0: 1.0, 1: 0.75}}, ("pets", "flowers"))
        (75.0, 0.0, '2 of 2')
        >>> average({"pets": {0: 0.5}}, ("pets", "flowers"))
        (None, None, '1 of 2')
    """
    there = [key for key in keys if key in scores]
    parts = f"{len(there)} of {len(keys)}"
    if len(there) < len(keys):
        return None, None, parts
    seeded = [key for key in keys if None not in scores[key]]
    seeds: list[Any] = list(scores[seeded[0]]) if seeded else [None]
    for key in seeded:
        if set(scores[key]) != set(seeds):
            raise ValueError(
                f"scores: {key} has the seeds {list(scores[key])} and {seeded[0]} has {seeds}; average runs of the "
                "same."
            )
    by_seed = [100 * statistics.mean(scores[key][s if key in seeded else None] for key in keys) for s in seeds]
    return statistics.mean(by_seed), statistics.pstdev(by_seed) if len(seeds) > 1 else None, parts


def rows(
    table: Table,
    name: str,
    image_size: int,
    scores: Scores,
    speed: Mapping[str, Any] | None = None,
    published: Row | None = None,
    fewshot: BySeed | None = None,
) -> list[Row]:
    """Return the rows of a table: measured, the difference to `published` where there is one, and the paper's.

    Args:
        table: of `TABLES`.
        name, image_size: of the checkpoint that was measured, and the side in pixels of the full tasks.
        scores: of the tasks of the table, and "real".
        speed: {"images_per_second_per_core": float, "machine": text}, where it was measured.
        published: the `published_row` to compare with.
        fewshot: of 5-shot linear ImageNet, where it was measured; no table has it.

    Returns:
        Rows with table, row ("measured", "difference" or "published"), pre_trained_on, model, image_size, epochs, for
        each metric its percent, `*_deviation` and `*_parts`, and throughput, machine, core_days and marks, keys of
        `paper.MARKS`.
    """
    scores = {**scores, **({"fewshot": fewshot} if fewshot else {})}
    metrics = (*table.metrics, *(["fewshot"] if fewshot else []))
    measured = {"table": table.number, "row": "measured", "model": name, "image_size": image_size}
    for metric in metrics:
        mean, deviation, parts = average(scores, PARTS[metric])
        measured |= {metric: mean, f"{metric}_deviation": deviation, f"{metric}_parts": parts}
    if speed:
        measured |= {"throughput": speed["images_per_second_per_core"], "machine": speed["machine"]}
    found = [measured]
    if published:
        measured["core_days"] = published["core_days"]  # of its pre-training
        difference = {"table": table.number, "row": "difference", "model": f"less the paper's {published['model']}"}
        for metric in metrics:
            both = measured[metric] is not None and published.get(metric) is not None
            difference[metric] = measured[metric] - published[metric] if both else None
        found.append(difference)
    machine = {"machine": "TPUv3"}
    theirs = ({"table": table.number, "row": "published", **row} for row in table.published)
    found += [row | (machine if row["throughput"] is not None else {}) for row in theirs]
    columns = ["table", "row", *_ABOUT]
    columns += [metric + end for metric in metrics for end in ("", "_deviation", "_parts")]
    return [
        {column: row.get(column) for column in (*columns, "throughput", "machine", "core_days", "marks")}
        for row in found
    ]


def markdown(table: Table, table_rows: Sequence[Row]) -> str:
    """Return the `rows` of a table in Markdown; accuracies in percent, a dash where there is no figure."""
    metrics = [key.removesuffix("_parts") for key in table_rows[0] if key.endswith("_parts")]
    head = ["", "pre-trained on", "px", "epochs", *(TITLES[m] for m in metrics), "images/s/core", "TPUv3 core-days"]
    lines = [head, ["---"] * len(head)]
    for row in table_rows:
        model = row["model"] if row["row"] == "published" else f"**{row['model']}**"
        marks = row["marks"] or ""
        cells = [" ".join([model, *marks.replace("‡", "")]) + (", measured" if row["row"] == "measured" else "")]
        cells += [_text(row[key]) for key in ("pre_trained_on", "image_size", "epochs")]
        cells += [_accuracy(row, metric) for metric in metrics]
        speed, days = row["throughput"], row["core_days"]
        here = " (this machine)" if row["row"] == "measured" else ""
        cells.append("-" if speed is None else f"{speed:.4g}{here}" if here else f"{speed:,}")
        lines.append(
            [*cells, "-" if days is None else f"{days:{'.2g' if days < 0.005 else '.2f'}}k{' ‡' * ('‡' in marks)}"]
        )
    title = f"## Table {table.number}: {table.image_size} px, crop {table.crop}"
    seen = {mark for row in table_rows for mark in row["marks"] or ""}
    notes = [f"{mark} {text}." for mark, text in paper.MARKS.items() if mark in seen]
    return "\n".join(
        [title, "", *(f"| {' | '.join(cells)} |" for cells in lines), "", *([" ".join(notes), ""] if notes else [])]
    )


def _text(value: object) -> str:
    return "-" if value is None else str(value)


def _accuracy(row: Row, metric: str) -> str:
    value, deviation, parts = row[metric], row[f"{metric}_deviation"], row[f"{metric}_parts"]
    if value is None:
        return "-" if row["row"] != "measured" else "not run" if parts.endswith("of 1") else f"{parts} tasks"
    if row["row"] == "difference":
        return f"{value:+.2f}"
    return f"{value:.2f}" + (f" ± {deviation:.2f}" if deviation is not None else "")


def csv_text(dicts: Collection[Mapping[str, Any]]) -> str:
    """Return dicts as CSV with a header: all their keys, in the order in which they first appear, empty for None."""
    columns = list(dict.fromkeys(key for row in dicts for key in row))
    file = io.StringIO()
    writer = csv.DictWriter(file, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(dicts)
    return file.getvalue()
