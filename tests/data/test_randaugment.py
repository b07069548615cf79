"""RandAugment: the authors' pixels for each operation, uniform draws, and purity."""

import pathlib
import re

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from keras_mixer.data.randaugment import OP_NAMES, apply_op, randaugment

GOLDEN = np.load(pathlib.Path(__file__).parents[1] / "golden" / "randaugment_reference.npz")
GOLDEN = {key: GOLDEN[key] for key in GOLDEN.files}
PHOTO = GOLDEN.pop("image")
SIGNED = ("Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY")


def run_golden(key):
    op, _, magnitude = key.partition("@")
    return apply_op(op.rstrip("+-"), PHOTO, int(magnitude or 10), -1 if op.endswith("-") else 1).numpy()


def test_every_deterministic_operation_has_the_authors_pixels():
    differing = {key: np.mean(run_golden(key) != GOLDEN[key]) for key in GOLDEN}
    # Measured: all 85 outputs equal, bit for bit.
    assert {key: share for key, share in differing.items() if share} == {}
    assert {key.partition("@")[0].rstrip("+-") for key in GOLDEN} == {*OP_NAMES} - {"Cutout"}


@pytest.mark.parametrize("sign", [1, -1])
def test_warps_in_a_graph_of_known_shape_have_the_authors_pixels_too(sign):
    for key, expected in GOLDEN.items():
        name, _, magnitude = key.partition("@")
        if name in {f"{op}{'+' if sign > 0 else '-'}" for op in SIGNED[:3]}:
            graph = tf.function(lambda name=name[:-1], m=int(magnitude or 10): apply_op(name, PHOTO, m, sign))
            np.testing.assert_array_equal(graph(), expected, err_msg=key)


@settings(max_examples=15, deadline=None)
@given(
    name=st.sampled_from(SIGNED[:3]),
    height=st.integers(3, 70),
    width=st.integers(3, 70),
    magnitude=st.floats(0, 30),
    sign=st.sampled_from([1, -1]),
)
def test_looked_up_warps_equal_tensorflows_own(name, height, width, magnitude, sign):
    image = np.random.default_rng(height * width).integers(0, 256, (height, width, 3), np.uint8)
    looked_up = tf.function(lambda: apply_op(name, image, magnitude, sign))()
    np.testing.assert_array_equal(looked_up, apply_op(name, image, magnitude, sign))


def test_the_golden_comparison_sees_another_sign_magnitude_or_fill():
    assert not np.array_equal(apply_op("ShearX", PHOTO, 10, -1), GOLDEN["ShearX+@10"])
    assert not np.array_equal(apply_op("Contrast", PHOTO, 15), GOLDEN["Contrast@10"])
    assert np.array_equal(apply_op("TranslateX", PHOTO, 10), np.full_like(PHOTO, 128))


def test_operations_in_a_graph_with_unknown_shape_equal_eager_ones():
    for name in OP_NAMES:
        graph = tf.function(
            lambda image, name=name: apply_op(name, image, 7, -1),
            input_signature=[tf.TensorSpec([None, None, 3], tf.uint8)],
        )
        np.testing.assert_array_equal(graph(PHOTO), apply_op(name, PHOTO, 7, -1), err_msg=name)


def test_contrast_blends_with_the_number_of_pixels_over_256_and_at_most_white():
    for side, grey in ((32, 4), (252, 248), (300, 255)):
        image = np.random.default_rng(side).integers(0, 256, (side, side, 3), np.uint8)
        expected = grey + np.float32(0.64) * (image.astype(np.float32) - grey)
        np.testing.assert_array_equal(apply_op("Contrast", image, 3), expected.astype(np.uint8))


def test_cutout_is_a_grey_box_of_twice_the_half_width_clipped_at_the_border():
    for centre, rows, columns in [
        ((48, 40), (36, 60), (28, 52)),
        ((0, 79), (0, 12), (67, 80)),
        ((95, 0), (83, 96), (0, 12)),
    ]:
        expected = PHOTO.copy()
        expected[slice(*rows), slice(*columns)] = 128
        np.testing.assert_array_equal(apply_op("Cutout", PHOTO, 3, centre=centre), expected)


def test_a_flat_image_stays_as_it_is_where_stretching_would_divide_by_zero():
    flat = np.full((9, 7, 3), 93, np.uint8)
    flat[..., 1] = 0
    for name in ("AutoContrast", "Equalize", "Sharpness"):
        np.testing.assert_array_equal(apply_op(name, flat, 15), flat)


def test_posterize_keeps_one_to_eight_bits_and_solarize_stops_at_256():
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    assert [len(np.unique(apply_op("Posterize", levels, m))) for m in (0, 2.5, 10, 20, 30)] == [2, 2, 16, 256, 256]
    assert not np.array_equal(apply_op("Solarize", levels, 9.9), levels)
    np.testing.assert_array_equal(apply_op("Solarize", levels, 10), levels)


@settings(max_examples=25, deadline=None)
@given(
    name=st.sampled_from(OP_NAMES),
    height=st.integers(3, 40),
    width=st.integers(3, 40),
    magnitude=st.floats(0, 30),
    sign=st.sampled_from([1, -1]),
    content=st.integers(0, 2**32 - 1),
)
def test_any_image_and_magnitude_gives_an_image_of_that_shape(name, height, width, magnitude, sign, content):
    image = np.random.default_rng(content).integers(0, 256, (height, width, 3), np.uint8)
    result = apply_op(name, image, magnitude, sign)
    assert (result.shape, result.dtype) == (image.shape, tf.uint8)


def stream(parallel, count, magnitude=15, num_layers=2, image=PHOTO):
    seeds = tf.data.Dataset.from_tensor_slices(np.stack([np.full(count, 7), np.arange(count)], axis=1).astype(np.int32))
    data = seeds.map(lambda seed: randaugment(image, seed, magnitude, num_layers), num_parallel_calls=parallel)
    return np.stack(list(data.as_numpy_iterator()))


def test_a_result_is_a_pure_function_of_image_and_seed():
    sequential, parallel = stream(None, 200), stream(4, 200)
    graph = tf.function(lambda image, seed: randaugment(image, seed, 15))
    np.testing.assert_array_equal(sequential, parallel)
    np.testing.assert_array_equal(sequential[:40], [graph(PHOTO, tf.constant([7, k])) for k in range(40)])
    np.testing.assert_array_equal(sequential[:20], [randaugment(PHOTO, [7, k], 15) for k in range(20)])
    assert len({image.tobytes() for image in sequential}) > 80


SMALL = np.random.default_rng(0).integers(0, 256, (24, 20, 3), np.uint8)


def known_results(magnitude):
    """Map the bytes of every deterministic outcome to (name, sign)."""
    results = {}
    for name in OP_NAMES[:-1]:
        for sign in (1, -1) if name in SIGNED else (1,):
            results[apply_op(name, SMALL, magnitude, sign).numpy().tobytes()] = name, sign
    assert len(results) == 20  # all outcomes can be told apart
    return results


def test_operations_and_signs_are_drawn_uniformly():
    known = known_results(1.5)
    drawn = [known.get(image.tobytes(), ("Cutout", 1)) for image in stream(2, 6400, 1.5, 1, SMALL)]
    names = [name for name, _ in drawn]
    # Chi-square over 16 operations, then over the two directions of each that has them; the seeds are fixed.
    assert stats.chisquare([names.count(name) for name in OP_NAMES]).pvalue > 1e-3
    for name in SIGNED:
        signs = [sign for other, sign in drawn if other == name]
        assert stats.binomtest(signs.count(1), len(signs)).pvalue > 1e-3


def test_cutout_centres_are_uniform_over_the_image():
    known = known_results(1.5)
    cut = [image for image in stream(2, 6400, 1.5, 1, SMALL) if image.tobytes() not in known]
    last = np.array([np.argwhere((image == 128).all(axis=2)).max(axis=0) for image in cut])
    # The half-width is 6 px: centre c cuts up to c + 5, and the last 6 centres all cut up to the border.
    for axis, side in enumerate((24, 20)):
        counts = np.bincount(last[:, axis], minlength=side)
        share = np.array([1] * (side - 6) + [6]) / side
        assert counts[:5].sum() == 0
        assert stats.chisquare(counts[5:], share * len(cut)).pvalue > 1e-3


def test_two_layers_are_applied_one_after_the_other():
    known = {value: key for key, value in known_results(1.5).items()}
    twice = set()
    for first, sign_1 in known:
        image = apply_op(first, SMALL, 1.5, sign_1)
        for second, sign_2 in known:
            twice.add(apply_op(second, image, 1.5, sign_2).numpy().tobytes())
    share = np.mean([image.tobytes() in twice for image in stream(2, 1500, 1.5, 2, SMALL)])
    # 15/16 of each layer's draws are no Cutout.
    assert abs(share - (15 / 16) ** 2) < 0.03


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: randaugment(PHOTO, [0, 0], -1), "magnitude: must be a finite number >= 0, such as 15, got -1."),
        (lambda: randaugment(PHOTO, [0, 0], float("nan")), "magnitude: must be a finite number >= 0"),
        (lambda: randaugment(PHOTO, [0, 0], 15, 0), "num_layers: must be a positive number of operations, got 0."),
        (lambda: randaugment(PHOTO / 255, [0, 0], 15), "image: must be (H, W, 3) uint8, got (96, 80, 3) float64."),
        (lambda: apply_op("Blur", PHOTO, 15), "name: must be one of AutoContrast, Equalize"),
        (lambda: apply_op("Rotate", PHOTO, 15, 0), "sign: must be 1 or -1, got 0."),
    ],
)
def test_arguments_that_make_no_sense_are_refused(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
