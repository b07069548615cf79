"""`background.Saver`: states are written while training goes on, one at a time, and what fails is told once."""

import threading
import time

import numpy as np
import pytest

from keras_mixer.training import background, callbacks, checkpoints


@pytest.fixture
def gate(monkeypatch):
    """An event that every write waits for."""
    save, gate = checkpoints.save_state, threading.Event()
    monkeypatch.setattr(background.checkpoints, "save_state", lambda *of: gate.wait(60) and save(*of))
    return gate


@pytest.fixture
def saver(tmp_path):
    saver = background.Saver(tmp_path, keep=2)
    yield saver
    saver._thread.shutdown()


def _fails(saver, step=5):
    """Begin a save that fails, and wait until it has."""
    saver.begin(lambda: [("model/0/kernel", np.array([np.nan]))], step)
    while not saver._saving.done():
        time.sleep(0.001)


def test_what_is_written_is_the_state_as_it_was_given(tmp_path, gate, saver):
    """However late it is written, and whatever of it the next steps change in place."""
    live = np.zeros(3)
    for step in (1, 2):
        live[:] = step
        saver.begin(lambda: [("a", live)], step)
        live[:] = -1
        assert [path.name for path in checkpoints.list_states(tmp_path)] == ["step_00000001.npz"] * (step - 1)
        gate.set()
        saver.wait()
        gate.clear()
        assert checkpoints.read_newest(tmp_path, {"a": live})[0] == step  # its sha256 is that of what was written
        assert (checkpoints.read_newest(tmp_path, {"a": live})[1]["a"] == step).all()


def test_one_at_a_time_and_one_copy(tmp_path, gate, saver):
    """The next state is not even asked for before the last is written."""
    saver.begin(lambda: [("a", np.zeros(2))], 1)
    first, asked = saver._copy["a"], []

    def second():
        asked.append([path.name for path in checkpoints.list_states(tmp_path)])
        return [("a", np.ones(2))]

    threading.Timer(0.1, gate.set).start()
    saver.begin(second, 2)
    assert asked == [["step_00000001.npz"]]
    assert saver._copy["a"] is first


def test_a_state_of_another_shape_has_a_copy_of_its_own(tmp_path, saver):
    for step, array in enumerate((np.zeros(2), np.zeros(3), np.float32(1))):
        saver.begin(lambda array=array: [("a", array)], step)
        saver.wait()
        assert checkpoints.read_newest(tmp_path, {"a": array})[0] == step


@pytest.mark.parametrize("meets", ["begin", "check", "wait", "close"])
def test_a_save_that_failed_is_told_once_by_whatever_is_next(tmp_path, saver, caplog, meets):
    _fails(saver)
    with pytest.raises(FloatingPointError, match="step 5: kernel is not finite"):
        saver.begin(lambda: [("a", np.zeros(2))], 6) if meets == "begin" else getattr(saver, meets)()
    if meets != "close":
        saver.check()
        saver.begin(lambda: [("a", np.zeros(2))], 6)
    saver.close()
    assert len(checkpoints.list_states(tmp_path)) == (meets != "close")
    assert not caplog.text


def test_check_does_not_wait(gate, saver):
    saver.begin(lambda: [("a", np.zeros(2))], 1)
    saver.check()
    assert not saver._saving.done()
    gate.set()
    saver.wait()


def test_time_that_is_lost_is_that_of_copying_and_waiting(tmp_path, monkeypatch):
    save = checkpoints.save_state
    monkeypatch.setattr(background.checkpoints, "save_state", lambda *of: time.sleep(0.4) or save(*of))
    saving = background.Checkpoint(tmp_path, 1, lambda: [("a", np.zeros(2))])
    saving.save(1, wait=False)
    time.sleep(0.3)  # steps of training
    assert saving.seconds < 0.1
    saving.save(2, wait=True)
    assert 0.4 < saving.seconds < 0.8  # the rest of the first, and the second
    saving.close()


def test_weights_that_are_not_finite_end_the_run_as_such(tmp_path):
    saving = background.Checkpoint(tmp_path, 1, lambda: [("model/0/kernel", np.array([np.nan]))])
    saving.save(5, wait=False)
    with pytest.raises(callbacks.NonFiniteLoss, match="step 5: kernel is not finite; .* Lower --learning_rate"):
        saving.close()
