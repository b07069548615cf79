"""What --dry_run says a run costs, with data and without."""

import re

import numpy as np
import pytest
import tensorflow as tf
from keras_mixer.recipes.pretrain import Settings, run

from keras_mixer.cli import presets, run_plan


def _plan(**given):
    settings, row = presets.fill(Settings(**given), given.get("preset"))
    return {line[:12].strip(): line[13:] for line in run_plan.plan(settings, given.get("preset"), row)}


def _numbers(text):
    return [float(number.replace(",", "")) for number in re.findall(r"[\d,]*\.?\d+", text)]


def test_imagenet_is_planned_where_it_is_not():
    plan = _plan(preset="imagenet1k", model="b16", dataset="imagenet2012", strategy="tpu")
    assert plan["model"] == "Mixer b16, 59,880,472 parameters, 224 px"
    assert plan["preset"] == "paper Table 4, Mixer-B on ImageNet, 300 epochs; by hand: nothing"
    assert plan["images"] == "1,268,355 of 1,000 classes: train[:99%], of the published number"
    assert plan["steps"] == "92,897 of 4,096 images, 380,506,112 in 300 epochs"
    flop = 3 * 25_203_535_872 * 380_506_112
    assert plan["operations"] == (f"25.2 GFLOP an image forward, 75.6 with the backward pass, {flop:.3g} FLOP in all")
    assert (
        plan["TPU v3"]
        == "12.6 core-days at 43% of 61.5 TFLOP/s a core; published 10 (Table 3, rounded to tens, extrapolated)"
    )
    assert plan["GPU"] == f"{flop / 312e12 / 0.4 / 3600:.3g} hours of one A100 at 40% of 312 TFLOP/s, bfloat16, assumed"
    assert plan["reading"] == "41,856 GB, 110 kB an image, assumed"
    assert plan["checkpoints"] == "187 of 0.719 GB, 134 GB written, 2 kept"


@pytest.mark.parametrize(
    ("preset", "model", "images", "published"),
    [
        ("imagenet21k", "l16", 14_197_122, 410),
        ("jft300m", "h14", 300_000_000, 1010),
        ("jft300m_7epochs", "l16", 3e8, 230),
    ],
)
def test_what_is_not_here_is_the_presets(preset, model, images, published):
    plan = _plan(preset=preset, model=model, dataset="/nowhere/images")
    assert _numbers(plan["images"])[0] == images
    assert plan["images"].endswith("'s published number, since /nowhere/images is not here")
    assert f"published {published} (" in plan["TPU v3"]


def test_another_number_of_epochs_has_no_published_row():
    assert "published" not in _plan(preset="imagenet1k", model="b16", dataset="imagenet2012", epochs=90)["TPU v3"]


def test_small_models_are_said_to_take_longer_than_computed():
    assert _plan(preset="jft300m", model="s16", dataset="/nowhere", epochs=3)["TPU v3"].endswith("what this computes")
    assert "published 30 (" in _plan(preset="jft300m", model="s16", dataset="/nowhere")["TPU v3"]


def test_a_checkpoint_holds_weights_slots_and_the_average():
    given = dict(preset="imagenet1k", model="b16", dataset="imagenet2012")
    size = {name: _numbers(_plan(**given, **more)["checkpoints"])[1] for name, more in MOMENTS.items()}
    assert size == {"adamw": 0.719, "average": 0.958, "bfloat16": 0.599, "sgd": 0.479}


MOMENTS = {"adamw": {}, "average": {"ema_decay": 0.9}, "bfloat16": {"first_moment_dtype": "bfloat16"}}
MOMENTS["sgd"] = {"optimizer": "sgd", "weight_decay": 0.0}  # it has none


def test_files_that_are_here_are_measured(tmp_path):
    total = 0
    for k, name in enumerate(("cat", "dog")):
        (tmp_path / "train" / name).mkdir(parents=True)
        for i in range(4 + k):
            png = tf.io.encode_png(np.full((9 + i, 9, 3), i, np.uint8)).numpy()
            (tmp_path / "train" / name / f"{i}.png").write_bytes(png)
            total += len(png)
    plan = _plan(dataset=str(tmp_path), batch_size=3, epochs=2, image_size=16)
    assert plan["images"] == f"9 of 2 classes: {tmp_path} train"
    assert plan["reading"] == f"less than 0.001 GB, {total / 9 / 1e3:.3g} kB an image"
    assert "preset" not in plan


def test_it_neither_trains_nor_writes(tmp_path, capsys):
    assert run(Settings(dry_run=True, workdir=str(tmp_path / "run"))) is None
    assert capsys.readouterr().out.startswith(
        "model        Mixer tiny, 75,530 parameters, 16 px\nimages       1,437 of 10"
    )
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"image_size": 30}, "image_size: the image height 30 is not a positive multiple"),
        ({"dataset": "/nowhere"}, "dataset: the folder '/nowhere' does not exist"),
        ({"preset": "imagenet1k", "model": "b16", "dataset": "imagenet2012", "total_steps": 9}, "warmup_steps: 10000"),
        ({"preset": "imagenet1k", "model": "b16", "dataset": "imagenet2012", "train_split": "train[:200%]"}, "split: "),
    ],
)
def test_what_would_be_refused_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        _plan(**given)


def test_nothing_is_downloaded(tmp_path, monkeypatch):
    from keras_mixer.data import tfds

    monkeypatch.setattr(tfds, "_prepare", lambda *arguments: pytest.fail("it would download"))
    for preset in (None, "imagenet21k"):
        with pytest.raises(
            ValueError, match="'imagnet2012' is not digits, a folder or a TFDS name; did you mean imagen"
        ):
            _plan(dataset="imagnet2012", model="b16", preset=preset)
        with pytest.raises(ValueError, match="dataset: cifar10 is not prepared, and --dry_run downloads nothing"):
            _plan(dataset="cifar10", model="b16", preset=preset, data_dir=str(tmp_path))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (dict(batch_size=0), "batch_size: must be a positive number of images, got 0."),
        (dict(batch_size=-4, total_steps=9), "batch_size: must be a positive number of images, got -4."),
        (dict(epochs=1e308), "epochs: must be a positive number, got 1e"),
        (dict(train_split="train[:0%]", dataset="imagenet2012"), "train_split: 'train\\[:0%]' has no images"),
        (dict(train_split="train[50%:20%]", dataset="imagenet2012"), "train_split|split"),
        (dict(optimizer="foo"), "optimizer: must be 'adamw' or 'sgd', got 'foo'"),
        (dict(first_moment_dtype="float8"), "first_moment_dtype: must be"),
        (dict(channels=7), "channels: must be"),
        (dict(gradient_accumulation_steps=7), "gradient_accumulation_steps: the 64 images"),
        (dict(crop_area=(2.0, 1.0)), "crop_area: "),
        (dict(augmentation="foo"), "augmentation: must be"),
        (dict(mixup_alpha=-1.0), "mixup_alpha: "),
        (dict(label_smoothing=2.0), "label_smoothing: "),
    ],
)
def test_no_plan_of_a_run_that_would_be_refused(given, message):
    with pytest.raises(ValueError, match=message):
        _plan(**given)
