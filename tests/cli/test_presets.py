"""Every preset of every model as the flags it fills, beside the numbers of the paper and of the authors' code."""

import pytest
from keras_mixer.recipes import pretrain
from keras_mixer.recipes.pretrain import Settings

import keras_mixer
from keras_mixer import paper
from keras_mixer.cli import presets
from keras_mixer.paper import MODELS

# Preset, model, then epochs, rate, weight decay, RandAugment m, mixup p, stochastic depth, loss, head bias.
ROWS = [
    ("imagenet1k", "b16", 300, 1e-3, 0.1, 15, 0.5, 0.1, "sigmoid", -6.9),
    ("imagenet1k", "l32", 300, 1e-3, 0.1, 15, 0.5, 0.1, "sigmoid", -6.9),
    ("imagenet1k_published", "b16", 300, 1e-3, 0.1, 15, 0.5, 0.1, "sigmoid", -6.9),
    ("imagenet21k", "b32", 300, 1e-3, 0.1, 10, 0.2, 0.1, "sigmoid", -10),
    ("imagenet21k", "l16", 300, 1e-3, 0.1, 20, 0.5, 0.1, "sigmoid", -10),
    ("jft300m", "s32", 5, 3e-3, 0.03, 0, 0, 0, "softmax", None),
    ("jft300m", "b16", 7, 3e-3, 0.03, 0, 0, 0, "softmax", None),
    ("jft300m", "l16", 14, 1e-3, 0.03, 0, 0, 0, "softmax", None),
    ("jft300m", "h14", 14, 1e-3, 0.03, 0, 0, 0, "softmax", None),
    ("jft300m_7epochs", "b16", 7, 3e-3, 0.03, 0, 0, 0, "softmax", None),
    ("jft300m_7epochs", "l16", 7, 1e-3, 0.03, 0, 0, 0, "softmax", None),
]
FIELDS = ("epochs", "learning_rate", "weight_decay", "randaugment_magnitude", "mixup_alpha", "stochastic_depth_rate")
FIELDS += ("loss", "head_bias_init")
COMMON = dict(batch_size=4096, warmup_steps=10_000, optimizer="adamw", clip_norm=1, schedule="linear", dropout_rate=0)
COMMON |= dict(
    image_size=224, augmentation="paper", crop_area=(0.05, 1), crop_aspect=(0.75, 1.33), flip_rate=0.5, seed=0
)


def _filled(preset, model, **given):
    return presets.fill(Settings(preset=preset, model=model, **given), preset)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]}-{row[1]}")
def test_a_row_fills_the_settings(row):
    filled, told = _filled(*row[:2], dataset="imagenet2012")
    assert {name: getattr(filled, name) for name in COMMON} == COMMON
    assert tuple(getattr(filled, name) for name in FIELDS) == row[2:]
    of_imagenet = row[0].startswith("imagenet1k")
    assert (filled.train_split, filled.eval_split) == (("train[:99%]", "validation") if of_imagenet else (None, None))
    assert told["preset_overridden"] == []


def test_no_row_is_left_out():
    sizes = {(name, size[0]) for name, rows in paper.PRESETS.items() for size in rows}
    assert sizes == {(row[0], row[1][0]) for row in ROWS}
    assert {*paper.PRESETS} == {*paper.PRE_TRAINED_ON}


def test_what_is_given_by_hand_wins_and_is_told():
    filled, told = _filled("imagenet1k", "b16", dataset="imagenet2012", epochs=90, batch_size=4096, mixup_alpha=0)
    assert (filled.epochs, filled.mixup_alpha, filled.batch_size) == (90, 0, 4096)
    assert told == {
        "preset_row": "paper Table 4, Mixer-B on ImageNet, 300 epochs",
        "preset_overridden": ["epochs", "mixup_alpha"],
    }
    assert _filled("imagenet1k", "b16", total_steps=20_000, schedule="cosine")[1]["preset_overridden"] == [
        *("epochs", "schedule")
    ]


def test_the_heads_bias_is_for_the_rows_loss():
    assert _filled("imagenet21k", "b16", loss="softmax")[0].head_bias_init is None
    assert _filled("imagenet21k", "b16", loss="sigmoid")[0].head_bias_init == -10
    assert _filled("imagenet21k", "b16", head_bias_init=-3)[0].head_bias_init == -3


@pytest.mark.parametrize("dataset", ["imagenet2012:5.1.0", "photos", "imagenet2012_subset"])
def test_only_imagenet_has_its_splits(dataset):
    split = _filled("imagenet1k", "b16", dataset=dataset)[0].train_split
    assert split == ("train[:99%]" if ":" in dataset else None)
    assert _filled("imagenet1k", "b16", dataset=dataset, train_split="train")[0].train_split == "train"


@pytest.mark.parametrize(
    ("given", "end"),
    [({}, "60 epochs"), ({"epochs": 60}, "60 epochs"), ({"epochs": 90}, "of this length none is published")],
)
def test_the_published_recipe_says_what_it_reaches(given, end):
    title = _filled("imagenet1k_published", "b16", **given)[1]["preset_row"]
    assert title.startswith("the authors' code, Mixer-B/16 on ImageNet: 76.3 % top-1 at 300 epochs, 70.5 % top-1 at")
    assert title.endswith(end)


def test_without_a_preset_nothing_has_changed():
    filled, told = presets.fill(Settings(), None)
    assert told == {}
    assert (filled.loss, filled.head_bias_init, filled.train_split, filled.image_size) == ("softmax", None, None, 16)
    assert (filled.epochs, filled.batch_size, filled.learning_rate, filled.mixup_alpha) == (100, 64, 3e-3, 0.2)


@pytest.mark.parametrize(
    ("name", "model", "message"),
    [
        (
            "imagenet",
            "b16",
            "preset: must be one of imagenet1k, imagenet21k, jft300m, jft300m_7epochs, imagenet1k_published",
        ),
        ("jft300m_7epochs", "h14", "preset: jft300m_7epochs is a recipe for Mixer-B, Mixer-L only, not for h14"),
        ("imagenet1k_published", "b32", "preset: imagenet1k_published is a recipe for Mixer-B/16 only, not for b32"),
        ("imagenet1k", "tiny", "preset: imagenet1k is a recipe for Mixer-B, Mixer-L only, not for tiny"),
    ],
)
def test_a_wrong_preset_is_refused(name, model, message):
    with pytest.raises(ValueError, match=message):
        presets.get_preset(name, model)


def test_a_head_from_weights_keeps_its_bias(tmp_path):
    """The preset's is for new heads; only one that is given by hand is refused."""
    settings, _ = _filled("imagenet21k", "b16", weights=str(tmp_path / "start.npz"))
    sizes = dict(MODELS["tiny"], input_shape=(16, 16, 3), classes=3)
    pretrain.set_head_bias(settings.with_values(weights=None), new := keras_mixer.MLPMixer(**sizes), None)
    assert (new.get_layer("head").bias.numpy() == -10).all()
    keras_mixer.save_checkpoint(new, settings.weights)
    old = keras_mixer.MLPMixer(**sizes, weights=settings.weights)
    old.get_layer("head").bias.assign([1, 2, 3])
    pretrain.set_head_bias(settings, old, None)
    assert list(old.get_layer("head").bias.numpy()) == [1, 2, 3]
    with pytest.raises(
        ValueError, match="head_bias_init: must be a finite number for a new head, got -10.0 and a head"
    ):
        pretrain.set_head_bias(settings, old, -10.0)
