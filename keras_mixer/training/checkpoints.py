"""The whole state of a run in one .npz with its own sha256, written atomically, and found again after a kill."""

import contextlib
import hashlib
import logging
import pathlib
import re
from typing import Any

import numpy as np

from keras_mixer import buckets, files

logger = logging.getLogger("keras_mixer")
KEEP = 2  # the newest, and one more in case the newest is damaged
Arrays = dict[str, np.ndarray]  # the state by name, such as "model/0000/stem/kernel"
_DIGEST = "sha256"  # the member that holds the digest of all others


def save_state(folder: pathlib.Path, arrays: Arrays, step: int, keep: int = KEEP) -> None:
    """Write checkpoints/step_<step>.npz and keep the newest few.

    Args:
        folder: the folder of checkpoints; it is made if missing.
        arrays: the state; names that begin with "log/" may be infinite or NaN.
        step: that the arrays are of.
        keep: how many checkpoints stay, of this step and before; a later one, which the run passed over as damaged, is
            left until its step is reached again.

    Raises:
        FloatingPointError: if a weight is not finite; nothing is written.
        files.SaveError: if the disk is full or cannot be written; earlier checkpoints are untouched.
    """
    folder = buckets.path_of(folder)
    for name, array in arrays.items():
        if not name.startswith("log/") and array.dtype.kind == "f" and not np.isfinite(array).all():
            raise FloatingPointError(f"step {step}: {name.split('/', 2)[2]} is not finite; the state is not saved.")
    path = folder / f"step_{step:08d}.npz"
    before = list_states(folder)
    kept = f"{before[0].name} is kept" if before else "there is none before it"
    with files.naming_unwritable(path, kept):
        folder.mkdir(exist_ok=True)
        if path.is_dir():  # a file cannot take the place of a folder
            files.move_aside(path)
        with files.writing(path, "wb") as file:
            stored: dict[str, Any] = {_DIGEST: _digest(arrays)} | arrays  # among savez's keywords is a bool
            np.savez(file, **stored)
    for old in [path for path in list_states(folder) if _step(path) <= step][keep:]:
        with contextlib.suppress(OSError):  # the state is saved; one file too many harms nothing
            old.unlink()


def list_states(folder: pathlib.Path) -> list[pathlib.Path]:
    """Return the checkpoint files of a run, newest first by their step, whatever the clock said."""
    found = buckets.path_of(folder).glob("step_*.npz")
    return sorted((f for f in found if re.fullmatch(r"step_\d+\.npz", f.name)), key=_step, reverse=True)


def read_newest(folder: pathlib.Path, expected: Arrays) -> tuple[int, Arrays | None]:
    """Return step and state of the newest undamaged checkpoint, or (0, None) where there is none at all.

    A damaged file is named in a warning and the one before it is used.

    Args:
        folder: the folder of checkpoints.
        expected: arrays of the shapes that the run needs.

    Raises:
        ValueError: if there are checkpoints and none can be used.
    """
    states = list_states(folder)
    for path in states:
        try:
            arrays = _read(path)
            if arrays.keys() != expected.keys():
                raise ValueError(f"it holds other variables: {sorted(arrays.keys() ^ expected.keys())[:3]}")
            for name, array in arrays.items():
                if array.shape != expected[name].shape:
                    raise ValueError(f"{name} has shape {array.shape}, the run {expected[name].shape}")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            logger.warning("checkpoint %s cannot be used (%s); trying the one before it.", path, reason)
            continue
        return _step(path), arrays
    if states:
        raise ValueError(
            f"workdir: none of the {len(states)} checkpoints in {folder} can be used; restore one, or --overwrite to "
            "start anew."
        )
    return 0, None


def _read(path: pathlib.Path) -> Arrays:
    with buckets.open_binary(path) as file:
        try:
            with np.load(file, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
        except Exception:  # a single flipped bit makes zipfile and NumPy raise nearly anything, and say what is no help
            raise ValueError("it is damaged or cut off") from None
    if str(arrays.pop(_DIGEST, "")) != str(_digest(arrays)):
        raise ValueError("its content does not have the sha256 that was written with it")
    return arrays


def _step(path: pathlib.Path) -> int:
    return int(path.stem.removeprefix("step_"))


def _digest(arrays: Arrays) -> np.ndarray:
    """The sha256 of names, types, shapes and bytes, as an array that .npz can hold."""
    digest = hashlib.sha256()
    for name, array in arrays.items():
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return np.array(digest.hexdigest())
