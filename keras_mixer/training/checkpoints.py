"""The whole state of a run in one .npz, written atomically, and found again after a kill."""

import logging
import pathlib
import re
import zipfile

import numpy as np

from keras_mixer.training.workdir import atomic_file

logger = logging.getLogger("keras_mixer")
KEEP = 2  # the newest, and one more in case the newest is damaged


def state_variables(model):
    """Return name -> variable of all that a step reads or writes: weights, seeds, optimiser, running metrics.

    Keras's own formats leave out the state of dropout seeds or of the optimiser, which makes a resumed run another run.
    """
    parts = {"model": model.variables, "optimizer": model.optimizer.variables, "metrics": model.metrics_variables}
    # Keras numbers seed generators by process; the order is enough to tell them apart.
    path = lambda variable: re.sub(r"seed_generator_\d+", "seed_generator", variable.path)
    return {f"{part}/{i:04d}/{path(v)}": v for part, variables in parts.items() for i, v in enumerate(variables)}


def save_state(folder, model, step):
    """Write checkpoints/step_<step>.npz and keep the newest two.

    Raises:
        FloatingPointError: if a weight is not finite; nothing is written.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(exist_ok=True)
    arrays = {name: np.asarray(variable.numpy()) for name, variable in state_variables(model).items()}
    for name, array in arrays.items():
        if not name.startswith("metrics/") and array.dtype.kind == "f" and not np.isfinite(array).all():
            raise FloatingPointError(f"step {step}: {name.split('/', 2)[2]} is not finite; the state is not saved.")
    with atomic_file(folder / f"step_{step:08d}.npz", "wb") as file:
        np.savez(file, **arrays)
    for path in list_states(folder)[KEEP:]:
        path.unlink()


def list_states(folder):
    """Return the checkpoint files of a run, newest first."""
    files = pathlib.Path(folder).glob("step_*.npz")
    return sorted((f for f in files if re.fullmatch(r"step_\d+\.npz", f.name)), reverse=True)


def restore_newest(folder, model):
    """Load the newest undamaged checkpoint into a built model and optimiser; return its step, 0 where there is none.

    A damaged file is named in a warning and the one before it is used.

    Raises:
        ValueError: if there are checkpoints and none can be used.
    """
    files = list_states(folder)
    variables = state_variables(model)
    for path in files:
        try:
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
            if arrays.keys() != variables.keys():
                raise ValueError(f"holds other variables: {sorted(arrays.keys() ^ variables.keys())[:3]}")
            for name, array in arrays.items():
                if array.shape != tuple(variables[name].shape):
                    raise ValueError(f"{name} has shape {array.shape}, the model {tuple(variables[name].shape)}")
        except (OSError, ValueError, zipfile.BadZipFile, EOFError, KeyError) as error:
            logger.warning("checkpoint %s cannot be used (%s); trying the one before it.", path, error)
            continue
        for name, array in arrays.items():
            variables[name].assign(array)
        return int(path.stem.removeprefix("step_"))
    if files:
        raise ValueError(
            f"workdir: none of the {len(files)} checkpoints in {folder} can be used; restore one, or --overwrite to "
            "start anew."
        )
    return 0
