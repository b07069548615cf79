"""From a file's bytes to what an evaluation shows the model; large JPEGs are decoded at a fraction of their size."""

import tensorflow as tf

from keras_mixer.data import crops, decode, exif, jpeg_parts
from keras_mixer.data.image_limits import bounded
from keras_mixer.data.pixel_settings import DEFAULT_PIXELS, PixelSettings
from keras_mixer.types import Size


def decode_and_evaluation_crop(
    encoded: bytes | tf.Tensor,
    crop: str,
    size: Size,
    pixels: PixelSettings = DEFAULT_PIXELS,
    python: bool = True,
) -> tf.Tensor:
    """Return what the model sees of a file in an evaluation, (height, width, 3) uint8.

    Equal to `evaluation_crop(decode_image(encoded, ...), crop, size, ...)`, pixel for pixel, but for large JPEGs that
    are resized to a quarter or less on both sides, unless `pixels.exact_decoding` is True: of these only what the crop
    needs is decoded, at a fraction of the size.

    Args:
        encoded, python: of `decode.decode_image`.
        crop, size: of `crops.evaluation_crop`.
        pixels: how files become pixels.

    Raises:
        tf.errors.InvalidArgumentError: as `decode.decode_image`.
        ValueError: as `crops.evaluation_crop`.

    Example:
        >>> encoded = tf.io.encode_jpeg(tf.zeros((300, 400, 3), tf.uint8))
        >>> decode_and_evaluation_crop(encoded, "resmall", 32).shape
        TensorShape([32, 32, 3])
    """
    image, fault = evaluation_crop_or_fault(encoded, crop, size, pixels, python)
    return tf.ensure_shape(decode.checked(image, fault), image.shape)


@tf.autograph.experimental.do_not_convert
def evaluation_crop_or_fault(
    encoded: bytes | tf.Tensor,
    crop: str,
    size: Size,
    pixels: PixelSettings = DEFAULT_PIXELS,
    python: bool = True,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return what `decode_and_evaluation_crop` does, and a fault as `decode.decode_or_fault` does; zeros where one is.

    Example:
        >>> evaluation_crop_or_fault(b"no image", "none", 8, python=False)[1].numpy().decode()
        'neither a JPEG, PNG, still GIF or WebP, nor a plain BMP'
    """
    sides = crops.sides_of("size", size)
    crops.check_crop(crop)
    encoded = tf.convert_to_tensor(encoded, tf.string)
    nothing = lambda: tf.zeros((*sides, 3), tf.uint8)

    def whole() -> tuple[tf.Tensor, tf.Tensor]:
        image, fault = decode.decode_or_fault(encoded, pixels.alpha, pixels.exif_rotation, python)
        cropped = lambda: crops.evaluation_crop(image, crop, sides, pixels.antialias)
        return tf.cond(fault == "", cropped, nothing), fault

    if pixels.exact_decoding:
        return whole()
    # What is no JPEG counts as one pixel, which is never reduced.
    shape, orientation = tf.cond(
        decode.is_jpeg(encoded),
        lambda: jpeg_parts.stored(encoded, pixels.exif_rotation),
        lambda: (tf.constant([1, 1]), tf.constant(1)),
    )
    upright = jpeg_parts.upright_sides(shape, orientation)
    whole_sides = crops.resized_sides(crop, upright, sides)
    index = jpeg_parts.ratio_index(shape, upright, whole_sides)

    def reduced() -> tf.Tensor:
        centre = (whole_sides - sides) // 2, tf.constant(sides)
        window = jpeg_parts.as_stored(centre, whole_sides, orientation)
        sides_stored = jpeg_parts.upright_sides(whole_sides, orientation)
        fraction = tf.cast(shape, tf.float32) / tf.cast(tf.gather(jpeg_parts.RATIOS, index), tf.float32)
        source, target = jpeg_parts.aligned_around(window, sides_stored, fraction)
        part = jpeg_parts.decode_part_at(encoded, shape, source, index)
        part = crops.resized(part, target[1], crop, pixels.antialias)
        part = tf.slice(part, tf.concat([window[0] - target[0], [0]], axis=0), tf.concat([window[1], [3]], axis=0))
        return exif.upright(part, orientation)

    def reduced_or_fault() -> tuple[tf.Tensor, tf.Tensor]:
        image, fault = bounded(encoded, shape[0], shape[1], reduced)
        return tf.cond(fault == "", lambda: image, nothing), fault

    image, fault = tf.cond(index > 0, reduced_or_fault, whole)
    return tf.ensure_shape(image, [*sides, 3]), fault
