"""Layers that are kept as they are, by patterns of their names."""

import numpy as np
import pytest
import tiny

from keras_mixer.training import freezing, optimizers


@pytest.mark.parametrize(
    ("patterns", "frozen"),
    [
        ([], []),
        (["stem"], ["stem"]),
        (["block_?"], ["block_0", "block_1", "block_2"]),
        (["block_[01]", "st*"], ["block_0", "block_1", "stem"]),
        (["block_1", "block_*"], ["block_1", "block_0", "block_2"]),
        (["*e*_norm"], ["pre_head_layer_norm"]),
    ],
)
def test_the_layers_that_match_are_frozen_and_no_others(patterns, frozen):
    model = tiny.build()
    assert freezing.freeze(model, patterns) == frozen
    assert {layer.name for layer in model.layers if not layer.trainable} == set(frozen)
    trainable = {id(v) for v in model.trainable_variables}
    for layer in model.layers:
        assert all((id(v) in trainable) == (layer.name not in frozen) for v in layer.weights)


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (["stern"], "freeze: no layer with weights is called 'stern'; did you mean stem?"),
        (["block"], "freeze: no layer with weights is called 'block'; did you mean block_2?"),
        (["Stem"], "freeze: no layer with weights is called 'Stem'; did you mean stem?"),
        (["pre_logits"], "freeze: no layer with weights is called 'pre_logits'; "),  # it has none
        ([""], "freeze: no layer with weights is called ''; the layers are stem, block_0"),
        (["stem", "zzz*"], "freeze: no layer with weights is called 'zzz\\*'; the layers are stem, block_0"),
        (["*"], r"freeze: \* leaves nothing to train; leave out at least one layer."),
        (["stem", "block_?", "pre_head*", "head"], "leaves nothing to train"),
    ],
)
def test_bad_patterns_are_refused_and_freeze_nothing(patterns, message):
    model = tiny.build()
    with pytest.raises(ValueError, match=message) as caught:
        freezing.freeze(model, patterns)
    assert "\n" not in str(caught.value)
    assert all(layer.trainable for layer in model.layers)


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_the_optimiser_holds_nothing_for_frozen_layers(kind):
    model = tiny.build()
    freezing.freeze(model, ["stem", "block_?"])
    optimizer = optimizers.make_optimizer(kind, 0.1, model, ema_decay=0.9)
    optimizer.build(model.trainable_variables)
    parameters = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    slots = 2 if kind == "sgd" else 3  # the average and the moments
    assert sum(int(np.prod(v.shape)) for v in optimizer.variables if len(v.shape)) == slots * parameters
    assert not [v.path for v in optimizer.variables if "stem" in v.path or "block" in v.path]
    assert parameters < model.count_params() / 10
