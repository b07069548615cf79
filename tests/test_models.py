"""The model: sizes, names, outputs, round trips, precision, compilation, and what it refuses."""

import inspect
import json
import zipfile

import keras
import numpy as np
import pytest
import tiny

import keras_mixer

# facts.md of the paper: parameters at 224 px with 1,000 classes.
PARAMETERS = {
    "S8": 20_646_504,
    "S16": 18_528_264,
    "S32": 19_104_624,
    "B16": 59_880_472,
    "B32": 60_293_428,
    "L16": 208_196_168,
    "L32": 206_939_264,
    "H14": 432_350_952,
}
IMAGES = np.random.default_rng(0).uniform(-1, 1, (2, 32, 32, 3)).astype("float32")


def _randomised(**kwargs):
    """A tiny model whose head is not zero, so that outputs tell something."""
    model = tiny.build(**kwargs)
    rng = np.random.default_rng(1)
    model.set_weights([rng.normal(size=w.shape, scale=0.2).astype(w.dtype) for w in model.get_weights()])
    return model


@pytest.mark.parametrize("variant", PARAMETERS)
def test_parameter_count(variant):
    with keras.StatelessScope(initialize_variables=False):  # shapes only, so that H/14 costs no memory
        model = getattr(keras_mixer, f"Mixer{variant}")()
    assert model.count_params() == PARAMETERS[variant]
    assert model.name == f"mixer_{variant.lower()}"


def test_intermediates_are_reachable_by_name():
    model = tiny.build(classifier_activation="softmax")
    names = ["stem", "block_0", "block_1", "block_2", "pre_head_layer_norm", "pre_logits", "head", "predictions"]
    shapes = [tuple(model.get_layer(name).output.shape) for name in names]
    assert shapes == [(None, 16, 48)] * 5 + [(None, 48), (None, 10), (None, 10)]


@pytest.mark.parametrize(
    ("kwargs", "shape"),
    [
        (dict(include_top=False), (2, 16, 48)),
        (dict(include_top=False, pooling="avg"), (2, 48)),
        (dict(include_top=False, pooling="max"), (2, 48)),
        (dict(classes=3), (2, 3)),
    ],
)
def test_output_shapes(kwargs, shape):
    assert tuple(tiny.build(**kwargs)(IMAGES).shape) == shape


def test_new_head_is_zero_and_softmax_uniform():
    np.testing.assert_array_equal(np.asarray(tiny.build()(IMAGES)), 0)
    np.testing.assert_allclose(np.asarray(tiny.build(classifier_activation="softmax")(IMAGES)), 0.1, rtol=1e-6)


def test_kernels_start_lecun_normal_and_biases_zero():
    block = keras_mixer.MixerB16(include_top=False, input_shape=(32, 32, 3)).get_layer("block_0")
    kernel = np.asarray(block.channel_mixing.dense_0.kernel)  # (768, 3072)
    assert abs(kernel.std() * np.sqrt(768) - 1) < 0.01
    assert not np.asarray(block.channel_mixing.dense_0.bias).any()


def test_stochastic_depth_rises_linearly_to_the_last_block():
    model = tiny.build(stochastic_depth_rate=0.3)
    assert [model.get_layer(f"block_{i}").stochastic_depth_rate for i in range(3)] == [0.0, 0.15, 0.3]


@pytest.mark.parametrize("name", ["rescale_stochastic_depth", "rematerialize"])
def test_blocks_and_variants_get_the_flag(name):
    model = tiny.build(stochastic_depth_rate=0.3, **{name: True})
    assert [getattr(model.get_layer(f"block_{i}"), name) for i in range(3)] == [True] * 3
    assert not getattr(tiny.build().get_layer("block_0"), name)
    with keras.StatelessScope(initialize_variables=False):
        assert getattr(keras_mixer.MixerS32(**{name: True}).get_layer("block_7"), name)


def test_what_keras_applications_do_not_have_stands_last():
    last = ["dropout_rate", "stochastic_depth_rate", "rescale_stochastic_depth", "rematerialize"]
    for build in (keras_mixer.MLPMixer, keras_mixer.MixerB16):
        assert list(inspect.signature(build).parameters)[-4:] == last


def test_rematerialisation_trains_to_the_same_weights():
    weights = []
    for rematerialize in (False, True):
        keras.utils.set_random_seed(0)
        model = tiny.build(stochastic_depth_rate=0.5, rematerialize=rematerialize)
        model.compile(keras.optimizers.SGD(0.1), loss="mse", jit_compile=False)
        model.fit(IMAGES, np.ones((2, 10), "float32"), epochs=3, verbose=0)
        weights.append(model.get_weights())
    assert np.abs(weights[0][-1]).max() > 0.01  # it has learnt
    for plain, again in zip(*weights, strict=True):
        np.testing.assert_allclose(again, plain, atol=1e-6)


def test_input_tensor_is_used():
    images = keras.Input((32, 32, 3), name="mine")
    model = tiny.build(input_tensor=images, input_shape=None)
    assert model.input is images


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
def test_saving_round_trip_is_bit_equal(tmp_path, suffix):
    model = _randomised(dropout_rate=0.1, stochastic_depth_rate=0.2)
    model.get_layer("block_1").trainable = False
    path = tmp_path / f"model{suffix}"
    if suffix == ".keras":
        model.save(path)
        copy = keras.saving.load_model(path)
        assert isinstance(copy, keras_mixer.MLPMixer)
        assert not copy.get_layer("block_1").trainable
    else:
        model.save_weights(path)
        copy = tiny.build(dropout_rate=0.1, stochastic_depth_rate=0.2)
        copy.load_weights(path)
    np.testing.assert_array_equal(np.asarray(copy(IMAGES)), np.asarray(model(IMAGES)))


def test_a_file_saved_before_an_argument_existed_loads_with_its_default(tmp_path):
    model = _randomised(stochastic_depth_rate=0.2)
    model.save(tmp_path / "new.keras")
    with zipfile.ZipFile(tmp_path / "new.keras") as new, zipfile.ZipFile(tmp_path / "old.keras", "w") as old:
        for name in new.namelist():
            content = new.read(name)
            if name == "config.json":
                config = json.loads(content)
                assert config["config"].pop("rescale_stochastic_depth") is False
                assert config["config"].pop("rematerialize") is False
                content = json.dumps(config)
            old.writestr(name, content)
    copy = keras.saving.load_model(tmp_path / "old.keras")
    np.testing.assert_array_equal(np.asarray(copy(IMAGES)), np.asarray(model(IMAGES)))


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        dict(include_top=False, pooling="avg", dropout_rate=0.5),
        dict(classes=4),
        dict(rescale_stochastic_depth=True, rematerialize=True),
    ],
)
def test_config_round_trip(kwargs):
    model = tiny.build(**kwargs)
    copy = keras_mixer.MLPMixer.from_config(model.get_config())
    assert copy.get_config() == model.get_config()
    assert [w.shape for w in copy.weights] == [w.shape for w in model.weights]


def test_mixed_precision_computes_in_bfloat16_and_gives_float32_probabilities(tmp_path):
    reference = _randomised(classifier_activation="softmax")
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = tiny.build(classifier_activation="softmax")
    keras.config.set_dtype_policy("float32")
    model.set_weights(reference.get_weights())
    assert model.get_layer("block_0").compute_dtype == "bfloat16"
    assert model.get_layer("block_0").output.dtype == "bfloat16"
    assert [model.get_layer(n).output.dtype for n in ("pre_logits", "head", "predictions")] == ["float32"] * 3
    assert all(w.dtype == "float32" for w in model.weights)
    np.testing.assert_allclose(np.asarray(model(IMAGES)), np.asarray(reference(IMAGES)), atol=0.05)
    model.save(tmp_path / "model.keras")  # the policy is kept, whatever the global one is
    assert keras.saving.load_model(tmp_path / "model.keras").get_layer("block_0").compute_dtype == "bfloat16"


def test_jit_compiled_prediction_equals_the_plain_one():
    model = _randomised()
    plain = np.asarray(model(IMAGES))
    model.compile(jit_compile=True)
    np.testing.assert_allclose(model.predict(IMAGES, verbose=0), plain, atol=2e-5)  # measured 4e-6


def test_every_parameter_gets_a_gradient():
    import tensorflow as tf

    model = _randomised()
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(model(IMAGES, training=True)))
    gradients = tape.gradient(loss, model.trainable_variables)
    assert all(g is not None and np.isfinite(g).all() for g in gradients)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(input_shape=(30, 32, 3)), "image height 30 is not a positive multiple of the patch size 8"),
        (dict(input_shape=(32, None, 3)), "image width is None"),
        (dict(input_shape=(32, 32)), r"input_shape must be \(height, width, channels\)"),
        (dict(input_shape=32), r"input_shape must be \(height, width, channels\), got 32"),
        (dict(classes=0), "classes must be a positive integer, got 0"),
        (dict(pooling="mean"), "pooling must be None, 'avg' or 'max', got 'mean'"),
        (dict(dropout_rate=1.5), r"dropout_rate must be a fraction in \[0, 1\), got 1.5"),
        (dict(stochastic_depth_rate=-1), r"stochastic_depth_rate must be a fraction in \[0, 1\), got -1"),
        (dict(classifier_activation="softmx"), "classifier_activation 'softmx' is not a Keras activation"),
        (dict(input_shape=(32, 32, True)), r"input_shape must be \(height, width, channels\)"),
        (dict(include_top="no"), "include_top must be True or False, got 'no'"),
        (dict(rescale_stochastic_depth=1), "MLPMixer: rescale_stochastic_depth must be True or False, got 1"),
        (dict(rematerialize=None), "MLPMixer: rematerialize must be True or False, got None"),
        (
            dict(rematerialize=True, dropout_rate=0.1),
            "MLPMixer: rematerialize=True cannot repeat the draws of dropout_rate 0.1; use dropout_rate=0",
        ),
        (dict(classifier_activation=lambda x: x), "classifier_activation must not be a lambda"),
        (dict(input_tensor=np.zeros((1, 32, 32, 3))), "input_tensor must be a Keras tensor"),
    ],
)
def test_bad_arguments_are_refused_in_one_sentence(kwargs, message):
    with pytest.raises(ValueError, match=message):
        tiny.build(**kwargs)


@pytest.mark.parametrize("name", ["patch_size", "num_blocks", "hidden_dim", "tokens_mlp_dim", "channels_mlp_dim"])
@pytest.mark.parametrize("value", [0, -3, 2.0, None])
def test_bad_sizes_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"MLPMixer: {name} must be a positive integer, got {value}"):
        keras_mixer.MLPMixer(**{**tiny.SIZES, name: value})


def test_numpy_numbers_are_accepted_and_become_json():
    sizes = {name: np.int64(value) for name, value in tiny.SIZES.items()}
    kwargs = dict(input_shape=tuple(np.array([32, 32, 3])), classes=np.int32(4), dropout_rate=np.float32(0.25))
    config = keras_mixer.MLPMixer(**sizes, **kwargs).get_config()
    assert json.loads(json.dumps(config))["classes"] == 4


def test_a_misspelt_argument_is_refused():
    with pytest.raises(TypeError, match="dropot_rate"):
        tiny.build(dropot_rate=0.5)


def test_preprocess_input_maps_pixels_to_the_model_range():
    pixels = np.arange(256, dtype="uint8")
    expected = np.linspace(-1, 1, 256)
    for result in (
        keras_mixer.preprocess_input(pixels),
        np.asarray(keras_mixer.preprocess_input(keras.ops.array(pixels))),
    ):
        assert result.dtype == np.float32
        np.testing.assert_allclose(result, expected, atol=1e-7)
    assert pixels[255] == 255


def test_images_of_another_shape_are_refused_whatever_was_seen_before():
    """Keras opens sides that varied when it traces again, where nothing could tell that an image does not fit."""
    model = keras_mixer.MLPMixer(4, 1, 8, 8, 8, input_shape=(16, 16, 3), classes=2)
    model.predict(np.zeros((1, 16, 16, 3), np.float32), verbose=0)
    for shape in ((1, 20, 20, 3), (1, 24, 20, 3), (1, 16, 16, 1)):
        with pytest.raises(ValueError, match=r"images: must have the shape \(B, 16, 16, 3\), for which this model"):
            model.predict(np.zeros(shape, np.float32), verbose=0)
