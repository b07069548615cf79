"""The data of a trained run, opened again as the run opened it and batched as its weights want it."""

import logging
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from keras_mixer.data import opening, permutations, pipeline, tasks
from keras_mixer.data.pixel_settings import PixelSettings
from keras_mixer.data.source import Source
from keras_mixer.errors import InputError
from keras_mixer.starting_point import StartingPoint
from keras_mixer.types import Size

logger = logging.getLogger("keras_mixer")
_OF_SOURCE = ("split_seed", "on_bad_image", "max_bad_fraction")


def settings_of(start: StartingPoint) -> dict[str, Any]:
    """Return name -> value of what says which data a run used, such as dataset and eval_split; {} for no run's weights.

    Example:
        >>> settings_of(StartingPoint("x.npz", {}, 16, 3, 10, None, {"dataset": "digits", "seed": 1}, "x"))
        {'dataset': 'digits'}
    """
    names = ("dataset", "task", "development", "train_split", "eval_split", *_OF_SOURCE)
    told = start.data_folders | {name: start.settings[name] for name in names if name in start.settings}
    if told.get("task"):  # which such a run also has as its dataset
        told["dataset"] = tasks.get_task(told["task"]).dataset
    return {name: value for name, value in told.items() if value is not None} if start.settings else {}


def open_source(told: Mapping[str, Any], training: bool) -> Source:
    """Open the images that a run trained on, or those that it was evaluated on.

    Args:
        told: as from `settings_of`; a "task" of the paper knows its dataset and splits.
        training: which of the two.

    Raises:
        ValueError, OSError: for data that are not there any more; see `opening.open_source`.

    Example:
        >>> open_source({"dataset": "digits"}, training=False).num_examples
        360
    """
    folders: dict[str, Any] = {name: told.get(name) for name in ("data_dir", "manual_dir")}
    if told.get("task"):
        parts = tasks.open_task(told["task"], "develop" if told.get("development") else "final", **folders)
        return parts[0] if training else parts[1]
    given = {name: told[name] for name in _OF_SOURCE if name in told}
    if "split_seed" in given:
        given["seed"] = given.pop("split_seed")
    split = told.get("train_split" if training else "eval_split")
    return opening.open_source(told["dataset"], split, training=training, **folders, **given)


def open_of_run(start: StartingPoint, given: Mapping[str, Any], training: bool) -> Source:
    """Open the dataset that is given, else the run's own, with the splits that are given, else the run's.

    Args:
        start: the checkpoint.
        given: name -> value of what was given by hand, of the names in `settings_of`.
        training: whether to open the images to train on, or those to evaluate on.

    Raises:
        InputError: where neither the checkpoint nor the caller says which data, or a split is given for a task's.
    """
    told = given if "dataset" in given else settings_of(start) | dict(given)
    if "dataset" not in told:
        raise InputError("dataset", f"{start.name} does not say what it was trained on", "give `dataset`")
    split = "train_split" if training else "eval_split"
    if told.get("task") and split in given:
        fault = f"{start.name} is of the task {told['task']}, which has its own"
        raise InputError(split, fault, "leave it out, or give `dataset` too")
    return open_source(told, training)


def eval_batches(
    start: StartingPoint,
    source: Source,
    *,
    batch_size: int,
    image_size: Size,
    crop: str,
    pixels: PixelSettings,
    part: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """Return `pipeline.eval_batches`, with the pixels of each image in the order in which the weights want them."""
    batches = pipeline.eval_batches(
        source, batch_size=batch_size, image_size=image_size, crop=crop, pixels=pixels, part=part
    )
    return permuted(start, batches, image_size)


def permuted(start: StartingPoint, batches: tf.data.Dataset, image_size: Size) -> tf.data.Dataset:
    """Return batches with the pixels of each image in the order in which the weights want them."""
    kind, seed = start.permutation
    return permutations.permute_batches(batches, kind, image_size, start.sizes.get("patch_size", 1), seed)


def of_logits(model: keras.Model, activation: str) -> keras.Model:
    """Return a model images (B, H, W, channels) -> logits (B, K) of one that gives probabilities.

    `activation` is its softmax or sigmoid. An export has no layer "head", and its logits come back from its
    probabilities: of softmax but for one number that is the same for all classes, which changes neither ranks nor
    losses.
    """
    if "head" in [layer.name for layer in model.layers]:
        return keras.Model(model.input, model.get_layer("head").output)
    sigmoid = activation == "sigmoid"
    known = keras.ops.clip(model.output, 1e-37, 1 - 1e-7 if sigmoid else 1)
    return keras.Model(model.input, keras.ops.log(known) - (keras.ops.log1p(-known) if sigmoid else 0))


def check_head(start: StartingPoint, way_out: str) -> None:
    """Raise an InputError, which `way_out` ends, unless the weights have a head."""
    if start.num_classes is None:
        raise InputError("weights", f"{start.name} has no head, so it names no class", way_out)


def check_classes(start: StartingPoint, source: Source, way_out: str) -> None:
    """Compare the classes of a head with those of a source, in their order; log where the weights do not name theirs.

    Raises:
        InputError: if the weights have no head, or one for other classes; `way_out` ends the sentence.
    """
    theirs = source.class_names
    check_head(start, way_out)
    if start.num_classes != len(theirs):
        fault = f"the head of {start.name} has {start.num_classes:,} classes, and {source.name} has {len(theirs):,}"
        raise InputError("weights", fault, way_out)
    if start.class_names is None:
        told = f"{start.name} does not say what its {len(theirs):,} classes are: taken for those of {source.name}."
        logger.warning(told)
        return
    # ImageNet's classes have two names, the WordNet id and the words; a dataset may use either.
    ours = [(name,) if isinstance(name, str) else tuple(name) for name in start.class_names]
    wrong = [i for i, (names, name) in enumerate(zip(ours, theirs, strict=True)) if name not in names]
    if wrong:
        first = "; ".join(f"class {i} is {ours[i][0]!r} there and {theirs[i]!r} here" for i in wrong[:3])
        more = f"; and {len(wrong) - 3:,} more" if len(wrong) > 3 else ""
        fault = f"{start.name} was trained for other classes than {source.name} has, or in another order: {first}{more}"
        raise InputError("weights", fault, way_out)
