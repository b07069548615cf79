"""Weights as pictures: which unit comes where, and what is drawn."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from keras_mixer.pictures import weights


def _wave(a, b, rows=6, columns=8):
    """A component of the cosine transform: a half periods down, b across."""
    down, across = (
        np.cos((np.arange(rows) + 0.5) * np.pi * a / rows),
        np.cos((np.arange(columns) + 0.5) * np.pi * b / columns),
    )
    return np.outer(down, across)


def test_a_unit_is_an_image_of_its_weights_row_by_row():
    kernel = np.arange(12 * 2).reshape(12, 2)
    images = weights.hidden_unit_images(kernel, (3, 4))
    assert images.shape == (2, 3, 4)
    np.testing.assert_array_equal(images[1].ravel(), kernel[:, 1])


def test_a_stem_unit_is_the_kernel_of_its_channel():
    kernel = np.random.default_rng(0).normal(size=(4, 4, 3, 5))
    np.testing.assert_array_equal(weights.stem_unit_images(kernel)[2], kernel[..., 2])
    grey = weights.stem_unit_images(kernel[:, :, :1])
    assert grey.shape == (5, 4, 4, 3)
    np.testing.assert_array_equal(grey[3, ..., 1], kernel[:, :, 0, 3])


def test_the_frequency_of_a_wave_is_that_of_its_cosines():
    for a, b in itertools.product(range(6), range(8)):
        expected = np.hypot(2 * np.sin(np.pi * a / 12), 2 * np.sin(np.pi * b / 16))
        found = weights.spatial_frequency(-3 * _wave(a, b)[None])
        np.testing.assert_allclose(found, [expected], atol=1e-12)  # measured 9e-16
        colours = np.repeat(_wave(a, b)[None, ..., None], 3, axis=-1)
        np.testing.assert_allclose(weights.spatial_frequency(colours), [expected], atol=1e-12)


def test_pairs_come_by_frequency_each_unit_beside_its_inverse():
    noise = np.random.default_rng(0).normal(size=(8, 6, 8)) * 0.02
    waves = np.stack([s * _wave(*ab) for s, ab in [(1, (0, 5)), (1, (1, 0)), (-9, (1, 0)), (-1, (0, 5))]])
    flat = np.stack([np.ones((6, 8)), -0.3 * np.ones((6, 8)), _wave(5, 6), -_wave(5, 6)])
    images = np.concatenate([waves, flat]) + noise
    order, cosines = weights.pair_inverses(images)
    assert [{*order[i : i + 2].tolist()} for i in range(0, 8, 2)] == [{4, 5}, {1, 2}, {0, 3}, {6, 7}]
    assert (cosines < -0.95).all()


@given(
    arrays(
        np.float32,
        st.tuples(st.integers(1, 9), st.integers(1, 4), st.integers(1, 4)),
        elements=st.floats(-4, 4, width=16),
    )
)
@settings(max_examples=60, deadline=None)
def test_every_unit_is_shown_once_and_the_first_of_pairs_by_rising_frequency(images):
    order, cosines = weights.pair_inverses(images)
    assert sorted(order) == list(range(len(images)))
    assert len(cosines) == len(images) // 2
    assert (np.abs(cosines) <= 1 + 1e-9).all()
    assert (np.diff(weights.spatial_frequency(images)[order[::2]].clip(max=9)) >= 0).all()


def test_units_of_zeros_come_last_and_without_a_warning():
    images = np.stack([np.zeros((2, 2)), np.array([[1.0, -1], [-1, 1]])])
    order, cosines = weights.pair_inverses(images)
    assert order.tolist() == [1, 0]
    assert cosines.tolist() == [0]


def _pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def test_the_picture_shows_each_weight_in_its_place_and_colour(tmp_path):
    unit = np.array([[1.0, 0.0, -1.0], [0.5, 0.0, 0.0]])
    kernel = np.stack([unit.ravel(), -7 * unit.ravel()], axis=1)
    path = tmp_path / "new" / "block_3.png"
    text = weights.write_token_mixing(path, kernel, (2, 3), "runs/$a", 3)
    assert text.startswith("2 hidden units, one weight for each of 2 x 3 patches.")
    assert "median -1.00" in text
    pixels = _pixels(path)
    assert [p.name for p in path.parent.iterdir()] == ["block_3.png"]
    # The picture is at the lower left; a weight is 32 pixels of the 96 of a unit.
    x, y = weights.MARGIN + weights.GAP, pixels.shape[0] - weights.MARGIN - weights.GAP
    second = x + 96 + weights.PAIR_GAP
    red, blue, white = (103, 0, 31), (5, 48, 97), (247, 247, 247)
    at = lambda left, row, column: pixels[y - 64 + 32 * row + 16, left + 32 * column + 16]
    for left, high, low in ((x, red, blue), (second, blue, red)):
        assert np.abs(at(left, 0, 0) - high).max() <= 2
        assert np.abs(at(left, 0, 2) - low).max() <= 2
        assert np.abs(at(left, 0, 1) - white).max() <= 3
    assert at(x, 1, 0)[0] > at(x, 1, 0)[2] + 60  # half is reddish
    assert pixels[: weights.MARGIN].min() == 255  # nothing of the caption is cut off
    assert pixels[:, -8:].min() == 255


def test_blocks_side_by_side_each_in_its_place(tmp_path):
    unit = np.array([[1.0, 0.0, -1.0], [0.5, 0.0, 0.0]])
    kernels = {i: np.stack([k.ravel(), -k.ravel()], axis=1) for i, k in ((0, unit), (5, unit[:, ::-1]))}
    text = weights.write_side_by_side(tmp_path / "a.png", kernels, (2, 3), "mine")
    assert text.startswith("2 hidden units of each of the blocks 0, 5, from left to right")
    pixels = _pixels(tmp_path / "a.png")
    first = weights.MARGIN + weights.GAP
    second = first + 2 * 96 + weights.PAIR_GAP + 4 * weights.GAP  # a pair, and the grey and white between the blocks
    y = pixels.shape[0] - weights.MARGIN - weights.GAP - 64 + 16
    red, blue = (103, 0, 31), (5, 48, 97)
    for x, left, right in ((first, red, blue), (second, blue, red)):
        assert np.abs(pixels[y, x + 16] - left).max() <= 2
        assert np.abs(pixels[y, x + 80] - right).max() <= 2


def test_the_stem_is_drawn_in_its_colours_zero_grey(tmp_path):
    kernel = np.zeros((2, 2, 3, 1))
    kernel[0, 0, :, 0], kernel[1, 1, :, 0] = (2, -2, -2), (1, 1, 1)
    weights.write_stem(tmp_path / "stem.png", kernel, "x")
    pixels = _pixels(tmp_path / "stem.png")
    x, y = weights.MARGIN + weights.GAP, pixels.shape[0] - weights.MARGIN - weights.GAP
    at = lambda row, column: pixels[y - 96 + 48 * row + 24, x + 48 * column + 24]
    for place, colour in (((0, 0), (255, 0, 0)), ((1, 1), (191, 191, 191)), ((0, 1), (128, 128, 128))):
        assert np.abs(at(*place) - colour).max() <= 1


@pytest.mark.parametrize(
    ("units", "patches"), [(1, (1, 1)), (7, (3, 9)), (384, (14, 14)), (640, (16, 16)), (33, (40, 3))]
)
def test_any_number_of_units_gives_a_picture_of_sensible_size(tmp_path, units, patches):
    kernel = np.random.default_rng(0).normal(size=(patches[0] * patches[1], units))
    text = weights.write_token_mixing(tmp_path / "a.png", kernel, patches, "W" * 150, 0, most=384)
    assert text.startswith(f"{units} hidden" if units <= 384 else f"384 of {units} hidden")
    height, width, _ = _pixels(tmp_path / "a.png").shape
    assert weights.NARROWEST <= width <= weights.WIDEST
    assert height < 1700
    assert _pixels(tmp_path / "a.png")[:100, -8:].min() == 255  # a long name is wrapped, not cut off


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda p: weights.write_token_mixing(p, np.zeros((9, 2)), (2, 4), "x", 0),
            r"grid: 2 x 4 patches need",
        ),
        (
            lambda p: weights.write_token_mixing(p, np.ones((4, 2)), (2, 2), "x", 0, 0),
            "units: must be a positive",
        ),
        (
            lambda p: weights.write_stem(p, np.zeros((4, 4, 2, 5)), "x"),
            r"kernel: of a stem must be \(P, P, 3, C\)",
        ),
    ],
)
def test_bad_arguments_write_nothing(tmp_path, call, message):
    with pytest.raises(ValueError, match=message):
        call(tmp_path / "a.png")
    assert not list(tmp_path.iterdir())
