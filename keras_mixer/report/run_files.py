"""What a finished or running training run, or an evaluation, has left in its folder, read for its page."""

import csv
import dataclasses
import io
import json
import pathlib
from typing import Any

from keras_mixer import buckets
from keras_mixer.report import kept
from keras_mixer.training import metrics
from keras_mixer.types import Path

EVALUATION = "evaluate"
FLOATS = ("top1", "top5", "mean_confidence", "precision", "recall", "f1")
WHOLES = ("class", "images", "correct", "predicted")
NUMBERS = ("top1", "top5", "loss", "num_examples")  # that a result has together


@dataclasses.dataclass(frozen=True)
class RunFiles:
    """The files of a run, opened.

    Attributes:
        folder: as it was given.
        kind: "pretrain", "finetune" or "evaluate".
        about: of run.json, or for an evaluation of result.json; never empty.
        result: of result.json; empty where the run has not finished.
        metrics: of metrics.csv; None for an evaluation, and where there is none.
        classes: a dict of each row of classes.csv, None for what has no value; empty where there is none.
        confused: (true, predicted, images) of every pair of confusion.csv that has images.
        evidence: of report.json.
    """

    folder: pathlib.Path
    kind: str
    about: dict[str, Any]
    result: dict[str, Any]
    metrics: metrics.Run | None
    classes: list[dict[str, Any]]
    confused: list[tuple[str, str, int]]
    evidence: kept.Evidence

    @property
    def settings(self) -> dict[str, Any]:
        """All settings, name -> value."""
        return self.about.get("flags") or self.about.get("settings") or {}


def read(place: Path) -> RunFiles:
    """Return the files of the folder of a training run or of an evaluation.

    Raises:
        FileNotFoundError: where there is no such folder.
        ValueError: where the folder is of no such run, or one of its files is damaged.
    """
    folder = buckets.path_of(place, "places")
    if not folder.is_dir():
        raise FileNotFoundError(f"places: there is no folder {str(place)!r}; give the --workdir of a run.")
    about, result = _json(folder / "run.json"), _json(folder / "result.json")
    if result and "top1" in result and not all(isinstance(result.get(name), int | float) for name in NUMBERS):
        raise _damaged(folder / "result.json")
    if about is None and (result or {}).get("recipe") != EVALUATION:
        inner = sorted(path.parent for path in folder.glob("*/*/run.json")) or sorted(
            path.parent for path in folder.glob("*/run.json")
        )
        hint = f", such as {inner[0]}" if inner else ""
        raise ValueError(
            f"places: {folder} is the folder of no run of pretrain, finetune or evaluate; give the --workdir of "
            f"one{hint}."
        )
    command = ((about or result or {}).get("command") or [None])[0]
    kind = command or ("finetune" if "started_from" in (about or {}).get("settings", {}) else "pretrain")
    return RunFiles(
        folder=folder,
        kind=EVALUATION if about is None else kind,
        about=about or result or {},
        result=result or {},
        metrics=_metrics(folder) if about is not None else None,
        classes=_classes(folder / "classes.csv"),
        confused=_confused(folder / "confusion.csv"),
        evidence=kept.read(folder),
    )


def _json(path: pathlib.Path) -> dict[str, Any] | None:
    """Return an object of JSON, None where there is no such file."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("settings", {}), dict):
        raise ValueError(f"places: {path} is damaged or of something else; restore it, or give another folder.")
    return found


def _metrics(folder: pathlib.Path) -> metrics.Run | None:
    return metrics.read_run(folder, "places") if (folder / "metrics.csv").exists() else None


def _rows(path: pathlib.Path) -> list[list[str]]:
    """Return the rows of a CSV file, all as long as the first; none where there is no such file."""
    try:
        with buckets.open_binary(path) as stored, io.TextIOWrapper(stored, "utf-8", newline="") as file:
            rows = list(csv.reader(file))
    except FileNotFoundError:
        return []
    except (OSError, ValueError, csv.Error):
        rows = []
    if not rows or any(len(row) != len(rows[0]) for row in rows):
        raise _damaged(path)
    return rows


def _classes(path: pathlib.Path) -> list[dict[str, Any]]:
    head, *rows = _rows(path) or [[]]
    kinds = {**dict.fromkeys(FLOATS, float), **dict.fromkeys(WHOLES, int)}
    try:
        if head and not {"class", "name", "images"} <= {*head}:
            raise ValueError
        return [
            {name: kinds.get(name, str)(cell) if cell else None for name, cell in zip(head, row, strict=True)}
            for row in rows
        ]
    except ValueError:
        raise _damaged(path) from None


def _confused(path: pathlib.Path) -> list[tuple[str, str, int]]:
    head, *rows = _rows(path) or [[]]
    try:
        if head == ["true", "predicted", "images"]:
            return [(true, predicted, int(count)) for true, predicted, count in rows]
        return [
            (row[0], name, int(cell)) for row in rows for name, cell in zip(head[1:], row[1:], strict=True) if int(cell)
        ]
    except ValueError:
        raise _damaged(path) from None


def _damaged(path: pathlib.Path) -> ValueError:
    return ValueError(
        f"places: {path} is damaged; remove it, and the page has what the other files say, or run its command again."
    )
