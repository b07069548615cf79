"""What is faster than hours of training without a GPU or TPU, as commands for the same images."""

import dataclasses
import shlex
from collections.abc import Callable

import tensorflow as tf

from keras_mixer.cli import transfer
from keras_mixer.cli.flags import command
from keras_mixer.cli.settings import Training
from keras_mixer.training.remaining import duration
from keras_mixer.weights import released

LONG = 3600.0  # seconds, from which on advice is given
SHORT = 1200.0  # seconds of the shorter run that is named
SMALL = {"weights": "gsam", "model": "s32"}  # the smallest model that was released
# What a command names again; each is left out where it has its default.
DATA = ("dataset", "data_dir", "manual_dir", "train_split", "eval_split")
RUN = (*DATA, "task", "preset", "image_size", "batch_size", "channels", "total_steps")


def advice_for(settings: Training, total_steps: int) -> Callable[[float], list[str]]:
    """Return the function of the remaining seconds of a run that gives lines of advice, none where a run is short."""

    def advice(seconds: float) -> list[str]:
        kinds = ("GPU", "TPU", "TPU_SYSTEM")
        if seconds < LONG or settings.strategy == "tpu":  # it may be another machine's, of which none is listed here
            return []
        if any(tf.config.list_physical_devices(kind) for kind in kinds):
            return []
        return [
            "No GPU or TPU works here. Faster for the same images:",
            *commands(settings, max(1, round(total_steps * SHORT / seconds))),
        ]

    return advice


def commands(settings: Training, steps: int) -> list[str]:
    """Return the commands that are faster than a run, with what each is about.

    Args:
        settings: filled ones, of pretrain or finetune.
        steps: that would take `SHORT` seconds.
    """
    recipe = "finetune" if isinstance(settings, transfer.Settings) else "pretrain"
    task = getattr(settings, "task", None)
    known = settings.as_json()
    given = {"weights": settings.weights, "model": settings.model if settings.weights in released.NAMES else None}
    if recipe == "pretrain":
        given = {"weights": settings.weights, "model": settings.model}
    names = [name for name in RUN if name not in (DATA[:1] + DATA[3:] if task else ())]
    usual = {field.name: (field.default, field.metadata["usual"]) for field in dataclasses.fields(settings)}
    same = {name: known[name] for name in names if name in known and known[name] not in (None, *usual[name])}
    place, lines = settings.workdir.rstrip("/"), []

    def line(what: str, about: str, **values: object) -> None:
        flags = [f"--{name}={value}" for name, value in values.items() if value is not None]
        lines.append(f"  {command(what)} {shlex.join(flags)}    # {about}")

    start = given if given["weights"] else SMALL
    if not task and settings.channels == 3:
        data = {name: known.get(name) for name in DATA}
        line("fewshot", "minutes: a classifier on features, no training", **start, **data)
    shorter = {"total_steps": steps, "workdir": f"{place}_short"}
    line(recipe, f"fewer steps, about {duration(SHORT)}", **given, **(same | shorter))
    size = known.get("image_size") or 224
    smaller = settings.model not in ("s32", "tiny") and size % 32 == 0
    if smaller and (recipe == "pretrain" or settings.weights in released.NAMES):
        small = {"model": "s32"} if recipe == "pretrain" else SMALL
        line(recipe, "a smaller model", **small, **(same | {"workdir": f"{place}_s32"}))
    return lines
