"""Fixed permutations of an image's pixels: what an architecture knows of where things are (paper section 3.4).

A permutation is an order: for each place of the new image, row by row, the place of the old one that it is taken from.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_mixer.types import Size

KINDS = ("none", "patches_and_pixels", "global")


def draw_order(kind: str, image_size: Size, patch_size: int, seed: int) -> np.ndarray:
    """Return the order of all pixels of an image, (H W,) int64, a pure function of the arguments.

    Args:
        kind: "none"; "patches_and_pixels": one order of the patches, and one order of the pixels inside every patch,
            which a Mixer cannot tell from none; or "global": one order of all pixels.
        image_size: side in pixels, or (height, width); multiples of the patch size.
        patch_size: P, side of a patch in pixels.
        seed: at least 0, below 2**31.

    Raises:
        ValueError: for an unknown kind, a seed outside its range, or sides that P does not divide.

    Example:
        >>> draw_order("patches_and_pixels", 4, 2, seed=0).reshape(4, 4)
        array([[ 1,  4,  9, 12],
               [ 0,  5,  8, 13],
               [11, 14,  3,  6],
               [10, 15,  2,  7]])
    """
    check_kind(kind, seed)
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    if kind == "none":
        return np.arange(height * width)
    if kind == "global":
        return _generator(seed, 2).permutation(height * width)
    patches, pixels = draw_patch_orders(image_size, patch_size, seed)
    return order_of_patches(patches, pixels, image_size, patch_size)


def draw_patch_orders(image_size: Size, patch_size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the two orders of "patches_and_pixels": of the patches (S,), and of the pixels in a patch (P^2,), int64.

    Raises:
        ValueError: for sides that P does not divide.
    """
    rows, columns = _grid(image_size, patch_size)
    return _generator(seed, 0).permutation(rows * columns), _generator(seed, 1).permutation(patch_size**2)


def order_of_patches(
    patches: Sequence[int] | np.ndarray | None,
    pixels: Sequence[int] | np.ndarray | None,
    image_size: Size,
    patch_size: int,
) -> np.ndarray:
    """Return the order of all pixels, (H W,) int64, that orders of patches (S,) and of pixels in a patch (P^2,) make.

    None leaves the patches, or the pixels in their patch, where they are.

    Raises:
        ValueError: for orders of another length, or sides that P does not divide.
    """
    rows, columns = _grid(image_size, patch_size)
    fine = np.arange(rows * columns * patch_size**2).reshape(rows, patch_size, columns, patch_size)
    places: np.ndarray = fine.transpose(0, 2, 1, 3).reshape(rows * columns, patch_size**2)  # of each patch
    for name, given, size in (("patches", patches, rows * columns), ("pixels", pixels, patch_size**2)):
        if given is not None and sorted(given) != list(range(size)):
            raise ValueError(f"{name}: must hold each of 0 to {size - 1} once, got {list(given)[:8]}...")
    places = places if patches is None else places[np.asarray(patches)]
    places = places if pixels is None else places[:, np.asarray(pixels)]
    places = places.reshape(rows, columns, patch_size, patch_size)
    return places.transpose(0, 2, 1, 3).ravel()


def permute(images: np.ndarray | tf.Tensor, order: Any) -> np.ndarray | tf.Tensor:
    """Return images (..., H, W, channels) whose pixels are in another order, (H W,) int, of the same shape and dtype.

    They are NumPy's or TensorFlow's, of known sides; all channels of a pixel stay together.

    Raises:
        ValueError: for an order of another number of pixels.

    Example:
        >>> permute(np.arange(4).reshape(2, 2, 1), [3, 2, 1, 0])[..., 0]
        array([[3, 2],
               [1, 0]])
    """
    height, width, channels = images.shape[-3:]
    if len(order) != height * width:
        raise ValueError(f"order: is for {len(order)} pixels, but the images have {height} x {width}.")
    if isinstance(images, np.ndarray):
        flat = images.reshape(*images.shape[:-3], height * width, channels)
        return flat[..., np.asarray(order), :].reshape(images.shape)
    shape = tf.shape(images)
    flat = tf.reshape(images, tf.concat([shape[:-3], [height * width, channels]], 0))
    return tf.ensure_shape(tf.reshape(tf.gather(flat, order, axis=-2), shape), images.shape)


def permute_batches(
    batches: tf.data.Dataset, kind: str, image_size: Size, patch_size: int, seed: int
) -> tf.data.Dataset:
    """Return a dataset of (images (B, H, W, 3), ...) whose images are permuted as `draw_order` says.

    Its errors are those of `draw_order`; "none" returns the dataset as it is.
    """
    order = draw_order(kind, image_size, patch_size, seed)
    if kind == "none":
        return batches
    mapped = batches.map(lambda images, *rest: (permute(images, order), *rest), num_parallel_calls=2)
    return mapped.prefetch(2)


def check_kind(kind: str, seed: int) -> None:
    """Raise a ValueError unless these are a kind of permutation and a seed."""
    if kind not in KINDS:
        raise ValueError(f"permutation: must be one of {', '.join(KINDS)}, got {kind!r}.")
    if not 0 <= seed < 2**31:
        raise ValueError(f"permutation_seed: must be at least 0 and below 2**31, got {seed}.")


def _generator(seed: int, stream: int) -> np.random.RandomState:
    # NumPy promises the numbers of this older generator for all its versions; a trained model needs them again.
    return np.random.RandomState([seed, stream])


def _grid(image_size: Size, patch_size: int) -> tuple[int, int]:
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    if height % patch_size or width % patch_size:
        raise ValueError(
            f"image_size: {height} x {width} pixels cannot be cut into patches of {patch_size}; use multiples of it."
        )
    return height // patch_size, width // patch_size
