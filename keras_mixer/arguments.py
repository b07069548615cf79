"""Checks of the arguments of layers and models, each refusing in one sentence that names the argument and its value."""

import numbers
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_mixer.types import Grid, Tensor

DEFAULT_INPUT_SHAPE = (224, 224, 3)


def check_positive_int(owner: str, **values: Any) -> dict[str, int]:
    """Return arguments as int, also NumPy's, which would not be JSON; refuse the first that is no positive integer."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
            raise ValueError(f"{owner}: {name} must be a positive integer, got {value!r}.")
    return {name: int(value) for name, value in values.items()}


def check_rate(owner: str, **values: Any) -> dict[str, float]:
    """Return arguments as float; refuse the first that is no fraction in [0, 1)."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 <= float(value) < 1:
            raise ValueError(f"{owner}: {name} must be a fraction in [0, 1), got {value!r}.")
    return {name: float(value) for name, value in values.items()}


def check_bool(owner: str, **values: Any) -> None:
    """Raise a ValueError that names the first argument which is neither True nor False."""
    for name, value in values.items():
        if not isinstance(value, (bool, np.bool_)):
            raise ValueError(f"{owner}: {name} must be True or False, got {value!r}.")


def check_rematerialize(owner: str, rematerialize: bool, dropout_rate: float) -> None:
    """Raise a ValueError for rematerialisation with dropout, which would drop other units the second time."""
    check_bool(owner, rematerialize=rematerialize)
    if rematerialize and dropout_rate:
        raise ValueError(
            f"{owner}: rematerialize=True cannot repeat the draws of dropout_rate {dropout_rate!r}; use "
            "dropout_rate=0, as the paper trains, or rematerialize=False."
        )


def check_grid(height: int | None, width: int | None, patch_size: int, argument: str = "input_shape") -> Grid:
    """Return the (rows, columns) of patches in an image, or raise a ValueError that names both numbers."""
    for name, side in (("height", height), ("width", width)):
        if side is None:
            raise ValueError(
                f"{argument}: the image {name} is None, but a Mixer's token MLPs need a fixed size; "
                f"give a multiple of the patch size {patch_size}."
            )
        if side < 1 or side % patch_size:
            near = max(patch_size, round(side / patch_size) * patch_size)
            raise ValueError(
                f"{argument}: the image {name} {side} is not a positive multiple of the patch size {patch_size}; "
                f"use for example {near}."
            )
    assert height is not None
    assert width is not None
    return height // patch_size, width // patch_size


def check_known_shape(shape: Any, built: tuple[int, ...]) -> None:
    """Raise a ValueError for images whose shape is not known when a step is traced; `built` is (H, W, channels).

    Keras leaves sides open as soon as it has seen images of two shapes, so one of them was not the model's.
    """
    rank = getattr(shape, "rank", len(built) + 1)  # TensorFlow may not know even this; others always do
    if rank is None or None in tuple(shape)[1:]:
        found = f"(B, {', '.join('?' if s is None else str(s) for s in tuple(shape)[1:])})" if rank else "unknown"
        raise ValueError(
            f"images: must have the shape (B, {', '.join(map(str, built))}), for which this model was built, but some "
            f"of another shape were given now or before (together their shape is {found}); resize them, or build a "
            "model for them with input_shape."
        )


def check_activation(activation: str | Callable[[Tensor], Tensor] | None) -> Callable[[Tensor], Tensor] | None:
    """Return `classifier_activation` as a function, or None for None."""
    if activation is None:
        return None
    if getattr(activation, "__name__", "") == "<lambda>":
        raise ValueError(
            "MLPMixer: classifier_activation must not be a lambda, which cannot be saved; name a function."
        )
    try:
        return keras.activations.get(activation)
    except (ValueError, TypeError):
        raise ValueError(
            f"MLPMixer: classifier_activation {activation!r} is not a Keras activation; use 'softmax', 'sigmoid' or "
            "None for logits."
        ) from None


def make_images(input_shape: Any, input_tensor: Tensor | None, patch_size: int) -> tuple[Tensor, tuple[int, int, int]]:
    """Return the input as a Keras tensor, and its (H, W, channels)."""
    if input_tensor is not None:
        if not isinstance(input_tensor, keras.KerasTensor):
            raise ValueError(
                f"MLPMixer: input_tensor must be a Keras tensor such as keras.Input returns, got {type(input_tensor)}."
            )
        shape = tuple(input_tensor.shape[1:])
        if input_shape is not None and tuple(input_shape) != shape:
            raise ValueError(
                f"MLPMixer: input_shape {tuple(input_shape)} differs from input_tensor's {shape}; give one."
            )
        input_shape = shape
    try:
        input_shape = DEFAULT_INPUT_SHAPE if input_shape is None else tuple(input_shape)
        valid = len(input_shape) == 3 and all(
            s is None or (isinstance(s, numbers.Integral) and not isinstance(s, bool)) for s in input_shape
        )
    except TypeError:
        valid = False
    if not valid or input_shape[2] is None or input_shape[2] < 1:
        raise ValueError(f"MLPMixer: input_shape must be (height, width, channels), got {input_shape!r}.")
    check_grid(input_shape[0], input_shape[1], patch_size)
    input_shape = tuple(int(s) for s in input_shape)
    images = keras.Input(input_shape, name="images") if input_tensor is None else input_tensor
    return images, input_shape
