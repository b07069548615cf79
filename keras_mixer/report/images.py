"""Small pictures inside the page, as data URIs: images, what covering their parts changes, and weights."""

import base64
import io

import numpy as np

LONGEST = 160  # pixels of an image's longer side; smaller ones stay as they are, and the page enlarges them
FLAT = 64  # up to this side an image is a PNG, pixel by pixel
# Of matplotlib's RdBu_r, from blue by white to red.
DIVERGING = np.array(
    [
        *((5, 48, 97), (33, 102, 172), (67, 147, 195), (146, 197, 222), (209, 229, 240), (247, 247, 247)),
        *((253, 219, 199), (244, 165, 130), (214, 96, 77), (178, 24, 43), (103, 0, 31)),
    ],
    np.float64,
)
GREY = 190


def pixels_of(image: np.ndarray) -> np.ndarray:
    """Return an image (H, W, 3 or 1) in [-1, 1] as uint8 (H, W, 3).

    Example:
        >>> pixels_of(np.full((1, 1, 1), 1.0)).tolist()
        [[[255, 255, 255]]]
    """
    pixels = np.clip(np.round((np.asarray(image, np.float64) + 1) * 127.5), 0, 255).astype(np.uint8)
    return np.repeat(pixels, 3, axis=-1) if pixels.shape[-1] == 1 else pixels


def data_uri(pixels: np.ndarray) -> str:
    """Return uint8 (H, W, 3) as a data URI, a small one as PNG and a larger one as JPEG of at most `LONGEST` pixels.

    Example:
        >>> data_uri(np.zeros((2, 2, 3), np.uint8))[:22]
        'data:image/png;base64,'
    """
    if max(pixels.shape[:2]) <= FLAT:
        return png_uri(pixels)
    from PIL import Image

    picture = Image.fromarray(pixels)
    picture.thumbnail((LONGEST, LONGEST))
    return _uri(picture, "jpeg", quality=82)


def png_uri(pixels: np.ndarray) -> str:
    """Return uint8 (H, W, 3) as the data URI of a PNG, pixel by pixel."""
    from PIL import Image

    return _uri(Image.fromarray(pixels), "png", optimize=True)


def diverging(values: np.ndarray) -> np.ndarray:
    """Return colours (..., 3) uint8 of values (...) in [-1, 1]: blue below zero, white at zero, red above.

    Example:
        >>> diverging(np.array([-1.0, 0.0, 1.0])).tolist()
        [[5, 48, 97], [247, 247, 247], [103, 0, 31]]
    """
    places = np.linspace(-1, 1, len(DIVERGING))
    return np.stack([np.interp(values, places, DIVERGING[:, i]) for i in range(3)], -1).round().astype(np.uint8)


def scaled(images: np.ndarray) -> np.ndarray:
    """Return images (N, ...) divided each by its own largest absolute value, so that zero stays zero."""
    images = np.asarray(images, np.float64)
    largest = np.abs(images).max(tuple(range(1, images.ndim)), keepdims=True)
    return np.divide(images, largest, out=np.zeros_like(images), where=largest > 0)


def mosaic(tiles: np.ndarray, across: int = 16) -> np.ndarray:
    """Return tiles (N, H, W, 3) uint8 in rows of `across`, a line of grey between them.

    Example:
        >>> mosaic(np.zeros((3, 4, 4, 3), np.uint8), across=2).shape
        (11, 11, 3)
    """
    count, high, wide, _ = tiles.shape
    across = min(across, count)
    rows = -(-count // across)
    picture = np.full((rows * (high + 1) + 1, across * (wide + 1) + 1, 3), GREY, np.uint8)
    for i, tile in enumerate(tiles):
        y, x = i // across * (high + 1) + 1, i % across * (wide + 1) + 1
        picture[y : y + high, x : x + wide] = tile
    return picture


def overlay(pixels: np.ndarray, drops: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return a picture in grey whose parts are coloured: red where covering them lowers the probability.

    Args:
        pixels: uint8 (H, W, 3).
        drops: (M,) by how much the probability fell, of each part.
        boxes: (M, 4) top, bottom, left and right of each part.

    Returns:
        uint8 of (H, W, 3), enlarged to at least `LONGEST` pixels.
    """
    factor = max(1, -(-LONGEST // max(pixels.shape[:2])))
    large = pixels.repeat(factor, 0).repeat(factor, 1).astype(np.float64)
    grey = np.repeat(large @ [[0.299], [0.587], [0.114]], 3, axis=-1)
    strength = scaled(drops[None])[0]
    for value, (top, bottom, left, right) in zip(strength, boxes * factor, strict=True):
        colour = diverging(np.sign(value) * 0.6).astype(np.float64)
        part = grey[top:bottom, left:right]
        part += (colour - part) * 0.75 * abs(value)
    return grey.round().astype(np.uint8)


def _uri(picture: object, kind: str, **options: object) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, kind.upper(), **options)  # type: ignore[attr-defined]
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
