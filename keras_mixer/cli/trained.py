"""What the commands share that use a trained checkpoint: which one it is, its classes, its batches, and its results."""

import hashlib
import pathlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_mixer import files, starting_point
from keras_mixer.cli.flags import command
from keras_mixer.cli.settings import DEFAULT_WEIGHTS, Measuring, Model
from keras_mixer.data import permutations, pipeline
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


def check_classes(start: StartingPoint, source: Source, way_out: str) -> None:
    """Raise a ValueError unless the head of a `StartingPoint` is for the classes of a source, in their order."""
    if start.num_classes is None:
        raise ValueError(f"weights: {start.name} has no head, so it names no class; {way_out}.")
    theirs = source.class_names
    if start.num_classes != len(theirs):
        raise ValueError(
            f"weights: the head of {start.name} has {start.num_classes:,} classes, and {source.name} has "
            f"{len(theirs):,}; {way_out}."
        )
    if start.class_names is None:
        print(f"{start.name} does not say what its {len(theirs):,} classes are: taken for those of {source.name}.")
        return
    # ImageNet's classes have two names, the WordNet id and the words; a dataset may use either.
    ours = [(name,) if isinstance(name, str) else tuple(name) for name in start.class_names]
    wrong = [i for i, (names, name) in enumerate(zip(ours, theirs, strict=True)) if name not in names]
    if wrong:
        first = "; ".join(f"class {i} is {ours[i][0]!r} there and {theirs[i]!r} here" for i in wrong[:3])
        raise ValueError(
            f"weights: {start.name} was trained for other classes than {source.name} has, or in another order: "
            f"{first}{f'; and {len(wrong) - 3:,} more' if len(wrong) > 3 else ''}; {way_out}."
        )


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
    permute, pixels = permutation_of(start, side), start.pixels(**settings.pixels())
    options: dict[str, Any] = dict(batch_size=settings.batch_size, image_size=side, crop=settings.crop, pixels=pixels)

    def of_part(part: tuple[int, int]) -> tf.data.Dataset:
        return permute(pipeline.eval_batches(source, part=part, **options))

    of_part((0, 1))  # a bad argument shows here, and as itself
    return strategies.distribute(strategy, of_part, settings.batch_size)


def permutation_of(start: StartingPoint, side: int) -> Callable[[tf.data.Dataset], tf.data.Dataset]:
    """Return what puts the pixels of batches in the order that the weights of `start` want them in."""
    kind, seed = start.permutation
    return lambda batches: permutations.permute_batches(batches, kind, side, start.sizes["patch_size"], seed)


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
    folder = pathlib.Path(place).expanduser()
    if (folder / "run.json").exists():
        raise ValueError(f"workdir: {folder} is the folder of a training run, to keep; choose another --workdir.")
    return files.open_folder(folder, "workdir") if strategies.is_chief(strategy) else folder
