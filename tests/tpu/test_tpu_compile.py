"""The training step under XLA, and compiled for a TPU that is not there. Nothing here runs on a TPU.

pytest -m tpu tests/tpu    # in the environment that KERAS_MIXER_TPU_PYTHON names: docs/results/many_devices.md
"""

import dataclasses
import functools
import json
import os
import subprocess
import types

import keras
import lower_step
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT

import keras_mixer
from keras_mixer.data import mixing, opening, pipeline
from keras_mixer.data.augment_settings import Augmentation
from keras_mixer.training import strategies

BATCH_SIZE, STEPS = 8, 4
VARIABLE = "KERAS_MIXER_TPU_PYTHON"


def build(**kwargs):
    sizes = dict(patch_size=4, num_blocks=2, hidden_dim=16, tokens_mlp_dim=8, channels_mlp_dim=32)
    return keras_mixer.MLPMixer(**sizes, input_shape=(16, 16, 3), classes=10, classifier_activation=None, **kwargs)


def train(jit_compile):
    """Return the statistics of each step, (STEPS, ...), and the state after the last."""
    keras.utils.set_random_seed(0)
    settings = dict(total_steps=10 * STEPS, warmup_steps=1, gradient_accumulation_steps=2, jit_compile=jit_compile)
    trainer = lower_step.make_trainer(build(), BATCH_SIZE, **settings)
    step = lower_step.step_function(trainer, jit_compile)
    random = np.random.default_rng(0)
    images = tf.constant(random.uniform(-1, 1, (BATCH_SIZE, 16, 16, 3)), tf.float32)
    labels = tf.constant(random.dirichlet(np.ones(10), BATCH_SIZE), tf.float32)
    rows = [step(images, labels, tf.constant(0.0)) for _ in range(STEPS)]
    return np.stack(rows), trainer.state()


def test_a_step_compiled_by_xla_is_the_plain_step():
    """Measured: 1e-6. Without dropout or stochastic depth, for which TensorFlow draws other numbers under XLA."""
    rows, state = train(jit_compile=False)
    compiled_rows, compiled_state = train(jit_compile=True)
    assert rows[-1, 0] < rows[0, 0]  # the loss: it trained
    np.testing.assert_allclose(compiled_rows, rows, rtol=0, atol=1e-5)
    assert compiled_state.keys() == state.keys()
    for name in state:
        np.testing.assert_allclose(compiled_state[name], state[name], rtol=0, atol=1e-5, err_msg=name)


def compile_for_tpu(path, topology):
    """Run compile_for_tpu.py in the environment that has libtpu; return the finished process."""
    python = os.environ.get(VARIABLE)
    assert python, (
        f"{VARIABLE} is not set; make an environment with `python -m venv tpu_env && tpu_env/bin/pip install "
        f"'jax[tpu]==0.10.*' 'keras>=3.15,<3.16'` and set {VARIABLE} to the path of tpu_env/bin/python."
    )
    command = [python, "tests/tpu/compile_for_tpu.py", str(path), f"--topology={topology}"]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


def compiled_memory(module, folder, topology, kind):
    """Compile a module for a kind of TPU, and return how many bytes its device needs, by what for."""
    path = folder / "module.mlirbc"
    path.write_bytes(module)
    result = compile_for_tpu(path, topology)
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    print(report)
    assert (report["platform"], report["device_kind"]) == ("tpu", kind)
    return report["memory_bytes"]


def state_bytes(trainer):
    return sum(array.nbytes for array in trainer.state().values())


@pytest.mark.tpu
@pytest.mark.parametrize(("topology", "kind"), [("v5e:1x1", "TPU v5 lite"), ("v3:1x1", "TPU v3")])
@pytest.mark.parametrize(
    ("precision", "model", "parts"),
    [
        ("float32", dict(dropout_rate=0.1), 1),
        ("mixed_bfloat16", dict(stochastic_depth_rate=0.5, rematerialize=True), 2),
    ],
    ids=["float32", "mixed_bfloat16, rematerialised, two parts"],
)
def test_the_step_of_fit_compiles_for_a_tpu(tmp_path, topology, kind, precision, model, parts):
    keras.config.set_dtype_policy(precision)
    trainer = lower_step.make_trainer(build(**model), BATCH_SIZE, gradient_accumulation_steps=parts)
    memory = compiled_memory(lower_step.lower(trainer), tmp_path, topology, kind)
    # It is the whole step: every weight and optimiser slot goes in, and comes out in the same place.
    assert memory["argument"] >= memory["alias"] >= state_bytes(trainer)


def batch_of_a_replica(augmentation):
    """The specs of what a replica of a v3-32 gets: host 1 of 4 makes its part of 4,096 images, in shares of 128."""
    host = tf.distribute.InputContext(num_input_pipelines=4, input_pipeline_id=1, num_replicas_in_sync=32)
    strategy = types.SimpleNamespace(num_replicas_in_sync=32, distribute_datasets_from_function=lambda make: make(host))
    source = dataclasses.replace(opening.open_source("digits", training=True), num_examples=10**6)
    make = functools.partial(pipeline.train_batches, source, as_bytes=True, batch_size=4096, image_size=16, seed=0)
    finish = mixing.Finish(augmentation, 10)
    of_part = lambda part: make(part=part, augmentation=augmentation)
    return finish, strategies.distribute(strategy, of_part, 4096, finish.neighbours).element_spec


def test_a_replica_gets_batches_of_one_shape():
    """Without which XLA would compile no step."""
    _, (images, labels, drawn) = batch_of_a_replica(Augmentation(randaugment_magnitude=10, mixup_alpha=0.2))
    assert (images.shape, images.dtype) == ((129, 16, 16, 3), tf.uint8)  # its own, and the one before
    assert (labels.shape, labels.dtype) == ((129,), tf.int64)
    assert drawn.shape == (129, 6)


@pytest.mark.tpu
@pytest.mark.parametrize(("topology", "kind"), [("v5e:1x1", "TPU v5 lite"), ("v3:1x1", "TPU v3")])
def test_a_loop_of_steps_over_the_batches_of_the_pipeline_compiles_for_a_tpu(tmp_path, topology, kind):
    keras.config.set_dtype_policy("mixed_bfloat16")
    finish, batch = batch_of_a_replica(Augmentation(mixup_alpha=0.2, cutmix_alpha=1.0))
    model = build(stochastic_depth_rate=0.5)
    trainer = lower_step.make_trainer(model, 128, prepare=finish, gradient_accumulation_steps=2)
    memory = compiled_memory(lower_step.lower(trainer, 100, batch), tmp_path, topology, kind)
    # All 100 batches go in, and the state goes through the loop in its place.
    assert memory["alias"] >= state_bytes(trainer)
    of_batch = sum(spec.shape.num_elements() * spec.dtype.size for spec in batch)
    assert memory["argument"] >= state_bytes(trainer) + 100 * of_batch


@pytest.mark.tpu
def test_what_is_no_module_does_not_compile(tmp_path):
    path = tmp_path / "step.mlirbc"
    path.write_bytes(b"no module")
    result = compile_for_tpu(path, "v5e:1x1")
    assert result.returncode == 1
    assert "MLIRError" in result.stderr
