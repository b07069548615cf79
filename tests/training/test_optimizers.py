"""Optimisers and schedules against NumPy, clipping across replicas, the decay mask, and a moment in bfloat16."""

import functools
import subprocess
import sys
import textwrap

import keras
import ml_dtypes  # noqa: F401 - gives NumPy its "bfloat16"
import numpy as np
import pytest
from conftest import ROOT

from keras_mixer.training import optimizers, schedules


def _minimise(optimizer, gradients, start):
    variable = keras.Variable(start)
    for gradient in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [variable])
    return np.asarray(variable)


GRADIENTS = np.random.default_rng(0).normal(size=(6, 3)).astype("float32")
START = np.array([1.0, -2.0, 0.5], "float32")


def test_heavy_ball_applies_the_rate_after_the_trace():
    rate = schedules.WarmupDecay(0.1, 6, 2, "cosine")
    weights, trace = START.astype("float64"), 0.0
    for step, gradient in enumerate(GRADIENTS):
        trace = 0.9 * trace + gradient
        weights = weights - float(rate(step)) * trace
    np.testing.assert_allclose(_minimise(optimizers.HeavyBallSGD(rate), GRADIENTS, START), weights, atol=1e-6)


def test_adamw_adds_epsilon_after_the_bias_correction():
    epsilon = 1e-2  # large, so that its place shows
    weights, m, v = START.astype("float64"), 0.0, 0.0
    for step, gradient in enumerate(GRADIENTS, start=1):
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        update = (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + epsilon)
        weights = weights - 0.01 * (update + 0.1 * weights)
    ours = _minimise(optimizers.AdamW(0.01, weight_decay=0.1, epsilon=epsilon), GRADIENTS, START)
    np.testing.assert_allclose(ours, weights, atol=1e-6)
    stock = _minimise(keras.optimizers.AdamW(0.01, weight_decay=0.1, epsilon=epsilon), GRADIENTS, START)
    assert np.abs(stock - weights).max() > 1e-4  # the check can fail


def test_only_kernels_decay():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.LayerNormalization()])
    optimizer = optimizers.make_optimizer("adamw", 0.1, model, weight_decay=0.5)
    before = [np.asarray(w) + 1 for w in model.weights]
    model.set_weights(before)
    optimizer.apply([keras.ops.zeros(w.shape) for w in model.weights], model.trainable_variables)
    for variable, old in zip(model.weights, before, strict=True):
        expected = old * (1 - 0.1 * 0.5) if variable.name == "kernel" else old
        np.testing.assert_allclose(np.asarray(variable), expected, rtol=1e-6)


def test_global_norm_is_clipped():
    optimizer = optimizers.HeavyBallSGD(1.0, momentum=0.0, global_clipnorm=1.0)
    moved = START - _minimise(optimizer, [np.array([3.0, 0.0, 4.0], "float32")], START)
    np.testing.assert_allclose(moved, [0.6, 0, 0.8], atol=1e-6)


@pytest.mark.parametrize("clip_norm", [None, 0, 0.0])
def test_no_clipping(clip_norm):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(3, use_bias=False)])
    optimizer = optimizers.make_optimizer("sgd", 1.0, model, clip_norm=clip_norm)
    assert optimizer.global_clipnorm is None
    moved = START - _minimise(optimizer, [np.array([300.0, 0.0, 400.0], "float32")], START)
    np.testing.assert_allclose(moved, [300, 0, 400], rtol=1e-6)


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_bfloat16_first_moment_is_rounded_only_where_it_is_stored(kind):
    """Against NumPy with ml_dtypes: read as float32, computed in float32, stored rounded. Measured: 1.2e-7."""
    rate = 0.01
    weights, stored, v = START.copy(), np.zeros(3, "bfloat16"), np.zeros(3, "float32")
    for step, gradient in enumerate(GRADIENTS, start=1):
        if kind == "sgd":
            m = np.float32(0.9) * stored.astype("float32") + gradient
            update = m
        else:
            m = np.float32(0.9) * stored.astype("float32") + np.float32(0.1) * gradient
            v = np.float32(0.999) * v + np.float32(0.001) * gradient**2
            update = (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
        stored = m.astype("bfloat16")
        weights = (weights - np.float32(rate) * update).astype("float32")
    make = optimizers.HeavyBallSGD if kind == "sgd" else functools.partial(optimizers.AdamW, weight_decay=None)
    optimizer = make(rate, first_moment_dtype="bfloat16")
    ours = _minimise(optimizer, GRADIENTS, START)
    difference, effect = np.abs(ours - weights).max(), np.abs(ours - _minimise(make(rate), GRADIENTS, START)).max()
    print(f"{kind}: difference {difference:.1e}, of the rounding {effect:.1e}")
    assert difference < 1e-6
    assert effect > 1e-5  # the check can fail: without rounding, the weights are others
    (moment,) = optimizer._traces if kind == "sgd" else optimizer._momentums
    np.testing.assert_array_equal(np.array(moment.numpy()), stored)


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_bfloat16_halves_the_memory_of_the_first_moment_and_of_nothing_else(kind):
    sizes = {}
    model = keras.Sequential([keras.Input((40,)), keras.layers.Dense(30)])
    for dtype in ("float32", "bfloat16"):
        optimizer = optimizers.make_optimizer(kind, 0.1, model, ema_decay=0.9, first_moment_dtype=dtype)
        optimizer.build(model.trainable_variables)
        sizes[dtype] = {v.path.split("/", 1)[1]: np.array(v.numpy()).nbytes for v in optimizer.variables}
    assert sizes["float32"].keys() == sizes["bfloat16"].keys()
    ratios = {name: sizes["float32"][name] / sizes["bfloat16"][name] for name in sizes["float32"]}
    first = {name for name in ratios if "trace" in name or "momentum" in name}
    assert len(first) == 2
    assert {name: 2 if name in first else 1 for name in ratios} == ratios


def test_the_config_makes_the_same_optimiser():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    for kind in ("sgd", "adamw"):
        optimizer = optimizers.make_optimizer(kind, 0.1, model, ema_decay=0.9, first_moment_dtype="bfloat16")
        again = type(optimizer).from_config(optimizer.get_config())
        assert again.get_config() == optimizer.get_config()
        assert (again.first_moment_dtype, again.global_clipnorm, again.ema_momentum) == ("bfloat16", 1.0, 0.9)


def test_two_replicas_clip_the_gradient_of_the_global_batch():
    """In a process of its own, since logical devices are fixed when TensorFlow starts. Stock Keras must differ."""
    code = """
        import keras, numpy as np, tensorflow as tf
        from keras_mixer.training import optimizers, strategies
        two = strategies.make_strategy("mirrored", 2)
        assert two.num_replicas_in_sync == 2
        x = np.random.default_rng(0).normal(size=(8, 5)).astype("float32") * np.linspace(1, 9, 8)[:, None]
        y = np.random.default_rng(1).normal(size=(8, 3)).astype("float32") * 10

        def run(strategy, make):
            keras.utils.set_random_seed(0)
            with strategy.scope():
                model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)])
                model.compile(make(), loss="mse", jit_compile=False)
            data = tf.data.Dataset.from_tensors((x, y)).unbatch().batch(8).repeat(5)
            history = model.fit(data, verbose=0).history
            return np.concatenate([w.ravel() for w in model.get_weights()])

        one = tf.distribute.OneDeviceStrategy("/cpu:0")
        for kind in (optimizers.HeavyBallSGD, optimizers.AdamW):
            make = lambda: kind(0.1, global_clipnorm=1.0)
            print(kind.__name__, np.abs(run(one, make) - run(two, make)).max())
        stock = lambda: keras.optimizers.SGD(0.1, global_clipnorm=1.0)
        print("stock", np.abs(run(one, stock) - run(two, stock)).max())
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert result.returncode == 0, result.stderr[-2000:]
    differences = {line.split()[0]: float(line.split()[1]) for line in result.stdout.splitlines()}
    assert differences["HeavyBallSGD"] < 1e-6
    assert differences["AdamW"] < 1e-6
    assert differences["stock"] > 1e-3


def test_schedule_shapes():
    linear = schedules.WarmupDecay(2.0, 10, 4, "linear")
    assert [float(linear(s)) for s in (0, 2, 4)] == [0, 1, 2]
    assert float(linear(10)) == pytest.approx(2e-5)
    cosine = schedules.WarmupDecay(2.0, 10, 4, "cosine")
    assert [float(cosine(s)) for s in (4, 7, 10, 99)] == pytest.approx([2, 1, 0, 0], abs=1e-6)
    assert float(schedules.WarmupDecay(2.0, 10, 0)(0)) == 2
    assert schedules.WarmupDecay.from_config(cosine.get_config()).get_config() == cosine.get_config()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((0.0, 10), "learning_rate: must be a positive number, got 0.0"),
        ((1.0, 0), "total_steps: must be a positive number of steps, got 0"),
        ((1.0, 10, 10), "warmup_steps: 10 must be at least 0 and less than total_steps, 10"),
        ((1.0, 10, 1, "step"), "decay: must be 'linear' or 'cosine'"),
    ],
)
def test_bad_schedules_are_refused(args, message):
    with pytest.raises(ValueError, match=message):
        schedules.WarmupDecay(*args)


def test_bad_optimisers_are_refused():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    for kwargs, message in [
        (dict(kind="adam"), "optimizer: must be 'adamw' or 'sgd', got 'adam'"),
        (dict(kind="adamw", weight_decay=-1), "weight_decay: must be a number that is not negative, got -1"),
        (dict(kind="sgd", weight_decay=0.1), "weight_decay: heavy-ball SGD is used without"),
        (dict(kind="sgd", clip_norm=-1), "clip_norm: must be a number that is not negative, got -1; use 0 for never"),
        (dict(kind="sgd", clip_norm=float("nan")), "clip_norm: must be a number that is not negative, got nan"),
        (dict(kind="adamw", clip_norm=float("inf")), "clip_norm: must be a number that is not negative, got inf"),
        (dict(kind="adamw", ema_decay=1.0), r"ema_decay: must be a fraction in \(0, 1\), got 1.0; leave it out"),
        (dict(kind="adamw", ema_decay=0), r"ema_decay: must be a fraction in \(0, 1\), got 0; leave it out"),
        (dict(kind="sgd", first_moment_dtype="float16"), "first_moment_dtype: must be 'float32' or 'bfloat16', got"),
    ]:
        with pytest.raises(ValueError, match=message):
            optimizers.make_optimizer(learning_rate=0.1, model=model, **kwargs)
