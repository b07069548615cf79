"""The trainings of an experiment that are finished, in a results.json that other settings may not go on with."""

import json
import os
import shutil

from keras_mixer import files


def read(path, settings):
    """Return name -> result of the trainings in the file; {} where there is none, or one that is too old.

    Raises:
        ValueError: if the file is of other settings, or cannot be read.
    """
    if not is_new(path):
        return {}
    try:
        found = json.loads(path.read_text())
        earlier, trainings = found["settings"], found["trainings"]
    except (ValueError, KeyError, TypeError):
        raise ValueError(
            f"--output: {path} does not hold finished trainings; remove it, or give another folder."
        ) from None
    for name, value in settings.items():
        if earlier.get(name) != value:
            raise ValueError(f"--{name}: {value} here, but {path} is of {earlier.get(name)}; give another --output.")
    return trainings


def write(path, settings, trainings):
    """Replace the file, whole."""
    with files.replacing(path) as file:
        file.write_text(json.dumps({"settings": settings, "trainings": trainings}, indent=1))


def is_new(path):
    """Whether a file was written after KERAS_MIXER_FINISHED_SINCE, seconds since 1970, where refresh.py sets it.

    A table would not be measured anew if it were made of trainings that are older than what it is measured of.
    """
    return path.exists() and path.stat().st_mtime >= float(os.environ.get("KERAS_MIXER_FINISHED_SINCE", 0))


def result(workdir):
    """Return the result.json of a recipe's finished run, or None; one that is older than it may be is removed."""
    path = workdir / "result.json"
    if is_new(path):
        return json.loads(path.read_text())
    if path.exists():
        shutil.rmtree(workdir)
    return None
