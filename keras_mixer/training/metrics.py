"""metrics.csv, written by a training run and read with its run.json. Needs neither TensorFlow nor Keras."""

import contextlib
import csv
import dataclasses
import io
import json
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_mixer import buckets, files
from keras_mixer.types import Path

Columns = dict[str, list[float | None]]  # by name, R values, None where a row has none
# "ema" is the evaluation of averaged weights.
COLUMNS = (
    "step",
    "learning_rate",
    "train_loss",
    "train_top1",
    "eval_loss",
    "eval_top1",
    "eval_top5",
    "ema_loss",
    "ema_top1",
    "ema_top5",
    "gradient_norm",
    "weight_norm",
    "images_per_second",
)
LONGEST_VALUE = 24  # of a setting


class MetricsFile:
    """metrics.csv as it is written: one row per log, of `COLUMNS`, empty where a row has no value.

    Args:
        path: of the file; rows after `step` of an interrupted run are dropped, since they are about to be repeated.
        step: that the run continues from.
    """

    def __init__(self, path: pathlib.Path, step: int) -> None:
        rows: list[dict[str, str]] = []
        if step and path.exists():
            with buckets.open_binary(path) as stored, io.TextIOWrapper(stored, "utf-8", newline="") as file:
                # On a full disk a row may be cut off, even inside its step.
                rows = [row for row in csv.DictReader(file) if None not in row.values() and int(row["step"]) <= step]
        with files.naming_unwritable(path), files.writing(path) as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
        self._path = path
        # An object cannot be appended to: it is written anew with each row.
        in_bucket = buckets.is_bucket(path)
        self._file: Any = io.StringIO(path.read_text()) if in_bucket else open(path, "a", newline="")  # noqa: SIM115
        self._file.seek(0, os.SEEK_END)
        self._writer = csv.DictWriter(self._file, COLUMNS)

    def write(self, row: Mapping[str, float]) -> None:
        """Append a row and flush it."""
        with files.naming_unwritable(self._path, "the newest checkpoint is kept"):
            self._writer.writerow(row)
            self._file.flush()
            if buckets.is_bucket(self._path):
                with files.writing(self._path) as file:
                    file.write(self._file.getvalue())

    def close(self) -> None:
        with contextlib.suppress(OSError):  # of the rest of a row that could not be written
            self._file.close()


@dataclasses.dataclass(frozen=True)
class Run:
    """One training run: `folder`, the `settings` of its run.json, and the `columns`."""

    folder: pathlib.Path
    settings: dict[str, Any]
    columns: Columns

    def series(self, name: str, x: str = "step") -> tuple[np.ndarray, np.ndarray]:
        """Return (n,) x and (n,) float64 values of the n rows that have a value in the column `name`.

        A speed of 0 is none: the loop writes it where the only step was not timed, since it compiled.
        """
        values = self.columns.get(name, [])
        none = (None, 0) if name == "images_per_second" else (None,)
        kept = [row for row, value in enumerate(values) if value not in none]
        return self.positions(x)[kept], np.array([values[row] for row in kept], np.float64)

    def positions(self, x: str = "step") -> np.ndarray:
        """Return (R,) float64: each row's step, training images until then, or seconds of training until then."""
        steps = np.array(self.columns["step"], np.float64)
        if x == "step":
            return steps
        batch_size = self.settings.get("batch_size")
        if not isinstance(batch_size, int):
            raise ValueError(f"x: {x} needs batch_size in {self.folder / 'run.json'}; use step.")
        if x == "images":
            return steps * batch_size
        speeds = self.columns.get("images_per_second", [None] * len(steps))
        if None in speeds:
            raise ValueError(f"x: seconds needs images_per_second in every row of {self.folder}/metrics.csv; use step.")
        images, speed = np.diff(steps, prepend=0) * batch_size, np.array(speeds, np.float64)
        return np.cumsum(np.divide(images, speed, out=np.zeros_like(images), where=speed > 0))

    def progress(self) -> str:
        """Return a sentence: how far the run is, and its last evaluation."""
        if not self.columns["step"]:
            return "no rows yet"
        at, top1 = self.series("eval_top1")
        evaluated = f", eval top-1 {top1[-1]:.2%} at step {at[-1]:.0f}" if len(at) else ", not evaluated yet"
        return f"step {self.columns['step'][-1]:.0f}{evaluated}"


def find_workdirs(root: Path) -> list[pathlib.Path]:
    """Return the folders under `root` that have a metrics.csv, sorted; a ValueError where there are none."""
    folders = sorted(path.parent for path in pathlib.Path(root).rglob("metrics.csv"))
    if not folders:
        raise ValueError(
            f"workdirs: no folder under {root} has a metrics.csv; train first, with python recipes/pretrain.py, "
            "or give --workdirs."
        )
    return folders


def read_run(folder: Path, argument: str = "workdirs") -> Run:
    """Read the metrics.csv and, where there is one, the run.json of a training run's folder.

    The run may be in progress: no rows yet are fine, and a last line without its end is left out. `argument` is what
    errors call the folder.

    Raises:
        FileNotFoundError: without the folder or its metrics.csv.
        ValueError: for a malformed row or an unknown column.
    """
    folder = buckets.path_of(folder, argument)
    if not folder.is_dir():
        raise FileNotFoundError(f"{argument}: {folder} is not a folder; give the --workdir of a training run.")
    path = folder / "metrics.csv"
    if not path.is_file():
        raise FileNotFoundError(f"{argument}: {folder} has no metrics.csv; give the --workdir of a training run.")
    try:
        settings = json.loads((folder / "run.json").read_text())["settings"]
        if not isinstance(settings, dict):
            raise TypeError
    except FileNotFoundError:
        settings = {}
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{argument}: {folder / 'run.json'} is not of a run of this package; remove it.") from None
    return Run(folder, settings, _read_columns(path, argument))


def _read_columns(path: pathlib.Path, argument: str) -> Columns:
    try:
        text = path.read_bytes().decode()
        header, *rows = csv.reader(text[: text.rfind("\n") + 1].splitlines())
    except (UnicodeDecodeError, csv.Error, ValueError):
        raise ValueError(f"{argument}: {path} is not a CSV file with a header; give a training run's folder.") from None
    unknown = [name for name in header if name not in COLUMNS]
    if unknown or "step" not in header or len(set(header)) != len(header):
        wrong = f"the unknown column {unknown[0]!r}" if unknown else "not step, or a column twice"
        raise ValueError(f"{argument}: {path} has {wrong}; its columns must be of {', '.join(COLUMNS)}.")
    columns: Columns = {name: [] for name in header}
    last = -1.0
    for line, row in enumerate(rows, start=2):
        malformed = f"{argument}: line {line} of {path} is malformed"
        if len(row) != len(header):
            raise ValueError(f"{malformed}: {len(row)} values for {len(header)} columns; correct or remove it.")
        for name, cell in zip(header, row, strict=True):
            try:
                columns[name].append(float(cell) if cell else None)
            except ValueError:
                raise ValueError(f"{malformed}: {name} is {cell!r}, not a number; correct or remove it.") from None
        step = columns["step"][-1]
        if step is None or not last < step < math.inf:
            raise ValueError(f"{malformed}: its step must be more than that of the line before; correct or remove it.")
        last = step
    return columns


def run_names(folders: Sequence[Path]) -> list[str]:
    """Return for each folder the shortest end of its path that no other ends with.

    Raises:
        ValueError: where a folder is given twice.

    Example:
        >>> run_names(["runs/small/a", "runs/large/a", "runs/b"])
        ['small/a', 'large/a', 'b']
    """
    paths = [pathlib.Path(folder).expanduser().resolve() for folder in folders]
    twice = [path for i, path in enumerate(paths) if path in paths[:i]]
    if twice:
        raise ValueError(f"workdirs: {twice[0]} is given twice; give each folder once.")

    def name(path: pathlib.Path) -> str:
        ends = [path.parts[-length:] for length in range(1, len(path.parts) + 1)]
        alone = lambda end: sum(other.parts[-len(end) :] == end for other in paths) == 1
        return str(pathlib.Path(*next(filter(alone, ends))))

    return [name(path) for path in paths]


def differing_settings(runs: Sequence[Run], names: Sequence[str]) -> list[str]:
    """Return a line per setting that differs between runs, the values in the order of the runs.

    Args:
        runs: of `read_run`.
        names: of the runs.

    Example:
        >>> runs = [Run(pathlib.Path(name), {"seed": seed, "epochs": 9}, {}) for name, seed in (("a", 0), ("b", 1))]
        >>> differing_settings(runs, ["a", "b"])
        ['seed: 0 (a), 1 (b)']
    """
    lines = []
    for key in dict.fromkeys(key for run in runs for key in run.settings):
        values = [json.dumps(run.settings[key]) if key in run.settings else "not set" for run in runs]
        if len(set(values)) > 1:
            of = {value: [n for n, v in zip(names, values, strict=True) if v == value] for value in values}
            lines.append(f"{key}: " + ", ".join(f"{_short(value)} ({', '.join(who)})" for value, who in of.items()))
    return lines


def _short(value: str) -> str:
    value = value.strip('"')
    return value if len(value) <= LONGEST_VALUE else value[: LONGEST_VALUE - 1] + "…"
