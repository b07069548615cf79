"""An elementwise function in one pass: the same numbers and gradients, rounded once, and one operation in the graph."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_mixer import layers
from keras_mixer.one_pass import one_pass

X = np.random.default_rng(0).normal(scale=3, size=(64, 33)).astype("float32")
UPSTREAM = np.random.default_rng(1).normal(size=X.shape).astype("float32")


def _value_and_gradient(function, dtype):
    x, upstream = tf.cast(X, dtype), tf.cast(UPSTREAM, dtype)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
    gradient = tape.gradient(y, x, upstream)
    assert y.dtype == gradient.dtype == dtype
    return np.asarray(y, "float64"), np.asarray(gradient, "float64")


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_value_and_gradient_are_those_of_the_function(dtype):
    rounded = [np.asarray(tf.cast(array, dtype), "float64") for array in (X, UPSTREAM)]
    x = tf.constant(rounded[0])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layers.gelu(x)
    exact = y.numpy(), tape.gradient(y, x, rounded[1]).numpy()
    # The function itself is 4e-6 off in float32. A bfloat16 has 8 bits, so that rounding once is 2**-9 off.
    rtol, atol = {"float64": (0, 1e-12), "float32": (0, 6e-6), "bfloat16": (2**-8, 1e-5)}[dtype]
    for ours, expected in zip(_value_and_gradient(one_pass(layers.gelu), dtype), exact, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=rtol, atol=atol)


def test_the_gradient_has_a_gradient():
    x = tf.constant([0.5, -2.0])
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            y = one_pass(keras.ops.tanh)(x)
        first = inner.gradient(y, x)
    np.testing.assert_allclose(outer.gradient(first, x), -2 * np.tanh(x) * (1 - np.tanh(x) ** 2), rtol=1e-5)


@pytest.mark.parametrize(("training", "compiled"), [(True, True), (False, False)])
def test_only_training_uses_it(training, compiled):
    block = layers.MlpBlock(5, dtype="mixed_bfloat16")
    block.build((None, 6, 4))
    graph = tf.function(lambda x: block(x, training=training)).get_concrete_function(tf.TensorSpec((2, 6, 4))).graph
    assert any(op.type == "Tanh" for op in graph.get_operations()) != compiled


def test_other_devices_keep_the_function(monkeypatch):
    device = type("Device", (), {"device_type": "GPU"})
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda: [device])
    assert one_pass.__wrapped__(layers.gelu) is layers.gelu
