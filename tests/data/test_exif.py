"""EXIF orientation: where a JPEG may have it, in which form, and what is none."""

import io
import struct

import numpy as np
import pytest
import tensorflow as tf
from encoded_images import EXIF, JPEGS, PHOTO, PLAIN, PNGS, encode, exif, segment, with_orientation
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from keras_mixer.data import decode
from keras_mixer.data.exif import jpeg_orientation, png_orientation

orientation_of = tf.function(jpeg_orientation, input_signature=[tf.TensorSpec([], tf.string)])


@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize("endian", "<>")
def test_a_jpeg_is_turned_upright_as_pillow_does(endian, long):
    for orientation in range(1, 9):
        encoded = with_orientation(orientation, endian, long)
        assert orientation_of(encoded) == orientation
        stored = Image.fromarray(decode.decode_image(encoded, exif_rotation=False).numpy())
        stored.getexif()[0x0112] = orientation
        np.testing.assert_array_equal(decode.decode_image(encoded), ImageOps.exif_transpose(stored))


COMMENT = segment(0xFE, b"a comment that quotes Exif\0\0" + exif(3))


@pytest.mark.parametrize(
    ("before", "orientation"),
    [
        (b"", 6),
        (segment(0xE2, bytes(65_000)) + segment(0xE2, bytes(65_000)), 6),  # 130 kB of a colour profile, say
        (COMMENT, 6),
        (segment(0xE0, b"JFIF\0" + bytes(9)), 6),
        (segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + EXIF), 6),
        (b"\xff\xff\xff", 6),  # bytes to fill up with
        (segment(0xFE, b"a comment") + b"\0\0garbage", 6),
    ],
)
def test_the_exif_segment_is_found_wherever_it_stands(before, orientation):
    assert orientation_of(with_orientation(orientation, before=before)) == orientation


def test_a_comment_that_quotes_exif_is_none():
    encoded = JPEGS["jpeg"][:2] + COMMENT + JPEGS["jpeg"][2:]
    assert orientation_of(encoded) == 1
    assert orientation_of(JPEGS["jpeg"] + segment(0xE1, exif(6))) == 1  # behind the pixels
    assert orientation_of(JPEGS["jpeg"]) == 1


def test_other_types_and_numbers_of_an_orientation_mean_upright():
    for wrong in (0, 9, 65535):
        assert orientation_of(with_orientation(wrong)) == 1
    encoded = with_orientation(6)
    at = encoded.index(struct.pack("<HH", 0x0112, 3)) + 2
    assert orientation_of(encoded[:at] + struct.pack("<H", 2) + encoded[at + 2 :]) == 1  # a text


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60), st.sampled_from([b"II*\0", b"MM\0*", b""]))
def test_a_damaged_exif_block_means_upright_or_a_valid_turn(tail, start):
    encoded = JPEGS["jpeg"][:2] + segment(0xE1, EXIF + start + tail) + JPEGS["jpeg"][2:]
    assert 1 <= int(orientation_of(encoded)) <= 8
    assert sorted(decode.decode_image(encoded).shape) == [3, 133, 201]


def test_a_tiff_that_is_turned_can_be_left_as_it_is_stored():
    for orientation in range(1, 9):
        for compression in ("raw", "tiff_lzw"):
            encoded = encode(PHOTO, "TIFF", compression=compression, tiffinfo={0x0112: orientation})
            np.testing.assert_array_equal(decode.decode_image(encoded, exif_rotation=False), PHOTO)
            expected = ImageOps.exif_transpose(Image.open(io.BytesIO(encoded)))
            np.testing.assert_array_equal(decode.decode_image(encoded), expected)


def test_an_orientation_in_xmp_is_ignored_by_every_decoder():
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    encoded = encode(PHOTO, "WEBP", lossless=True, xmp=xmp)
    for python in (True, False):
        np.testing.assert_array_equal(decode.decode_image(encoded, python=python), PHOTO)


def test_a_webp_that_is_turned_can_be_left_as_it_is_stored():
    for python in (True, False):
        stored = decode.decode_image(PLAIN["webp turned"], exif_rotation=False, python=python)
        np.testing.assert_array_equal(stored, decode.decode_image(PLAIN["webp lossless"]))


@pytest.mark.parametrize("alpha", ["white", "drop"])
def test_a_png_is_turned_upright_as_pillow_does(alpha):
    for orientation in range(1, 9):
        encoded = encode(PHOTO, "PNG", exif=exif(orientation)[6:])
        expected = ImageOps.exif_transpose(Image.open(io.BytesIO(encoded)))
        np.testing.assert_array_equal(decode.decode_image(encoded, alpha), expected)
        np.testing.assert_array_equal(decode.decode_image(encoded, alpha, exif_rotation=False), PHOTO)
    turned = encode(PHOTO, "PNG", exif=exif(6)[6:])
    at = turned.index(b"eXIf") - 4
    chunk = turned[at : at + 12 + int.from_bytes(turned[at : at + 4], "big")]
    quoted = b"\0\0\0\x0btEXtabout eXIf II*\0"  # a chunk whose content is quoted, and its checksum
    assert png_orientation(turned[:33] + quoted + turned[33:]) == 6
    assert png_orientation(turned.replace(chunk, b"")[:-12] + chunk + turned[-12:]) == 6  # behind the pixels
    assert png_orientation(PNGS["png"] + chunk) == 1  # behind the end
    assert png_orientation(encode(PHOTO, "PNG", exif=exif(8))) == 8  # with "Exif" before it
    by_chance = PNGS["png"][:-12] + b"\0\0\0\x0ctEXt" + b"about\0eXIf II" + struct.pack(">I", 0xFFFFFFFF)
    assert png_orientation(by_chance) == 1
