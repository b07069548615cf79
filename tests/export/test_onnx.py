"""ONNX files, in ONNX Runtime and OpenVINO, and the SavedModel in OpenVINO: all answer as Keras and the authors do."""

import os
import pathlib
import sys

import keras
import numpy as np
import onnx as onnx_package
import onnxruntime
import pytest
import tiny

import keras_mixer
from keras_mixer.export import ExportError, single_file
from keras_mixer.export.onnx_file import onnx


@pytest.fixture(scope="module")
def model(golden, tmp_path_factory):
    model = tiny.build()
    keras_mixer.load_checkpoint(model, tiny.write_checkpoint(golden, tmp_path_factory.mktemp("golden") / "tiny.npz"))
    return model


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    return onnx(model, tmp_path_factory.mktemp("exported") / "mixer.onnx")


@pytest.fixture
def probabilities(golden):
    """The softmax of the authors' logits for the golden images."""
    exp = np.exp(golden["out/logits"].astype("float64"))
    return exp / exp.sum(-1, keepdims=True)


def run(path, images):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(["probabilities"], {"images": images.astype("float32")})[0]


def with_openvino(model, images):
    import openvino

    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return compiled(images)[0]


def test_any_batch_gives_the_authors_probabilities(exported, golden, probabilities):
    onnx_package.checker.check_model(exported, full_check=True)
    for batch in (1, 2, 5, 8, 0):
        found = run(exported, golden["images"][:batch])
        assert found.shape == (batch, 10)
        assert found.dtype == np.float32
        difference = np.abs(found - probabilities[:batch]).max(initial=0)
        print(f"batch {batch}: largest difference {difference:.1e}")
        assert difference < 1e-6  # measured 1.2e-7


def test_input_and_output_are_named_and_of_any_batch(exported):
    graph = onnx_package.load(exported).graph
    found = [
        (value.name, [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim])
        for value in (*graph.input, *graph.output)
    ]
    assert found == [("images", ["batch", 32, 32, 3]), ("probabilities", ["batch", 10])]


def test_sigmoid_head_and_bfloat16_model_are_written_in_float32(golden, model, tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    rounded = tiny.build(classifier_activation="sigmoid")
    rounded.set_weights(model.get_weights())
    found = run(onnx(rounded, tmp_path / "mixer.onnx"), golden["images"])
    assert np.abs(found - 1 / (1 + np.exp(-golden["out/logits"]))).max() < 1e-6  # bfloat16 would differ by 1e-3


def test_openvino_reads_the_onnx_file(exported, golden, probabilities):
    import openvino

    converted = openvino.convert_model(exported)
    found = with_openvino(converted, golden["images"].astype("float32"))
    assert np.abs(found - probabilities).max() < 1e-6  # measured 1.2e-7


def test_openvino_reads_the_saved_model(model, golden, probabilities, tmp_path):
    """Without the class names, whose lookup table it lacks; features by their signature."""
    import openvino
    import tensorflow as tf

    from keras_mixer import export

    folder = export.saved_model(model, tmp_path / "mixer")
    found = with_openvino(openvino.convert_model(folder, output=["probabilities"]), golden["images"])
    assert np.abs(found - probabilities).max() < 1e-6  # measured 1.2e-7
    loaded = tf.saved_model.load(str(folder))
    features = with_openvino(openvino.convert_model(loaded.signatures["features"]), golden["images"])
    assert np.abs(features - golden["out/pre_logits"]).max() < 1e-5  # measured 1e-6


def test_existing_file_stays_unless_overwritten(model, golden, tmp_path):
    path = tmp_path / "mixer.onnx"
    path.write_bytes(b"mine")
    (tmp_path / "mine.txt").write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="onnx: '.*mixer.onnx' exists; give overwrite=True to replace it"):
        onnx(model, path)
    assert path.read_bytes() == b"mine"
    assert onnx(model, str(path), overwrite=True) == path
    assert run(path, golden["images"]).shape == (8, 10)
    assert sorted(os.listdir(tmp_path)) == ["mine.txt", "mixer.onnx"]
    assert path.stat().st_mode == (tmp_path / "mine.txt").stat().st_mode  # not that of a temporary file


def test_file_that_differs_from_keras_is_not_kept(model, tmp_path, monkeypatch):
    import tf2onnx

    convert = tf2onnx.convert.from_function

    def convert_wrongly(*args, **kwargs):
        converted, tables = convert(*args, **kwargs)
        bias = next(t for t in converted.graph.initializer if list(t.dims) == [10])
        values = onnx_package.numpy_helper.to_array(bias) + np.float32([1e-3, *[0] * 9])
        bias.CopyFrom(onnx_package.numpy_helper.from_array(values, bias.name))
        return converted, tables

    monkeypatch.setattr(tf2onnx.convert, "from_function", convert_wrongly)
    path = tmp_path / "mixer.onnx"
    path.write_bytes(b"mine")
    with pytest.raises(ExportError, match="onnx: the file gives probabilities that differ from Keras by .*e-05, more"):
        onnx(model, path, overwrite=True)
    assert path.read_bytes() == b"mine"
    assert os.listdir(tmp_path) == ["mixer.onnx"]


@pytest.mark.parametrize(
    ("path", "error", "sentence"),
    [
        (5, ValueError, "onnx: path must be a path that ends in .onnx, got int."),
        ("mixer.pb", ValueError, "onnx: path must end in .onnx, got 'mixer.pb'."),
        ("no/mixer.onnx", FileNotFoundError, "onnx: path must be in a folder that exists, but 'no' of 'no/mixer.onnx'"),
        ("folder.onnx", IsADirectoryError, "onnx: path must be that of a file, but 'folder.onnx' is a directory."),
        ("/proc/mixer.onnx", OSError, "onnx: path '/proc/mixer.onnx' cannot be written"),
    ],
)
def test_bad_path_is_refused_before_the_conversion(model, path, error, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("folder.onnx").mkdir()
    with pytest.raises(error) as raised:
        onnx(model, path)
    assert sentence in str(raised.value)


def test_other_models_are_refused_in_one_sentence(model, tmp_path, monkeypatch):
    path = tmp_path / "mixer.onnx"
    dense = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="onnx: model must be an MLPMixer with a head, got Sequential"):
        onnx(dense, path)
    with pytest.raises(ValueError, match="onnx: model 'mlp_mixer' has no head; build it with include_top=True"):
        onnx(tiny.build(include_top=False, name="mlp_mixer"), path)
    with pytest.raises(ValueError, match="classifier_activation must be None, 'softmax' or 'sigmoid' .* got 'tanh'"):
        onnx(tiny.build(classifier_activation="tanh"), path)
    with pytest.raises(ValueError, match="onnx: overwrite must be True or False, got 'yes'"):
        onnx(model, path, overwrite="yes")
    broken = tiny.build()
    broken.get_layer("head").bias.assign([np.nan] * 10)
    with pytest.raises(ValueError, match="onnx: the model gives NaN or infinite probabilities; mend its weights"):
        onnx(broken, path)
    quantised = tiny.build()
    quantised.get_layer("head").quantize("int8")
    with pytest.raises(ValueError, match="onnx: head is quantised"):
        onnx(quantised, path)
    monkeypatch.setattr(single_file, "LIMIT", single_file.ROOM + 1000)
    with pytest.raises(ValueError, match="holds less than 2 GiB; use keras_mixer.export.saved_model"):
        onnx(model, path)
    assert not path.exists()


@pytest.mark.parametrize("package", ["onnx", "onnxruntime", "tf2onnx"])
def test_missing_package_names_the_extra(model, package, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"onnx: needs the package {package}; .* pip install 'keras_mixer\[onnx\]'"):
        onnx(model, tmp_path / "mixer.onnx")
