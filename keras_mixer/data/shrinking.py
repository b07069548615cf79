"""Large images made smaller once, by averaging areas: for records, and for a cache of decoded images."""

import dataclasses
import io
import struct

import numpy as np
import tensorflow as tf
from PIL import Image

from keras_mixer.data import decode, exif
from keras_mixer.data.colours import composite
from keras_mixer.data.image_limits import MAX_ASPECT

MOST = 65_500  # pixels on a side that a JPEG can have
QUALITY = 95  # of a JPEG that replaces a larger one


@dataclasses.dataclass(frozen=True)
class Shrinking:
    """Which images become smaller when they are stored, and of what quality.

    Attributes:
        max_side: in pixels; an image whose longer side has more is shrunk until it has these. None shrinks none.
        quality: of the JPEG that it becomes, 1 to 100.

    Raises:
        ValueError: for a side or a quality that no JPEG has.

    Example:
        >>> Shrinking(max_side=512).sides(3000, 4000)
        (384, 512)
    """

    max_side: int | None = None
    quality: int = QUALITY

    def __post_init__(self) -> None:
        if self.max_side is not None and not 1 <= self.max_side <= MOST:
            raise ValueError(f"max_side: must be from 1 to {MOST:,} pixels, got {self.max_side}; try 512.")
        if not 1 <= self.quality <= 100:
            raise ValueError(f"quality: must be from 1 to 100, got {self.quality}; try {QUALITY}.")

    def sides(self, height: int, width: int) -> tuple[int, int] | None:
        """Return the (height, width) in pixels that an image of these becomes; None where it stays as it is."""
        longer = max(height, width)
        if self.max_side is None or longer <= self.max_side:
            return None
        # Rounded down, the shorter side of a thin picture would make it thinner than `image_limits` allow.
        least = -(-self.max_side // MAX_ASPECT)
        height, width = (max(round(side * self.max_side / longer), least) for side in (height, width))
        return height, width


NO_SHRINKING = Shrinking()


def shrunk(image: tf.Tensor, height: int | tf.Tensor, width: int | tf.Tensor) -> tf.Tensor:
    """Return an image (H, W, C) uint8 as (height, width, C) uint8: each pixel the mean of its area, rounded.

    Example:
        >>> shrunk(tf.constant([[[0], [9]], [[4], [4]]], tf.uint8), 1, 1).numpy().item()
        4
    """
    pixels = tf.image.resize(image, [height, width], method="area")
    return tf.cast(pixels + 0.5, tf.uint8)


def shrunk_file(encoded: bytes, how: Shrinking) -> bytes | None:
    """Return the smaller image that a JPEG or PNG becomes, or None where it is as small as it shall be.

    It stands upright, as `decode.decode_image` shows it. It is a JPEG, or a PNG where some pixels are transparent.

    Args:
        encoded: bytes of a file that `decode.in_tensorflow` takes.
        how: a `Shrinking`.

    Raises:
        tf.errors.InvalidArgumentError: of `decode.decode_image`, whether or not the image is large.

    Example:
        >>> file = tf.io.encode_png(tf.zeros((30, 40, 3), tf.uint8)).numpy()
        >>> tf.io.decode_jpeg(shrunk_file(file, Shrinking(max_side=20))).shape
        TensorShape([15, 20, 3])
    """
    image = _decoded(encoded)
    if how.sides(*image.shape[:2]) is None:
        return None
    if not encoded.startswith(decode.JPEG_START) and _may_be_transparent(encoded):
        image = _decoded_with_alpha(encoded)
    return shrunk_pixels(image.numpy(), how)


def shrunk_pixels(image: np.ndarray, how: Shrinking) -> bytes | None:
    """Return a smaller image (H, W, 3 or 4) uint8 as a JPEG, or as a PNG where some pixels are transparent.

    None is returned for an image that is as small as it shall be. Colours count by how opaque they are, so that what is
    hidden under transparent pixels does not show at their edges.
    """
    sides = how.sides(*image.shape[:2])
    if sides is None:
        return None
    file = io.BytesIO()
    if image.shape[-1] == 4 and image[:, :, 3].min() < 255:
        Image.fromarray(_shrunk_with_alpha(image, sides)).save(file, "PNG")
    else:
        Image.fromarray(shrunk(tf.constant(image[:, :, :3]), *sides).numpy()).save(file, "JPEG", quality=how.quality)
    return file.getvalue()


def _shrunk_with_alpha(image: np.ndarray, sides: tuple[int, int]) -> np.ndarray:
    means = [
        tf.image.resize(part, sides, method="area").numpy()
        for part in (image[:, :, 3:], composite(tf.constant(image), "black"), image[:, :, :3])
    ]
    alpha, on_black, stored = means
    visible = alpha >= 0.5
    colours = np.where(visible, on_black * 255 / np.maximum(alpha, 0.5), stored)
    return (np.clip(np.concatenate([colours, alpha], axis=-1), 0, 255) + 0.5).astype(np.uint8)


def _may_be_transparent(encoded: bytes) -> bool:
    return struct.unpack(">B", encoded[25:26])[0] in (4, 6) or b"tRNS" in encoded


@tf.function(input_signature=[tf.TensorSpec([], tf.string)])
def _decoded(encoded: tf.Tensor) -> tf.Tensor:
    return decode.decode_image(encoded)


@tf.function(input_signature=[tf.TensorSpec([], tf.string)])
def _decoded_with_alpha(encoded: tf.Tensor) -> tf.Tensor:  # of a PNG that `_decoded` has taken
    image = tf.io.decode_png(tf.strings.join([encoded, decode.IEND]), channels=4)
    return exif.upright(image, exif.png_orientation(encoded))
