"""The loop: a resumed run is bit-equal to the uninterrupted one, NaN stops it, damaged checkpoints are passed over."""

import contextlib
import functools
import logging
import os
import re
import signal
import time
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_mixer
from keras_mixer import files
from keras_mixer.training import (
    background,
    callbacks,
    checkpoints,
    loop,
    losses,
    optimizers,
    remaining,
    schedules,
    signals,
    step,
    telling,
    workdir,
)

STEPS = 12
RATES = dict(dropout_rate=0.1, stochastic_depth_rate=0.2)
STRATEGY = tf.distribute.OneDeviceStrategy("/cpu:0")


def _batches(start, bad_step=None):
    def batch(number):
        images = tf.random.stateless_uniform((4, 32, 32, 3), [number, 0], -1, 1)
        labels = tf.one_hot(tf.random.stateless_uniform([4], [number, 1], 0, 10, tf.int32), 10)
        return (images * float("nan") if bad_step is not None and number == bad_step else images), labels

    if bad_step is None:
        return tf.data.Dataset.range(start, 10**6).map(lambda number: batch(tf.cast(number, tf.int32)))
    return tf.data.Dataset.from_generator(
        lambda: (batch(number) for number in range(start, 10**6)),
        output_signature=(tf.TensorSpec((4, 32, 32, 3)), tf.TensorSpec((4, 10))),
    )


class _Killed(Exception):
    pass


def _train(folder, total_steps=STEPS, stop_after=None, batches=_batches, ema_decay=0.9, told=None, every=4, **kwargs):
    """Train as a recipe does; `stop_after` ends the process's part of the run early, as a kill would."""
    keras.utils.set_random_seed(0)
    with STRATEGY.scope():
        model = keras_mixer.MLPMixer(
            8, 2, 16, 8, 24, input_shape=(32, 32, 3), classes=10, classifier_activation=None, **RATES
        )
        schedule = schedules.WarmupDecay(1e-3, total_steps, 2)
        optimizer = optimizers.make_optimizer("adamw", schedule, model, weight_decay=0.1, ema_decay=ema_decay)
    trainer = loop.make_trainer(
        model, optimizer, losses.softmax_cross_entropy, STRATEGY, 4, step.Execution(jit_compile=False, **kwargs)
    )
    if stop_after is not None:
        begin = trainer.begin_execution

        def killed():
            if trainer.step >= stop_after:
                raise _Killed
            begin()

        trainer.begin_execution = killed
    with workdir.open_workdir(folder, {}) as path, contextlib.suppress(_Killed):
        loop.train(
            trainer,
            batches,
            path,
            total_steps,
            loop.Intervals(checkpoint_steps=every, log_steps=3),
            told=told or telling.Telling(),
        )
    return trainer.state()


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    folder = tmp_path_factory.mktemp("straight")
    return _train(folder), (folder / "metrics.csv").read_text()


def _without_speed(text):
    return [line.rsplit(",", 1)[0] for line in text.splitlines()]


def test_resumed_run_is_bit_equal(tmp_path, straight):
    _train(tmp_path, stop_after=7)  # the newest checkpoint is of step 4
    resumed = _train(tmp_path)
    expected, metrics = straight
    assert resumed.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(resumed[name], value, err_msg=name)
    assert any("seed" in name for name in expected)
    assert any("average" in name for name in expected)
    assert _without_speed((tmp_path / "metrics.csv").read_text()) == _without_speed(metrics)


def test_resuming_from_another_step_of_the_data_would_be_seen(tmp_path, straight):
    """The equality above can fail: one batch too many, and the weights differ."""
    _train(tmp_path, stop_after=7)
    resumed = _train(tmp_path, batches=lambda start: _batches(start + 1))
    assert any((resumed[name] != value).any() for name, value in straight[0].items() if name.startswith("model/"))


def test_nan_stops_at_its_step_and_keeps_the_last_good_state(tmp_path):
    with pytest.raises(callbacks.NonFiniteLoss, match="the loss became nan at step 7"):
        _train(tmp_path, batches=lambda start: _batches(start, bad_step=6))
    newest = checkpoints.list_states(tmp_path / "checkpoints")[0]
    assert newest.name == "step_00000004.npz"
    with np.load(newest) as archive:
        assert all(np.isfinite(archive[name]).all() for name in archive.files if archive[name].dtype.kind == "f")


def _on_save(monkeypatch, of_step, act):
    """Have `act` called in the thread that writes, before it writes the state of a step."""
    save = checkpoints.save_state

    def acting(folder, arrays, step, keep):
        if step == of_step:
            act()
        save(folder, arrays, step, keep)

    monkeypatch.setattr(checkpoints, "save_state", acting)


def _steps(folder):
    return [int(path.stem.removeprefix("step_")) for path in checkpoints.list_states(folder / "checkpoints")]


def _wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_state_that_is_written_late_is_that_of_its_step(tmp_path, straight, monkeypatch):
    """The write of step 4 begins when the row of step 6 is there, which has set the sums of the log to zero."""
    expected, metrics = straight
    path = tmp_path / "metrics.csv"
    _on_save(monkeypatch, 4, lambda: _wait_for(lambda: "\n6," in path.read_text()))
    _train(tmp_path, stop_after=7)
    assert _steps(tmp_path) == [4, 0]
    for name, value in _train(tmp_path).items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)
    assert _without_speed(path.read_text()) == _without_speed(metrics)


def test_a_signal_during_a_write_keeps_that_state_and_the_newest(tmp_path, monkeypatch, capfd):
    def signalled():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.3)

    _on_save(monkeypatch, 4, signalled)
    with pytest.raises(signals.Interrupted) as stopped:
        _train(tmp_path, total_steps=10**6)
    assert _steps(tmp_path) == sorted({4, stopped.value.step, 0}, reverse=True)[:2]
    assert not list((tmp_path / "checkpoints").glob(".*"))
    assert capfd.readouterr().err == "SIGTERM: saving after this step; once more exits at once.\n"


@pytest.mark.parametrize("meets", ["a step", "the next save", "the end", "a signal", "NaN", "another error"])
def test_a_write_that_fails_is_one_error_whatever_meets_it(tmp_path, monkeypatch, caplog, meets):
    """Its own, since training would not have gone on after it had it been known at once."""

    def full_disk():
        if meets == "a signal":
            os.kill(os.getpid(), signal.SIGTERM)
        elif meets != "a step":
            time.sleep(0.5)  # until training has come to what meets it
        raise files.unwritable("step_4", "No space left on device")

    _on_save(monkeypatch, 4, full_disk)
    ways = {
        "a step": dict(total_steps=10**6),
        "the next save": dict(total_steps=10, every=1),
        "the end": dict(total_steps=5),
        "a signal": dict(total_steps=10**6),
        "NaN": dict(batches=functools.partial(_batches, bad_step=4)),
        "another error": dict(stop_after=5),
    }
    with pytest.raises(files.SaveError, match="step_4 cannot be written") as failed:
        _train(tmp_path, **ways[meets])
    assert failed.value.exit_code == 1
    assert not caplog.text
    assert _steps(tmp_path) == ([3, 2] if meets == "the next save" else [0])


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty"])
def test_damaged_newest_checkpoint_is_named_and_the_one_before_is_used(tmp_path, straight, damage, caplog):
    _train(tmp_path, stop_after=9)
    newest, before = checkpoints.list_states(tmp_path / "checkpoints")
    data = bytearray(newest.read_bytes())
    middle = len(data) // 2
    data[middle] ^= 0xFF
    newest.write_bytes({"truncate": data[:middle], "flip": data, "empty": b""}[damage])
    with caplog.at_level(logging.WARNING, "keras_mixer"):
        resumed = _train(tmp_path)
    assert newest.name in caplog.text
    assert before.name == "step_00000004.npz"
    for name, value in straight[0].items():
        np.testing.assert_array_equal(resumed[name], value, err_msg=name)


def test_the_log_says_what_it_waits_for_and_how_long_it_takes(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(remaining, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(remaining, "WORTH_SAYING", 0.0)
    told = telling.Telling(advice=lambda seconds: [f"advice for {seconds > 0}"])
    _train(tmp_path, total_steps=6, told=told)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "compiling the training step ..."
    assert lines[1].startswith("step 3/6 ")
    assert re.fullmatch(r"step 4 of 6: about \d+ s here \([\d.]+ images/s\)", lines[2])
    assert lines[3] == "advice for True"
    _train(tmp_path, total_steps=9)
    assert capsys.readouterr().out.splitlines()[0] == "going on after step 6; compiling the training step ..."


def test_no_usable_checkpoint_is_an_error_not_a_restart(tmp_path):
    _train(tmp_path, stop_after=5)
    for path in checkpoints.list_states(tmp_path / "checkpoints"):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="none of the 2 checkpoints in .* can be used"):
        _train(tmp_path)


def test_only_the_newest_two_are_kept_and_nothing_temporary(tmp_path, straight):
    _train(tmp_path)
    assert [p.name for p in sorted((tmp_path / "checkpoints").iterdir())] == ["step_00000008.npz", "step_00000012.npz"]


def test_a_finished_run_does_nothing(tmp_path):
    first = _train(tmp_path, total_steps=4)
    again = _train(tmp_path, total_steps=4)
    for name, value in first.items():
        np.testing.assert_array_equal(again[name], value)


def test_executions_of_several_steps_are_the_same_steps(tmp_path, straight):
    """Also from a checkpoint inside what would be one execution."""
    _train(tmp_path, stop_after=4)
    resumed = _train(tmp_path, steps_per_execution=3)
    for name, value in straight[0].items():
        np.testing.assert_array_equal(resumed[name], value, err_msg=name)
    rows = _without_speed((tmp_path / "metrics.csv").read_text())
    assert rows == _without_speed(straight[1])


@pytest.mark.parametrize("name", ["checkpoint_steps", "log_steps", "eval_steps", "keep_checkpoints"])
def test_non_positive_intervals_are_refused(name):
    with pytest.raises(ValueError, match=f"{name}: must be a positive number of steps, got 0"):
        loop.Intervals(**{name: 0})


@pytest.mark.parametrize(("folder", "error"), [("chief", signals.Interrupted), (None, tf.errors.UnavailableError)])
def test_the_chief_that_has_saved_needs_no_word_of_the_others(tmp_path, monkeypatch, folder, error):
    """A worker may be gone before the chief has heard that it, too, had come to the end of the step."""

    def gone(strategy, step):
        raise tf.errors.UnavailableError(None, None, "Socket closed")

    monkeypatch.setattr(background.strategies, "has_workers", lambda strategy: True)
    monkeypatch.setattr(background.strategies, "check_same_step", gone)
    saving = background.Checkpoint(folder and tmp_path / folder, 100, lambda: [("a", np.zeros(2))])
    stopping = np.zeros((1, len(step.STATISTICS)))
    stopping[0, step.STATISTICS.index("stop")] = 1
    saving.set_model(types.SimpleNamespace(rows=stopping, strategy=None, step=0, total_steps=9))
    saving.on_train_begin()
    with pytest.raises(error):
        saving.on_step(3)
    assert bool(folder) == any(tmp_path.iterdir())
