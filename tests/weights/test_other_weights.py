"""Weights from other worlds: grey images, parallel training's names, nested state dicts, half precision."""

import keras
import numpy as np
import pytest
import tiny

import keras_mixer

GREY = np.random.default_rng(0).uniform(-1, 1, (4, 32, 32, 1)).astype("float32")


@pytest.fixture
def checkpoint(golden, tmp_path):
    return tiny.write_checkpoint(golden, tmp_path / "rgb.npz")


def test_a_grey_model_gives_what_the_rgb_model_gives_for_three_equal_channels(checkpoint):
    rgb = tiny.build(weights=checkpoint)
    grey = tiny.build(weights=checkpoint, input_shape=(32, 32, 1))
    kernel = rgb.get_layer("stem").conv.kernel
    np.testing.assert_array_equal(grey.get_layer("stem").conv.kernel, keras.ops.sum(kernel, axis=2, keepdims=True))
    expected = rgb.predict(np.repeat(GREY, 3, axis=-1), verbose=0)
    np.testing.assert_allclose(grey.predict(GREY, verbose=0), expected, rtol=0, atol=1e-5)  # measured 1e-6
    assert "the stem's kernel summed over its three channels" in str(grey.load_report)
    assert grey.load_report.resized["stem/kernel"] == ((8, 8, 3, 48), (8, 8, 1, 48))


def test_a_grey_checkpoint_goes_into_an_rgb_model(checkpoint, tmp_path):
    grey = tiny.build(weights=checkpoint, input_shape=(32, 32, 1))
    keras_mixer.save_checkpoint(grey, tmp_path / "grey.npz")
    rgb = tiny.build(weights=tmp_path / "grey.npz")
    found = rgb.predict(np.repeat(GREY, 3, axis=-1), verbose=0)
    np.testing.assert_allclose(found, grey.predict(GREY, verbose=0), rtol=0, atol=1e-5)


def test_other_numbers_of_channels_are_refused(checkpoint):
    with pytest.raises(ValueError, match="image channels is 3 in the file, 4 in the model"):
        tiny.build(weights=checkpoint, input_shape=(32, 32, 4))


def arrays_of(path):
    with np.load(path) as file:
        return dict(file)


@pytest.mark.parametrize("wrap", [lambda a: a, lambda a: {"state_dict": a, "epoch": 3}])
def test_names_of_parallel_training_and_nested_state_dicts_are_read(checkpoint, wrap):
    arrays = {f"module.{name}": value for name, value in arrays_of(checkpoint).items()}
    model = tiny.build(weights=wrap(arrays))
    np.testing.assert_array_equal(model.get_layer("head").kernel, arrays["module.head/kernel"])
    assert "names without their 'module.'" in str(model.load_report)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_cast_and_said(checkpoint, dtype):
    half = {name: keras.ops.convert_to_numpy(keras.ops.cast(v, dtype)) for name, v in arrays_of(checkpoint).items()}
    model = tiny.build(weights=half)
    np.testing.assert_array_equal(model.get_layer("head").kernel, half["head/kernel"].astype("float32"))
    assert f"cast from {dtype}" in str(model.load_report)


def _wrapped(head):
    mixer = tiny.build(include_top=head)
    if head:
        return mixer, keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Rescaling(2.0), mixer])
    images = keras.Input((32, 32, 3))
    return mixer, keras.Model(images, keras.layers.Dense(4)(keras.layers.Flatten()(mixer(images))))


@pytest.mark.parametrize("head", [True, False])
def test_weights_of_a_model_around_a_mixer_are_those_of_the_mixer(tmp_path, head):
    mixer, outer = _wrapped(head)
    outer.save_weights(tmp_path / "outer.weights.h5")
    model = tiny.build(weights=tmp_path / "outer.weights.h5", include_top=head)
    for ours, theirs in zip(model.weights, mixer.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert head or "2 arrays of the layers around the Mixer left out" in str(model.load_report)


def test_weights_of_a_model_with_two_mixers_say_what_to_do(tmp_path):
    images = keras.Input((32, 32, 3))
    both = [tiny.build(name=name)(images) for name in ("one", "two")]
    keras.Model(images, keras.layers.Concatenate()(both)).save_weights(tmp_path / "two.weights.h5")
    with pytest.raises(ValueError, match=r"two.weights.h5 holds 2 Mixers; load it with load_weights into a model"):
        tiny.build(weights=tmp_path / "two.weights.h5")


def test_weights_of_a_bfloat16_model_in_keras_format_are_read(tmp_path):
    keras.config.set_dtype_policy("bfloat16")
    rounded = tiny.build()
    rounded.save_weights(tmp_path / "rounded.weights.h5")
    keras.config.set_dtype_policy("float32")
    model = tiny.build(weights=tmp_path / "rounded.weights.h5")
    expected = keras.ops.convert_to_numpy(rounded.get_layer("stem").conv.kernel).astype("float32")
    np.testing.assert_array_equal(model.get_layer("stem").conv.kernel, expected)
    assert "cast from bfloat16" in str(model.load_report)


def test_weights_of_a_model_with_more_layers_than_a_mixer_say_what_to_do(tmp_path):
    body = tiny.build(include_top=False, pooling="avg")
    outputs = keras.layers.Dense(4)(keras.layers.Dense(7)(body.output))
    keras.Model(body.input, outputs).save_weights(tmp_path / "more.weights.h5")
    with pytest.raises(ValueError, match=r"(?s)\+ layers/dense_1/vars/0 \(7, 4\).*load_weights.*save_checkpoint\.$"):
        tiny.build(weights=tmp_path / "more.weights.h5")
