"""The signatures of an exported Mixer, loaded in Python, against Keras."""

import itertools
import struct

import encoded_images
import numpy as np
import pytest
import served
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_sample_images

import keras_mixer
from keras_mixer.data import crops, decode, decode_plain, image_limits
from keras_mixer.data.pixel_settings import PixelSettings
from keras_mixer.export import signatures

PHOTO = load_sample_images().images[1][:133, :201]
PNG = tf.io.encode_png(PHOTO).numpy()
TOLERANCE = 1e-6  # measured: at most 2.4e-7


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return served.exported(tmp_path_factory)[0]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    return tf.saved_model.load(str(served.exported(tmp_path_factory)[1])).signatures


def _run(signature, images):
    return {name: value.numpy() for name, value in signature(images=tf.constant(images)).items()}


def _texts(array):
    return [[text.decode() for text in row] for row in np.atleast_2d(array)]


def test_uint8_images_get_the_probabilities_of_keras_and_the_best_classes_first(model, loaded):
    images = served.random_images(4)
    expected, found = served.by_keras(model, images), _run(loaded["serving_default"], images)
    assert sorted(found) == ["classes", "probabilities", "scores"]
    np.testing.assert_allclose(found["probabilities"], expected, rtol=0, atol=TOLERANCE)
    order = np.argsort(-expected, axis=1)[:, :5]
    assert _texts(found["classes"]) == [[served.NAMES[k] for k in row] for row in order]
    np.testing.assert_array_equal(found["scores"], np.take_along_axis(found["probabilities"], order, 1))


def test_features_are_the_pre_logits(model, loaded):
    images = served.random_images(2)
    body = keras_mixer.MLPMixer(4, 2, 16, 8, 32, input_shape=(16, 16, 3), include_top=False, pooling="avg")
    for ours, theirs in zip(body.weights, model.weights[:-2], strict=True):
        ours.assign(theirs)
    found = _run(loaded["features"], images)
    assert list(found) == ["pre_logits"]
    np.testing.assert_allclose(found["pre_logits"], served.by_keras(body, images), rtol=0, atol=1e-5)


def test_a_float_image_outside_the_range_gets_a_status_and_the_others_are_as_without_it(model, loaded):
    images = served.random_images(6).astype("float32")
    expected = served.by_keras(model, images)
    for i, value in enumerate((np.nan, np.inf, -0.1, 255.1)):
        images[i + 1, i, 3, 1] = value
    images[5, 0, 0] = (0, 255, 127.25)
    expected[5] = served.by_keras(model, images[5:])
    found = _run(loaded["serving_float"], images)
    bad = "pixel not in [0, 255]"
    assert _texts(found["status"]) == [["ok", bad, bad, bad, bad, "ok"]]
    expected[1:5] = 0
    np.testing.assert_allclose(found["probabilities"], expected, rtol=0, atol=TOLERANCE)
    assert _texts(found["classes"])[1] == [""] * 5
    assert not found["scores"][1:5].any()


def _png_header(height, width):
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBBI", 13, b"IHDR", width, height, 8, 2, 0, 0, 0, 0)


BAD = {
    b"no image": decode_plain.NOT_TAKEN,
    b"": decode_plain.NOT_TAKEN,
    PNG[:2000]: "unreadable image",
    _png_header(60000, 50000): "more than 89478485 pixels",
    _png_header(0, 0): "no pixels",
    PNG + b"\0" * image_limits.MAX_BYTES: "more than 67108864 bytes",
    tf.io.encode_png(np.zeros((1, 101, 3), np.uint8)).numpy(): "one side more than 100 times the other",
    _png_header(80_000_000, 1): "one side more than 100 times the other",
}


def test_encoded_images_of_any_kind_and_size_between_bad_ones(model, loaded):
    good = [PNG, tf.io.encode_jpeg(PHOTO[:90]).numpy(), tf.io.encode_png(np.zeros((1, 100, 1), np.uint8)).numpy()]
    pixels = np.stack([crops.evaluation_crop(decode.decode_image(file), "resmall", served.SIDE) for file in good])
    files = [good[0], *BAD, *good[1:]]
    found = _run(loaded["serving_bytes"], files)
    assert _texts(found["status"]) == [["ok", *BAD.values(), "ok", "ok"]]
    of_good = [0, len(BAD) + 1, len(BAD) + 2]
    np.testing.assert_allclose(found["probabilities"][of_good], served.by_keras(model, pixels), rtol=0, atol=TOLERANCE)
    assert not found["probabilities"][1 : len(BAD) + 1].any()
    assert set(_texts(found["classes"])[1]) == {""}


def test_every_kind_of_file_is_served_as_predict_shows_it_or_has_a_status_alone(model, loaded):
    taken, others = encoded_images.JPEGS | encoded_images.PNGS | encoded_images.PLAIN, encoded_images.OTHERS
    files = [file for pair in itertools.zip_longest(taken.values(), others.values()) for file in pair if file]
    pixels = np.stack([crops.evaluation_crop(decode.decode_image(file), "resmall", served.SIDE) for file in files])
    expected = served.by_keras(model, pixels)
    expected[[file in others.values() for file in files]] = 0
    found = _run(loaded["serving_bytes"], files)
    status = [decode_plain.NOT_TAKEN if file in others.values() else "ok" for file in files]
    assert _texts(found["status"]) == [status]
    np.testing.assert_allclose(found["probabilities"], expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", ["serving_default", "serving_float", "serving_bytes", "features"])
def test_an_empty_batch_gives_empty_answers(loaded, name):
    dtype = {"serving_float": tf.float32, "serving_bytes": tf.string}.get(name, tf.uint8)
    images = tf.zeros((0, *([served.SIDE, served.SIDE, 3] if dtype != tf.string else [])), tf.uint8)
    images = tf.constant([], tf.string) if dtype == tf.string else tf.cast(images, dtype)
    assert {value.shape[0] for value in loaded[name](images=images).values()} == {0}


@tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
def _decode(files):
    return signatures.decode_batch(files, "none", (4, 6), PixelSettings())


@settings(max_examples=40, deadline=None)
@given(st.lists(st.one_of(st.none(), st.integers(0, 255)), max_size=12))
def test_each_image_keeps_its_place_whatever_is_beside_it(levels):
    files = [b"no image" if k is None else tf.io.encode_png(np.full((3, 5, 3), k, np.uint8)).numpy() for k in levels]
    images, status = _decode(tf.constant(files, tf.string, shape=[len(files)]))
    np.testing.assert_array_equal(images, [np.full((4, 6, 3), k or 0) for k in levels] or np.zeros((0, 4, 6, 3)))
    assert status.numpy().tolist() == [decode_plain.NOT_TAKEN.encode() if k is None else b"ok" for k in levels]
