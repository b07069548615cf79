"""The folder of a run: who may write to it, what it was started with, and the files in it."""

import contextlib
import json
import pathlib
from collections.abc import Iterator
from typing import Any

import keras

from keras_mixer import buckets, files
from keras_mixer.types import Path

FILES = ("run.json", "metrics.csv", "model.keras", "result.json", "report.json", "report.html")
FOLDERS = ("tensorboard", "checkpoints")


@contextlib.contextmanager
def open_workdir(
    path: Path,
    settings: dict[str, Any],
    details: dict[str, Any] | None = None,
    overwrite: bool = False,
    chief: bool = True,
) -> Iterator[pathlib.Path]:
    """Create or continue a run's folder, and hold its lock.

    Args:
        path: the folder; it is made if missing.
        settings: JSON values that determine the run, data included; a folder with other ones is refused.
        details: more JSON values for run.json that may differ, such as versions.
        overwrite: remove an earlier run's files first.
        chief: False for a worker that only reads; it neither writes nor locks, which the chief does.

    Yields:
        The folder, with ~ expanded.

    Raises:
        ValueError: if the folder holds a run with other settings (each is named), if another process uses it, or if it
            has files by a run's names that are not of a run.
        OSError: if it cannot be written; a `files.SaveError` where that is for want of room.
    """
    if not str(path):
        raise ValueError("workdir: must name a folder, got an empty text.")
    path = buckets.path_of(path, "workdir")
    if not chief:
        yield path
        return
    with files.naming_folder("workdir", path):
        buckets.make_folder(path)
        busy = f"workdir: another process is running in {path}; wait for it or choose another --workdir."
        lock = files.lock(path / ".lock", busy)
    with lock:
        earlier = _read_settings(path)
        _remove_leftovers(path)
        if overwrite:
            _remove_run(path)
            earlier = None
        if earlier is not None:
            _check_same(path, earlier, settings)
        files.write_json(path / "run.json", {"settings": settings, **(details or {})})
        yield path


def _remove_leftovers(path: pathlib.Path) -> None:
    """Remove the temporary files of a process that was killed while it wrote; a bucket has none."""
    if buckets.is_bucket(path):
        return
    for pattern in (*(f".{name}.*.tmp" for name in FILES), ".model.*.tmp.keras", "checkpoints/.step_*.npz.*.tmp"):
        for target in path.glob(pattern):
            target.unlink()


def _remove_run(path: pathlib.Path) -> None:
    """Remove what a run writes, and nothing that someone else put beside it."""
    for pattern in ("checkpoints/step_*.npz", "tensorboard/events.out.tfevents.*", *FILES):
        for target in path.glob(pattern):
            with files.naming_unwritable(target):
                if target.is_dir():  # of somebody else, in the way of a file of ours
                    files.move_aside(target)
                else:
                    target.unlink()
    for folder in FOLDERS:
        with contextlib.suppress(OSError):  # missing, or not empty
            (path / folder).rmdir()


def _read_settings(path: pathlib.Path) -> dict[str, Any] | None:
    """Return the settings of the run in a folder, or None; refuse a folder whose files only have a run's names."""
    try:
        settings = json.loads((path / "run.json").read_text())["settings"]
        strange = [] if isinstance(settings, dict) else ["run.json"]
    except FileNotFoundError:
        settings = None
        strange = [name for name in (*FILES, *FOLDERS) if (path / name).exists()]
    except (ValueError, KeyError, TypeError):
        settings, strange = None, ["run.json"]
    if strange:
        raise ValueError(f"workdir: {path / strange[0]} is not of a run of this package; choose another --workdir.")
    return settings


def _check_same(path: pathlib.Path, earlier: dict[str, Any], settings: dict[str, Any]) -> None:
    settings = json.loads(json.dumps(settings))  # tuples become lists, as in the file
    keys = [k for k in {**earlier, **settings} if earlier.get(k) != settings.get(k)]
    if keys:
        differences = ", ".join(f"{k} was {_short(earlier.get(k))} and is {_short(settings.get(k))}" for k in keys)
        raise ValueError(
            f"workdir: {path} holds a run with other settings ({differences}); choose another --workdir, or "
            "--overwrite to start anew."
        )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def save_model(path: pathlib.Path, model: "keras.Model") -> None:
    """Write a .keras file atomically, without optimiser, so that it loads where only `keras_mixer` is installed."""
    bare = type(model).from_config(model.get_config())
    values = {variable.path: variable for variable in model.weights}  # adapters that were merged are left out
    for variable in bare.weights:
        variable.assign(values[variable.path].value)
    with files.naming_unwritable(path), files.replacing(path, ".tmp.keras") as temporary:  # Keras wants the suffix
        bare.save(temporary)
