"""RandAugment: the authors' pixels for each operation, uniform draws, and purity."""

import pathlib
import re

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from keras_mixer.data.randaugment import OP_NAMES, apply_operation, randaugment


def read_golden(name):
    with np.load(pathlib.Path(__file__).parents[1] / "golden" / name) as archive:
        return {key: archive[key] for key in archive.files}


GOLDEN = read_golden("randaugment_reference.npz")
PHOTO = GOLDEN.pop("image")
PRESETS = read_golden("randaugment_presets.npz")  # keys op, sign, @magnitude/image_N
PICTURES = {name: PRESETS.pop(name) for name in ("image_2", "image_3")}
SIGNED = ("Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY")


def run_golden(key):
    op, _, magnitude = key.partition("@")
    return apply_operation(PHOTO, op.rstrip("+-"), int(magnitude or 10), -1 if op.endswith("-") else 1).numpy()


def test_every_deterministic_operation_has_the_authors_pixels():
    differing = {key: np.mean(run_golden(key) != GOLDEN[key]) for key in GOLDEN}
    # Measured: all 85 outputs equal, bit for bit.
    assert {key: share for key, share in differing.items() if share} == {}
    assert {key.partition("@")[0].rstrip("+-") for key in GOLDEN} == {*OP_NAMES} - {"Cutout"}


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize("shape", ["known", "unknown"])
def test_every_operation_in_tf_data_has_the_authors_pixels_at_the_magnitudes_of_the_presets(picture, shape):
    data = tf.data.Dataset.from_tensors(PICTURES[picture])
    differing, count = {}, 0
    for key, expected in PRESETS.items():
        op, _, rest = key.partition("@")
        magnitude, _, name = rest.partition("/")
        if name != picture:
            continue

        def run(image, op=op, magnitude=float(magnitude)):
            return apply_operation(image, op.rstrip("+-"), magnitude, -1 if op.endswith("-") else 1)

        spec = None if shape == "known" else [tf.TensorSpec([None, None, 3], tf.uint8)]
        result = next(iter(data.map(run if spec is None else tf.function(run, input_signature=spec))))
        differing[key] = np.mean(result.numpy() != expected)
        count += 1
    # Measured: all equal, bit for bit; 15 operations, five of them in two directions, at five magnitudes.
    assert count == 100
    assert {key: share for key, share in differing.items() if share} == {}


@pytest.mark.parametrize("sign", [1, -1])
def test_warps_in_a_graph_of_known_shape_have_the_authors_pixels_too(sign):
    for key, expected in GOLDEN.items():
        name, _, magnitude = key.partition("@")
        if name in {f"{op}{'+' if sign > 0 else '-'}" for op in SIGNED[:3]}:
            graph = tf.function(lambda name=name[:-1], m=int(magnitude or 10): apply_operation(PHOTO, name, m, sign))
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
    looked_up = tf.function(lambda: apply_operation(image, name, magnitude, sign))()
    np.testing.assert_array_equal(looked_up, apply_operation(image, name, magnitude, sign))


def test_the_golden_comparison_sees_another_sign_magnitude_or_fill():
    assert not np.array_equal(apply_operation(PHOTO, "ShearX", 10, -1), GOLDEN["ShearX+@10"])
    assert not np.array_equal(apply_operation(PHOTO, "Contrast", 15), GOLDEN["Contrast@10"])
    assert np.array_equal(apply_operation(PHOTO, "TranslateX", 10), np.full_like(PHOTO, 128))


def test_operations_in_a_graph_with_unknown_shape_equal_eager_ones():
    for name in OP_NAMES:
        graph = tf.function(
            lambda image, name=name: apply_operation(image, name, 7, -1),
            input_signature=[tf.TensorSpec([None, None, 3], tf.uint8)],
        )
        np.testing.assert_array_equal(graph(PHOTO), apply_operation(PHOTO, name, 7, -1), err_msg=name)


def test_contrast_blends_with_the_number_of_pixels_over_256_and_at_most_white():
    for side, grey in ((32, 4), (252, 248), (300, 255)):
        image = np.random.default_rng(side).integers(0, 256, (side, side, 3), np.uint8)
        expected = grey + np.float32(0.64) * (image.astype(np.float32) - grey)
        np.testing.assert_array_equal(apply_operation(image, "Contrast", 3), expected.astype(np.uint8))


def test_cutout_is_a_grey_box_of_twice_the_half_width_clipped_at_the_border():
    for centre, rows, columns in [
        ((48, 40), (36, 60), (28, 52)),
        ((0, 79), (0, 12), (67, 80)),
        ((95, 0), (83, 96), (0, 12)),
    ]:
        expected = PHOTO.copy()
        expected[slice(*rows), slice(*columns)] = 128
        np.testing.assert_array_equal(apply_operation(PHOTO, "Cutout", 3, centre=centre), expected)


def test_a_flat_image_stays_as_it_is_where_stretching_would_divide_by_zero():
    flat = np.full((9, 7, 3), 93, np.uint8)
    flat[..., 1] = 0
    for name in ("AutoContrast", "Equalize", "Sharpness"):
        np.testing.assert_array_equal(apply_operation(flat, name, 15), flat)


LEVELS = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)


@pytest.mark.parametrize(
    ("magnitude", "threshold"), [(5, 128), (9.9, 253), (10, 0), (12.5, 64), (15, 128), (20, 0), (30, 0)]
)
def test_the_threshold_of_solarize_wraps_at_256_as_a_byte_does(magnitude, threshold):
    expected = np.where(threshold > LEVELS, LEVELS, 255 - LEVELS)
    np.testing.assert_array_equal(apply_operation(LEVELS, "Solarize", magnitude), expected)


def test_color_blends_with_tensorflows_own_grey_for_each_of_the_16_million_colours():
    green_blue = np.stack(np.meshgrid(*[np.arange(256, dtype=np.uint8)] * 2, indexing="ij"), axis=-1)
    color = tf.function(lambda image: apply_operation(image, "Color", 20))
    grey = tf.function(tf.image.rgb_to_grayscale)
    for red in range(256):
        image = np.insert(green_blue, 0, red, axis=-1)
        degenerate = grey(image).numpy().astype(np.float32)
        expected = np.clip(degenerate + np.float32(3.7) * (image.astype(np.float32) - degenerate), 0, 255)
        np.testing.assert_array_equal(color(image), expected.astype(np.uint8), err_msg=str(red))


@pytest.mark.parametrize("sign", [1, -1])
def test_rotation_computes_its_angle_in_float32_as_the_authors_graph_does(sign):
    image = np.random.default_rng(3).integers(0, 256, (97, 61, 3), np.uint8)
    radians = tf.constant([sign * 60.0]) * (np.pi / 180)
    (cos,), (sin,) = tf.cos(radians), tf.sin(radians)
    move_x, move_y = (60 - (cos * 60 - sin * 96)) / 2, (96 - (sin * 60 + cos * 96)) / 2
    warped = tf.raw_ops.ImageProjectiveTransformV3(
        images=image[None],
        transforms=tf.stack([cos, -sin, move_x, sin, cos, move_y, 0.0, 0.0])[None],
        output_shape=[97, 61],
        fill_value=128.0,
        interpolation="NEAREST",
        fill_mode="CONSTANT",
    )
    np.testing.assert_array_equal(apply_operation(image, "Rotate", 20, sign), warped[0])
    assert float(cos) != 0.5  # which is what the exact cosine would be


def test_posterize_keeps_one_to_eight_bits():
    count = lambda magnitude: len(np.unique(apply_operation(LEVELS, "Posterize", magnitude)))
    assert [count(magnitude) for magnitude in (0, 2.5, 10, 20, 30)] == [2, 2, 16, 256, 256]


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
    result = apply_operation(image, name, magnitude, sign)
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
            results[apply_operation(SMALL, name, magnitude, sign).numpy().tobytes()] = name, sign
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
        image = apply_operation(SMALL, first, 1.5, sign_1)
        for second, sign_2 in known:
            twice.add(apply_operation(image, second, 1.5, sign_2).numpy().tobytes())
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
        (lambda: apply_operation(PHOTO, "Blur", 15), "name: must be one of AutoContrast, Equalize"),
        (lambda: apply_operation(PHOTO, "Rotate", 15, 0), "sign: must be 1 or -1, got 0."),
    ],
)
def test_arguments_that_make_no_sense_are_refused(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
