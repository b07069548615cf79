"""Decoding, crops and resizing: every format against Pillow, the fused path against the plain one, bad bytes."""

import io
import re
import struct

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from sklearn.datasets import load_sample_images

from keras_mixer.data import crops, decode

PHOTO = Image.fromarray(load_sample_images().images[1]).resize((201, 133))


def encode(image, kind, **kwargs):
    file = io.BytesIO()
    image.save(file, kind, **kwargs)
    return file.getvalue()


def with_alpha():
    pixels = np.dstack([np.asarray(PHOTO), np.tile(np.arange(201, dtype=np.uint8), (133, 1))])
    return Image.fromarray(pixels, "RGBA")


def with_orientation(orientation, endian="<"):
    exif = Image.Exif()
    exif.endian = endian
    exif[0x0112] = orientation
    exif[0x010F] = "maker"
    return encode(PHOTO, "JPEG", exif=exif.tobytes(), quality=92)


LOSSLESS = {
    "png": encode(PHOTO, "PNG"),
    "png grey": encode(PHOTO.convert("L"), "PNG"),
    "png grey and alpha": encode(with_alpha().convert("LA"), "PNG"),
    "png 1 bit": encode(PHOTO.convert("1"), "PNG"),
    "png palette": encode(PHOTO.convert("P"), "PNG"),
    "png alpha": encode(with_alpha(), "PNG"),
    "bmp": encode(PHOTO, "BMP"),
    "bmp grey": encode(PHOTO.convert("L"), "BMP"),
    "bmp palette": encode(PHOTO.convert("P"), "BMP"),
    "bmp alpha": encode(with_alpha(), "BMP"),
    "gif": encode(PHOTO, "GIF"),
    "gif animated": encode(PHOTO, "GIF", save_all=True, append_images=[PHOTO.transpose(0)]),
    "webp lossless": encode(PHOTO, "WEBP", lossless=True),
    "webp lossy": encode(PHOTO, "WEBP"),
    "webp alpha": encode(with_alpha(), "WEBP", lossless=True, exact=True),
    "webp alpha lossy": encode(with_alpha(), "WEBP"),
    "webp animated": encode(PHOTO, "WEBP", lossless=True, save_all=True, append_images=[PHOTO.transpose(0)]),
}
JPEGS = {
    "jpeg": encode(PHOTO, "JPEG", quality=92),
    "jpeg progressive": encode(PHOTO, "JPEG", progressive=True),
    "jpeg full colour": encode(PHOTO, "JPEG", subsampling=0),
    "jpeg grey": encode(PHOTO.convert("L"), "JPEG"),
    "jpeg cmyk": encode(PHOTO.convert("CMYK"), "JPEG"),
}
decode_graph = tf.function(decode.decode_image, input_signature=[tf.TensorSpec([], tf.string)])


def test_every_format_but_jpeg_has_the_pixels_that_pillow_reads():
    for name, encoded in LOSSLESS.items():
        image = decode_graph(encoded)
        # Dropping alpha is what Pillow's convert does too. Lossy WebP is decoded by the same library: difference 0.
        expected = np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))
        np.testing.assert_array_equal(image, expected, err_msg=name)
        assert image.dtype == tf.uint8


def test_jpeg_is_close_to_what_pillow_reads():
    for name, encoded in JPEGS.items():
        image = decode_graph(encoded).numpy().astype(int)
        expected = np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB")).astype(int)
        # TensorFlow takes the fast inverse DCT, Pillow the accurate one; measured mean difference 0.5 to 1 grey level.
        assert image.shape == expected.shape
        assert np.abs(image - expected).mean() < 1.5, name


def test_of_16_bits_the_upper_8_are_kept():
    grey = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    image = decode_graph(encode(Image.fromarray(grey), "PNG"))
    np.testing.assert_array_equal(image[:, :, 1], grey >> 8)


def test_decoding_in_eager_mode_equals_that_in_a_graph():
    for encoded in (LOSSLESS["bmp palette"], LOSSLESS["webp alpha"], JPEGS["jpeg"], with_orientation(6)):
        np.testing.assert_array_equal(decode.decode_image(encoded), decode_graph(encoded))


@pytest.mark.parametrize("endian", "<>")
def test_a_jpeg_is_turned_upright_as_pillow_does(endian):
    for orientation in range(1, 9):
        encoded = with_orientation(orientation, endian)
        assert decode.exif_orientation(encoded) == orientation
        stored = Image.fromarray(decode.decode_image(encoded, orient=False).numpy())
        stored.getexif()[0x0112] = orientation
        np.testing.assert_array_equal(decode_graph(encoded), ImageOps.exif_transpose(stored))


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60), st.sampled_from([b"II*\0", b"MM\0*", b""]))
def test_a_damaged_exif_block_means_upright_or_a_valid_turn(tail, start):
    block = b"Exif\0\0" + start + tail
    encoded = b"\xff\xd8\xff\xe1" + struct.pack(">H", len(block) + 2) + block + JPEGS["jpeg"][2:]
    assert 1 <= int(decode.exif_orientation(encoded)) <= 8
    assert sorted(decode_graph(encoded).shape) == [3, 133, 201]


def png_header(height, width):
    ihdr = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + ihdr + b"\0" * 20


def jpeg_header(height, width):
    encoded = JPEGS["jpeg"]
    at = encoded.index(b"\xff\xc0") + 5
    return encoded[:at] + struct.pack(">HH", height, width) + encoded[at + 4 :]


BOMBS = {
    "png": png_header(60000, 50000),
    "jpeg": jpeg_header(60000, 50000),
    "gif": b"GIF89a" + struct.pack("<HH", 50000, 60000) + b"\0" * 20,
    "bmp": b"BM" + struct.pack("<IIIIii", 0, 0, 54, 40, 50000, -60000) + b"\1\0\x18\0" + b"\0" * 24,
    "webp lossless": b"RIFF\0\0\0\0WEBPVP8L\0\0\0\0/" + struct.pack("<I", 16382 | 16383 << 14),
    "webp extended": b"RIFF\0\0\0\0WEBPVP8X\0\0\0\0\0\0\0\0" + b"\x4f\xc3\0" + b"\x5f\xea\0",
    "webp lossy": b"RIFF\0\0\0\0WEBPVP8 \0\0\0\0\0\0\0\x9d\x01\x2a" + struct.pack("<HH", 16383, 16383),
}


@pytest.mark.parametrize("function", [decode_graph, lambda e: decode.decode_and_inception_crop(e, [0, 0], 8)])
def test_too_many_pixels_in_the_header_are_refused_before_decoding(function):
    for name, encoded in BOMBS.items():
        height, width = {"webp lossless": (16384, 16383), "webp lossy": (16383, 16383)}.get(name, (60000, 50000))
        with pytest.raises(tf.errors.InvalidArgumentError) as error:
            function(encoded)
        assert decode.describe_error(error.value, "a/b.img") == (
            "a/b.img: image cannot be decoded (its header has more than 89478485 pixels; height and width are "
            f"{height} {width}); replace or remove it."
        )


def test_the_pixel_limit_is_the_size_in_the_header():
    for encoded in (LOSSLESS | JPEGS).values():
        assert decode.decode_image(encoded, max_pixels=133 * 201).shape == (133, 201, 3)
        with pytest.raises(tf.errors.InvalidArgumentError, match="more than 26732 pixels"):
            decode.decode_image(encoded, max_pixels=133 * 201 - 1)


def test_sides_are_read_from_the_header_alone():
    sides = tf.function(decode.image_sides, input_signature=[tf.TensorSpec([], tf.string)])
    for name, encoded in (LOSSLESS | JPEGS).items():
        assert [int(side) for side in sides(encoded)] == [133, 201], name
    assert [int(side) for side in sides(BOMBS["bmp"])] == [60000, 50000]
    with pytest.raises(tf.errors.InvalidArgumentError, match="starts like none of JPEG, PNG"):
        sides(b"no image")


@pytest.mark.parametrize(
    ("crop", "expected"),
    [
        ("resmall", lambda image: crops.resmall_crop(image, 27, (24, 32))),
        ("resize", lambda image: crops.resize_crop(image, (27, 37), (24, 32))),
        ("none", lambda image: decode.resize(image, (24, 32))),
    ],
)
def test_the_crop_of_an_evaluation_cuts_the_centre_out_of_eight_sevenths(crop, expected):
    image = np.asarray(PHOTO)
    np.testing.assert_array_equal(crops.evaluation_crop(image, crop, (24, 32)), expected(image))
    with pytest.raises(ValueError, match="crop: must be resmall, resize or none, got 'centre'"):
        crops.evaluation_crop(image, "centre", 24)


BAD_BYTES = {
    "truncated jpeg": (JPEGS["jpeg"][:3000], "jpeg::Uncompress failed. Invalid JPEG data or crop window"),
    "truncated png": (LOSSLESS["png"][:3000], "Invalid PNG data"),
    "jpeg signature only": (b"\xff\xd8\xff", "Invalid JPEG"),
    "html": (b"<!DOCTYPE html><html>", "it starts like none of JPEG, PNG, GIF, BMP, WebP; its bytes are 21"),
    "no bytes": (b"", "it starts like none of JPEG, PNG, GIF, BMP, WebP; its bytes are 0"),
}


@pytest.mark.parametrize("name", BAD_BYTES)
def test_bad_bytes_raise_and_are_described_in_one_sentence(name):
    encoded, reason = BAD_BYTES[name]
    dataset = tf.data.Dataset.from_tensors(encoded).map(decode.decode_image)
    for run in (lambda: decode.decode_image(encoded), lambda: decode_graph(encoded), lambda: list(dataset)):
        with pytest.raises(tf.errors.InvalidArgumentError) as error:
            run()
        sentence = decode.describe_error(error.value, "cat.jpg")
        assert sentence.startswith("cat.jpg: image cannot be decoded (")
        assert sentence.endswith("); replace or remove it.")
        assert reason in sentence
        assert not re.search(r"\n|\{\{", sentence)


def in_data(function, *args):
    """Run inside a tf.data map, where shapes are unknown; return the result and its static shape."""
    dataset = tf.data.Dataset.from_tensors(args).map(function)
    return next(iter(dataset)).numpy(), dataset.element_spec.shape


FUSED = {
    "jpeg": JPEGS["jpeg"],
    "jpeg 4:2:2": encode(PHOTO, "JPEG", subsampling=1),
    "jpeg progressive": JPEGS["jpeg progressive"],
    "jpeg grey": JPEGS["jpeg grey"],
    "jpeg turned": with_orientation(6),
    "png": LOSSLESS["png"],
}


def test_the_fused_crop_equals_decoding_then_cropping():
    fused = tf.function(lambda e, seed: decode.decode_and_inception_crop(e, seed, (40, 56)))
    plain = tf.function(lambda e, seed: decode.inception_crop(decode.decode_image(e), seed, (40, 56)))
    for name, encoded in FUSED.items():
        for k in range(30):
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
        begin, extent = tf.constant([*window[:2], 0]), tf.constant([*window[2:], -1])
        part = decode._decode_jpeg_part(FUSED[name], tf.constant(whole.shape[:2]), begin, extent)
        np.testing.assert_array_equal(part, tf.slice(whole, begin, extent))


def test_fused_crop_can_leave_the_orientation_as_stored():
    encoded = with_orientation(6)
    fused = decode.decode_and_inception_crop(encoded, [0, 1], 32, orient=False)
    plain = decode.inception_crop(decode.decode_image(encoded, orient=False), [0, 1], 32)
    np.testing.assert_array_equal(fused, plain)
    assert not np.array_equal(fused, decode.decode_and_inception_crop(encoded, [0, 1], 32))


def test_inception_windows_have_the_areas_and_aspects_asked_for():
    shape = tf.constant([300, 400])
    draw = tf.function(lambda k: decode._inception_window(shape, tf.stack([0, k]), (0.05, 1.0), (3 / 4, 4 / 3)))
    windows = np.array([[b.numpy()[:2] for b in draw(k)] for k in tf.range(1500)])
    (top, left), (height, width) = windows[:, 0].T, windows[:, 1].T
    assert min(top.min(), left.min()) >= 0
    assert (top + height).max() <= 300
    assert (left + width).max() <= 400
    area, aspect = height * width / 120000, width / height
    assert 0.049 < area.min() < 0.07
    assert area.max() > 0.9
    assert 0.73 < aspect.min() < 0.78
    assert 1.29 < aspect.max() < 1.36


def test_inception_crop_is_a_pure_function_of_image_and_seed():
    image = np.asarray(PHOTO)
    crop = lambda k: decode.inception_crop(image, tf.stack([5, k]), 24)
    seeds = tf.data.Dataset.from_tensor_slices(tf.range(64))
    one, many = (np.stack(list(seeds.map(crop, num_parallel_calls=n))) for n in (None, 4))
    np.testing.assert_array_equal(one, many)
    np.testing.assert_array_equal(one[:8], [crop(k) for k in range(8)])
    assert len({image.tobytes() for image in one}) == 64


def test_inception_crop_of_the_whole_image_is_a_resize():
    crop = decode.inception_crop(np.asarray(PHOTO), [0, 0], (133, 201), area=(1.0, 1.0), aspect=(201 / 133, 201 / 133))
    np.testing.assert_allclose(crop.numpy().astype(int), np.asarray(PHOTO), atol=0)


def test_resize_averages_when_it_shrinks():
    stripes = np.tile(np.uint8([0, 255]), (63, 32))[:, :63, None].repeat(3, axis=2)
    small = decode.resize(stripes, (63, 9)).numpy()[:, 1:-1]
    assert np.abs(small.astype(int) - 127).max() <= 8  # measured 3; without antialiasing every other pixel is 0 or 255


def test_resize_antialiases_only_where_that_changes_something():
    image = np.asarray(PHOTO)
    for size in ((133, 201), (150, 201), (224, 224), (60, 300)):
        exact = tf.image.resize(image, size, antialias=True).numpy()
        difference = np.abs(decode.resize(image, size).numpy() - exact)
        assert difference.max() <= 0.501  # of rounding; measured 0.5001


def test_resize_rounds_to_the_nearest_level():
    image = np.uint8([[[10] * 3, [13] * 3]])
    exact = tf.image.resize(image, (4, 7), antialias=True).numpy()
    np.testing.assert_array_equal(decode.resize(image, (4, 7)), np.floor(exact + 0.5))


def test_resmall_crop_is_the_centre_after_area_averaging():
    image = np.arange(8 * 12 * 3, dtype=np.uint8).reshape(8, 12, 3)
    crop = crops.resmall_crop(image, 4, 4)
    halved = image.reshape(4, 2, 6, 2, 3).mean(axis=(1, 3))  # short side 8 -> 4
    np.testing.assert_array_equal(crop, np.floor(halved[:, 1:5] + 0.5))


def test_resmall_crop_covers_a_rectangle_that_the_short_side_would_not():
    crop = crops.resmall_crop(np.asarray(PHOTO.resize((50, 50))), 36, (32, 64))
    assert crop.shape == (32, 64, 3)


def test_resize_crop_is_the_centre_after_resizing_both_sides():
    image = np.asarray(PHOTO)
    crop = crops.resize_crop(image, (36, 40), (32, 30))
    np.testing.assert_array_equal(crop, decode.resize(image, (36, 40))[2:34, 5:35])


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 40), st.integers(1, 40), st.integers(0, 9))
def test_every_crop_of_any_image_has_the_size_asked_for(height, width, to_height, to_width, seed):
    image, size = np.full((height, width, 3), 77, np.uint8), (to_height, to_width)
    results = [
        decode.inception_crop(image, [seed, 0], size),
        crops.resmall_crop(image, min(size) + seed, size),
        crops.resize_crop(image, (to_height + seed, to_width), size),
        decode.resize(image, size),
    ]
    for crop in results:
        np.testing.assert_array_equal(crop, np.full((*size, 3), 77))


def test_shapes_are_static_in_a_dataset_of_files_of_unknown_size():
    encoded = JPEGS["jpeg"]
    decoded = decode.decode_image(encoded)
    runs = {
        "decode": (decode.decode_image, [None, None, 3]),
        "fused": (lambda e: decode.decode_and_inception_crop(e, [0, 1], 24), [24, 24, 3]),
        "inception": (lambda e: decode.inception_crop(decode.decode_image(e), [0, 1], 24), [24, 24, 3]),
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
        (lambda x: decode.resize(x, 0), "size: must be a positive number of pixels or (height, width), got 0."),
        (lambda x: decode.inception_crop(x, [0, 0], (8, 8, 3)), "size: must be a positive number of pixels"),
        (
            lambda x: decode.inception_crop(x, [0, 0], 8, area=(0.5, 0.1)),
            "area: must be (smallest, largest), positive and at most 1, got (0.5, 0.1).",
        ),
        (lambda x: decode.inception_crop(x, [0, 0], 8, aspect=(0, 1)), "aspect: must be (smallest, largest), positive"),
        (lambda x: crops.resmall_crop(x, 16, 32), "resize_small: must be at least 32 pixels for size (32, 32)"),
        (lambda x: crops.resize_crop(x, (40, 16), 32), "resize_to: (40, 16) is less than the size (32, 32)"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call(np.zeros((9, 9, 3), np.uint8))
