"""Image files that are neither JPEG nor PNG, decoded by Pillow: where Python runs, and nowhere else."""

import functools
import io
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from keras_mixer.data.colours import BAND_PIXELS, composite_numpy
from keras_mixer.data.exif import ORIENTATION
from keras_mixer.data.image_limits import TOO_MANY_PIXELS, fault_of

# Of Pillow's formats, those of pictures in people's folders that have a signature of their own. Others run a program
# (EPS, WMF), or take nearly any bytes for a picture (TGA, PCX).
FORMATS = ("AVIF", "BMP", "GIF", "HEIF", "JPEG2000", "PPM", "TIFF", "WEBP")
NAMES = "JPEG, PNG, GIF, WebP, BMP, TIFF, AVIF, HEIC, JPEG 2000 or PPM"
NOT_TAKEN = f"it is no {NAMES} file"
NOT_READ = "a TIFF, AVIF or HEIC that is damaged, or of a kind that Pillow does not read"
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
NO_HEIC = "run pip install 'keras_mixer[heic]' to read HEIC photographs"


BITS_PER_SAMPLE, COMPRESSION, PHOTOMETRIC, PLANAR = 258, 259, 262, 284  # tags of a TIFF
INVERSE = {6: 8, 8: 6}  # of an orientation; the others are their own


class FaultyPictureError(Exception):
    """What is wrong with a picture that Pillow itself would take."""


def decode(encoded: tf.Tensor, alpha: str, exif_rotation: bool) -> tuple[tf.Tensor, tf.Tensor]:
    """Decode in a graph; arguments and results are those of `decode.decode_or_fault`."""
    read = functools.partial(_read, alpha=alpha, exif_rotation=exif_rotation)
    image, fault = tf.numpy_function(read, [encoded], (tf.uint8, tf.string))
    return tf.ensure_shape(image, [None, None, 3]), tf.ensure_shape(fault, [])


def decode_bytes(encoded: bytes, alpha: str | None = "white", exif_rotation: bool = True) -> np.ndarray:
    """Decode the bytes of a file that is neither JPEG nor PNG.

    Args:
        encoded: bytes.
        alpha, exif_rotation: as `decode.decode_image` takes them; alpha None returns transparency as a fourth channel.

    Returns:
        (H, W, 3) uint8; for alpha None (H, W, 4) where the file has transparency.

    Raises:
        ValueError: saying what is wrong with the file.

    Example:
        >>> decode_bytes(b"P5 3 2 255 " + bytes(6)).shape
        (2, 3, 3)
    """
    fault = fault_of(len(encoded), 1, 1)
    if fault:
        raise ValueError(fault)
    register_heic()
    try:
        with Image.open(io.BytesIO(encoded), formats=[name for name in FORMATS if name in Image.OPEN]) as picture:
            # The size that Pillow will decode.
            fault = fault_of(len(encoded), *picture.size, webp=picture.format == "WEBP")
            if fault:
                raise FaultyPictureError(fault)
            if picture.format == "BMP" and picture.mode == "1" and encoded[28] == 8:
                raise FaultyPictureError("a bitmap of 8 bits in black and white, which Pillow misreads; save it as PNG")
            orientation = _orientation(picture)
            picture.load()
            pixels = _pixels(picture, alpha)
            if picture.format == "TIFF":  # which Pillow has turned upright
                orientation = 1 if exif_rotation else INVERSE.get(orientation, orientation)
            elif not exif_rotation:
                orientation = 1
    except Image.UnidentifiedImageError:
        no_heic = encoded[8:12] in HEIC_BRANDS and "HEIF" not in Image.OPEN
        known = encoded.startswith((b"II*\0", b"MM\0*")) or encoded[4:8] == b"ftyp"
        raise ValueError(NO_HEIC if no_heic else NOT_READ if known else NOT_TAKEN) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ValueError(TOO_MANY_PIXELS) from None
    except (OSError, FaultyPictureError) as error:
        told = " ".join(str(error).split()) or "damaged"
        # What Pillow 12 says of a WebP that Pillow 13 does not take for one.
        raise ValueError(NOT_TAKEN if told == "could not create decoder object" else told) from None
    # Pillow's decoders meet damaged bytes with a dozen kinds of error, none of which is a fault of ours.
    except Exception:
        raise ValueError("damaged") from None
    return _upright(pixels, orientation)


def _read(encoded: bytes | np.ndarray, alpha: str, exif_rotation: bool) -> tuple[np.ndarray, bytes]:
    file: bytes = np.asarray(encoded, object).item()  # bytes in a graph, an array of them outside
    try:
        return decode_bytes(file, alpha, exif_rotation), b""
    except ValueError as error:
        return np.zeros((0, 0, 3), np.uint8), str(error).encode()


@functools.cache
def register_heic() -> None:
    """Have Pillow read HEIC, where the package for it is installed."""
    Image.init()  # of all formats
    try:
        import pillow_heif  # an optional extra
    except ImportError:
        return
    pillow_heif.register_heif_opener()


def _orientation(picture: Any) -> int:  # an Image.Image; only that of a TIFF has `tag_v2`
    """Return what the EXIF data of a picture says; Pillow's own `getexif` asks XMP too, which no other decoder does."""
    if picture.format == "TIFF":
        return picture.tag_v2.get(ORIENTATION, 1)
    exif = Image.Exif()
    exif.load(picture.info.get("exif") or b"")
    return exif.get(ORIENTATION, 1)


def _pixels(picture: Any, alpha: str | None) -> np.ndarray:
    """Return (H, W, 3) uint8, or (H, W, 4) of a transparent picture for alpha None, a band of rows at a time."""
    if picture.mode == "F" or (picture.mode == "I" and picture.format != "PPM"):
        raise FaultyPictureError(
            f"its pixels are 32-bit numbers (mode {picture.mode}); save it with 8 or 16 bits per channel"
        )
    bits, white_is_zero = 16, False
    if picture.format == "TIFF":
        depths = picture.tag_v2.get(BITS_PER_SAMPLE, (1,))
        bits, white_is_zero = max(9, *depths), picture.tag_v2.get(PHOTOMETRIC) == 0
        planes = picture.tag_v2.get(PLANAR) == 2 and picture.tag_v2.get(COMPRESSION, 1) == 1
        if max(depths) > 8 and len(depths) > 1 and planes:
            raise FaultyPictureError("an uncompressed TIFF of 16 bits in planes, which Pillow misreads; save it as PNG")
    transparent = picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info
    width, height = picture.size
    pixels = np.empty((height, width, 4 if transparent and alpha is None else 3), np.uint8)
    rows = max(1, BAND_PIXELS // width)
    for top in range(0, height, rows):
        band = picture.crop((0, top, width, min(top + rows, height)))
        if transparent:
            band = np.asarray(band.convert("RGBA"))
            pixels[top : top + rows] = band if alpha is None else composite_numpy(band, alpha)
        elif band.mode.startswith("I"):  # more than 8 bits of grey, which Pillow would clip at 255
            grey = (np.asarray(band) >> (bits - 8)).astype(np.uint8)[:, :, None]
            pixels[top : top + rows] = 255 - grey if white_is_zero else grey
        else:
            pixels[top : top + rows] = np.asarray(band.convert("RGB"))
    return pixels


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    if orientation not in range(2, 9):
        return pixels
    turned = pixels.swapaxes(0, 1) if orientation > 4 else pixels
    views = turned, turned[:, ::-1], turned[::-1, ::-1], turned[::-1]
    return np.ascontiguousarray(views[int(orientation - 1) % 4])
