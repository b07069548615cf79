"""The exported folder in a process without Python, loaded by TensorFlow's C API as TensorFlow Serving loads it."""

import c_session
import numpy as np
import pytest
import served
import tensorflow as tf

from keras_mixer.data import crops

TOLERANCE = 1e-6  # measured: at most 2.4e-7


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return served.exported(tmp_path_factory)[0]


IMAGES = served.random_images(3)
PHOTO = np.random.default_rng(2).integers(0, 256, (40, 51, 3), np.uint8)
FILES = np.array([tf.io.encode_png(PHOTO).numpy(), b"no image", tf.io.encode_png(PHOTO[:16, :16]).numpy()], object)
FLOATS = np.where(np.arange(3)[:, None, None, None] == 1, np.float32("nan"), IMAGES)
REQUESTS = {
    "uint8": ("serving_default", IMAGES),
    "float": ("serving_float", FLOATS),
    "bytes": ("serving_bytes", FILES),
    "features": ("features", IMAGES),
    "empty uint8": ("serving_default", IMAGES[:0]),
    "empty float": ("serving_float", FLOATS[:0]),
    "empty bytes": ("serving_bytes", FILES[:0]),
    "empty features": ("features", IMAGES[:0]),
    "side": ("serving_default", np.zeros((2, 32, 32, 3), np.uint8)),
    "side of features": ("features", np.zeros((2, 32, 32, 3), np.uint8)),
    "side of floats": ("serving_float", np.zeros((2, 32, 32, 3), np.float32)),
    "channels first": ("serving_default", np.zeros((2, 3, 16, 16), np.uint8)),
    "rank": ("serving_default", IMAGES[0]),
    "rank of bytes": ("serving_bytes", FILES[None]),
    "dtype": ("serving_default", FLOATS),
    "after all errors": ("serving_default", IMAGES),
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("c")
    exported = served.exported(tmp_path_factory)[1]
    found = c_session.run(c_session.build(folder), exported, folder, REQUESTS.values())
    return dict(zip(REQUESTS, found, strict=True))


def test_probabilities_and_classes_are_those_of_keras(model, answers):
    expected = served.by_keras(model, IMAGES)
    np.testing.assert_allclose(answers["uint8"]["probabilities"], expected, rtol=0, atol=TOLERANCE)
    best = np.argsort(-expected, axis=1)[:, :5]
    assert answers["uint8"]["classes"].tolist() == [[served.NAMES[k].encode() for k in row] for row in best]
    np.testing.assert_array_equal(answers["after all errors"]["scores"], answers["uint8"]["scores"])
    assert answers["features"]["pre_logits"].shape == (3, 16)


def test_one_bad_image_fails_no_other(model, answers):
    expected = served.by_keras(model, IMAGES)
    expected[1] = 0
    np.testing.assert_allclose(answers["float"]["probabilities"], expected, rtol=0, atol=TOLERANCE)
    assert answers["float"]["status"].tolist() == [b"ok", b"pixel not in [0, 255]", b"ok"]
    pixels = np.stack([crops.evaluation_crop(image, "resmall", 16) for image in (PHOTO, PHOTO, PHOTO[:16, :16])])
    expected = served.by_keras(model, pixels)
    expected[1] = 0
    np.testing.assert_allclose(answers["bytes"]["probabilities"], expected, rtol=0, atol=TOLERANCE)
    assert answers["bytes"]["status"].tolist() == [
        b"ok",
        b"neither a JPEG, PNG, still GIF or WebP, nor a plain BMP",
        b"ok",
    ]
    assert answers["bytes"]["classes"][1].tolist() == [b""] * 5


@pytest.mark.parametrize("name", [name for name in REQUESTS if name.startswith("empty")])
def test_an_empty_batch_gives_empty_answers(answers, name):
    assert {value.shape[0] for value in answers[name].values()} == {0}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("side", "images: must be uint8 of shape (B, 16, 16, 3); the shape of yours is] [2 32 32 3]"),
        ("side of features", "images: must be uint8 of shape (B, 16, 16, 3); the shape of yours is] [2 32 32 3]"),
        ("side of floats", "images: must be float32 of shape (B, 16, 16, 3); the shape of yours is] [2 32 32 3]"),
        ("channels first", "images: must be uint8 of shape (B, 16, 16, 3); the shape of yours is] [2 3 16 16]"),
        ("rank", "images: must be uint8 of shape (B, 16, 16, 3); the shape of yours is] [16 16 3]"),
        ("rank of bytes", "images: must be strings of shape (B,), the bytes of files; the shape of yours is] [1 3]"),
        ("dtype", "Expects arg[0] to be uint8 but float is provided"),
    ],
)
def test_a_wrong_shape_or_type_fails_the_request_in_one_sentence(answers, name, message):
    """A session compares no shape with the signature: without the check, 32 px gave four times the images."""
    assert isinstance(answers[name], str)
    assert answers[name].startswith("error 3 ")  # INVALID_ARGUMENT
    assert message in answers[name]
