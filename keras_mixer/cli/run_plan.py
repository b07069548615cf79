"""What a pre-training run would cost, before it is started: operations, core-days, bytes to read, checkpoints."""

import dataclasses
import os
from typing import Any

import keras
import tensorflow as tf

from keras_mixer import arguments, cost_model, paper
from keras_mixer.cli import inputs, training
from keras_mixer.cli.settings import Training
from keras_mixer.data import opening, pipeline
from keras_mixer.data.pixel_settings import PixelSettings
from keras_mixer.data.splits import select
from keras_mixer.training import loop

A100, A100_UTILISATION = 312e12, 0.4  # FLOP/s in bfloat16, its maker's; the share of it is assumed
# Of an image's file, on average, where the files are not here: assumed, and of ImageNet-21k the published 1.31 TB.
FILE_BYTES = {paper.I1K: 110_000, paper.I21K: 92_000, paper.JFT: 110_000}


@dataclasses.dataclass(frozen=True)
class Images:
    """What a run trains on; `bytes` are those of one pass, None where nobody knows, and `known` says from where."""

    count: int
    classes: int
    bytes: float | None
    known: str
    assumed: bool = False  # the bytes


def plan(settings: Training, preset: str | None, row: dict[str, Any]) -> list[str]:
    """Return the lines that --dry_run prints.

    Args:
        settings: filled ones.
        preset: its name, or None.
        row: from `presets.fill`.

    Raises:
        ValueError: for a run that would be refused: its images, size, schedule or intervals.
    """
    sizes = paper.MODELS[settings.model]
    arguments.check_grid(settings.image_size, settings.image_size, sizes["patch_size"], "image_size")
    images = images_of(settings, preset)
    steps = training.steps_of_run(settings, images.count)
    # What the run would refuse before its first step.
    loop.check_batch(settings.batch_size, tf.distribute.get_strategy(), settings.gradient_accumulation_steps)
    training.optimizer_of(settings, keras.Sequential(), steps)
    inputs.augmentation(settings)
    PixelSettings(**settings.pixels())
    overridden = ", ".join(row.get("preset_overridden", ()))
    parameters = cost_model.mixer_parameters(settings.image_size, sizes, images.classes, settings.channels)
    seen = steps.total * settings.batch_size
    lines = {
        "model": f"Mixer {settings.model}, {parameters:,} parameters, {settings.image_size} px",
        "preset": row and f"{row['preset_row']}; by hand: {overridden or 'nothing'}",
        "images": f"{images.count:,} of {images.classes:,} classes: {images.known}",
        "steps": f"{steps.total:,} of {settings.batch_size:,} images, {seen:,} in {seen / images.count:.4g} epochs",
        **_computing(settings, images, seen),
        "reading": _reading(images, seen),
        "checkpoints": _checkpoints(settings, parameters, steps.total),
    }
    return [f"{name:12} {text}" for name, text in lines.items() if text]


def images_of(settings: Training, preset: str | None) -> Images:
    """Return the images to train on: of ImageNet, and of a preset whose folder is not here, as published."""
    name, split = settings.dataset, settings.train_split or "train"
    if paper.is_imagenet(name) and split.startswith("train"):
        return _published(paper.I1K, split, "of the published number")
    here = name == "digits" or os.path.exists(os.path.expanduser(name))
    if preset and not here and opening.is_path(name):
        trained_on = paper.PRE_TRAINED_ON[preset]
        return _published(trained_on, split, f"{trained_on}'s published number, since {name} is not here")
    if name and not here and not opening.is_path(name) and not opening.is_prepared(name, settings.data_dir):
        raise ValueError(f"dataset: {name} is not prepared, and --dry_run downloads nothing; give its --data_dir.")
    source = inputs.open_source(settings, training=True)
    pipeline.check_sizes(source, settings.batch_size, settings.image_size)
    size = source.num_bytes() if source.num_bytes else None
    return Images(source.num_examples, len(source.class_names), size, source.name)


def _published(trained_on: str, split: str, known: str) -> Images:
    count, classes = paper.SIZES[trained_on]
    places = [select(part, {"train": count}, trained_on) for part in split.split("+")]
    used = sum(stop - start for _, start, stop in places)
    if used < 1:
        raise ValueError(f"train_split: {split!r} has no images; give another part, such as train[:99%].")
    return Images(used, classes, used * FILE_BYTES[trained_on], f"{split}, {known}", True)


def _computing(settings: Training, images: Images, seen: int) -> dict[str, str]:
    """Return the lines about operations, and what they take on a TPU and on a GPU."""
    sizes = paper.MODELS[settings.model]
    forward = sum(cost_model.mixer_flop(settings.image_size, sizes, images.classes, settings.channels).values())
    factor = cost_model.TRAINING_FACTOR + settings.rematerialize  # which computes the forward pass again
    total = forward * factor * seen
    of_peak, peak = cost_model.TPU_V3_UTILISATION, cost_model.TPU_V3_CORE
    return {
        "operations": f"{_short(forward / 1e9)} GFLOP an image forward, {_short(forward * factor / 1e9)} with the "
        f"backward pass, {total:.3g} FLOP in all",
        "TPU v3": f"{_short(cost_model.core_days(total))} core-days at {of_peak:.0%} of {peak / 1e12:g} TFLOP/s a core"
        f"{_of_table_3(settings, images, seen)}",
        "GPU": f"{_short(total / A100 / A100_UTILISATION / 3600)} hours of one A100 at {A100_UTILISATION:.0%} of "
        f"{A100 / 1e12:g} TFLOP/s, bfloat16, assumed",
    }


def _of_table_3(settings: Training, images: Images, seen: int) -> str:
    """Return what the paper says of the same model, as many images and epochs."""
    for row in cost_model.table_3_core_days():
        alike = abs(images.count / paper.SIZES[row.trained_on][0] - 1) < 0.02  # but for a split for evaluation
        same = settings.image_size == 224 and row.model == paper.title_of(settings.model)
        if same and alike and round(seen / images.count, 2) == row.epochs:
            extrapolated = ", extrapolated" * ("‡" in paper.marks_of(row.trained_on, row.model, 224))
            return f"; published {row.published:g} (Table 3, rounded to tens{extrapolated})"
    small = settings.model[0] == "s" or settings.model.endswith("32")
    return "; the paper's S and /32 took two to three times what this computes" * small


def _reading(images: Images, seen: int) -> str:
    if images.bytes is None:
        return "the size of the files is not known"
    each = images.bytes / images.count
    return f"{_short(seen * each / 1e9)} GB, {_short(each / 1e3)} kB an image{', assumed' * images.assumed}"


def _checkpoints(settings: Training, parameters: int, total: int) -> str:
    """Return the line about states: float32 weights, the optimiser's slots and the moving average."""
    moment = 2 if settings.first_moment_dtype == "bfloat16" else 4
    slots = moment + 4 * (settings.optimizer == "adamw") + 4 * (settings.ema_decay is not None)
    size, count = parameters * (4 + slots), 1 + -(-total // settings.checkpoint_steps)  # the first before step 1
    return (
        f"{count:,} of {_short(size / 1e9)} GB, {_short(count * size / 1e9)} GB written, "
        f"{min(count, settings.keep_checkpoints)} kept"
    )


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}" if number >= 1e-3 else "less than 0.001"
