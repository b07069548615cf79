"""The exponential moving average of the weights, which the optimiser keeps: evaluated and saved in their place."""

import contextlib
from collections.abc import Iterator

import keras
import numpy as np


@contextlib.contextmanager
def averaged_weights(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> Iterator[None]:
    """Put the averages in the place of the weights, and the weights back at the end.

    Args:
        model: that `optimizer` trains.
        optimizer: built with `use_ema=True`.

    Example:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> optimizer = keras.optimizers.Adam(use_ema=True)
        >>> optimizer.build(model.trainable_variables)
        >>> with averaged_weights(model, optimizer):
        ...     float(abs(model.layers[-1].kernel.numpy()).sum())  # no step was taken yet
        0.0
    """
    weights = [np.array(v.numpy()) for v in model.trainable_variables]
    optimizer.finalize_variable_values(model.trainable_variables)
    try:
        yield
    finally:
        for variable, value in zip(model.trainable_variables, weights, strict=True):
            variable.assign(value)
