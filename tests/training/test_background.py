"""`background.Saver`: states are saved beside the training, one at a time, and what fails is not lost."""

import threading

import numpy as np
import pytest

from keras_mixer.training import background, checkpoints


def test_a_state_is_saved_while_training_goes_on(tmp_path, monkeypatch):
    save, slow_disk = checkpoints.save_state, threading.Event()
    monkeypatch.setattr(background.checkpoints, "save_state", lambda *of: slow_disk.wait(60) and save(*of))
    saver = background.Saver(tmp_path, keep=2)
    saver.begin({"a": np.zeros(2)}, 1)
    assert not list(tmp_path.iterdir())
    slow_disk.set()
    saver.begin({"a": np.ones(2)}, 2)  # waits for the one before
    assert (tmp_path / "step_00000001.npz").exists()
    saver.close()
    assert [path.name for path in checkpoints.list_states(tmp_path)] == ["step_00000002.npz", "step_00000001.npz"]
    assert np.array_equal(checkpoints.read_newest(tmp_path, {"a": np.zeros(2)})[1]["a"], np.ones(2))


def test_what_kept_a_state_from_the_disk_is_raised_by_the_next(tmp_path):
    saver = background.Saver(tmp_path, keep=2)
    saver.begin({"model/0/kernel": np.array([np.nan])}, 5)
    with pytest.raises(FloatingPointError, match="step 5: kernel is not finite"):
        saver.begin({"a": np.zeros(2)}, 6)
    saver.begin({"a": np.zeros(2)}, 6)
    saver.wait()
    assert [path.name for path in checkpoints.list_states(tmp_path)] == ["step_00000006.npz"]
    saver.close()


def test_at_the_end_a_failure_is_logged_and_the_other_error_stays(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    saver = background.Saver(tmp_path / "file", keep=2)
    saver.begin({"a": np.zeros(2)}, 1)
    saver.close()
    assert "cannot be written" in caplog.text
