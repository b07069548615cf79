"""Random numbers of a part of a batch that are those of the whole batch.

Devices and micro-batches each see a part. Were each to draw for itself, the noise of a run would change with their
number; here every part draws for the whole batch and keeps its rows, so that only the sum of gradients is divided.
"""

import contextvars
import numbers
from typing import Any

import keras
from keras import ops

from keras_mixer.types import Tensor

# (index of this part's first image, images in the global batch), or None where a call sees the whole batch. The index
# may be an integer tensor. Set it inside the function that a device runs: the threads of a strategy inherit no context.
global_batch: contextvars.ContextVar = contextvars.ContextVar("global_batch", default=None)


def uniform(shape: tuple[Any, ...], seed_generator: keras.random.SeedGenerator) -> Tensor:
    """Draw uniform numbers for the images of this part, the same as a draw for the whole batch gives them.

    The seed advances by one, whatever the part; so parts must start from the same seed. Time and memory are those of
    the whole batch: little for one number per image, more for dropout.

    Args:
        shape: (B, ...), B the images of this part, an integer or an integer tensor.
        seed_generator: a `keras.random.SeedGenerator`.

    Returns:
        `shape` float32 in [0, 1).

    Raises:
        ValueError: if the part does not lie inside the global batch.

    Example:
        >>> whole = uniform((4, 2), keras.random.SeedGenerator(1))
        >>> previous = global_batch.set((2, 4))
        >>> part = uniform((2, 2), keras.random.SeedGenerator(1))
        >>> global_batch.reset(previous)
        >>> bool(keras.ops.all(part == whole[2:]))
        True
    """
    if global_batch.get() is None:
        return keras.random.uniform(shape, dtype="float32", seed=seed_generator)
    first, total = global_batch.get()
    count, *rest = shape
    # Some backends move a slice that sticks out back inside, which would give two parts the same numbers.
    if all(isinstance(n, numbers.Integral) for n in (first, count, total)) and not 0 <= first <= total - count:
        raise ValueError(
            f"global_batch: {count} images from index {first} do not lie inside a global batch of {total}; "
            "give the index of the part's first image and the images of all parts."
        )
    whole = keras.random.uniform((total, *rest), dtype="float32", seed=seed_generator)
    first = int(first) if isinstance(first, numbers.Integral) else ops.cast(first, "int32")
    return ops.slice(whole, (first, *[0] * len(rest)), (count, *rest))
