"""The folder of a run: who may write to it, what it was started with, and files that are never half written."""

import contextlib
import fcntl
import itertools
import json
import os
import pathlib
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any

from keras_mixer.types import Path

if TYPE_CHECKING:  # this module also serves programs without a framework
    import keras

FILES = ("run.json", "metrics.csv", "model.keras", "result.json")
FOLDERS = ("tensorboard", "checkpoints")


class SaveError(OSError):
    """A file of a run could not be written; the message names it and what is still there."""


@contextlib.contextmanager
def naming_unwritable(path: Path, kept: str = "what was saved before is kept") -> Iterator[None]:
    """Turn an OSError, such as that of a full disk, into a `SaveError` that names `path` and what is `kept`."""
    try:
        yield
    except OSError as error:
        raise unwritable(path, error.strerror or error, kept) from None


def unwritable(path: Path, reason: object, kept: str = "what was saved before is kept") -> "SaveError":
    """Return the `SaveError` for a file or folder that cannot be written."""
    return SaveError(
        f"workdir: {path} cannot be written ({reason}); {kept}. Make room or mend the folder, and run the same command "
        "again to continue."
    )


@contextlib.contextmanager
def atomic_file(path: pathlib.Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a temporary file beside `path`; at the end fsync it and rename it, or on an error remove it."""
    path = pathlib.Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, mode) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):  # the first error says more
            temporary.unlink(missing_ok=True)
        raise


def _sync_folder(path: Path) -> None:
    """Have a rename outlive a loss of power, where the file system offers that."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: pathlib.Path, value: object) -> None:
    """Write `value` as indented JSON, atomically."""
    with naming_unwritable(path), atomic_file(path) as file:
        json.dump(value, file, indent=2, sort_keys=False)
        file.write("\n")


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
        OSError: if it cannot be written; a `SaveError` where that is for want of room.
    """
    if not str(path):
        raise ValueError("workdir: must name a folder, got an empty text.")
    path = pathlib.Path(path).expanduser()
    if not chief:
        yield path
        return
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = open(path / ".lock", "w")  # noqa: SIM115 - held until the run ends
    except OSError as error:
        raise OSError(f"workdir: cannot write to {path} ({error.strerror}); choose another --workdir.") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"workdir: another process is running in {path}; wait for it or choose another --workdir."
            ) from None
        earlier = _read_settings(path)
        _remove_leftovers(path)
        if overwrite:
            _remove_run(path)
            earlier = None
        if earlier is not None:
            _check_same(path, earlier, settings)
        write_json(path / "run.json", {"settings": settings, **(details or {})})
        yield path


def _remove_leftovers(path: pathlib.Path) -> None:
    """Remove the temporary files of a process that was killed while it wrote."""
    for pattern in (*(f".{name}.*.tmp" for name in FILES), ".model.*.tmp.keras", "checkpoints/.step_*.npz.*.tmp"):
        for target in path.glob(pattern):
            target.unlink()


def _remove_run(path: pathlib.Path) -> None:
    """Remove what a run writes, and nothing that someone else put beside it."""
    for pattern in ("checkpoints/step_*.npz", "tensorboard/events.out.tfevents.*", *FILES):
        for target in path.glob(pattern):
            with naming_unwritable(target):
                if target.is_dir():  # of somebody else, in the way of a file of ours
                    target.rename(free_name(target))
                else:
                    target.unlink()
    for folder in FOLDERS:
        with contextlib.suppress(OSError):  # missing, or not empty
            (path / folder).rmdir()


def free_name(path: pathlib.Path) -> pathlib.Path:
    """Return a path beside `path` that nothing has yet, to move aside what stands there."""
    names = (path.with_name(f"{path.name}.moved_{i}") for i in itertools.count())
    return next(name for name in names if not name.exists())


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
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp.keras")  # Keras wants the suffix
    with naming_unwritable(path):
        try:
            bare.save(temporary)
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
