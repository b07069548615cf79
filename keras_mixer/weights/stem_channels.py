"""The stem's kernel for images of another number of channels: grey for RGB, and RGB for grey."""

import numpy as np

# (channels of the model's images, those of the checkpoint's stem) that differ and yet go together -> what is done.
FITTING = {
    (1, 3): "the stem's kernel summed over its three channels, for grey images",
    (3, 1): "the stem's grey kernel divided among three channels",
}


def fit(kernel: np.ndarray, channels: int) -> np.ndarray:
    """Return a stem's kernel (P, P, channels, C) that gives for equal channels what `kernel` gives.

    Args:
        kernel: (P, P, 3, C) or (P, P, 1, C) float32.
        channels: 1 for the first, 3 for the second.

    Example:
        >>> fit(np.ones((2, 2, 3, 4), "float32"), 1)[0, 0, :, 0]
        array([3.], dtype=float32)
    """
    if channels == 1:
        return kernel.sum(axis=2, keepdims=True, dtype=np.float32)
    return np.repeat(kernel / np.float32(channels), channels, axis=2)
