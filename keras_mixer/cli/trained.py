"""What the commands share that use a trained checkpoint: which one it is, its classes, its batches, and its results."""

import hashlib
import pathlib
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_mixer import buckets, files, run_data, starting_point
from keras_mixer.cli.flags import command
from keras_mixer.cli.settings import DEFAULT_WEIGHTS, Measuring, Model
from keras_mixer.data.source import Source
from keras_mixer.starting_point import StartingPoint
from keras_mixer.training import strategies


def find(settings: Model) -> StartingPoint:
    """Return the `StartingPoint` of the settings, by default the run that pretrain.py leaves."""
    if settings.weights is not None:
        return starting_point.find(settings.weights, settings.model)
    if not (pathlib.Path(DEFAULT_WEIGHTS) / "model.keras").exists():
        raise ValueError(
            f"weights: {DEFAULT_WEIGHTS} is not there or not finished; make it with {command('pretrain')}, which "
            "takes about a minute, or give --weights."
        )
    return starting_point.find(DEFAULT_WEIGHTS, settings.model)


def weights_key(model: keras.Model) -> str:
    """Return the sha256 of a model's weights, bit for bit, and of its dtype policy."""
    digest = hashlib.sha256(keras.config.dtype_policy().name.encode())
    for variable in model.variables:
        digest.update(np.ascontiguousarray(keras.ops.convert_to_numpy(variable)).data)
    return digest.hexdigest()


def eval_batches(
    settings: Measuring, strategy: tf.distribute.Strategy, source: Source, start: StartingPoint, side: int
) -> tf.data.Dataset:
    """Return one pass over a source as the weights of `start` want it, shared by the replicas of a strategy."""
    pixels = start.pixels(**settings.pixels())
    options: dict[str, Any] = dict(batch_size=settings.batch_size, image_size=side, crop=settings.crop, pixels=pixels)

    def of_part(part: tuple[int, int]) -> tf.data.Dataset:
        return run_data.eval_batches(start, source, part=part, **options)

    of_part((0, 1))  # a bad argument shows here, and as itself
    return strategies.distribute(strategy, of_part, settings.batch_size)


def check_batch(batch_size: int, strategy: tf.distribute.Strategy) -> None:
    """Refuse a batch size that the devices cannot share evenly."""
    count = strategy.num_replicas_in_sync
    if batch_size < 1 or batch_size % count:
        raise ValueError(
            f"batch_size: {batch_size} must be positive and shared evenly by {count} devices; use a multiple of "
            f"{count}."
        )


def open_results_folder(place: str, strategy: tf.distribute.Strategy) -> pathlib.Path:
    """Return --workdir as a path to a folder that holds no training run and, by the chief, can be written."""
    if not place:
        raise ValueError("workdir: must name a folder, got an empty text.")
    folder = buckets.path_of(place, "workdir")
    if (folder / "run.json").exists():
        raise ValueError(f"workdir: {folder} is the folder of a training run, to keep; choose another --workdir.")
    return files.open_folder(folder, "workdir") if strategies.is_chief(strategy) else folder
