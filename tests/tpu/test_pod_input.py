"""The input pipeline on the hosts of a TPU pod, which hold no Python of ours; the hosts here hold none at all."""

import dataclasses
import os
import subprocess
import sys

import numpy as np
import pod
import pod_run
import pytest
import tensorflow as tf
from conftest import ROOT
from keras_mixer.recipes import pretrain

from keras_mixer.cli import inputs, presets
from keras_mixer.data import opening, pipeline, record_writing

NUM_IMAGES = 80


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """JPEG, PNG and one BMP, of noise."""
    root, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for i in range(NUM_IMAGES):
        path = root / "train" / "ab"[i % 2] / f"{i:02d}"
        path.parent.mkdir(parents=True, exist_ok=True)
        encode = tf.io.encode_jpeg if i % 3 else tf.io.encode_png
        path.with_suffix(".jpg").write_bytes(encode(rng.integers(0, 256, (40 + i % 9, 41, 3), np.uint8)).numpy())
    header = b"BM" + (58).to_bytes(4, "little") + bytes(4) + (54).to_bytes(4, "little")
    header += b"".join(n.to_bytes(4, "little") for n in (40, 1, 1)) + b"\1\0\x18\0" + bytes(24)
    (root / "train" / "a" / "other.bmp").write_bytes(header + b"\1\2\3\0")
    return root


@pytest.fixture(scope="module")
def records(images, tmp_path_factory):
    output = tmp_path_factory.mktemp("made") / "records"
    record_writing.write_records(images, output, num_shards=4)
    return output


def graph_of_training(source, model, preset="imagenet21k"):
    """What host 1 of 4 gets, for the batch and the images of the preset."""
    settings, _ = presets.fill(pretrain.Settings(model=model), preset)
    assert (settings.batch_size, settings.image_size) == (4096, 224)
    return pod.graph_of(inputs.byte_batches(settings, dataclasses.replace(source, num_examples=10**6), 0, (1, 4)))


# ---- No Python in the graph ----


@pytest.mark.parametrize("model", ["b16", "l16"])
def test_training_from_records_calls_no_python(records, model):
    graph = graph_of_training(opening.open_source(str(records), "train", training=True), model)
    operations = {node.op for function in graph.library.function for node in function.node_def}
    assert {"DecodeAndCropJpeg", "DecodePng", "ParseExampleV2"} & operations >= {"DecodeAndCropJpeg", "DecodePng"}
    assert pod.host_python(graph) == []


@pytest.mark.parametrize("crop", ["resmall", "resize"])
def test_evaluation_from_records_calls_no_python(records, crop):
    source = opening.open_source(str(records), "train", training=False)
    batches = pipeline.eval_batches(source, batch_size=4096, image_size=224, crop=crop, part=(3, 4))
    assert pod.host_python(pod.graph_of(batches)) == []


def test_a_folder_of_images_does_call_python(images):
    """Pillow decodes what is neither JPEG nor PNG: the check sees it, deep in a branch of a function of a `map`."""
    found = pod.host_python(graph_of_training(opening.open_source(str(images), "train", training=True), "b16"))
    assert found


@pytest.mark.parametrize("call", [tf.numpy_function, tf.py_function])
def test_the_check_sees_python_in_a_dataset_of_a_dataset(call):
    inner = lambda i: tf.data.Dataset.from_tensors(i).map(lambda j: call(lambda k: k, [j], tf.int64))
    assert len(pod.host_python(pod.graph_of(tf.data.Dataset.range(3).flat_map(inner)))) == 1
    assert pod.host_python(pod.graph_of(tf.data.Dataset.range(3).flat_map(tf.data.Dataset.from_tensors))) == []


# ---- Hosts without Python ----


@pytest.fixture(scope="module")
def run(records, tmp_path_factory):
    """What the hosts made, as `pod_run.share` wrote it."""
    folder = tmp_path_factory.mktemp("pod")
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    command = [sys.executable, str(ROOT / "tests/tpu/pod_run.py"), str(records), str(folder)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert result.returncode == 0, result.stderr[-3000:]

    def read(name):
        with np.load(folder / f"{name}.npz") as archive:
            return {key: archive[key] for key in archive.files}

    return read


@pytest.mark.parametrize(
    ("name", "hosts", "rows"),
    [("numbers", 4, 128), ("preset", 2, 2), ("evaluation", 2, 4)],
    ids=["numbers", "preset", "evaluation"],
)
def test_hosts_without_python_make_the_batches_of_one_machine(run, name, hosts, rows):
    """`numbers` has the batch of the paper on a v3-32: replica r of 32 has rows 128 r to 128 r + 127, mixed."""
    made = run(name)
    assert made["parts"].tolist() == [[i, hosts] for i in range(hosts)]
    expected = [pod.device(host, core) for host in range(hosts) for core in range(pod_run.CORES)]
    assert made["places"].tolist() == expected
    tensors = [key.removeprefix("pod/") for key in made if key.startswith("pod/")]
    assert len(tensors) == pod_run.BATCHES * (3 if name == "evaluation" else 2)
    for key in tensors:
        shares, whole = made[f"pod/{key}"], made[f"whole/{key}"]
        assert shares.shape[:2] == (hosts * pod_run.CORES, rows)
        np.testing.assert_array_equal(shares.reshape(whole.shape), whole)
        if not key.endswith("/2"):  # the mask of the evaluation
            assert len(np.unique(whole.reshape(len(whole), -1), axis=0)) > 1  # rows differ, so their order is seen
