"""From encoded bytes to uint8 pixels: decoding, and the random crop of training, all in TensorFlow.

Whatever the file, an image is (H, W, 3) uint8 and stands upright; docs/augmentation.md states the policy per format.
"""

import re

import tensorflow as tf

from keras_mixer.data.resizing import resize, sides_of

MAX_PIXELS = 89_478_485  # 256 MiB as RGB; the header is checked against it before any pixel is decoded
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WebP")
SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"RIFF")  # of each, the first bytes
BAD_IMAGE = "image cannot be decoded"  # starts the errors of this module


@tf.autograph.experimental.do_not_convert
def decode_image(encoded, orient=True, max_pixels=MAX_PIXELS):
    """Decode a JPEG, PNG, GIF (first frame), BMP or WebP (first frame) to RGB, (H, W, 3) uint8.

    Grey is repeated, a palette looked up, CMYK converted, alpha dropped as TensorFlow Datasets does, and of 16 bits
    the upper 8 are kept. A JPEG is turned upright by its EXIF orientation.

    Args:
        encoded: () string, the bytes of a file.
        orient: False leaves a JPEG as it is stored, as the authors' own pipeline does.
        max_pixels: largest H W; more in the header is an error before memory is taken.

    Raises:
        tf.errors.InvalidArgumentError: for other or damaged bytes or too many pixels; see `describe_error`.

    Example:
        >>> decode_image(tf.io.encode_png(tf.zeros((5, 7, 1), tf.uint8))).shape
        TensorShape([5, 7, 3])
    """
    encoded = tf.convert_to_tensor(encoded, tf.string)
    decoders = (_decode_jpeg, _decode_png, _decode_gif, _decode_bmp, _decode_webp, _unknown)
    header = _header(encoded)
    branches = [lambda decoder=decoder: decoder(encoded, header, max_pixels) for decoder in decoders]
    image = tf.switch_case(_format(header), branches)
    if orient:
        image = _upright(image, exif_orientation(encoded))
    return tf.ensure_shape(image, [None, None, 3])


@tf.autograph.experimental.do_not_convert
def image_sides(encoded):
    """Return the height and width that the header of an image file states, () int64 each; nothing is decoded.

    Raises:
        tf.errors.InvalidArgumentError: for bytes of another kind than those of `decode_image`.

    Example:
        >>> [int(side) for side in image_sides(tf.io.encode_png(tf.zeros((5, 7, 1), tf.uint8)))]
        [5, 7]
    """
    encoded = tf.convert_to_tensor(encoded, tf.string)
    header = _header(encoded)
    readers = (_jpeg_sides, _png_sides, _gif_sides, _bmp_sides, _webp_sides, _unknown_sides)
    branches = [
        lambda reader=reader: tuple(tf.cast(side, tf.int64) for side in reader(encoded, header)) for reader in readers
    ]
    return tf.switch_case(_format(header), branches)


@tf.autograph.experimental.do_not_convert
def decode_and_inception_crop(
    encoded, seed, size, area=(0.05, 1.0), aspect=(3 / 4, 4 / 3), orient=True, max_pixels=MAX_PIXELS
):
    """Decode and take an inception crop; of a JPEG only the cropped part is decoded.

    Equal to `inception_crop(decode_image(encoded, ...), seed, size, ...)`, pixel for pixel. Arguments and
    errors are theirs, but damage to a JPEG below the cropped part goes unseen, and so is harmless.

    Example:
        >>> encoded = tf.io.encode_jpeg(tf.zeros((50, 70, 3), tf.uint8))
        >>> decode_and_inception_crop(encoded, seed=[0, 1], size=32).shape
        TensorShape([32, 32, 3])
    """
    size = _check_crop(size, area, aspect)
    encoded = tf.convert_to_tensor(encoded, tf.string)
    as_stored = exif_orientation(encoded) == 1 if orient else True
    fused = (_format(_header(encoded)) == FORMATS.index("JPEG")) & as_stored

    def of_part():
        shape = tf.image.extract_jpeg_shape(encoded)[:2]
        with _limit(shape[0], shape[1], max_pixels):
            begin, extent = _inception_window(shape, seed, area, aspect)
        return resize(_decode_jpeg_part(encoded, shape, begin, extent), size)

    of_whole = lambda: inception_crop(decode_image(encoded, orient, max_pixels), seed, size, area, aspect)
    return tf.cond(fused, of_part, of_whole)


@tf.autograph.experimental.do_not_convert
def inception_crop(image, seed, size, area=(0.05, 1.0), aspect=(3 / 4, 4 / 3)):
    """Cut out a random part and resize it (Szegedy et al. 2015; the paper's training crop).

    Args:
        image: (H, W, 3) uint8.
        seed: int32 (2,); the crop is a pure function of it and of H and W.
        size: side of the (height, width, 3) uint8 result in pixels, or (height, width).
        area: smallest and largest fraction of the image's area.
        aspect: smallest and largest width / height. The whole image is taken where 100 draws do not fit in it.

    Raises:
        ValueError: for a size or range that makes no sense.

    Example:
        >>> inception_crop(tf.zeros((50, 70, 3), tf.uint8), seed=[0, 1], size=32).shape
        TensorShape([32, 32, 3])
    """
    size = _check_crop(size, area, aspect)
    return resize(tf.slice(image, *_inception_window(tf.shape(image)[:2], seed, area, aspect)), size)


def exif_orientation(encoded):
    """Return the EXIF orientation of a JPEG, () int32 in 1 ... 8; 1, upright, where it states none or is no JPEG."""
    reach = tf.where(tf.strings.substr(encoded, 0, 3) == SIGNATURES[0], 65536, 0)  # a JPEG's EXIF block is at its start
    head = tf.strings.substr(encoded, 0, reach)
    parts = tf.strings.split([head], b"Exif\0\0", maxsplit=1).values  # one part where there is no EXIF block
    return tf.cond(tf.size(parts) > 1, lambda: _tiff_orientation(parts[1]), lambda: tf.constant(1))


def describe_error(error, name):
    """Return one sentence for a TensorFlow error from this module; `name` says which file or record.

    Example:
        >>> describe_error(tf.errors.InvalidArgumentError(None, None, "{{node x}} Input is empty."), "a.jpg")
        'a.jpg: image cannot be decoded (Input is empty); replace or remove it.'
    """
    reason = error.message.partition("\n\t [[")[0].rpartition("\n\n")[2]  # without TensorFlow's trace of nodes
    reason = re.sub(r"\{\{.*?\}\}|\[Op:.*|.*Iterator::\S+ ", "", reason).rpartition(f"{BAD_IMAGE}: ")[2]
    reason = " ".join(re.sub(r"[\[\]']", " ", reason).split()).rstrip(".")
    return f"{name}: {BAD_IMAGE} ({reason}); replace or remove it."


def _header(encoded):  # the first 64 bytes, (64,) int64, zeros where the file is shorter
    return tf.ensure_shape(tf.cast(tf.io.decode_raw(encoded, tf.uint8, fixed_length=64), tf.int64), [64])


def _format(header):
    """Return the index in `FORMATS`, or len(FORMATS), by the first bytes; a file's name may lie."""
    matches = [tf.reduce_all(header[: len(start)] == list(start)) for start in SIGNATURES]
    matches[-1] &= tf.reduce_all(header[8:12] == list(b"WEBP"))
    return tf.argmax(tf.cast(tf.stack([*matches, True]), tf.int32), output_type=tf.int32)


def _number(values, length):  # in (..., length) int64 bytes, the least first
    return tf.reduce_sum(values * [256**i for i in range(length)], axis=-1)


def _limit(height, width, max_pixels):
    """Return a context whose ops run only if the image is not too large."""
    small = tf.cast(height, tf.int64) * tf.cast(width, tf.int64) <= max_pixels
    what = [f"{BAD_IMAGE}: its header has more than {max_pixels} pixels; height and width are", height, width]
    return tf.control_dependencies([tf.debugging.Assert(small, what)])


def _jpeg_sides(encoded, header):
    return tf.unstack(tf.image.extract_jpeg_shape(encoded))[:2]


def _png_sides(encoded, header):
    return _number(header[20:24][::-1], 4), _number(header[16:20][::-1], 4)


def _gif_sides(encoded, header):
    return _number(header[8:10], 2), _number(header[6:8], 2)


def _bmp_sides(encoded, header):
    sides = tf.stack([_number(header[22:26], 4), _number(header[18:22], 4)])
    return tf.unstack(tf.abs((sides + 2**31) % 2**32 - 2**31))  # negative where rows go from top to bottom


def _webp_sides(encoded, header):
    kind = header[15]  # the last letter of "VP8 ", "VP8L" or "VP8X": lossy, lossless, extended
    packed = _number(header[21:25], 4)
    lossless = tf.stack([packed // 2**14, packed]) % 2**14 + 1
    extended = tf.stack([_number(header[27:30], 3), _number(header[24:27], 3)]) + 1
    lossy = tf.stack([_number(header[28:30], 2), _number(header[26:28], 2)]) % 2**14
    return tf.unstack(tf.where(kind == ord("L"), lossless, tf.where(kind == ord("X"), extended, lossy)))


def _unknown_sides(encoded, header):
    what = [f"{BAD_IMAGE}: it starts like none of {', '.join(FORMATS)}; its bytes are", tf.strings.length(encoded)]
    with tf.control_dependencies([tf.debugging.Assert(False, what)]):
        return tf.constant(0), tf.constant(0)


def _unknown(encoded, header, max_pixels):
    with tf.control_dependencies(_unknown_sides(encoded, header)):
        return tf.zeros((0, 0, 3), tf.uint8)


def _decode_jpeg(encoded, header, max_pixels):
    with _limit(*_jpeg_sides(encoded, header), max_pixels):
        return tf.io.decode_jpeg(encoded, channels=3)


def _decode_png(encoded, header, max_pixels):
    with _limit(*_png_sides(encoded, header), max_pixels):
        return tf.io.decode_png(encoded, channels=3)


def _decode_gif(encoded, header, max_pixels):
    with _limit(*_gif_sides(encoded, header), max_pixels):
        return tf.io.decode_image(encoded, channels=3, expand_animations=False)


def _decode_webp(encoded, header, max_pixels):
    with _limit(*_webp_sides(encoded, header), max_pixels):
        return tf.io.decode_image(encoded, channels=0, expand_animations=False)[:, :, :3]  # it drops no alpha itself


def _decode_bmp(encoded, header, max_pixels):
    height, width = _bmp_sides(encoded, header)
    with _limit(height, width, max_pixels):
        image = tf.io.decode_bmp(encoded, channels=0)
    start = 14 + _number(header[14:18], 4)
    colours = tf.clip_by_value((_number(header[10:14], 4) - start) // 4, 0, 256)

    def look_up():
        palette = tf.io.decode_raw(tf.strings.substr(encoded, start, 4 * colours), tf.uint8)
        return tf.gather(tf.reshape(palette, [-1, 4])[:, 2::-1], tf.cast(image[:, :, 0], tf.int32))  # from B, G, R, 0

    # TensorFlow hands out the indices of an 8-bit bitmap as if they were grey levels.
    return tf.cond((header[28] == 8) & (colours > 0), look_up, lambda: image[:, :, :3])


def _tiff_orientation(tiff):
    """Read the orientation from the TIFF structure in an EXIF block; 1 where it has none or is damaged."""
    data = tf.cast(tf.io.decode_raw(tf.strings.join([tiff, b"\0" * 16]), tf.uint8), tf.int64)
    little = data[0] == ord("I")
    valid = tf.reduce_all(data[:4] == tf.where(little, tf.constant(list(b"II*\0"), tf.int64), list(b"MM\0*")))

    def number(values, length):
        return tf.where(little, _number(values, length), _number(values[..., ::-1], length))

    size = tf.size(data, tf.int64)
    start = tf.minimum(number(data[4:8], 4), size - 2)
    count = tf.minimum(number(data[start : start + 2], 2), (size - start - 2) // 12)
    entries = tf.reshape(
        data[start + 2 : start + 2 + 12 * count], [-1, 12]
    )  # tag, type, length, value; 0x0112 is orientation
    values = tf.where(number(entries[:, :2], 2) == 0x0112, number(entries[:, 8:10], 2), 0)
    orientation = tf.cast(tf.reduce_max(tf.concat([values, [0]], axis=0)), tf.int32)
    return tf.where(valid & (orientation >= 1) & (orientation <= 8), orientation, 1)


def _upright(image, orientation):
    turned = lambda: tf.transpose(image, [1, 0, 2])
    views = [lambda: tf.identity(image), lambda: image[:, ::-1], lambda: image[::-1, ::-1], lambda: image[::-1]]
    views += [turned, lambda: turned()[:, ::-1], lambda: turned()[::-1, ::-1], lambda: turned()[::-1]]
    return tf.switch_case(orientation - 1, views)  # EXIF counts from 1


def _inception_window(shape, seed, area, aspect):
    """Return begin (row, column, 0) and extent (height, width, -1) for `tf.slice`, int32."""
    return tf.image.stateless_sample_distorted_bounding_box(
        tf.concat([shape, [3]], axis=0), tf.zeros((1, 0, 4)), seed, 0.0, aspect, area, 100, True
    )[:2]


def _decode_jpeg_part(encoded, shape, begin, extent):
    # The decoder smooths colour across neighbours, which the edge of a window and one of two columns lack: read more.
    start = tf.maximum(begin - 4, 0)
    stop = tf.minimum(begin[:2] + extent[:2] + 4, shape)
    part = tf.image.decode_and_crop_jpeg(encoded, tf.concat([start[:2], stop - start[:2]], axis=0), channels=3)
    return tf.slice(part, begin - start, extent)


def _check_crop(size, area, aspect):
    for name, (low, high), limit in (("area", area, 1), ("aspect", aspect, float("inf"))):
        if not 0 < low <= high <= limit:
            raise ValueError(f"{name}: must be (smallest, largest), positive and at most {limit}, got {(low, high)}.")
    return sides_of("size", size)
