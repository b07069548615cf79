"""What is seen of a run beside its numbers: its curves, pictures in TensorBoard, and what to do next."""

import logging
import pathlib
import shlex
from collections.abc import Sequence

import tensorflow as tf

from keras_mixer.cli.flags import command
from keras_mixer.cli.settings import Measuring, Training
from keras_mixer.data import subsets
from keras_mixer.data.source import Source
from keras_mixer.export import packages
from keras_mixer.pictures import curves
from keras_mixer.training import metrics

logger = logging.getLogger("keras_mixer")
LEAST_ROWS = 4  # of metrics.csv; fewer points make no curve
IN_TENSORBOARD = ("confusion.png", "mistakes.png")


def write_curves(folder: pathlib.Path, settings: Training) -> pathlib.Path | None:
    """Draw curves.png of a run that has curves and is to have pictures; return its path, or None."""
    run = metrics.read_run(folder)
    if not getattr(settings, "pictures", True) or len(run.columns["step"]) < LEAST_ROWS:
        return None
    path = folder / "curves.png"
    try:
        curves.write_curves(path, [run])
    except (ValueError, OSError) as error:  # without matplotlib; the run itself is whole
        logger.warning("%s is not drawn: %s", path, error)
        return None
    return path


def show_in_tensorboard(folder: pathlib.Path, written: Sequence[pathlib.Path], step: int = 0) -> None:
    """Give TensorBoard the pictures of what a model gets wrong, as they were drawn."""
    pictures = [path for path in written if path.name in IN_TENSORBOARD]
    if not pictures:
        return
    try:
        writer = tf.summary.create_file_writer(str(folder / "tensorboard"))
        with writer.as_default(step=step):
            for path in pictures:
                tf.summary.image(path.stem, tf.io.decode_png(path.read_bytes(), channels=3)[None])
        writer.close()
    except (tf.errors.OpError, OSError) as error:
        logger.warning("%s has no pictures: %s", folder / "tensorboard", str(error).splitlines()[0])


def to_classifier(settings: Measuring) -> str:
    """Return how to make a classifier of the weights and images that were measured."""
    given = {name: getattr(settings, name) for name in ("weights", "model", "dataset")}
    flags = " ".join(f"--{name}={shlex.quote(value)}" for name, value in given.items() if value)
    return f"Next:\n  {command('finetune')} {flags}    # makes a classifier to use"


def next_lines(settings: Training, source: Source, more: Sequence[str] = ()) -> str:
    """Return what to do with a finished run, as commands that run; `source` has the images of its evaluation."""
    at = shlex.quote(settings.workdir)
    paths = subsets.read_paths(subsets.subset(source, [0]))
    picture = shlex.quote(paths[0]) if paths else "" if settings.dataset == "digits" else "path/to/images"
    formats = "saved_model" if packages.missing("web") else "saved_model,web"
    lines = [
        f"{command('predict')} --weights={at} {picture}".strip(),
        f"{command('evaluate')} --weights={at}",
        f"{command('export')} --weights={at} --formats={formats}",
        f"{command('plot')} --workdirs={at}    # loss and accuracy by step, also of several runs",
        f"tensorboard --logdir {at}/tensorboard",
        *more,
    ]
    return "\n".join(["Next:", *(f"  {line}" for line in lines)])
