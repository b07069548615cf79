"""The moving average of the weights against NumPy, and that the weights come back."""

import keras
import numpy as np
import pytest
import tiny

from keras_mixer.training import ema, optimizers


def _model_and_optimizer(kind="sgd", ema_decay=0.9):
    model = tiny.build()
    optimizer = optimizers.make_optimizer(kind, 0.1, model, ema_decay=ema_decay)
    optimizer.build(model.trainable_variables)
    return model, optimizer


def _arrays(variables):
    return [np.array(v.numpy()) for v in variables]


def _step(model, optimizer, number):
    rng = np.random.default_rng(number)
    grads = [keras.ops.convert_to_tensor(rng.normal(size=v.shape).astype("float32")) for v in model.trainable_variables]
    optimizer.apply(grads, model.trainable_variables)


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_the_average_is_the_one_by_hand(kind):
    """The first step copies the weights; each later one keeps the decay's fraction. Measured: 2.2e-7."""
    model, optimizer = _model_and_optimizer(kind)
    average = None
    for number in range(5):
        _step(model, optimizer, number)
        weights = [w.astype("float64") for w in _arrays(model.trainable_variables)]
        average = weights if average is None else [0.9 * a + 0.1 * w for a, w in zip(average, weights, strict=True)]
    with ema.averaged_weights(model, optimizer):
        averaged = _arrays(model.trainable_variables)
    difference = max(np.abs(a - b).max() for a, b in zip(average, averaged, strict=True))
    print(f"{kind}: largest difference {difference:.1e}")
    assert difference < 1e-6
    assert max(np.abs(a - w).max() for a, w in zip(averaged, weights, strict=True)) > 1e-3  # it is another thing


@pytest.mark.parametrize("fails", [False, True])
def test_the_weights_come_back_bit_for_bit(fails):
    model, optimizer = _model_and_optimizer()
    for number in range(3):
        _step(model, optimizer, number)
    before, state = _arrays(model.variables), _arrays(optimizer.variables)
    try:
        with ema.averaged_weights(model, optimizer):
            averaged = _arrays(model.variables)
            if fails:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert fails
    assert any((a != b).any() for a, b in zip(averaged, before, strict=True))
    for now, then in zip([*_arrays(model.variables), *_arrays(optimizer.variables)], [*before, *state], strict=True):
        np.testing.assert_array_equal(now, then)


def test_training_goes_on_from_the_weights():
    """An evaluation of the average between two steps changes neither."""
    (looked, first), (straight, second) = _model_and_optimizer(), _model_and_optimizer()
    straight.set_weights(looked.get_weights())
    for number in range(3):
        _step(looked, first, number)
        _step(straight, second, number)
        with ema.averaged_weights(looked, first):
            pass
    for ours, theirs in zip(looked.get_weights(), straight.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
