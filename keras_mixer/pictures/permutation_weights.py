"""The weights that make of a Mixer for images one for permuted images (paper section 3.4)."""

import re
from collections.abc import Mapping, Sequence

import numpy as np

Order = Sequence[int] | np.ndarray  # of n numbers, each of 0 to n - 1 once


def permute_weights(
    arrays: Mapping[str, np.ndarray], patches: Order | None = None, pixels: Order | None = None
) -> dict[str, np.ndarray]:
    """Return weights that give on permuted images the outputs that `arrays` give on the images themselves.

    Only weights that know a place change theirs: the stem's kernel along the pixels of a patch, each token MLP's first
    kernel along its inputs, and its second kernel and bias along their outputs. Tokens come in the order of the
    patches, and the mean over tokens does not see it. So training on permuted images from permuted weights is training
    on images from the weights themselves, but for the rounding of sums in another order: the reason why a Mixer learns
    equally well from both.

    Args:
        arrays: of a Mixer, by the names of the released layout, as `np.load` reads it from a file of
            `keras_mixer.save_checkpoint`.
        patches: (S,): patch j of a permuted image is patch patches[j] of the image; None for no change.
        pixels: (P^2,), the same inside each patch; None for no change.

    Returns:
        New arrays, for `keras_mixer.load_checkpoint`.

    Raises:
        ValueError: for arrays of no Mixer, or orders of another length.

    Example:
        >>> model = keras_mixer.MLPMixer(2, 1, 4, 4, 4, input_shape=(4, 4, 3), classes=2)
        >>> keras_mixer.save_checkpoint(model, "mixer.npz")
        >>> with np.load("mixer.npz") as arrays:
        ...     permuted = permute_weights(arrays, patches=[2, 0, 3, 1], pixels=[3, 2, 1, 0])
        >>> report = keras_mixer.load_checkpoint(model, permuted)
    """
    if "stem/kernel" not in arrays:
        raise ValueError("arrays: hold no 'stem/kernel'; give those of a Mixer by the names of the released layout.")
    changed = {}
    for name in arrays:
        array = np.asarray(arrays[name])
        if name == "stem/kernel" and pixels is not None:  # (P, P, 3, C)
            flat = array.reshape(-1, *array.shape[2:])
            array = _take(flat, "pixels", pixels, 0).reshape(array.shape)
        elif patches is not None and re.fullmatch(r"MixerBlock_\d+/token_mixing/.*", name):
            if name.endswith("Dense_0/kernel"):  # (S, D)
                array = _take(array, "patches", patches, 0)
            elif not name.endswith("Dense_0/bias"):  # (D, S) or (S,)
                array = _take(array, "patches", patches, -1)
        changed[name] = array
    return changed


def _take(array: np.ndarray, name: str, order: Order, axis: int) -> np.ndarray:
    size = array.shape[axis]
    if sorted(order) != list(range(size)):
        raise ValueError(f"{name}: must hold each of 0 to {size - 1} once, got {list(order)[:8]}...")
    return np.take(array, np.asarray(order), axis)
