"""The trainings of an experiment that are finished, in a results.json that other settings may not go on with."""

import json

from keras_mixer import files


def read(path, settings):
    """Return name -> result of the trainings in the file; {} where there is none.

    Raises:
        ValueError: if the file is of other settings, or cannot be read.
    """
    if not path.exists():
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
