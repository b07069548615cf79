"""Large JPEGs decoded at a fraction of their size: where, how close to the whole, and in every path alike."""

import json

import numpy as np
import pytest
import tensorflow as tf
from encoded_images import JPEGS, OTHERS, PLAIN, PNGS, encode, exif, segment, with_orientation
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from sklearn.datasets import load_sample_images

from keras_mixer import exported
from keras_mixer.data import crops, decode, file_crops, given_images, jpeg_parts, opening, pipeline
from keras_mixer.data.exif import upright
from keras_mixer.data.pixel_settings import DEFAULT_PIXELS, PixelSettings
from keras_mixer.export import signatures
from keras_mixer.starting_point import StartingPoint

EXACT = PixelSettings(exact_decoding=True)
LARGE = Image.fromarray(load_sample_images().images[0]).resize((1280, 854))
LARGE_JPEG = encode(LARGE, "JPEG", quality=92)
SIZES = ((48, 48), (48, 80), (24, 18), (96, 96))


def turned(orientation, encoded=LARGE_JPEG):
    return encoded[:2] + segment(0xE1, exif(orientation)) + encoded[2:]


def of_whole(encoded, crop, size, pixels=DEFAULT_PIXELS):
    image = decode.decode_image(encoded, pixels.alpha, pixels.exif_rotation)
    return crops.evaluation_crop(image, crop, size, pixels.antialias).numpy()


def difference(one, other):
    """Mean absolute difference in grey levels."""
    return np.abs(np.asarray(one).astype(float) - np.asarray(other).astype(float)).mean()


def area_of(encoded, crop, size):
    """What the crop shows, averaged by area from the whole picture, to the nearest level."""
    image = decode.decode_image(encoded)
    sides = crops.resized_sides(crop, tf.shape(image)[:2], size)
    resized = tf.image.resize(image, sides, method="area")
    return np.round(tf.image.resize_with_crop_or_pad(resized, *size))


# ---- Where it is done ----


@pytest.mark.parametrize("crop", crops.EVALUATION_CROPS)
def test_small_pictures_have_every_pixel_of_the_whole(crop):
    files = {**JPEGS, **PNGS, **PLAIN, "tiff": OTHERS["tiff"]}
    files |= {f"turned {k}": with_orientation(k) for k in range(1, 9)}
    for name, encoded in files.items():  # all of 133 x 201 pixels
        for size in ((34, 34), (60, 300), (8, 8)):
            found = file_crops.decode_and_evaluation_crop(encoded, crop, size)
            np.testing.assert_array_equal(found, of_whole(encoded, crop, size), err_msg=f"{name} {size}")


@pytest.mark.parametrize("orientation", [1, 6])
def test_below_four_times_the_size_every_pixel_is_that_of_the_whole(orientation):
    for crop, side in (("resmall", 187), ("resize", 187), ("none", 214)):  # 854 is a little less than four times 214
        encoded = turned(orientation)
        found = file_crops.decode_and_evaluation_crop(encoded, crop, side)
        np.testing.assert_array_equal(found, of_whole(encoded, crop, (side, side)))
        smaller = file_crops.decode_and_evaluation_crop(encoded, crop, side - 1)
        assert not np.array_equal(smaller, of_whole(encoded, crop, (side - 1, side - 1)))
    reduced = []
    for k in range(30):
        found = crops.decode_and_inception_crop(turned(orientation), [k, 0], 100)
        whole = crops.inception_crop(decode.decode_image(turned(orientation)), [k, 0], 100)
        shape = tf.constant([1280, 854] if orientation == 6 else [854, 1280])
        _, extent = crops.inception_window(shape, [k, 0], crops.CROP_AREA, crops.CROP_ASPECT)
        reduced.append(min(extent[:2].numpy()) >= 400)
        assert np.array_equal(found, whole) != reduced[-1]
    assert 5 < sum(reduced) < 25


@pytest.mark.parametrize("crop", crops.EVALUATION_CROPS)
def test_exact_decoding_has_every_pixel_of_the_whole_at_any_size(crop):
    for encoded in (LARGE_JPEG, turned(6), PNGS["png alpha"]):
        for size in SIZES:
            found = file_crops.decode_and_evaluation_crop(encoded, crop, size, EXACT)
            np.testing.assert_array_equal(found, of_whole(encoded, crop, size))
    for k in range(10):
        found = crops.decode_and_inception_crop(turned(6), [k, 0], 24, pixels=EXACT)
        np.testing.assert_array_equal(found, crops.inception_crop(decode.decode_image(turned(6)), [k, 0], 24))


@pytest.mark.parametrize("sides", [(1, 1), (895, 4000), (896, 896), (1791, 9000), (1792, 1792), (3584, 3584)])
def test_the_decoded_part_is_at_least_twice_the_result_on_both_sides(sides):
    ratio = jpeg_parts.RATIOS[jpeg_parts.ratio_index([9000, 9000], sides, (224, 224))]
    assert ratio == max(r for r in jpeg_parts.RATIOS if r == 1 or min(sides) >= 2 * r * 224)


# ---- How close it is ----


@pytest.mark.parametrize(("crop", "most"), [("resmall", 2.6), ("resize", 12), ("none", 12)])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photograph_is_close_to_the_average_by_area(crop, most, orientation):
    encoded = turned(orientation)
    for size in SIZES:
        found = file_crops.decode_and_evaluation_crop(encoded, crop, size)
        reference = area_of(encoded, crop, size)
        # Of which 0.8 levels are the bias of the whole, whose inverse cosine transform is the fast one. Resizing
        # without a filter is further from an average in any case, and the whole even more.
        assert difference(found, reference) <= most
        assert crop == "resmall" or difference(found, reference) < difference(of_whole(encoded, crop, size), reference)
        assert difference(found[:, ::-1], reference) > 25
        assert difference(found[::-1], reference) > 25
        assert not np.array_equal(found, of_whole(encoded, crop, size))


KINDS = {
    "grey": LARGE.convert("L"),
    "CMYK": LARGE.convert("CMYK"),
    "odd": LARGE.crop((3, 2, 1280, 843)),  # 1277 x 841, which no ratio divides
    "a pixel more than blocks": LARGE.crop((0, 0, 1265, 801)),
}


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"subsampling": 1}])
@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_jpeg_is_close_to_the_average_by_area(name, options):
    encoded = encode(KINDS[name], "JPEG", quality=92, **options)
    for size in SIZES:
        found = file_crops.decode_and_evaluation_crop(encoded, "resmall", size)
        assert difference(found, area_of(encoded, "resmall", size)) <= 2.8
    for k in range(6):
        crop = crops.decode_and_inception_crop(encoded, [k, 1], 24, area=(0.7, 1.0))
        whole = crops.inception_crop(decode.decode_image(encoded), [k, 1], 24, area=(0.7, 1.0))
        assert difference(crop, whole) <= 18  # a picture of another place differs by 40 and more


def test_antialiased_results_are_closer():
    filtered = PixelSettings(antialias=True)
    for crop in ("resize", "none"):
        whole = of_whole(LARGE_JPEG, crop, (24, 24), filtered)
        reduced = file_crops.decode_and_evaluation_crop(LARGE_JPEG, crop, (24, 24), filtered)
        assert 0 < difference(reduced, whole) <= 2.5
    for k in range(6):
        encoded = turned(1 + k)
        reduced = crops.decode_and_inception_crop(encoded, [k, 1], (20, 28), (0.7, 1.0), pixels=filtered)
        whole = crops.inception_crop(decode.decode_image(encoded), [k, 1], (20, 28), (0.7, 1.0), antialias=True)
        assert 0 < difference(reduced, whole) <= 4


# ---- Windows ----


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 300), st.integers(1, 300)),
    st.tuples(*[st.floats(0, 1)] * 4),
    st.integers(1, 8),
    st.integers(0, 3),
)
def test_a_window_never_leaves_the_picture(shape, place, orientation, index):
    begin = [min(int(p * side), side - 1) for p, side in zip(place[:2], shape, strict=True)]
    extent = [1 + int(p * (side - b - 1)) for p, side, b in zip(place[2:], shape, begin, strict=True)]
    upright_shape, window = tf.constant(shape), (tf.constant(begin), tf.constant(extent))
    # As stored it shows the same pixels.
    stored_shape = jpeg_parts.upright_sides(upright_shape, tf.constant(orientation)).numpy()
    stored = tf.random.stateless_uniform((*stored_shape, 1), [0, 1], 0, 255, tf.int32)
    own, size = (tuple(x.numpy()) for x in jpeg_parts.as_stored(window, upright_shape, tf.constant(orientation)))
    part = stored[own[0] : own[0] + size[0], own[1] : own[1] + size[1]]
    whole = upright(stored, tf.constant(orientation))
    expected = whole[begin[0] : begin[0] + extent[0], begin[1] : begin[1] + extent[1]]
    np.testing.assert_array_equal(upright(part, tf.constant(orientation)), expected)
    # At a ratio it covers the window, and ends within the decoded picture.
    ratio = jpeg_parts.RATIOS[index]
    start, small = jpeg_parts.at_ratio(window, tf.constant(index))
    assert np.all(start * ratio <= begin)
    assert np.all((start + small) * ratio >= np.add(begin, extent))
    assert np.all(start >= 0)
    assert np.all(start + small <= -(-np.array(shape) // ratio))


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(32, 5000), st.integers(32, 5000)),
    st.tuples(st.integers(1, 64), st.integers(1, 64)),
    st.tuples(st.integers(1, 64), st.integers(1, 64)),
)
def test_what_an_evaluation_decodes_lies_within_the_picture_and_around_the_crop(shape, sides, size):
    size = np.minimum(size, sides)
    index = int(jpeg_parts.ratio_index(shape, shape, sides))
    decoded = np.array(shape, np.float32) / jpeg_parts.RATIOS[index]
    begin = (np.array(sides) - size) // 2
    window = tf.constant(begin, tf.int32), tf.constant(size, tf.int32)
    source, target = jpeg_parts.aligned_around(window, tf.constant(sides), tf.constant(decoded))
    source, target = ([x.numpy() for x in pair] for pair in (source, target))
    assert np.all(source[0] >= 0)
    assert np.all(source[0] + source[1] <= np.ceil(decoded))
    assert np.all(target[0] >= 0)
    assert np.all(target[0] + target[1] <= sides)
    assert np.all(target[0] <= np.maximum(begin - 1, 0))
    assert np.all(target[0] + target[1] >= np.minimum(begin + size + 1, sides))
    assert np.all(source[1] >= 1)
    if index:  # a row of the result begins where one of the decoded picture does, but at the ends of the picture
        scale = decoded / sides
        inner = (target[0] > 0) * np.abs(target[0] * scale - source[0])
        assert np.all(inner <= jpeg_parts.ALIGNED + 1e-3)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"subsampling": 1}])
@pytest.mark.parametrize("index", range(4))
def test_a_part_has_the_pixels_of_the_whole_at_the_same_ratio(options, index):
    encoded, ratio = encode(KINDS["odd"], "JPEG", quality=92, **options), jpeg_parts.RATIOS[index]
    whole = tf.io.decode_jpeg(encoded, channels=3, ratio=ratio).numpy()
    sides, rng = np.array(whole.shape[:2]), np.random.default_rng(index)
    assert tuple(sides) == (-(-841 // ratio), -(-1277 // ratio))
    for _ in range(25):
        begin = rng.integers(0, sides)
        extent = rng.integers(1, sides - begin + 1)
        window = tf.constant(begin, tf.int32), tf.constant(extent, tf.int32)
        part = jpeg_parts.decode_part_at(encoded, tf.constant([841, 1277]), window, tf.constant(index))
        stop = begin + extent
        np.testing.assert_array_equal(part, whole[begin[0] : stop[0], begin[1] : stop[1]])


# ---- Every path alike ----


@pytest.mark.parametrize("crop", crops.EVALUATION_CROPS)
def test_evaluation_prediction_and_a_served_model_see_the_same_pixels(tmp_path, crop):
    for name in ("cat", "dog"):
        (tmp_path / "test" / name).mkdir(parents=True)
        (tmp_path / "train" / name).mkdir(parents=True)
        (tmp_path / "train" / name / "0.jpg").write_bytes(LARGE_JPEG)
        for k in (1, 6, 3):
            (tmp_path / "test" / name / f"{k}.jpg").write_bytes(turned(k))
    source = opening.open_source(str(tmp_path), training=False)
    images, _, _ = next(iter(pipeline.eval_batches(source, batch_size=6, image_size=24, crop=crop)))
    load = given_images.loader(24, crop, PixelSettings())
    files = [turned(k) for k in (1, 3, 6)]
    expected = np.stack([load(file) for file in files for _ in "ab"])
    np.testing.assert_array_equal(np.round((images.numpy() + 1) * 127.5), expected)
    served, status = signatures.decode_batch(tf.constant(files), crop, (24, 24), PixelSettings())
    assert status.numpy().tolist() == [b"ok"] * 3
    np.testing.assert_array_equal(served, expected[::2])


def test_a_photograph_without_augmentation_is_trained_on_as_it_is_evaluated(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "train" / name).mkdir(parents=True)
        (tmp_path / "test" / name).mkdir(parents=True)
        for folder in ("train", "test"):
            (tmp_path / folder / name / "0.jpg").write_bytes(turned(8))
    source = opening.open_source(str(tmp_path), training=True)
    plain = pipeline.Augmentation(augmentation="none", mixup_alpha=0.0)
    images, _ = next(iter(pipeline.train_batches(source, batch_size=2, image_size=24, seed=0, augmentation=plain)))
    expected = file_crops.decode_and_evaluation_crop(turned(8), "none", 24)
    np.testing.assert_array_equal(np.round((images[0].numpy() + 1) * 127.5), expected)


def test_pillow_and_arrays_are_not_jpegs_and_are_resized_whole():
    load = given_images.loader(24, "resmall", PixelSettings())
    decoded = decode.decode_image(turned(6)).numpy()
    np.testing.assert_array_equal(load(decoded), of_whole(turned(6), "resmall", (24, 24)))
    assert difference(load(turned(6)), load(decoded)) <= 2.6
    stored = ImageOps.exif_transpose(Image.fromarray(decoded))
    np.testing.assert_array_equal(load(stored), load(decoded))


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_file_that_is_cut_off_is_refused(orientation):
    encoded = turned(orientation)[:60_000]
    with pytest.raises(tf.errors.InvalidArgumentError):
        file_crops.decode_and_evaluation_crop(encoded, "resmall", 24)
    images, status = signatures.decode_batch(tf.constant([encoded, LARGE_JPEG]), "none", (24, 24), PixelSettings())
    assert status.numpy().tolist() == [signatures.UNREADABLE.encode(), b"ok"]
    assert int(tf.reduce_max(images[0])) == 0


def test_limits_are_those_of_the_whole_picture():
    thin = encode(Image.new("RGB", (12_000, 96)), "JPEG")  # 125 to 1
    with pytest.raises(tf.errors.InvalidArgumentError, match="one side more than 100 times the other"):
        file_crops.decode_and_evaluation_crop(thin, "none", 4)
    image, fault = file_crops.evaluation_crop_or_fault(thin, "none", 4)
    assert (fault, int(tf.reduce_max(image)), image.shape) == (b"one side more than 100 times the other", 0, (4, 4, 3))
    with pytest.raises(tf.errors.InvalidArgumentError, match="one side more than 100 times the other"):
        crops.decode_and_inception_crop(thin, [0, 0], 4)


# ---- Runs and exports of before ----


def test_what_was_recorded_before_the_setting_was_one_is_decoded_exactly(tmp_path):
    start = lambda **told: StartingPoint("w.npz", {}, 16, 3, 10, None, told, "w")
    assert start(alpha="white").pixels().exact_decoding
    assert not start(exact_decoding=False).pixels().exact_decoding
    assert not start(alpha="white").pixels(exact_decoding=False).exact_decoding
    assert not start().pixels().exact_decoding  # a released file, and one from elsewhere
    facts = {"class_ids": ["a"], "class_names": ["a"], "image_size": [16, 16], "crop": "none", "channels": "RGB"}
    for told in ({}, {"exact_decoding": False}):
        (tmp_path / "export.json").write_text(json.dumps(facts | told))
        assert exported.open_export(tmp_path).pixels.exact_decoding == (not told)
