"""`cli.faster`: what is named to who would wait for hours, as commands that the recipes take."""

import re
import shlex

import pytest
import tensorflow as tf
from keras_mixer.recipes import fewshot, finetune, pretrain

from keras_mixer.cli import faster, flags

RECIPES = {"fewshot": fewshot, "finetune": finetune, "pretrain": pretrain}
HOURS = 7200.0
PHOTOS = {"dataset": "my photos", "image_size": 224, "batch_size": 16}


def _advised(settings, seconds=HOURS, total_steps=600):
    return faster.advice_for(settings, total_steps)(seconds)


def _read(line):
    """The recipe and the settings of a line, which is read as the command line reads it."""
    words = shlex.split(line, comments=True)
    name = re.search(r"(\w+)(\.py)?$", words[1]).group(1)
    return name, flags.read(RECIPES[name].Settings, words[1:], "")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            finetune.Settings(**PHOTOS, weights="imagenet21k", model="b16", workdir="runs/a"),
            [("fewshot", "imagenet21k", "b16"), ("finetune", "imagenet21k", "b16"), ("finetune", "gsam", "s32")],
        ),
        (
            finetune.Settings(**PHOTOS, weights="runs/pretrain", model="b16", workdir="runs/a"),
            [("fewshot", "runs/pretrain", None), ("finetune", "runs/pretrain", None)],
        ),
        (
            finetune.Settings(task="pets", dataset="pets", weights="imagenet21k", model="b16", image_size=224),
            [("finetune", "imagenet21k", "b16"), ("finetune", "gsam", "s32")],
        ),
        (
            pretrain.Settings(**PHOTOS, model="s16"),
            [("fewshot", "gsam", "s32"), ("pretrain", None, "s16"), ("pretrain", None, "s32")],
        ),
        (pretrain.Settings(**PHOTOS, model="s32"), [("fewshot", "gsam", "s32"), ("pretrain", None, "s32")]),
    ],
    ids=["released", "a run's", "task", "pretrain", "the smallest"],
)
def test_what_is_named_is_read_by_its_recipe(settings, expected):
    settings = settings.filled()
    first, *lines = _advised(settings)
    assert first.startswith("No GPU or TPU works here.")
    read = [_read(line) for line in lines]
    assert [(name, given.weights, given.model) for name, given in read] == expected
    for name, given in read:
        if getattr(given, "task", None):
            finetune.transfer.check(given)  # a task with a dataset is refused
        else:
            assert given.dataset == "my photos"
        if name != "fewshot":
            assert given.workdir not in (settings.workdir, None)  # whose settings may not change
    shorter = next(given for name, given in read if name != "fewshot" and given.total_steps)
    assert shorter.total_steps == 100  # 20 minutes of two hours


def test_nothing_is_named_for_what_is_short_or_on_a_gpu(monkeypatch):
    settings = pretrain.Settings(**PHOTOS, model="s16").filled()
    assert not _advised(settings, 3000.0)
    assert _advised(settings)
    assert not _advised(settings.with_values(strategy="tpu"))  # of other hosts, which this machine does not list
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["one"] * (kind == "GPU"))
    assert not _advised(settings)
