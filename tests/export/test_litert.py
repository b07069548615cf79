"""LiteRT files in the LiteRT runtime: float32 as the authors, float16 and int8 as near as they can be."""

import os
import sys

import keras
import numpy as np
import pytest
import tiny
from ai_edge_litert.interpreter import Interpreter
from sklearn.datasets import load_digits

import keras_mixer
from keras_mixer.export import ExportError
from keras_mixer.export.tflite import litert


@pytest.fixture(scope="module")
def model(golden, tmp_path_factory):
    model = tiny.build()
    keras_mixer.load_checkpoint(model, tiny.write_checkpoint(golden, tmp_path_factory.mktemp("golden") / "tiny.npz"))
    return model


@pytest.fixture(scope="module")
def digits():
    """scikit-learn's digits as (1797, 16, 16, 3) uint8, and their classes."""
    data = load_digits()
    pixels = np.rint(data.images * 255 / 16).astype("uint8").repeat(2, axis=1).repeat(2, axis=2)
    return np.repeat(pixels[..., None], 3, axis=-1), data.target


@pytest.fixture(scope="module")
def trained(digits):
    """A Mixer that knows most digits; the last 297 are not trained on."""
    keras.utils.set_random_seed(0)
    model = keras_mixer.MLPMixer(4, 2, 32, 16, 64, input_shape=(16, 16, 3), classes=10)
    model.compile(keras.optimizers.AdamW(4e-3), "sparse_categorical_crossentropy", jit_compile=False)
    model.fit(keras_mixer.preprocess_input(digits[0][:1500]), digits[1][:1500], batch_size=64, epochs=4, verbose=0)
    return model


def run(path, images):
    runner = Interpreter(model_path=str(path)).get_signature_runner("serving_default")
    return runner(images=images.astype("float32"))["probabilities"]


def operations(path):
    """Return the kinds of operations that work on floats, and those on 8-bit integers."""
    interpreter = Interpreter(model_path=str(path))
    types = {tensor["index"]: tensor["dtype"] for tensor in interpreter.get_tensor_details()}
    kinds = {np.float32: set(), np.int8: set()}
    for operation in interpreter._get_ops_details():
        kinds.get(types.get(operation["outputs"][0]), set()).add(operation["op_name"])
    return kinds[np.float32] - {"DELEGATE"}, kinds[np.int8]


def test_any_batch_gives_the_authors_probabilities(model, golden, tmp_path):
    path = litert(model, tmp_path / "mixer.tflite")
    exp = np.exp(golden["out/logits"].astype("float64"))
    probabilities = exp / exp.sum(-1, keepdims=True)
    for batch in (1, 2, 5, 8):
        found = run(path, golden["images"][:batch])
        difference = np.abs(found - probabilities[:batch]).max()
        print(f"batch {batch}: largest difference {difference:.1e}")
        assert found.dtype == np.float32
        assert difference < 1e-6  # measured 1.2e-7


def test_float16_halves_the_file_and_moves_probabilities_little(trained, digits, tmp_path):
    whole = litert(trained, tmp_path / "whole.tflite")
    half = litert(trained, tmp_path / "half.tflite", quantization="float16")
    weights = 4 * trained.count_params()
    assert 0.35 * weights < whole.stat().st_size - half.stat().st_size < 0.5 * weights  # operations cost a little
    difference = np.abs(run(half, digits[0][1500:]) - run(whole, digits[0][1500:])).max()
    print(f"largest difference {difference:.1e}")
    assert 0 < difference < 1e-2  # measured 2e-3


def test_int8_computes_in_integers_and_names_the_same_digits(trained, digits, tmp_path):
    path = litert(trained, tmp_path / "mixer.tflite", quantization="int8", calibration=digits[0][:100])
    floats, integers = operations(path)
    assert floats <= {"NEG", "DEQUANTIZE"}
    assert {"CONV_2D", "FULLY_CONNECTED", "GELU", "RSQRT", "SOFTMAX"} <= integers
    images, labels = digits[0][1500:], digits[1][1500:]
    expected = trained.predict(keras_mixer.preprocess_input(images), verbose=0).argmax(-1)
    found = run(path, images)
    agreement = np.mean(found.argmax(-1) == expected)
    print(f"same digit: {agreement:.1%}")
    assert found.dtype == np.float32
    assert np.mean(expected == labels) > 0.8
    assert agreement > 0.95  # measured 97.6 %


@pytest.mark.parametrize("quantization", [None, "int8"])
def test_file_that_differs_from_keras_is_not_kept(digits, quantization, tmp_path, monkeypatch):
    model = keras_mixer.MLPMixer(4, 1, 8, 8, 8, input_shape=(16, 16, 3), classes=10)
    module = sys.modules["keras_mixer.export.tflite"]
    convert = module._convert

    def convert_another(model, *args):
        model.get_layer("head").bias.assign([4.0] + [0.0] * 9)  # the head was all zeros
        return convert(model, *args)

    monkeypatch.setattr(module, "_convert", convert_another)
    path = tmp_path / "mixer.tflite"
    path.write_bytes(b"mine")
    calibration = digits[0][:4] if quantization == "int8" else None
    with pytest.raises(
        ExportError, match=f"litert: the file of quantization={quantization!r} differs from Keras by 0.7"
    ):
        litert(model, path, quantization, calibration, overwrite=True)
    assert path.read_bytes() == b"mine"
    assert os.listdir(tmp_path) == ["mixer.tflite"]


def test_existing_file_stays_unless_overwritten(model, golden, tmp_path):
    path = tmp_path / "mixer.tflite"
    path.write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="litert: '.*mixer.tflite' exists; give overwrite=True to replace it"):
        litert(model, path)
    assert path.read_bytes() == b"mine"
    assert litert(model, str(path), overwrite=True) == path
    assert run(path, golden["images"]).shape == (8, 10)
    assert os.listdir(tmp_path) == ["mixer.tflite"]


PIXELS = np.zeros((2, 32, 32, 3), "uint8")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"quantization": "int4"}, "litert: quantization must be None, 'float16' or 'int8', got 'int4'."),
        (
            {"quantization": "int8"},
            "litert: quantization='int8' needs calibration, uint8 images (N, 32, 32, 3) such as the model will meet.",
        ),
        (
            {"quantization": "int8", "calibration": PIXELS[:, :16]},
            "litert: calibration must be uint8 images (N, 32, 32, 3), got uint8 (2, 16, 32, 3).",
        ),
        (
            {"quantization": "int8", "calibration": PIXELS.astype("float32")},
            "litert: calibration must be uint8 images (N, 32, 32, 3), got float32 (2, 32, 32, 3).",
        ),
        (
            {"quantization": "int8", "calibration": PIXELS[:0]},
            "litert: calibration must be uint8 images (N, 32, 32, 3), got uint8 (0, 32, 32, 3).",
        ),
        (
            {"quantization": "int8", "calibration": "digits"},
            "litert: calibration must be uint8 images (N, 32, 32, 3), got str.",
        ),
        (
            {"quantization": "float16", "calibration": PIXELS},
            "litert: calibration is only for quantization='int8', got it with 'float16'.",
        ),
        ({"path": "mixer.onnx"}, "litert: path must end in .tflite, got 'mixer.onnx'."),
        ({"overwrite": 1}, "litert: overwrite must be True or False, got 1."),
        ({"model": keras.Sequential()}, "litert: model must be an MLPMixer with a head, got Sequential."),
    ],
)
def test_bad_argument_is_refused_in_one_sentence(model, arguments, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError) as raised:  # noqa: PT011 (the whole sentence is compared)
        litert(**({"model": model, "path": "mixer.tflite"} | arguments))
    assert str(raised.value) == sentence
    assert not os.listdir(tmp_path)


def test_missing_package_names_the_extra(model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    with pytest.raises(ImportError, match=r"litert: needs the package ai-edge-litert; .* 'keras_mixer\[litert\]'"):
        litert(model, tmp_path / "mixer.tflite")
