"""A Mixer as Keras users use models: frozen and quantised parts survive saving, loading, cloning and nesting."""

import inspect
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
from conftest import ROOT
from sklearn.datasets import load_sample_images

import keras_mixer
from keras_mixer.paper import VARIANTS
from keras_mixer.weights import layouts

SIZES = dict(patch_size=4, num_blocks=2, hidden_dim=16, tokens_mlp_dim=8, channels_mlp_dim=32, input_shape=(16, 16, 3))
IMAGES = np.random.default_rng(0).uniform(-1, 1, (8, 16, 16, 3)).astype("float32")
LABELS = np.arange(8) % 3


def mixer(**kwargs):
    return keras_mixer.MLPMixer(**SIZES, **{"classes": 3, **kwargs})


def headed(base):
    return keras.Model(base.input, keras.layers.Dense(3, name="new_head")(base.output))


def around(base):
    return keras.Sequential([keras.Input((16, 16, 3)), keras.layers.Rescaling(1.0), base, keras.layers.Dense(3)])


def nested(base):
    images = keras.Input((16, 16, 3))
    return keras.Model(images, keras.layers.Dense(3)(base(images)))


def freeze_all(base):
    base.trainable = False


def freeze_norms(base):
    for layer in base._flatten_layers():
        if isinstance(layer, keras.layers.LayerNormalization):
            layer.trainable = False


def freeze_one_dense(base):
    base.get_layer("block_1").token_mixing.dense_0.trainable = False


def freeze_a_block_and_the_stem(base):
    base.get_layer("block_0").trainable = base.get_layer("stem").trainable = False


def by_keras_file(model, tmp_path):
    model.save(tmp_path / "model.keras")
    return keras.saving.load_model(tmp_path / "model.keras")


def by_clone(model, _):
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    return clone


def by_json(model, _):
    again = keras.models.model_from_json(model.to_json())
    again.set_weights(model.get_weights())
    return again


def trained(model):
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = [keras.ops.convert_to_numpy(w).copy() for w in model.weights]
    model.fit(IMAGES, LABELS, batch_size=4, verbose=0)
    return [not np.array_equal(b, w) for b, w in zip(before, model.weights, strict=True)]


@pytest.mark.parametrize("way", [by_keras_file, by_clone, by_json])
@pytest.mark.parametrize("shape", [headed, around, nested, None])
@pytest.mark.parametrize("freeze", [freeze_all, freeze_norms, freeze_one_dense, freeze_a_block_and_the_stem])
def test_what_is_frozen_stays_frozen(tmp_path, freeze, shape, way):
    base = mixer(include_top=shape is None, pooling=None if shape is None else "avg", classifier_activation=None)
    freeze(base)
    model = base if shape is None else shape(base)
    again = way(model, tmp_path)
    flags = lambda m: [layer.trainable for layer in m._flatten_layers(include_self=False) if layer.weights]
    assert flags(again) == flags(model)
    assert [w.trainable for w in again.weights] == [w.trainable for w in model.weights]
    if way is by_keras_file and model.trainable_variables:  # else Keras warns of a model that cannot train
        moved = trained(again)
        assert moved == trained(model)
        assert any(moved)
        assert not all(moved)


def test_what_was_frozen_can_be_trained_again(tmp_path):
    base = mixer()
    base.trainable = False
    again = by_keras_file(base, tmp_path)
    again.trainable = True
    assert len(again.trainable_variables) == len(mixer().trainable_variables)


def cosine(a, b):
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize:UserWarning")
@pytest.mark.parametrize(
    ("mode", "shape", "fit"),
    [
        *[("int8", shape, fit) for shape in (headed, around, None) for fit in (True, False)],
        *[(mode, None, True) for mode in ("int4", "float8")],
    ],
)
def test_a_quantised_model_is_saved_and_loads_in_a_new_process(tmp_path, mode, shape, fit):
    base = mixer(include_top=shape is None, pooling=None if shape is None else "avg", classifier_activation=None)
    model = base if shape is None else shape(base)
    if fit:
        trained(model)
    before = model.predict(IMAGES, verbose=0)
    model.quantize(mode)
    after = model.predict(IMAGES, verbose=0)
    if fit or shape:  # else the head, and with it all logits, are zero
        # float8 finds its scales while it trains.
        assert cosine(before, after) > {"int8": 0.999, "int4": 0.9, "float8": 0.95}[mode]
    assert base.get_layer("block_0").token_mixing.dense_0.quantization_mode == mode
    model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "arrays.npz", images=IMAGES, expected=after)
    code = f"""
        import keras, keras_mixer, numpy as np
        arrays = np.load({str(tmp_path / "arrays.npz")!r})
        model = keras.saving.load_model({str(tmp_path / "model.keras")!r})
        found = model.predict(arrays["images"], verbose=0)
        np.testing.assert_allclose(found, arrays["expected"], rtol=0, atol=1e-6)
    """
    if shape is None and fit:  # in a process of its own, which takes seconds
        subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, cwd=ROOT, capture_output=True)
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again.predict(IMAGES, verbose=0), after, rtol=0, atol=1e-6)


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize:UserWarning")
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_quantised_s32_of_the_released_layout_keeps_its_logits(tmp_path, wrapped):
    rng = np.random.default_rng(0)
    shapes = layouts.released_shapes(VARIANTS["s32"], tokens=49, classes=1000)
    arrays = {name: np.full(shape, name.endswith("scale"), np.float32) for name, shape in shapes.items()}
    for name, shape in shapes.items():
        if name.endswith("kernel"):
            arrays[name] = (rng.standard_normal(shape) / np.sqrt(np.prod(shape[:-1]))).astype(np.float32)
    np.savez(tmp_path / "s32.npz", **arrays)
    base = keras_mixer.MixerS32(weights=tmp_path / "s32.npz", classifier_activation=None)
    model = keras.Sequential([keras.Input((224, 224, 3)), keras.layers.Rescaling(1.0), base]) if wrapped else base
    photo = load_sample_images().images[0]
    images = keras_mixer.preprocess_input(np.stack([photo[i : i + 224, 3 * i : 3 * i + 224] for i in (0, 70, 130)]))
    before = model.predict(images, verbose=0)
    model.quantize("int8")
    after = model.predict(images, verbose=0)
    assert min(cosine(a, b) for a, b in zip(before, after, strict=True)) > 0.999  # measured 0.99983
    model.save(tmp_path / "int8.keras")
    again = keras.saving.load_model(tmp_path / "int8.keras")
    np.testing.assert_array_equal(again.predict(images, verbose=0), after)


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file:UserWarning")
@pytest.mark.parametrize("shape", [headed, around, None])
def test_a_whole_model_in_h5_is_saved_by_a_callback_and_loads(tmp_path, shape):
    base = mixer(include_top=shape is None, pooling=None if shape is None else "avg", classifier_activation=None)
    freeze_a_block_and_the_stem(base)
    model = base if shape is None else shape(base)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    best = keras.callbacks.ModelCheckpoint(tmp_path / "best.h5", monitor="loss", save_best_only=True)
    model.fit(IMAGES, LABELS, batch_size=4, epochs=2, verbose=0, callbacks=[best])
    again = keras.saving.load_model(tmp_path / "best.h5")
    np.testing.assert_allclose(again.predict(IMAGES, verbose=0), model.predict(IMAGES, verbose=0), rtol=0, atol=1e-6)
    assert [w.trainable for w in again.weights] == [w.trainable for w in model.weights]


def test_the_signature_begins_as_those_of_keras_applications():
    names = [list(inspect.signature(f).parameters) for f in (keras.applications.ResNet50, keras_mixer.MixerS32)]
    assert names[1][: len(names[0])] == names[0]
    assert list(inspect.signature(keras_mixer.MLPMixer).parameters)[5 : 5 + len(names[0])] == names[0]
    theirs = inspect.signature(keras.applications.resnet50.preprocess_input).parameters
    assert list(inspect.signature(keras_mixer.preprocess_input).parameters)[1:] == list(theirs)[1:]
    pixels = np.full((1, 3, 2, 2), 255, "uint8")
    assert keras_mixer.preprocess_input(pixels, data_format="channels_first").max() == 1
    with pytest.raises(ValueError, match="data_format must be None, 'channels_last' or 'channels_first', got 'NCHW'"):
        keras_mixer.preprocess_input(pixels, "NCHW")


@pytest.mark.parametrize("way", [by_keras_file, by_clone, by_json])
def test_images_may_come_from_other_layers(tmp_path, way):
    pixels = keras.Input((16, 16, 3), name="pixels")
    scaled = keras.layers.Rescaling(1 / 127.5, offset=-1.0)(pixels)
    model = keras_mixer.MLPMixer(**{**SIZES, "input_shape": None}, input_tensor=scaled, classes=3)
    assert model.input is pixels
    model.get_layer("head").kernel.assign(np.eye(16, 3))
    model.get_layer("block_0").trainable = False
    again = way(model, tmp_path)
    images = (IMAGES + 1) * 127.5
    np.testing.assert_allclose(again.predict(images, verbose=0), model.predict(images, verbose=0), rtol=0, atol=1e-6)
    assert [w.trainable for w in again.weights] == [w.trainable for w in model.weights]
    keras_mixer.save_checkpoint(model, tmp_path / "mixer.npz")
    assert len(keras_mixer.load_checkpoint(model, tmp_path / "mixer.npz").loaded) == 30


@pytest.mark.parametrize("way", [by_keras_file, by_clone, by_json])
def test_a_layer_alone_keeps_its_frozen_part(tmp_path, way):
    images = keras.Input((4, 6))
    model = keras.Model(images, keras_mixer.MlpBlock(8, "tokens", name="mlp")(images))
    model.get_layer("mlp").dense_1.trainable = False
    again = way(model, tmp_path)
    assert [w.trainable for w in again.weights] == [True, True, False, False]


def test_a_configuration_of_before_the_parts_is_read():
    config = mixer().get_config()
    del config["parts"], config["trainable"]
    model = keras_mixer.MLPMixer.from_config(config | {"frozen_layers": ["block_1"]})
    frozen = {w.path.split("/")[0] for w in model.weights if not w.trainable}
    assert frozen == {"block_1"}
