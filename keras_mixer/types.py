"""The names that types have in this package where Python and Keras have none."""

import os
from collections.abc import Callable, Mapping
from typing import Any

Tensor = Any  # of Keras' backend: a keras.KerasTensor, tf.Tensor, jax.Array or torch.Tensor
Loss = Callable[[Tensor, Tensor], Tensor]  # labels (B, K) and logits (B, K) to a loss for each image (B,)
Dataset = Any  # a tf.data.Dataset
Path = str | os.PathLike[str]
Shape = tuple[int | None, ...]
Grid = tuple[int, int]  # rows and columns of patches
Sizes = Mapping[str, Any]  # of int: patch_size, num_blocks, hidden_dim, tokens_mlp_dim, channels_mlp_dim
Spec = tuple[tuple[int, ...], str]  # shape and dtype of an array
Weights = str | os.PathLike[str] | Mapping[str, Any]  # a released name, a path or URL, or names and arrays
Config = dict[str, Any]
Size = int | tuple[int, int]  # side of an image in pixels, or height and width
Range = tuple[float, float]  # smallest and largest
File = tuple[str, int]  # path of an image, and its label
