"""Crops and resizing: TensorFlow's own pixels cut off as the authors do, the fused path, windows, and antialiasing."""

import re

import numpy as np
import pytest
import tensorflow as tf
from encoded_images import JPEGS, OTHERS, PHOTO, PLAIN, PNGS, encode, with_orientation
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_mixer.data import crops, decode, jpeg_parts
from keras_mixer.data.pixel_settings import PixelSettings

IMAGE = np.asarray(PHOTO)
ANTIALIAS = PixelSettings(antialias=True)
AS_STORED = PixelSettings(exif_rotation=False)


def stock(image, size, **kwargs):
    """What the authors do: TensorFlow's own resizing, and a cast that cuts off the fraction."""
    return tf.cast(tf.image.resize(image, size, **kwargs), tf.uint8).numpy()


# ---- Resizing ----


@settings(max_examples=25, deadline=None)
@given(
    before=st.tuples(st.integers(1, 150), st.integers(1, 150)),
    after=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    content=st.integers(0, 2**32 - 1),
)
def test_resizing_is_tensorflows_own_and_a_cast(before, after, content):
    image = np.random.default_rng(content).integers(0, 256, (*before, 3), np.uint8)
    np.testing.assert_array_equal(crops.resize(image, after), stock(image, after))


@settings(max_examples=25, deadline=None)
@given(
    before=st.tuples(st.integers(1, 150), st.integers(1, 150)),
    after=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    content=st.integers(0, 2**32 - 1),
)
def test_antialiased_resizing_equals_tensorflows_own_but_for_rounding(before, after, content):
    image = np.random.default_rng(content).integers(0, 256, (*before, 3), np.uint8)
    expected = tf.image.resize(image, after, antialias=True).numpy()
    # Measured: at most 0.006 apart before rounding, hence 1 grey level where a value lies half-way between two.
    np.testing.assert_allclose(crops.resize(image, after, antialias=True), expected, rtol=0, atol=0.51)


def test_a_flat_image_stays_flat():
    for level in (0, 93, 255):
        image = np.full((37, 91, 3), level, np.uint8)
        for antialias in (False, True):
            resized = crops.resize(image, (19, 120), antialias)
            np.testing.assert_array_equal(resized, np.full((19, 120, 3), level, np.uint8))


def test_antialiasing_averages_when_it_shrinks_and_the_authors_way_does_not():
    stripes = np.tile(np.uint8([0, 255]), (63, 32))[:, :63, None].repeat(3, axis=2)
    small = crops.resize(stripes, (63, 9), antialias=True).numpy()[:, 1:-1]
    assert np.abs(small.astype(int) - 127).max() <= 8  # measured 3
    assert set(np.unique(crops.resize(stripes, (63, 9)))) <= {0, 255}


# ---- The crops of an evaluation ----


@pytest.mark.parametrize(
    ("crop", "expected"),
    [
        # 24 x 32 of 133 x 201: the short side to 27 is 41 wide, but 32 must fit; centre.
        ("resmall", lambda: stock(IMAGE, (27, 41), method="area")[1:25, 4:36]),
        ("resize", lambda: stock(IMAGE, (27, 37))[1:25, 2:34]),
        ("none", lambda: stock(IMAGE, (24, 32))),
    ],
)
def test_the_crop_of_an_evaluation_has_the_pixels_of_tensorflows_own_operations(crop, expected):
    np.testing.assert_array_equal(crops.evaluation_crop(IMAGE, crop, (24, 32)), expected())
    with pytest.raises(ValueError, match="crop: must be resmall, resize or none, got 'centre'"):
        crops.evaluation_crop(IMAGE, "centre", 24)


def test_crops_of_224_pixels_resize_to_256_as_the_papers():
    image = np.random.default_rng(0).integers(0, 256, (300, 415, 3), np.uint8)
    np.testing.assert_array_equal(crops.evaluation_crop(image, "resize", 224), stock(image, (256, 256))[16:240, 16:240])
    small = stock(image, (256, 354), method="area")
    np.testing.assert_array_equal(crops.evaluation_crop(image, "resmall", 224), small[16:240, 65:289])


def test_antialiasing_is_an_option_of_every_crop_but_that_by_area():
    for crop in crops.EVALUATION_CROPS:
        plain, filtered = (crops.evaluation_crop(IMAGE, crop, 24, antialias=antialias) for antialias in (False, True))
        assert np.array_equal(plain, filtered) == (crop == "resmall")


def test_resmall_crop_is_the_centre_after_area_averaging():
    image = np.arange(8 * 12 * 3, dtype=np.uint8).reshape(8, 12, 3)
    crop = crops.resmall_crop(image, 4, 4)
    halved = image.reshape(4, 2, 6, 2, 3).mean(axis=(1, 3))  # short side 8 -> 4
    np.testing.assert_array_equal(crop, np.floor(halved[:, 1:5]))


def test_resmall_crop_covers_a_rectangle_that_the_short_side_would_not():
    crop = crops.resmall_crop(np.asarray(PHOTO.resize((50, 50))), 36, (32, 64))
    assert crop.shape == (32, 64, 3)


# ---- Inception crops ----

FUSED = {
    "jpeg": JPEGS["jpeg"],
    "jpeg 4:2:2": encode(PHOTO, "JPEG", subsampling=1),
    "jpeg progressive": JPEGS["jpeg progressive"],
    "jpeg grey": JPEGS["jpeg grey"],
    "jpeg turned": with_orientation(6),
    "png alpha": PNGS["png alpha"],
    "gif": PLAIN["gif"],
    "tiff": OTHERS["tiff"],
}


@pytest.mark.parametrize("pixels", [PixelSettings(), PixelSettings("drop", exif_rotation=False), ANTIALIAS])
def test_the_fused_crop_equals_decoding_then_cropping(pixels):
    def plain(encoded, seed):
        image = decode.decode_image(encoded, pixels.alpha, pixels.exif_rotation)
        return crops.inception_crop(image, seed, (40, 56), antialias=pixels.antialias)

    fused = tf.function(lambda e, seed: crops.decode_and_inception_crop(e, seed, (40, 56), pixels=pixels))
    plain = tf.function(plain)
    for name, encoded in FUSED.items():
        for k in range(15):
            args = tf.constant(encoded), tf.constant([3, k])
            np.testing.assert_array_equal(fused(*args), plain(*args), err_msg=name)  # difference 0


@pytest.mark.parametrize("name", ["jpeg", "jpeg 4:2:2", "jpeg progressive"])
def test_a_part_of_a_jpeg_has_the_pixels_of_the_whole(name):
    whole = decode.decode_image(FUSED[name]).numpy()
    # Decoded bare, such windows differ by up to 20 levels; with one more pixel around them, the last ones by 2.
    for window in [
        (0, 0, 133, 201),
        (16, 16, 32, 32),
        (15, 33, 50, 47),
        (7, 160, 90, 41),
        (64, 0, 3, 1),
        (64, 1, 1, 1),
    ]:
        begin, extent = tf.constant(window[:2]), tf.constant(window[2:])
        part = jpeg_parts.decode_part(FUSED[name], tf.constant(whole.shape[:2]), (begin, extent))
        expected = tf.slice(whole, [*window[:2], 0], [*window[2:], -1])
        np.testing.assert_array_equal(part, expected)


def test_fused_crop_can_leave_the_orientation_as_stored():
    encoded = with_orientation(6)
    fused = crops.decode_and_inception_crop(encoded, [0, 1], 32, pixels=AS_STORED)
    plain = crops.inception_crop(decode.decode_image(encoded, exif_rotation=False), [0, 1], 32)
    np.testing.assert_array_equal(fused, plain)
    assert not np.array_equal(fused, crops.decode_and_inception_crop(encoded, [0, 1], 32))


def test_the_window_is_that_of_tensorflows_sampler_with_the_authors_ranges_and_the_resizing_theirs():
    image = np.random.default_rng(1).integers(0, 256, (120, 90, 3), np.uint8)
    for k in range(20):
        begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
            image.shape,
            tf.zeros([1, 0, 4]),
            seed=[4, k],
            area_range=(0.05, 1.0),  # and the aspect range is the sampler's own default, 0.75 to 1.33
            min_object_covered=0.0,
            use_image_if_no_bounding_boxes=True,
        )
        expected = stock(tf.slice(image, begin, extent), (32, 32))
        np.testing.assert_array_equal(crops.inception_crop(image, [4, k], 32), expected)


@pytest.mark.parametrize(
    ("area", "aspect"), [(crops.CROP_AREA, crops.CROP_ASPECT), ((0.5, 1.0), (0.9, 1.1)), ((0.2, 0.3), (1.2, 2.0))]
)
def test_inception_windows_have_the_areas_and_aspects_asked_for(area, aspect):
    shape = tf.constant([300, 400])
    draw = tf.function(lambda k: crops.inception_window(shape, tf.stack([0, k]), area, aspect))
    windows = np.array([[b.numpy()[:2] for b in draw(k)] for k in tf.range(1000)])
    (top, left), (height, width) = windows[:, 0].T, windows[:, 1].T
    assert min(top.min(), left.min()) >= 0
    assert (top + height).max() <= 300
    assert (left + width).max() <= 400
    found, limits = (height * width / 120000, width / height), (area, aspect)
    for values, (low, high) in zip(found, limits, strict=True):
        assert low - 0.03 < values.min() < low + 0.03 * high
        assert 0.8 * high < values.max() < high + 0.03  # few windows of the whole height have the aspect


def test_inception_crop_is_a_pure_function_of_image_and_seed():
    crop = lambda k: crops.inception_crop(IMAGE, tf.stack([5, k]), 24)
    seeds = tf.data.Dataset.from_tensor_slices(tf.range(64))
    one, many = (np.stack(list(seeds.map(crop, num_parallel_calls=n))) for n in (None, 4))
    np.testing.assert_array_equal(one, many)
    np.testing.assert_array_equal(one[:8], [crop(k) for k in range(8)])
    assert len({image.tobytes() for image in one}) == 64


def test_inception_crop_of_the_whole_image_is_a_resize():
    crop = crops.inception_crop(IMAGE, [0, 0], (133, 201), area=(1.0, 1.0), aspect=(201 / 133, 201 / 133))
    np.testing.assert_array_equal(crop, IMAGE)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 40), st.integers(1, 40), st.integers(0, 9))
def test_every_crop_of_any_image_has_the_size_asked_for(height, width, to_height, to_width, seed):
    image, size = np.full((height, width, 3), 77, np.uint8), (to_height, to_width)
    results = [
        crops.inception_crop(image, [seed, 0], size),
        crops.resmall_crop(image, min(size) + seed, size),
        crops.resize_crop(image, (to_height + seed, to_width), size),
        crops.resize(image, size),
        crops.resize(image, size, antialias=True),
    ]
    for i, crop in enumerate(results):
        # The mean of equal levels may come out just below them, and TensorFlow's cast then cuts off one.
        np.testing.assert_allclose(crop.numpy().astype(int), np.full((*size, 3), 77), rtol=0, atol=int(i == 1))


def in_data(function, *args):
    """Run inside a tf.data map, where shapes are unknown; return the result and its static shape."""
    dataset = tf.data.Dataset.from_tensors(args).map(function)
    return next(iter(dataset)).numpy(), dataset.element_spec.shape


def test_shapes_are_static_in_a_dataset_of_files_of_unknown_size():
    encoded = JPEGS["jpeg"]
    decoded = decode.decode_image(encoded)
    runs = {
        "decode": (decode.decode_image, [None, None, 3]),
        "fused": (lambda e: crops.decode_and_inception_crop(e, [0, 1], 24), [24, 24, 3]),
        "inception": (lambda e: crops.inception_crop(decode.decode_image(e), [0, 1], 24), [24, 24, 3]),
        "resmall": (lambda e: crops.resmall_crop(decode.decode_image(e), 32, (24, 28)), [24, 28, 3]),
        "resize": (lambda e: crops.resize_crop(decode.decode_image(e), 32, 24), [24, 24, 3]),
    }
    results = {}
    for name, (function, shape) in runs.items():
        results[name], static = in_data(lambda e, function=function: function(e), encoded)
        assert static.as_list() == shape
        assert results[name].dtype == np.uint8
    np.testing.assert_array_equal(results["decode"], decoded)
    np.testing.assert_array_equal(results["fused"], results["inception"])
    np.testing.assert_array_equal(results["resmall"], crops.resmall_crop(decoded, 32, (24, 28)))
    np.testing.assert_array_equal(results["resize"], crops.resize_crop(decoded, 32, 24))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: crops.resize(x, 0), "size: must be a positive number of pixels or (height, width), got 0."),
        (lambda x: crops.inception_crop(x, [0, 0], (8, 8, 3)), "size: must be a positive number of pixels"),
        (
            lambda x: crops.inception_crop(x, [0, 0], 8, area=(0.5, 0.1)),
            "crop_area: must be the smallest and the largest, positive and at most 1, got (0.5, 0.1).",
        ),
        (
            lambda x: crops.inception_crop(x, [0, 0], 8, aspect=(0, 1)),
            "crop_aspect: must be the smallest and the largest, positive, got (0, 1).",
        ),
        (lambda x: crops.resmall_crop(x, 16, 32), "resize_small: must be at least 32 pixels for size (32, 32)"),
        (lambda x: crops.resize_crop(x, (40, 16), 32), "resize_to: (40, 16) is less than the size (32, 32)"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call(np.zeros((9, 9, 3), np.uint8))
