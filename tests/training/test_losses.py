"""Losses against their definitions, in float64 NumPy."""

import keras
import numpy as np
import pytest

from keras_mixer.training import losses

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(5, 7), scale=4).astype("float32")
LABELS = RNG.dirichlet(np.ones(7), 5).astype("float32")


def test_softmax_cross_entropy():
    x = LOGITS.astype("float64")
    expected = -(LABELS * (x - np.log(np.exp(x).sum(-1, keepdims=True)))).sum(-1)
    np.testing.assert_allclose(losses.softmax_cross_entropy(LABELS, LOGITS), expected, rtol=1e-5)


def test_sigmoid_cross_entropy_sums_over_classes():
    p = 1 / (1 + np.exp(-LOGITS.astype("float64")))
    expected = -(LABELS * np.log(p) + (1 - LABELS) * np.log(1 - p)).sum(-1)
    np.testing.assert_allclose(losses.sigmoid_cross_entropy(LABELS, LOGITS), expected, rtol=1e-5)


@pytest.mark.parametrize("loss", losses.LOSSES.values())
def test_extreme_logits_stay_finite(loss):
    logits = np.array([[1e4, -1e4, 0.0]], "float32")
    assert np.isfinite(loss(np.eye(3, dtype="float32")[:1], logits)).all()
    assert np.isfinite(loss(np.eye(3, dtype="float32")[1:2], logits)).all()


@pytest.mark.parametrize("loss", losses.LOSSES.values())
def test_bfloat16_logits_are_computed_in_float32(loss):
    logits = keras.ops.cast(LOGITS, "bfloat16")
    result = loss(LABELS, logits)
    assert keras.backend.standardize_dtype(result.dtype) == "float32"
    np.testing.assert_array_equal(result, loss(LABELS, keras.ops.cast(logits, "float32")))


def test_unknown_loss_is_refused():
    with pytest.raises(ValueError, match="loss: must be 'softmax' or 'sigmoid', got 'mse'"):
        losses.get_loss("mse")
