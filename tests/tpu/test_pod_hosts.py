"""Hosts of a TPU pod that are not there, that have no TPU, and that go while a run trains: one sentence each."""

import os
import re
import subprocess
import sys
import types

import pytest
import tensorflow as tf
from conftest import ROOT
from test_tpu_compile import build

from keras_mixer.training import loop


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pod")
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    command = [sys.executable, str(ROOT / "tests/tpu/lost_host.py"), str(folder)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout.splitlines()


def test_a_missing_host_is_named_at_once(said):
    """TensorFlow itself waits without end for the last of several hosts, too."""
    hosts = r"grpc://127\.0\.0\.1:\d+,grpc://127\.0\.0\.1:\d+,grpc://127\.0\.0\.1:(\d+)"
    found = re.match(rf"tpu: no TPU answers to '{hosts}' \(127\.0\.0\.1:(\d+): .*refused\); on a TPU VM", said[0])
    assert found
    assert found[1] == found[2]


def test_hosts_that_have_no_tpu_are_one_sentence(said):
    assert re.match(r"tpu: no TPU answers to 'grpc://.*' \(TPUs not found in the cluster\..*\); on a TPU VM", said[1])


def test_a_host_that_goes_is_an_error_that_a_run_names(said):
    assert said[2:] == ["UnavailableError"]


def tpu_strategy():
    """One that says what it is, which is all that can be had without a TPU."""
    return tf.distribute.TPUStrategy.__new__(tf.distribute.TPUStrategy)


def test_a_run_that_lost_a_host_says_what_to_do():
    trainer = types.SimpleNamespace(strategy=tpu_strategy(), step=40)
    with pytest.raises(loop.WorkerLost) as caught, loop.naming_lost_worker(trainer):
        raise tf.errors.UnavailableError(None, None, "Socket closed")
    assert str(caught.value) == (
        "tpu: a host of the TPU has gone after step 40 (UnavailableError); look at its state with `gcloud compute tpus "
        "tpu-vm describe`, and run the same command again when it is READY: it continues from the newest checkpoint."
    )


def test_no_step_of_a_tpu_asks_for_xla_by_itself():
    """Also where the process that trains has no TPU of its own, but those of other hosts."""
    assert not loop._xla_is_faster(build(), tpu_strategy())
    assert loop._xla_is_faster(build(), tf.distribute.get_strategy())
