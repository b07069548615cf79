"""From the bytes of an image file to pixels: JPEG and PNG by TensorFlow, everything else by Pillow.

Whatever the file, an image is (H, W, 3) uint8 and stands upright; docs/guides/image_files.md says what becomes of it.
Where no Python may run, in a served graph and on the hosts of a TPU pod, `decode_plain` takes Pillow's place.
"""

import re

import tensorflow as tf

from keras_mixer.data import colours, decode_pillow, decode_plain, exif
from keras_mixer.data.image_limits import big_endian, bounded, byte_values
from keras_mixer.data.pixel_settings import check_alpha

BAD_IMAGE = "image cannot be decoded"  # starts the errors of this module
JPEG_START, PNG_START = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
IEND = b"\0\0\0\0IEND\xaeB`\x82"  # the last chunk of a PNG


@tf.autograph.experimental.do_not_convert
def decode_image(
    encoded: bytes | tf.Tensor, alpha: str = "white", exif_rotation: bool = True, python: bool = True
) -> tf.Tensor:
    """Decode the bytes of an image file to RGB, (H, W, 3) uint8.

    JPEG and PNG have TensorFlow's pixels, which are those of the authors. Grey is repeated, a palette looked up, CMYK
    converted, of 16 bits the upper 8 and of several frames the first are kept.

    Args:
        encoded: () string, the bytes of a file; its name plays no part.
        alpha: "white" or "black", what shows through transparent pixels; "drop" shows the colours stored under them.
        exif_rotation: False leaves a photograph as it is stored, as the authors' own pipeline does.
        python: False decodes in TensorFlow alone, and then only JPEG, PNG, still GIF and WebP and plain BMP.

    Raises:
        tf.errors.InvalidArgumentError: for other or damaged bytes, and beyond `image_limits`; see `describe_error`.
        ValueError: for another alpha.

    Example:
        >>> decode_image(tf.io.encode_png(tf.zeros((5, 7, 1), tf.uint8))).shape
        TensorShape([5, 7, 3])
    """
    return checked(*decode_or_fault(encoded, alpha, exif_rotation, python))


@tf.autograph.experimental.do_not_convert
def decode_or_fault(
    encoded: bytes | tf.Tensor, alpha: str = "white", exif_rotation: bool = True, python: bool = True
) -> tuple[tf.Tensor, tf.Tensor]:
    """Decode as `decode_image` does, and return a fault that shows before decoding, () string, instead of raising it.

    There the image is (0, 0, 3); the fault of an image is empty.

    Raises:
        tf.errors.InvalidArgumentError: for a damaged file, when TensorFlow decodes its pixels.

    Example:
        >>> decode_or_fault(b"no image", python=False)[1].numpy().decode()
        'neither a JPEG, PNG, still GIF or WebP, nor a plain BMP'
    """
    check_alpha(alpha)
    encoded = tf.convert_to_tensor(encoded, tf.string)
    others = decode_pillow.decode if python else decode_plain.decode
    branches = [
        lambda: _decode_jpeg(encoded, exif_rotation),
        lambda: _decode_png(encoded, alpha, exif_rotation),
        lambda: others(encoded, alpha, exif_rotation),
    ]
    return tf.switch_case(tf.where(is_jpeg(encoded), 0, tf.where(is_png(encoded), 1, 2)), branches)


def checked(image: tf.Tensor, fault: tf.Tensor) -> tf.Tensor:
    """Return an image, whose run fails where `fault`, () string, is not empty."""
    with tf.control_dependencies([tf.debugging.Assert(fault == "", [tf.strings.join([f"{BAD_IMAGE}: ", fault])])]):
        return tf.ensure_shape(tf.identity(image), [None, None, 3])


def is_jpeg(encoded: tf.Tensor) -> tf.Tensor:
    """Return whether the bytes of a file, () string, begin as those of a JPEG; a file's name may lie."""
    return tf.strings.substr(encoded, 0, len(JPEG_START)) == JPEG_START


def is_png(encoded: tf.Tensor) -> tf.Tensor:
    """Return whether the bytes of a file, () string, begin as those of a PNG."""
    return tf.strings.substr(encoded, 0, len(PNG_START)) == PNG_START


def in_tensorflow(encoded: bytes) -> bool:
    """Return whether bytes are decoded by TensorFlow, and not by Pillow.

    Example:
        >>> in_tensorflow(b"GIF89a")
        False
    """
    return encoded.startswith((JPEG_START, PNG_START))


def describe_error(error: tf.errors.OpError, name: str) -> str:
    """Return one sentence for a TensorFlow error from this module; `name` says which file or record.

    Example:
        >>> describe_error(tf.errors.InvalidArgumentError(None, None, "{{node x}} Input is empty."), "a.jpg")
        'a.jpg: image cannot be decoded (Input is empty); replace or remove it.'
    """
    reason = error.message.partition("\n\t [[")[0].rpartition("\n\n")[2]  # without TensorFlow's trace of nodes
    reason = re.sub(r"\{\{.*?\}\}|\[Op:.*|.*Iterator::\S+ ", "", reason)
    _, ours, fault = reason.rpartition(f"{BAD_IMAGE}: ")
    reason = fault.strip().rstrip("]'\"") if ours else re.sub(r"[\[\]']", " ", reason)
    reason = " ".join(reason.split()).rstrip(".")
    return f"{name}: {BAD_IMAGE} ({reason}); replace or remove it."


def _decode_jpeg(encoded: tf.Tensor, exif_rotation: bool) -> tuple[tf.Tensor, tf.Tensor]:
    height, width = tf.unstack(tf.image.extract_jpeg_shape(encoded))[:2]

    def pixels() -> tf.Tensor:
        image = tf.io.decode_jpeg(encoded, channels=3)
        return exif.upright(image, exif.jpeg_orientation(encoded)) if exif_rotation else image

    return bounded(encoded, height, width, pixels)


def _decode_png(encoded: tf.Tensor, alpha: str, exif_rotation: bool) -> tuple[tf.Tensor, tf.Tensor]:
    header = byte_values(encoded, 16, 10)
    width, height, colour_type = big_endian(header[:4]), big_endian(header[4:8]), header[9]
    # A file that was cut off behind its last pixel is read, as Pillow reads it.
    whole = tf.strings.join([encoded, IEND])
    opaque = lambda: tf.io.decode_png(whole, channels=3)
    composited = lambda: colours.composite(tf.io.decode_png(whole, channels=4), alpha)
    # Alpha is a channel of its own, or a chunk that names transparent colours. Where its name stands by chance there is
    # no alpha, and compositing changes nothing.
    named = tf.strings.regex_full_match(encoded, rb"(?s)\C*tRNS\C*")
    transparent = (colour_type == 4) | (colour_type == 6) | named

    def pixels() -> tf.Tensor:
        image = opaque() if alpha == "drop" else tf.cond(transparent, composited, opaque)
        return exif.upright(image, exif.png_orientation(encoded)) if exif_rotation else image

    return bounded(encoded, height, width, pixels)
