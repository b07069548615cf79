"""What the settings of a command describe, made: sources, batches, a strategy, precision and seed."""

import contextlib
import dataclasses
import functools
import os
import platform
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

import keras
import tensorflow as tf

from keras_mixer.cli.settings import Augmentation, Batches, Data, Devices, TrainingData
from keras_mixer.data import augment_settings, opening, permutations, pipeline
from keras_mixer.data.pixel_settings import PixelSettings
from keras_mixer.data.source import Source
from keras_mixer.paper import MODELS
from keras_mixer.training import strategies
from keras_mixer.versions import versions as package_versions

P = ParamSpec("P")
R = TypeVar("R")


def make_strategy(settings: Devices) -> tf.distribute.Strategy:
    """Return the strategy of the settings; to be made before anything else of TensorFlow."""
    return strategies.make_strategy(settings.strategy, settings.num_devices, settings.tpu)


def restoring_precision(run: Callable[P, R]) -> Callable[P, R]:
    """Decorate what sets the global dtype policy, so that who calls it from Python finds theirs again."""

    @functools.wraps(run)
    def restoring(*args: P.args, **kwargs: P.kwargs) -> R:
        before = keras.config.dtype_policy()
        try:
            return run(*args, **kwargs)
        finally:
            keras.config.set_dtype_policy(before)

    return restoring


def set_precision_and_seed(settings: Devices) -> None:
    """Set the global dtype policy and every seed."""
    if not 0 <= settings.seed < 2**31:
        raise ValueError(f"seed: must be at least 0 and below 2**31, got {settings.seed}.")
    keras.utils.set_random_seed(settings.seed)
    keras.config.set_dtype_policy(settings.precision)


def open_source(settings: Data, training: bool) -> Source:
    """Open the dataset: the split to train on, or the one to evaluate on."""
    split = settings.eval_split
    if training:
        split = settings.train_split if isinstance(settings, TrainingData) else None
    return opening.open_source(
        settings.dataset,
        split,
        training=training,
        data_dir=settings.data_dir,
        manual_dir=settings.manual_dir,
        seed=settings.split_seed,
        on_bad_image=settings.on_bad_image,
        max_bad_fraction=settings.max_bad_fraction,
    )


def open_sources(settings: TrainingData) -> tuple[Source, Source]:
    """Open the dataset for training and for evaluation; both must have the same classes."""
    train, evaluation = open_source(settings, training=True), open_source(settings, training=False)
    if train.class_names != evaluation.class_names:
        raise ValueError(f"dataset: {train.name} and {evaluation.name} must have the same classes, and have not.")
    return train, evaluation


def byte_batches(
    settings: Batches,
    source: Source,
    start_step: int = 0,
    part: tuple[int, int] = (0, 1),
    patch_size: int | None = None,
) -> tf.data.Dataset:
    """Return the training batches of filled settings, from `start_step` on; `patch_size` as for `permuted`."""
    pixels = PixelSettings(**settings.pixels())
    batches = pipeline.train_batches(
        source,
        batch_size=settings.batch_size,
        image_size=settings.image_size,
        seed=settings.seed,
        start_step=start_step,
        augmentation=augmentation(settings),
        pixels=pixels,
        part=part,
        as_bytes=True,
    )
    return permuted(settings, batches, settings.image_size, patch_size or MODELS[settings.model]["patch_size"])


def permuted(settings: Augmentation, batches: Any, image_size: Any, patch_size: int) -> tf.data.Dataset:
    """Return batches with their images permuted as the settings say."""
    if settings.permutation == "none":
        return batches
    kind, seed = settings.permutation, settings.permutation_seed
    return permutations.permute_batches(batches, kind, image_size, patch_size, seed)


def check_train_batches(settings: Batches, source: Source, given: Batches) -> None:
    """Refuse settings that `train_batches` would, before anything is written; `given` are those before `filled`."""
    PixelSettings(**settings.pixels())
    whys = {"none": "--augmentation=none only resizes", "hyper_rule": "--augmentation=hyper_rule keeps the aspect"}
    why = whys.get(settings.augmentation) or ("" if source.photographs else f"{source.name} has drawn signs")
    names = ("crop_aspect",) if settings.augmentation == "hyper_rule" else ("crop_area", "crop_aspect", "flip_rate")
    useless = [name for name in names if getattr(given, name) is not None]
    if useless and why:
        raise ValueError(f"{useless[0]}: has no effect, since {why}; leave it out.")
    pipeline.check_sizes(source, settings.batch_size, settings.image_size)
    augmentation(settings)
    permutations.check_kind(settings.permutation, settings.permutation_seed)


def augmentation(settings: Batches) -> augment_settings.Augmentation:
    """Return how the filled settings augment images, or refuse them."""
    names = (field.name for field in dataclasses.fields(augment_settings.Augmentation))
    return augment_settings.Augmentation(**{name: getattr(settings, name) for name in names})


@contextlib.contextmanager
def naming_unreadable_files(*data_sources: Source, resumes: bool = False) -> Iterator[None]:
    """Turn TensorFlow's error about a damaged file into one that names the file, or the shard and record.

    One about a label that is no class becomes a sentence, too. `resumes`: whether the same command goes on
    where it was, with the same files.
    """
    try:
        yield
    except (
        tf.errors.InvalidArgumentError,
        tf.errors.DataLossError,
        tf.errors.NotFoundError,
        tf.errors.PermissionDeniedError,
    ) as error:
        message = error.message or ""
        if pipeline.LABEL_ERROR in message:
            told = message[message.index(pipeline.LABEL_ERROR) :].split("\n")[0].replace("'", "")
            raise ValueError(f"dataset: {told}") from None
        for source in data_sources:
            found = source.find_unreadable() if source.find_unreadable else None
            if found:
                skip = f", or {'start with --overwrite and' if resumes else 'give'} --on_bad_image=skip"
                remove = (
                    "replace it, and run the same command again to continue, or remove it and start with --overwrite"
                )
                raise ValueError(
                    f"dataset: {found} cannot be decoded as an image; {remove if resumes else 'replace or remove it'}"
                    f"{skip if source.loose_files else ''}."
                ) from None
        raise


def versions() -> dict[str, str]:
    """Return what a result depends on besides the settings."""
    gpus = len(tf.config.list_physical_devices("GPU"))
    return {**package_versions(), "machine": f"{platform.machine()}, {os.cpu_count()} cores, {gpus} GPUs"}
