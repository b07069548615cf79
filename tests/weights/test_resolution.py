"""Weights for another image size: exact for whole factors, resampled otherwise, in NumPy and in the model."""

import keras
import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_mixer
from keras_mixer.weights import resolution

SIDE = st.integers(1, 5)


@pytest.fixture
def arrays(golden):
    return {k.removeprefix("checkpoint/"): v for k, v in golden.items() if k.startswith("checkpoint/")}


def body(weights, shape, **kwargs):
    return tiny.build(
        weights=weights, include_top=False, pooling="avg", classes=None, input_shape=(*shape, 3), **kwargs
    )


def pre_logits(model, images):
    return keras.ops.convert_to_numpy(model(images))


def random_images(*shape):
    return np.random.default_rng(0).uniform(-1, 1, shape).astype("float32")


def sub_images(images, height, width):
    """(B, kh*h, kw*w, 3) -> kh*kw arrays (B, h, w, 3)."""
    rows, columns = images.shape[1] // height, images.shape[2] // width
    return [
        images[:, a * height : (a + 1) * height, b * width : (b + 1) * width]
        for a in range(rows)
        for b in range(columns)
    ]


# ---- whole factors (paper appendix C)


@pytest.mark.parametrize("factor", [(2, 2), (3, 3), (2, 3), (1, 2)])
def test_pre_logits_are_the_mean_of_the_sub_images(arrays, factor):
    images = random_images(2, 32 * factor[0], 32 * factor[1], 3)
    large, small = body(arrays, images.shape[1:3]), body(arrays, (32, 32))
    assert large.get_layer("block_0").tokens_mlp_dim == 20 * factor[0] * factor[1]
    expected = np.mean([pre_logits(small, image) for image in sub_images(images, 32, 32)], axis=0)
    difference = np.abs(pre_logits(large, images) - expected).max()
    assert difference < 1e-5  # measured 2e-7


@pytest.mark.parametrize(("base", "factor"), [((16, 40), (2, 2)), ((24, 8), (3, 3)), ((8, 24), (2, 1))])
def test_rectangular_base_grids_have_the_same_property(tmp_path, base, factor):
    small = body(None, base)
    rng = np.random.default_rng(1)
    for weight in small.weights:
        weight.assign(rng.normal(0, 0.2, weight.shape))
    keras_mixer.save_checkpoint(small, tmp_path / "base.npz")
    images = random_images(2, base[0] * factor[0], base[1] * factor[1], 3)
    large = body(tmp_path / "base.npz", images.shape[1:3])
    expected = np.mean([pre_logits(small, image) for image in sub_images(images, *base)], axis=0)
    assert np.abs(pre_logits(large, images) - expected).max() < 1e-5


def test_without_the_permutation_the_property_fails(arrays, monkeypatch):
    """The check can fail: plain block-diagonal kernels, as if the parts were contiguous in the token order."""

    def contiguous(mlp, grid, factor):
        kernel_0, bias_0, kernel_1, bias_1 = mlp
        eye = np.eye(factor[0] * factor[1], dtype="float32")
        copies = len(eye)
        return np.kron(eye, kernel_0), np.tile(bias_0, copies), np.kron(eye, kernel_1), np.tile(bias_1, copies)

    monkeypatch.setattr(resolution, "_block_diagonal", contiguous)
    images = random_images(2, 64, 64, 3)
    expected = np.mean([pre_logits(body(arrays, (32, 32)), image) for image in sub_images(images, 32, 32)], axis=0)
    assert np.abs(pre_logits(body(arrays, (64, 64)), images) - expected).max() > 1e-2


@settings(max_examples=50, deadline=None)
@given(grid=st.tuples(SIDE, SIDE), factor=st.tuples(st.integers(1, 3), st.integers(1, 3)), hidden=st.integers(1, 4))
def test_block_diagonal_mlp_acts_on_each_part_alone(grid, factor, hidden):
    rng = np.random.default_rng(2)
    tokens = grid[0] * grid[1]
    shapes = [(tokens, hidden), (hidden,), (hidden, tokens), (tokens,)]
    old = [rng.normal(size=shape) for shape in shapes]
    new_grid = (grid[0] * factor[0], grid[1] * factor[1])
    new = resolution.resize_token_mlp(old, grid, new_grid)

    def mlp(x, k0, b0, k1, b1):
        return np.tanh(x @ k0 + b0) @ k1 + b1

    x = rng.normal(size=new_grid)
    y = mlp(x.reshape(-1), *new).reshape(new_grid)
    for a in range(factor[0]):
        for b in range(factor[1]):
            part = np.s_[a * grid[0] : (a + 1) * grid[0], b * grid[1] : (b + 1) * grid[1]]
            np.testing.assert_allclose(y[part], mlp(x[part].reshape(-1), *old).reshape(grid), atol=1e-12)


# ---- any other size


@settings(max_examples=100, deadline=None)
@given(old=st.tuples(SIDE, SIDE), new=st.tuples(SIDE, SIDE))
def test_resampling_keeps_the_pre_activations_of_even_tokens(old, new):
    """The scaling: tokens that are the same everywhere give the same hidden units, and an even output stays even."""
    rng = np.random.default_rng(3)
    tokens, hidden = old[0] * old[1], 3
    kernel_0, kernel_1 = rng.normal(size=(tokens, hidden)), np.repeat(rng.normal(size=(hidden, 1)), tokens, axis=1)
    mlp = kernel_0, np.ones(hidden), kernel_1, np.full(tokens, 2.0)
    arrays = resolution.resize_token_mlp(mlp, old, new, hidden)
    np.testing.assert_allclose(arrays[0].sum(0), kernel_0.sum(0), atol=1e-12)
    np.testing.assert_array_equal(arrays[1], np.ones(hidden))
    np.testing.assert_allclose(arrays[2], np.repeat(kernel_1[:, :1], new[0] * new[1], axis=1), atol=1e-12)
    np.testing.assert_allclose(arrays[3], np.full(new[0] * new[1], 2.0), atol=1e-12)


@given(grid=st.tuples(SIDE, SIDE))
def test_an_unchanged_size_is_the_identity(grid):
    tokens = grid[0] * grid[1]
    arrays = np.ones((tokens, 2)), np.ones(2), np.ones((2, tokens)), np.ones(tokens)
    assert resolution.resize_token_mlp(arrays, grid, grid) == arrays
    np.testing.assert_array_equal(resolution._resampling(grid, grid), np.eye(tokens))


def test_halving_averages_and_doubling_interpolates():
    np.testing.assert_allclose(resolution._resampling_1d(4, 2), np.array([[3, 3, 1, 0], [0, 1, 3, 3]]) / 7)
    np.testing.assert_allclose(resolution._resampling_1d(2, 4), [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]])


@pytest.mark.parametrize("shape", [(16, 16), (24, 40), (40, 40), (48, 32), (56, 56), (8, 64)])
def test_any_other_size_keeps_the_hidden_units_and_the_magnitude(golden, arrays, shape):
    images = keras_mixer.preprocess_input(golden["images"])

    def magnitude(model, images):
        tokens = keras.Model(model.input, model.get_layer("block_2").output)(images)
        return float(np.sqrt(np.mean(np.square(tokens))))

    model = body(arrays, shape)
    assert model.get_layer("block_0").tokens_mlp_dim == 20
    ratio = magnitude(model, keras.ops.image.resize(images, shape)) / magnitude(body(arrays, (32, 32)), images)
    print(f"{shape}: {ratio:.2f}")
    assert 0.7 < ratio < 1.4  # measured 0.76 at 16 x 16 px to 0.88 at 48 x 32 px


def test_a_whole_factor_may_be_resampled_too(arrays):
    model = tiny.build(input_shape=(64, 64, 3))
    report = keras_mixer.load_checkpoint(model, arrays)
    assert report.resized["MixerBlock_0/token_mixing/Dense_0/kernel"] == ((16, 20), (64, 20))
    assert len(report.resized) == 12
    assert "token MLPs resized from 4 x 4 to 8 x 8 patches" in str(report)


def test_hidden_units_that_fit_neither_scheme_are_refused(arrays):
    model = keras_mixer.MLPMixer(**tiny.SIZES | {"tokens_mlp_dim": 10}, input_shape=(64, 64, 3), classes=10)
    with pytest.raises(ValueError, match=r"- MixerBlock_0/token_mixing/Dense_0/bias \(10,\) float32\n\+ .* \(20,\)"):
        keras_mixer.load_checkpoint(model, arrays)
    mlp = [arrays[f"MixerBlock_0/token_mixing/Dense_{i}/{part}"] for i in (0, 1) for part in ("kernel", "bias")]
    with pytest.raises(ValueError, match=r"20 hidden units on 4 x 4 patches cannot get 10 on 8 x 8; .*=20 or 80"):
        resolution.resize_token_mlp(mlp, (4, 4), (8, 8), hidden_dim=10)


def test_hidden_units_of_another_model_are_refused_by_the_constructor(arrays):
    for dim in (40, 12, 10):
        with pytest.raises(ValueError, match=rf"- MixerBlock_0/token_mixing/Dense_0/bias \({dim},\)"):
            keras_mixer.MLPMixer(**tiny.SIZES | {"tokens_mlp_dim": dim}, weights=arrays, input_shape=(32, 32, 3))


def test_a_model_that_is_grown_already_takes_the_block_diagonal_weights(arrays):
    images = random_images(1, 64, 64, 3)
    grown = tiny.build(weights=arrays, input_shape=(64, 64, 3))
    other = keras_mixer.MLPMixer(
        **tiny.SIZES | {"tokens_mlp_dim": 80}, input_shape=(64, 64, 3), classes=10, classifier_activation=None
    )
    keras_mixer.load_checkpoint(other, arrays)
    np.testing.assert_array_equal(pre_logits(other, images), pre_logits(grown, images))


# ---- the grown model


def test_grown_model_is_saved_and_loaded_in_every_way(arrays, tmp_path, caplog):
    caplog.set_level("INFO", "keras_mixer")
    model = tiny.build(weights=arrays, input_shape=(64, 96, 3))
    images = random_images(1, 64, 96, 3)
    expected = pre_logits(model, images)
    config = model.get_config()
    assert config["tokens_mlp_dim"] == 120
    again = type(model).from_config(config)
    again.set_weights(model.get_weights())
    np.testing.assert_array_equal(pre_logits(again, images), expected)
    model.save(tmp_path / "a.keras")
    np.testing.assert_array_equal(pre_logits(keras.saving.load_model(tmp_path / "a.keras"), images), expected)
    keras_mixer.save_checkpoint(model, tmp_path / "a.npz")
    for name in ("a.npz", "a.keras"):  # by the sizes of the small model, as MixerB16(weights=..., input_shape=...) does
        loaded = tiny.build(weights=tmp_path / name, input_shape=(64, 96, 3))
        assert loaded.get_layer("block_0").tokens_mlp_dim == 120
        assert "token MLPs are 6 times as wide as tokens_mlp_dim=20, of a higher resolution" in caplog.text
        caplog.clear()
        np.testing.assert_array_equal(pre_logits(loaded, images), expected)


def test_rectangle_is_noted_in_the_file_and_seen_by_no_reader_of_arrays(arrays, tmp_path):
    keras_mixer.save_checkpoint(tiny.build(weights=arrays, input_shape=(16, 64, 3)), tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as archive:
        assert sorted(archive.files) == sorted(arrays)
    same = tiny.build(input_shape=(16, 64, 3))
    assert not keras_mixer.load_checkpoint(same, tmp_path / "a.npz").resized
    square = tiny.build(input_shape=(32, 32, 3))  # as many patches, elsewhere
    assert keras_mixer.load_checkpoint(square, tmp_path / "a.npz").resized


def test_rectangle_that_no_file_tells_needs_the_grid(arrays, tmp_path):
    model = tiny.build(weights=arrays, input_shape=(16, 40, 3))
    keras_mixer.save_checkpoint(model, tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as archive:
        untold = dict(archive)
    keras_mixer.load_checkpoint(tiny.build(input_shape=(16, 40, 3)), untold)  # ten patches, as the file
    other = tiny.build(input_shape=(32, 40, 3))
    with pytest.raises(ValueError, match=r"for 10 patches, which form no square, .* give grid=\(rows, columns\)"):
        keras_mixer.load_checkpoint(other, untold)
    assert keras_mixer.load_checkpoint(other, untold, grid=(2, 5)).resized
    with pytest.raises(ValueError, match=r"grid \(3, 5\) has 15 patches, but .* holds token MLPs for 10"):
        keras_mixer.load_checkpoint(other, untold, grid=(3, 5))
