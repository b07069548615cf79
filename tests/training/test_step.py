"""The step: XLA, micro-batches, executions, its state, the authors' runs, and the Keras methods it relies on."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tiny

import keras_mixer
from keras_mixer.training import freezing, loop, losses, optimizers, schedules, step, strategies

BATCH = 8
RATES = dict(dropout_rate=0.2, stochastic_depth_rate=0.3)


def _batch(number):
    rng = np.random.default_rng(number)
    images = rng.uniform(-1, 1, (BATCH, 16, 16, 3)).astype("float32")
    return images, np.eye(10, dtype="float32")[rng.integers(0, 10, BATCH)]


def _dataset(start=0):
    images, labels = zip(*(_batch(number) for number in range(start, 24)), strict=True)
    return tf.data.Dataset.from_tensor_slices((np.stack(images), np.stack(labels)))


def _model(**rates):
    model = keras_mixer.MLPMixer(
        4, 2, 16, 8, 24, input_shape=(16, 16, 3), classes=10, classifier_activation=None, **rates
    )
    head = model.get_layer("head").kernel  # not zero, so that the first gradient reaches all layers
    head.assign(np.random.default_rng(0).normal(size=head.shape, scale=0.3))
    return model


def _trainer(
    kind="sgd", frozen=(), clip_norm=1.0, ema_decay=None, first_moment_dtype="float32", seed=0, rates=None, **kwargs
):
    keras.utils.set_random_seed(seed)
    strategy = strategies.make_strategy("one_device")
    with strategy.scope():
        model = _model(**(rates or {}))
        freezing.freeze(model, frozen)
        optimizer = optimizers.make_optimizer(
            kind,
            schedules.WarmupDecay(0.03, 24, 2),
            model,
            weight_decay=0.1 if kind == "adamw" else 0.0,
            clip_norm=clip_norm,
            ema_decay=ema_decay,
            first_moment_dtype=first_moment_dtype,
        )
    execution = step.Execution(**dict(jit_compile=False) | kwargs)
    return loop.make_trainer(model, optimizer, losses.softmax_cross_entropy, strategy, BATCH, execution)


def _fit(trainer, total_steps):
    """Train from the trainer's step to `total_steps`; return the rows of each execution."""
    rows = []

    class Record(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            rows.append(self.model.rows)

    trainer.total_steps, callbacks = total_steps, [step.CountSteps(), Record()]
    data, executions = _dataset(trainer.step), trainer.executions
    trainer.fit(data, steps_per_epoch=executions, shuffle=False, verbose=0, callbacks=callbacks)
    return rows


def _difference(trainer, other):
    ours, theirs = trainer.state(), other.state()
    assert ours.keys() == theirs.keys()
    return max(np.abs(ours[name].astype("float64") - theirs[name]).max() for name in ours)


# ---- One gradient, however it is computed ----


def test_a_step_compiled_by_xla_equals_the_plain_one():
    """Without dropout and stochastic depth, for which TensorFlow draws other numbers under XLA. Measured: 1.2e-7."""
    plain, compiled = _trainer(), _trainer(jit_compile=True)
    rows, compiled_rows = np.concatenate(_fit(plain, 6)), np.concatenate(_fit(compiled, 6))
    difference = _difference(plain, compiled)
    print(f"state {difference:.1e}, rows {np.abs(rows - compiled_rows).max():.1e}")
    assert difference < 1e-6
    np.testing.assert_allclose(compiled_rows, rows, atol=1e-5)
    assert rows[-1, 0] != rows[0, 0]


def test_accumulated_gradients_equal_those_of_the_whole_batch():
    """With dropout and stochastic depth: each part takes its rows of the whole batch's draws. Measured: 1.2e-7."""
    whole = _trainer(rates=RATES)
    rows = np.concatenate(_fit(whole, 4))
    accumulated = _trainer(rates=RATES, gradient_accumulation_steps=4)
    part_rows = np.concatenate(_fit(accumulated, 4))
    difference = _difference(whole, accumulated)
    print(f"state {difference:.1e}, rows {np.abs(rows - part_rows).max():.1e}")
    assert difference < 1e-6
    np.testing.assert_allclose(part_rows, rows, atol=1e-5)


def test_dropout_and_stochastic_depth_are_active_in_a_step():
    """The equality above can fail: without rates, or with those of another seed, the loss differs."""
    second_losses, start = [], None
    for rates, seed in [(RATES, 0), ({}, 0), (RATES, 1)]:
        trainer = _trainer(rates=rates, seed=seed)
        start = start or [np.asarray(v) for v in trainer.model.trainable_variables]
        for variable, value in zip(trainer.model.trainable_variables, start, strict=True):
            variable.assign(value)
        second_losses.append(np.concatenate(_fit(trainer, 2))[1, 0])
    assert np.abs(np.diff(second_losses)).min() > 1e-4, second_losses


@pytest.mark.parametrize("parts", [1, 4])
def test_the_gradient_norm_is_that_before_clipping(parts):
    trainer = _trainer(clip_norm=0.01, gradient_accumulation_steps=parts)
    images, labels = _batch(0)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(losses.softmax_cross_entropy(labels, trainer.model(images)))
    grads = tape.gradient(loss, [v.value for v in trainer.model.trainable_variables])
    norm = np.sqrt(sum((g.numpy().astype("float64") ** 2).sum() for g in grads))
    row = _fit(trainer, 1)[0][0]
    assert norm > 0.1  # clipped to a tenth of it at most
    np.testing.assert_allclose(row[step.STATISTICS.index("gradient_norm")], norm, rtol=1e-5)
    np.testing.assert_allclose(row[step.STATISTICS.index("loss")], loss, rtol=1e-5)


def test_frozen_layers_stay_and_the_others_train():
    trainer = _trainer("adamw", frozen=["stem", "block_0"], ema_decay=0.9, gradient_accumulation_steps=2)
    before = {name: value.copy() for name, value in trainer.state().items()}
    _fit(trainer, 3)
    changed = {name for name, value in trainer.state().items() if (value != before[name]).any()}
    assert not any("/stem/" in name or "/block_0/" in name for name in changed)
    assert any("/head/" in name for name in changed)
    assert any("model/" in name and "/block_1/" in name for name in changed)
    assert not any("optimizer" in name and ("stem" in name or "block_0" in name) for name in before)


# ---- Executions of several steps ----


def test_executions_end_at_multiples_and_with_the_run():
    trainer = _trainer()
    for start, total_steps, each, counts in [
        (0, 6, 3, [3, 3]),
        (0, 7, 3, [3, 3, 1]),
        (4, 11, 3, [2, 3, 2]),
        (5, 6, 4, [1]),
        (0, 2, 50, [2]),
        (3, 5, 1, [1, 1]),
    ]:
        trainer.step, trainer.steps_each = start, each
        before = int(trainer.optimizer.iterations)
        assert [len(rows) for rows in _fit(trainer, total_steps)] == counts
        assert trainer.step == total_steps
        assert int(trainer.optimizer.iterations) - before == total_steps - start


def test_executions_of_several_steps_give_each_steps_row():
    one, several = _trainer(rates=RATES), _trainer(rates=RATES, steps_per_execution=3)
    np.testing.assert_array_equal(np.concatenate(_fit(several, 7)), np.concatenate(_fit(one, 7)))
    assert _difference(one, several) == 0


def test_a_stop_is_told_in_the_row():
    trainer = _trainer()
    _fit(trainer, 1)
    assert trainer.rows[0, step.STATISTICS.index("stop")] == 0
    trainer.stop = 1
    _fit(trainer, 2)
    assert trainer.rows[0, step.STATISTICS.index("stop")] == 1


# ---- The state ----


@pytest.mark.parametrize(("kind", "dtype"), [("sgd", "float32"), ("adamw", "bfloat16")])
def test_the_state_is_all_that_a_step_reads(kind, dtype):
    """A trainer of another seed, given the state, goes on bit for bit: weights, seeds, moments, average, rate."""
    setup = dict(rates=RATES, ema_decay=0.9, first_moment_dtype=dtype)
    first, second = _trainer(kind, **setup), _trainer(kind, seed=7, **setup)
    _train_without_the_end(first, 3)
    saved = first.state()
    assert all(value.dtype.kind in "fiu" for value in saved.values())  # what NumPy can save; bfloat16 as float32
    second.set_state(saved)
    second.step = first.step
    assert _difference(first, second) == 0
    for trainer in (first, second):
        _train_without_the_end(trainer, 6)
    assert _difference(first, second) == 0
    assert any((value != saved[name]).any() for name, value in second.state().items())


def _train_without_the_end(trainer, total_steps):
    """As `_fit`, without the end of `fit`, which puts the average in the place of the weights."""
    trainer.make_train_function()
    trainer.total_steps, iterator = total_steps, iter(_dataset(trainer.step))
    while trainer.step < total_steps:
        trainer.begin_execution()
        trainer.end_execution(trainer.train_function(iterator))


# ---- The authors' training runs ----

STEPS = 24
# Largest differences of the loss and of a final weight, measured with 1 part (with and without XLA) and with 4:
#   finetune_softmax  2.4e-7, 1.2e-7
#   pretrain_softmax  1.5e-7, 3.3e-6
#   pretrain_sigmoid  9.5e-7, 6.3e-7
# The limits are those of tests/test_parity.py, which takes stock Keras steps.
RUNS = {
    "finetune_softmax": ("sgd", "cosine", 0.03, 0.0, 1e-6, 1e-6),
    "pretrain_softmax": ("adamw", "linear", 0.001, 0.1, 2e-6, 1e-5),
    "pretrain_sigmoid": ("adamw", "linear", 0.001, 0.1, 2e-6, 1e-5),
}


@pytest.mark.parametrize("parts", [1, 4])
@pytest.mark.parametrize("run", RUNS)
def test_a_trainers_run_equals_the_authors(golden, tmp_path, run, parts):
    kind, decay, peak, weight_decay, loss_limit, weight_limit = RUNS[run]
    strategy = strategies.make_strategy("one_device")
    with strategy.scope():
        model = tiny.build()
        keras_mixer.load_checkpoint(model, tiny.write_checkpoint(golden, tmp_path / "tiny.npz"))
        schedule = schedules.WarmupDecay(peak, STEPS, 6, decay)
        optimizer = optimizers.make_optimizer(kind, schedule, model, weight_decay=weight_decay, clip_norm=1.0)
    loss = losses.get_loss(run.split("_")[1])
    kwargs = dict(
        steps_per_execution=STEPS, gradient_accumulation_steps=parts, jit_compile=kind == "sgd" and parts == 1
    )
    trainer = loop.make_trainer(model, optimizer, loss, strategy, 8, step.Execution(**kwargs))
    trainer.total_steps = STEPS
    images, labels = keras_mixer.preprocess_input(golden["images"]), np.eye(10, dtype="float32")[golden["labels"]]
    data = tf.data.Dataset.from_tensors((images, labels)).repeat()
    trainer.fit(data, steps_per_epoch=1, shuffle=False, verbose=0, callbacks=[step.CountSteps()])
    loss_difference = np.abs(trainer.rows[:, 0] - golden[f"train/{run}/loss"]).max()

    keras_mixer.save_checkpoint(model, tmp_path / "final.npz")
    with np.load(tmp_path / "final.npz") as final:
        differences = {name: np.abs(final[name] - golden[f"train/{run}/final/{name}"]).max() for name in final.files}
    # Adam turns the rounding noise of these biases' gradients, which truly are zero, into steps: see test_parity.py.
    noise = {name: differences.pop(name) for name in list(differences) if name.endswith("token_mixing/Dense_1/bias")}
    worst = max(differences.values())
    print(f"{run}, {parts} parts: loss {loss_difference:.1e}, weights {worst:.1e}, noise {max(noise.values()):.1e}")
    assert loss_difference < loss_limit
    assert worst < weight_limit, max(differences, key=differences.get)
    if kind == "sgd":
        assert max(noise.values()) < weight_limit


# ---- What is private to Keras ----


def test_this_is_the_keras_version_whose_private_methods_are_used():
    assert keras.__version__.startswith("3.15."), (
        f"Keras is {keras.__version__}: read `fit` and `Optimizer.apply` again before widening the pin in setup.cfg"
    )


def _count_calls(monkeypatch, owner, name, calls):
    real = getattr(owner, name)

    def counted(*args, **kwargs):
        calls[name] = calls.get(name, 0) + 1
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, name, counted)


def test_fit_calls_what_the_trainer_overrides(monkeypatch):
    calls = {}
    for name in ("_maybe_symbolic_build", "make_train_function"):
        assert callable(getattr(keras.Model, name))
        assert name in vars(step.Trainer)
        _count_calls(monkeypatch, step.Trainer, name, calls)
    trainer = _trainer(steps_per_execution=2)
    _fit(trainer, 4)
    assert calls == {"_maybe_symbolic_build": 1, "make_train_function": 1}
    assert len(trainer.rows) == 2  # and takes what the latter made: `train_function`


def test_apply_calls_what_the_optimisers_override(monkeypatch):
    calls = {}
    for name in ("_clip_gradients", "_all_reduce_sum_gradients"):
        assert callable(getattr(keras.optimizers.Optimizer, name))
        assert name in vars(optimizers._ClipAfterAllReduce)
        _count_calls(monkeypatch, optimizers._ClipAfterAllReduce, name, calls)
    for kind in ("sgd", "adamw"):
        calls.clear()
        trainer = _trainer(kind)
        weights = trainer.model.trainable_variables
        trainer.optimizer.apply([keras.ops.ones(w.shape) for w in weights], weights)
        assert calls == {"_clip_gradients": 1, "_all_reduce_sum_gradients": 1}


def test_the_optimiser_keeps_its_schedule_where_the_log_reads_it():
    """`Optimizer.learning_rate` is only the present rate; the log wants that of the step before."""
    optimizer = _trainer().optimizer
    assert isinstance(optimizer._learning_rate, schedules.WarmupDecay)
    assert float(optimizer._learning_rate(1)) == pytest.approx(0.015)


def test_fit_puts_the_average_in_place_once_at_its_end():
    """Why a run is one call of `fit`."""
    trainer = _trainer(ema_decay=0.9)
    _fit(trainer, 2)
    averages = trainer.optimizer._model_variables_moving_average
    for weight, average in zip(trainer.model.trainable_variables, averages, strict=True):
        np.testing.assert_array_equal(np.asarray(weight), np.asarray(average))


# ---- Arguments ----


def test_another_optimiser_is_refused():
    strategy = strategies.make_strategy("one_device")
    for optimizer in (keras.optimizers.SGD(0.1), keras.optimizers.AdamW(0.1)):
        with pytest.raises(ValueError, match=f"optimizer: {type(optimizer).__name__} would sum and clip the gradient"):
            loop.make_trainer(_model(), optimizer, losses.softmax_cross_entropy, strategy, BATCH)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(steps_per_execution=0), "steps_per_execution: must be a positive number of steps, got 0"),
        (dict(gradient_accumulation_steps=0), "gradient_accumulation_steps: must be a positive number of steps, got 0"),
        (dict(gradient_accumulation_steps=3), "the 8 images of a device cannot be divided into 3 equal parts"),
    ],
)
def test_bad_numbers_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        _trainer(**kwargs)
