"""Decoding: every kind of file against Pillow, with Python and without, the limits, and bad bytes in one sentence."""

import io
import re
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from encoded_images import JPEGS, OTHERS, PHOTO, PLAIN, PNGS, bmp, encode, gif, with_alpha, with_orientation
from PIL import Image, ImageOps

from keras_mixer.data import decode, decode_pillow, decode_plain, image_limits

TEXT = [tf.TensorSpec([], tf.string)]
decode_graph = tf.function(decode.decode_image, input_signature=TEXT)
plain_graph = tf.function(lambda encoded: decode.decode_or_fault(encoded, python=False), input_signature=TEXT)
GRAPHS = {True: tf.function(decode.decode_or_fault, input_signature=TEXT), False: plain_graph}


def pillow(encoded, alpha="white"):
    """What Pillow shows of a file's first frame, upright, on a background; or its colours without alpha."""
    picture = Image.open(io.BytesIO(encoded))
    picture.load()
    picture = ImageOps.exif_transpose(picture).convert("RGBA")
    if alpha == "drop":
        return np.asarray(picture)[:, :, :3]
    shown = Image.new("RGB", picture.size, alpha)
    shown.paste(picture, mask=picture.getchannel("A"))
    return np.asarray(shown)


@pytest.mark.parametrize("alpha", ["white", "black", "drop"])
def test_every_kind_but_jpeg_has_the_pixels_of_pillow_on_the_background(alpha):
    graph = tf.function(lambda encoded: decode.decode_image(encoded, alpha), input_signature=TEXT)
    for name, encoded in (PNGS | PLAIN | OTHERS).items():
        image = graph(encoded)
        np.testing.assert_array_equal(image, pillow(encoded, alpha), err_msg=name)  # difference 0
        assert image.dtype == tf.uint8


@pytest.mark.parametrize("alpha", ["white", "black", "drop"])
def test_what_is_decoded_without_python_has_the_same_pixels(alpha):
    graph = tf.function(lambda encoded: decode.decode_image(encoded, alpha, python=False), input_signature=TEXT)
    for name, encoded in (PNGS | PLAIN).items():
        np.testing.assert_array_equal(graph(encoded), pillow(encoded, alpha), err_msg=name)
    for name, encoded in JPEGS.items():
        np.testing.assert_array_equal(graph(encoded), decode_graph(encoded), err_msg=name)
    assert not [op.type for op in graph.get_concrete_function().graph.get_operations() if "Py" in op.type]


def test_without_python_all_other_kinds_are_refused_with_what_is_taken():
    for name, encoded in OTHERS.items():
        image, fault = plain_graph(encoded)
        assert image.shape == (0, 0, 3), name
        assert fault == b"neither a JPEG, PNG, still GIF or WebP, nor a plain BMP", name


def test_jpeg_is_close_to_what_pillow_reads():
    for name, encoded in JPEGS.items():
        image = decode_graph(encoded).numpy().astype(int)
        # TensorFlow takes the fast inverse DCT, Pillow the accurate one; measured mean difference 0.5 to 1 grey level.
        assert np.abs(image - pillow(encoded)).mean() < 1.5, name


def test_of_16_bits_the_upper_8_are_kept():
    grey = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    for kind in ("PNG", "TIFF", "PPM"):
        image = decode_graph(encode(Image.fromarray(grey), kind))
        np.testing.assert_array_equal(image[:, :, 1], grey >> 8, err_msg=kind)
    with pytest.raises(tf.errors.InvalidArgumentError, match="32-bit numbers"):
        decode_graph(encode(Image.fromarray(np.zeros((9, 9), np.float32)), "TIFF"))


def grey_tiff(bits, photometric):
    """A raw TIFF of 16 levels of grey."""
    levels = np.linspace(0, 2**bits - 1, 16).astype(np.uint16)
    packed = levels.tobytes()
    if bits == 12:
        pairs = levels.reshape(-1, 2).astype(int)
        packed = b"".join(bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255]) for a, b in pairs)
    tags = {256: 16, 257: 1, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: 1, 279: len(packed)}
    entries = b"".join(struct.pack("<HHII", tag, 3, 1, value) for tag, value in tags.items())
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    return b"II*\0" + struct.pack("<I", 8 + len(packed)) + packed + directory


@pytest.mark.parametrize("bits", [12, 16])
def test_grey_of_many_bits_has_its_levels_in_either_sense(bits):
    expected = (np.linspace(0, 2**bits - 1, 16).astype(int) >> bits - 8).astype(np.uint8)
    assert decode_graph(grey_tiff(bits, 1))[0, :, 0].numpy().tolist() == expected.tolist()
    if bits == 16:  # white is zero
        assert decode_graph(grey_tiff(bits, 0))[0, :, 0].numpy().tolist() == (255 - expected).tolist()


def planes_tiff():
    """A raw TIFF of 3 x 2 pixels of 16 bits, its colours in planes."""
    tags = {256: 2, 257: 3, 259: 1, 262: 2, 277: 3, 278: 3, 284: 2}
    of_planes = {258: (3, [16] * 3), 273: (4, [8, 20, 32]), 279: (4, [12] * 3)}
    start, behind, entries = 44, b"", []
    for tag in sorted([*tags, *of_planes]):
        if tag in tags:
            entries.append(struct.pack("<HHIHH", tag, 3, 1, tags[tag], 0))
        else:
            kind, values = of_planes[tag]
            entries.append(struct.pack("<HHII", tag, kind, 3, start + 2 + 12 * 10 + 4 + len(behind)))
            behind += struct.pack("<3H" if kind == 3 else "<3I", *values)
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + struct.pack("<I", 0) + behind
    return b"II*\0" + struct.pack("<I", start) + bytes(range(36)) + directory


def two_colours(bits=8):
    header = struct.pack("<IiiHHIIiiII", 40, 8, 1, 1, bits, 0, 8, 2835, 2835, 2, 0)
    return b"BM" + struct.pack("<IHHI", 70, 0, 0, 62) + header + b"\0\0\0\0\xff\xff\xff\0" + bytes([0, 1] * 4)


@pytest.mark.parametrize(
    ("encoded", "message"),
    [
        (two_colours(), "a bitmap of 8 bits in black and white, which Pillow misreads; save it as PNG"),
        (planes_tiff(), "an uncompressed TIFF of 16 bits in planes, which Pillow misreads; save it as PNG"),
        (b"Pf\n4 3\n-1.0\n" + np.linspace(0, 1, 12, dtype=np.float32).tobytes(), "32-bit numbers"),
        (grey_tiff(16, 1)[:40], "a TIFF, AVIF or HEIC that is damaged, or of a kind that Pillow does not read"),
    ],
)
def test_what_pillow_would_misread_is_refused(encoded, message):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        decode.decode_image(encoded)


def test_decoding_in_eager_mode_equals_that_in_a_graph():
    for encoded in (PLAIN["bmp palette"], PLAIN["webp alpha"], OTHERS["avif"], JPEGS["jpeg"], with_orientation(6)):
        np.testing.assert_array_equal(decode.decode_image(encoded), decode_graph(encoded))


def test_a_png_that_ends_behind_its_last_pixel_is_read_as_pillow_reads_it():
    for name, encoded in PNGS.items():
        np.testing.assert_array_equal(decode_graph(encoded[:-12]), pillow(encoded), err_msg=name)
    with pytest.raises(tf.errors.InvalidArgumentError, match="Invalid PNG data"):
        decode_graph(PNGS["png"][:-3000])


def test_a_name_of_transparency_that_stands_by_chance_changes_nothing():
    content = b"tEXt" + b"Comment\0about tRNS"
    chunk = struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))
    encoded = PNGS["png"][:33] + chunk + PNGS["png"][33:]
    np.testing.assert_array_equal(decode_graph(encoded), pillow(PNGS["png"]))


# ---- Limits ----


def png_header(height, width):
    ihdr = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + ihdr + b"\0" * 20


def jpeg_header(height, width):
    encoded = JPEGS["jpeg"]
    at = encoded.index(b"\xff\xc0") + 5
    return encoded[:at] + struct.pack(">HH", height, width) + encoded[at + 4 :]


BMP_HEADER = b"BM" + struct.pack("<IIIIii", 0, 0, 54, 40, 50000, -60000) + b"\1\0\x18\0" + b"\0" * 24
MANY = f"more than {image_limits.MAX_PIXELS} pixels"
BOMBS = {
    "png": png_header(60000, 50000),
    "jpeg": jpeg_header(60000, 50000),
    "gif": gif(screen=(60000, 50000)),
    "gif whose frame is larger than its header says": gif()[:-1].replace(
        b"," + struct.pack("<HHHH", 0, 0, 201, 133), b"," + struct.pack("<HHHH", 0, 0, 60000, 50000)
    )
    + b";",
    "bmp": BMP_HEADER,
    "webp lossless": b"RIFF\x20\0\0\0WEBPVP8L\x14\0\0\0/" + struct.pack("<I", 16382 | 16383 << 14) + b"\0" * 40,
    "webp lossy": b"RIFF\x40\0\0\0WEBPVP8 \x30\0\0\0\x10\0\0\x9d\x01\x2a" + b"\xff\x3f" * 2 + b"\0" * 40,
    "tiff": encode(Image.new("1", (60000, 50000)), "TIFF", compression="group4"),
}


@pytest.mark.parametrize("python", [True, False])
@pytest.mark.parametrize("name", BOMBS)
def test_too_many_pixels_are_refused_before_they_are_decoded(name, python):
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        decode.decode_image(BOMBS[name], python=python)
    sentence = decode.describe_error(error.value, "a/b.img")
    expected = [MANY, decode_plain.NOT_TAKEN] if not python else [MANY, "it is no "]
    assert any(text in sentence for text in expected), sentence
    if python and name not in ("webp lossless", "webp lossy"):  # whose truncated headers Pillow does not take for WebP
        assert MANY in sentence


def test_limits_are_those_of_what_is_decoded(monkeypatch):
    pictures = PNGS | PLAIN | OTHERS | JPEGS
    for limit, fault in ((133 * 201, ""), (133 * 201 - 1, f"more than {133 * 201 - 1} pixels")):
        monkeypatch.setattr(image_limits, "MAX_PIXELS", limit)
        monkeypatch.setattr(image_limits, "TOO_MANY_PIXELS", f"more than {limit} pixels")
        for python in (True, False):
            graph = tf.function(lambda e, python=python: decode.decode_or_fault(e, python=python), input_signature=TEXT)
            for name, encoded in pictures.items():
                if name == "gif on a larger screen" or (name in OTHERS and not python):
                    continue
                assert graph(encoded)[1].numpy().decode() == fault, (name, python)


@pytest.mark.parametrize("python", [True, False])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF"])
def test_a_thin_picture_is_refused_in_every_kind(kind, python):
    if kind == "TIFF" and not python:
        return
    for size in ((5001, 50), (50, 5001)):
        _, fault = GRAPHS[python](encode(Image.new("RGB", size), kind))
        assert fault == b"one side more than 100 times the other"
        image, fault = GRAPHS[python](
            encode(Image.new("RGB", (size[0] - (size[0] > 50), size[1] - (size[1] > 50))), kind)
        )
        assert fault == b""
        assert max(image.shape) == 5000


def test_a_file_of_too_many_bytes_is_refused(monkeypatch):
    monkeypatch.setattr(image_limits, "MAX_BYTES", 200_000)
    for encoded in (JPEGS["jpeg"], PNGS["png"], PLAIN["gif"], PLAIN["bmp"], OTHERS["tiff"]):
        with pytest.raises(tf.errors.InvalidArgumentError, match="more than 67108864 bytes"):
            decode.decode_image(encoded + bytes(200_000))


def test_a_webp_has_a_limit_of_its_own(monkeypatch):
    for limit, fault in ((133 * 201, b""), (133 * 201 - 1, image_limits.TOO_MANY_WEBP_PIXELS.encode())):
        monkeypatch.setattr(image_limits, "MAX_WEBP_PIXELS", limit)
        for python in (True, False):
            assert decode.decode_or_fault(PLAIN["webp lossless"], python=python)[1] == fault
            assert decode.decode_or_fault(PNGS["png"], python=python)[1] == b""


# ---- Bad bytes ----

BAD_BYTES = {
    "truncated jpeg": (JPEGS["jpeg"][:3000], "jpeg::Uncompress failed. Invalid JPEG data or crop window"),
    "truncated png": (PNGS["png"][:3000], "Invalid PNG data"),
    "truncated tiff": (OTHERS["tiff"][:3000], ""),
    "truncated webp": (PLAIN["webp lossless"][:3000], ""),
    "truncated gif": (PLAIN["gif"][:3000], "image file is truncated"),
    "truncated bmp": (PLAIN["bmp"][:3000], "image file is truncated"),
    "jpeg signature only": (b"\xff\xd8\xff", "Invalid JPEG"),
    "html": (b"<!DOCTYPE html><html>", "it is no JPEG, PNG, GIF, WebP, BMP, TIFF, AVIF, HEIC, JPEG 2000 or PPM file"),
    "no bytes": (b"", "it is no JPEG, PNG, GIF"),
    "a program": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "it is no JPEG, PNG, GIF"),
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


def test_a_heic_without_its_package_names_the_extra(monkeypatch):
    monkeypatch.delitem(Image.OPEN, "HEIF")
    monkeypatch.setattr(decode_pillow, "register_heic", lambda: None)
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        decode.decode_image(OTHERS["heic"])
    assert decode.describe_error(error.value, "IMG_1.HEIC") == (
        "IMG_1.HEIC: image cannot be decoded (run pip install 'keras_mixer[heic]' to read HEIC photographs); replace "
        "or remove it."
    )


@pytest.mark.parametrize("name", ["truncated gif", "truncated bmp", "truncated webp"])
def test_truncated_files_are_refused_without_python_too(name):
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode.decode_image(BAD_BYTES[name][0], python=False)


def test_a_gif_of_a_million_tiny_blocks_costs_no_more_than_a_second():
    content = gif()
    blocks = b"!\xfe" + b"\1x\2yy" * 400_000 + b"\0"
    image, fault = plain_graph(content[:-1] + blocks + b";")
    assert (image.shape, fault) == ((0, 0, 3), decode_plain.NOT_TAKEN.encode())
    equal = b"!\xfe" + b"\1x" * 1_000_000 + b"\0"  # which are passed a row at a time
    np.testing.assert_array_equal(plain_graph(content[:-1] + equal + b";")[0], pillow(content))


def test_a_bitmap_whose_palette_lies_among_its_pixels_is_left_to_pillow():
    encoded = bytearray(PLAIN["bmp palette"])
    encoded[10:14] = struct.pack("<I", 54)
    assert plain_graph(bytes(encoded))[1] == decode_plain.NOT_TAKEN.encode()
    assert decode.decode_image(bytes(encoded)).shape == (133, 201, 3)


def test_a_large_transparent_picture_is_composited_in_bands(monkeypatch):
    from keras_mixer.data import colours

    expected = pillow(PNGS["png alpha"])
    monkeypatch.setattr(colours, "BAND_PIXELS", 201 * 7)  # 19 bands, as a picture of 80 million pixels has
    np.testing.assert_array_equal(decode.decode_image(PNGS["png alpha"]), expected)
    np.testing.assert_array_equal(decode.decode_image(OTHERS["tiff alpha"]), pillow(OTHERS["tiff alpha"]))


def test_arguments_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match=re.escape("alpha: must be white, black or drop, got 'grey'.")):
        decode.decode_image(PNGS["png"], alpha="grey")


def test_the_photograph_of_these_tests_is_transparent_where_it_says_so():
    assert np.asarray(with_alpha())[0, :, 3].tolist() == list(range(201))
    assert bmp(32)[:2] == b"BM"
    assert PHOTO.size == (201, 133)
