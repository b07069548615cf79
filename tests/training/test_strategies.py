"""Strategies by name, on a machine without a GPU or TPU; TF_CONFIG; and which process is the chief."""

import json
import os
import socket
import subprocess
import sys
import textwrap
import time

import pytest
import tensorflow as tf
from conftest import ROOT
from test_equivalence import cluster

from keras_mixer.training import strategies

TWO = {"worker": ["127.0.0.1:1", "127.0.0.1:2"]}


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)


@pytest.mark.parametrize("name", ["auto", "one_device"])
def test_one_device(name):
    assert strategies.make_strategy(name).num_replicas_in_sync == 1


def test_mirrored_on_one_cpu():
    strategy = strategies.make_strategy("mirrored")
    assert isinstance(strategy, tf.distribute.MirroredStrategy)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("multi",), "strategy: must be one of auto, one_device, mirrored, multi_worker, tpu, got 'multi'"),
        (("mirrored", 0), "num_devices: must be a positive number, got 0"),
        (("one_device", 2), "num_devices: 2 needs --strategy=mirrored, got one_device"),
        (("multi_worker", 2), "num_devices: 2 needs --strategy=mirrored, got multi_worker"),
        (("tpu", 2), "num_devices: 2 needs --strategy=mirrored, got tpu"),
        (("auto", None, "local"), "tpu: 'local' needs --strategy=tpu, got auto"),
        (("mirrored", None, "grpc://host"), "tpu: 'grpc://host' needs --strategy=tpu, got mirrored"),
        (("multi_worker",), "strategy: multi_worker needs the environment variable TF_CONFIG, for example {"),
    ],
)
def test_bad_arguments_are_refused(args, message):
    with pytest.raises(ValueError, match=message):
        strategies.make_strategy(*args)


def test_more_logical_cpus_after_the_start_is_one_sentence():
    tf.constant(1.0) + 1  # TensorFlow has started
    with pytest.raises(ValueError, match="num_devices: 5 logical CPUs were asked for after TensorFlow had started"):
        strategies.make_strategy("mirrored", 5)


@pytest.mark.parametrize("name", ["auto", "multi_worker"])
@pytest.mark.parametrize(
    "config",
    [
        "{",
        "7",
        "null",
        "[]",
        {},
        {"cluster": TWO},
        {"task": {"type": "worker", "index": 0}},
        {"cluster": TWO, "task": {"type": "worker"}},
        {"cluster": TWO, "task": {"index": 0}},
        {"cluster": TWO, "task": {"type": "worker", "index": 2}},
        {"cluster": TWO, "task": {"type": "worker", "index": -1}},
        {"cluster": TWO, "task": {"type": "worker", "index": "first"}},
        {"cluster": TWO, "task": {"type": "worker", "index": None}},
        {"cluster": TWO, "task": {"type": "chief", "index": 0}},
        {"cluster": {"ps": ["127.0.0.1:1"]}, "task": {"type": "ps", "index": 0}},
        {"cluster": {"worker": []}, "task": {"type": "worker", "index": 0}},
        {"cluster": {"worker": "127.0.0.1:1"}, "task": {"type": "worker", "index": 0}},
        {"cluster": {"worker": None}, "task": {"type": "worker", "index": 0}},
        {"cluster": ["127.0.0.1:1"], "task": {"type": "worker", "index": 0}},
    ],
    ids=str,
)
def test_a_tf_config_that_is_no_cluster_is_one_sentence(monkeypatch, name, config):
    text = config if isinstance(config, str) else json.dumps(config)
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ValueError, match="names no task of a cluster; write it like {") as caught:
        strategies.make_strategy(name)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def _is_chief(monkeypatch, jobs, kind, index):
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": jobs, "task": {"type": kind, "index": index}}))
    return strategies.is_chief_task(tf.distribute.cluster_resolver.TFConfigClusterResolver())


def test_exactly_one_task_is_the_chief(monkeypatch):
    with_chief = TWO | {"chief": ["127.0.0.1:3"]}
    assert _is_chief(monkeypatch, TWO, "worker", 0)
    assert not _is_chief(monkeypatch, TWO, "worker", 1)
    assert _is_chief(monkeypatch, with_chief, "chief", 0)
    assert not _is_chief(monkeypatch, with_chief, "worker", 0)
    assert not _is_chief(monkeypatch, with_chief, "worker", 1)


def test_a_strategy_of_one_process_is_its_own_chief():
    assert strategies.is_chief(strategies.make_strategy("one_device"))
    strategies.check_same_step(strategies.make_strategy("one_device"), 3)


def test_auto_with_tf_config_trains_with_its_workers():
    """In a process of its own, since a server is started: a cluster of one worker, which is the chief."""
    code = """
        from keras_mixer.training import strategies
        strategy = strategies.make_strategy("auto")
        strategies.check_same_step(strategy, 3)
        print(type(strategy).__name__, strategies.has_workers(strategy), strategies.is_chief(strategy))
    """
    environment = {**os.environ, "TF_CONFIG": cluster(1)[0]}
    command = [sys.executable, "-c", textwrap.dedent(code)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    assert result.stdout.split() == ["CollectiveAllReduceStrategy", "True", "True"], result.stderr[-2000:]


@pytest.mark.parametrize("tpu", ["local", "grpc://127.0.0.1"])
def test_without_a_tpu_it_is_one_sentence_and_soon(tmp_path, tpu):
    """As a user runs it. TensorFlow itself waits without end for an address where nothing listens."""
    with socket.socket() as closed:  # bound, so that no other process takes it, and not listening
        closed.bind(("127.0.0.1", 0))
        address = tpu if tpu == "local" else f"{tpu}:{closed.getsockname()[1]}"
        command = [sys.executable, "recipes/pretrain.py", "--strategy=tpu", f"--tpu={address}"]
        command.append(f"--workdir={tmp_path / 'run'}")
        environment = {**os.environ, "TPU_SKIP_MDS_QUERY": "1"}
        begin = time.monotonic()
        result = subprocess.run(
            command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False, timeout=120
        )
        print(f"{address}: {time.monotonic() - begin:.0f} s")
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: tpu: no TPU answers to '{address}' (")
    assert "on a TPU VM install requirements-tpu.txt and use --tpu=local" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert "{{" not in result.stderr
    assert not (tmp_path / "run").exists()
