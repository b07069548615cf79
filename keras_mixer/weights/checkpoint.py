"""Checkpoints of a Mixer: strict loading from every format, and saving in the released .npz layout."""

import functools

import keras
import numpy as np

from keras_mixer import files
from keras_mixer.types import Grid, Path, Sizes, Weights
from keras_mixer.weights import formats, layouts, mixer_variables, npz, released
from keras_mixer.weights.opened_checkpoint import Checkpoint, LoadReport


def open_checkpoint(
    weights: Weights, sizes: Sizes, channels: int = 3, grid: Grid | None = None, model_grid: Grid | None = None
) -> Checkpoint:
    """Open a checkpoint and check its names, shapes and dtypes against a model's sizes, without reading an array.

    Args:
        weights, grid: see `load_checkpoint`.
        sizes: patch_size, num_blocks, hidden_dim, tokens_mlp_dim and channels_mlp_dim of the model, by name.
        channels: of its images.
        model_grid: (rows, columns) of the patches of a model that is built already.

    Raises:
        ValueError: for a name that does not exist for these sizes, a file that does not hold exactly their arrays.
        OSError: if the file cannot be found or fetched.
    """
    grid = None if grid is None else layouts.check_grid(grid)
    if isinstance(weights, str) and weights in released.NAMES:
        path = released.fetch_released(weights, sizes)
        grid = grid or (224 // sizes["patch_size"],) * 2
        file = npz.open_npz(path)
    else:
        file = formats.open_file(weights)
    checkpoint = Checkpoint(file, grid)
    checkpoint.check(sizes, channels, model_grid)
    return checkpoint


def load_checkpoint(model: keras.Model, weights: Weights, grid: Grid | None = None) -> LoadReport:
    """Load a checkpoint into a built model, strictly: every array must be there, none other, all finite float32.

    Only the head is replaced: where the numbers of classes differ, the model's head starts at zero. For another image
    size the token MLPs are resized; see `keras_mixer.weights.resolution`. After an error the model is unchanged.

    Args:
        model: an `MLPMixer`, or a model that holds its layers (`stem`, `block_0` ..., `pre_head_layer_norm`).
        weights: a released name, a path or URL, or a mapping from names to arrays: see docs/guides/weights.md.
        grid: (rows, columns) of the checkpoint's patches, where neither the file says it nor they form a square.

    Returns:
        A LoadReport, which is also logged.

    Raises:
        ValueError: with a +/- list, if the checkpoint does not fit the model or is not finite or not whole.
        OSError: if the file cannot be found, read or fetched.

    Example:
        >>> model = keras_mixer.MLPMixer(4, 2, 16, 8, 32, input_shape=(16, 16, 3), classes=10)
        >>> keras_mixer.save_checkpoint(model, "mixer.npz")
        >>> len(keras_mixer.load_checkpoint(model, "mixer.npz").loaded)
        30
    """
    variables = mixer_variables.mixer_variables(model)
    patch, _, channels, hidden_dim = variables["stem/kernel"].shape
    blocks = sum(name.endswith("/token_mixing/Dense_0/kernel") for name in variables)
    sizes = {
        "patch_size": patch,
        "num_blocks": blocks,
        "hidden_dim": hidden_dim,
        "tokens_mlp_dim": variables["MixerBlock_0/token_mixing/Dense_0/kernel"].shape[1],
        "channels_mlp_dim": variables["MixerBlock_0/channel_mixing/Dense_0/kernel"].shape[1],
    }
    checkpoint = open_checkpoint(weights, sizes, channels, grid, mixer_variables.mixer_grid(model))
    return checkpoint.load_into(model, keep_on_error=True)


def save_checkpoint(model: keras.Model, path: Path) -> None:
    """Write a model's weights as the released .npz layout: float32, uncompressed, atomically.

    The authors' code reads the file, and so does `load_checkpoint`, bit for bit. A model without a head gives a file
    without one. Where the patches form no square, the archive's comment notes the grid.

    Args:
        model: an `MLPMixer`, or a model that holds its layers.
        path: of the file, which must end in .npz, in a folder that exists; ~ is expanded; an older file is replaced.

    Raises:
        ValueError: for a path of another suffix, a model that is no Mixer, is quantised, or has a value not finite.
        OSError: if the file cannot be written; an older one is then unchanged.

    Example:
        >>> model = keras_mixer.MLPMixer(4, 2, 16, 8, 32, input_shape=(16, 16, 3), classes=10)
        >>> keras_mixer.save_checkpoint(model, "mixer.npz")
    """
    grid = mixer_variables.mixer_grid(model)
    variables = mixer_variables.mixer_variables(model)
    arrays = {name: functools.partial(_float32, name, variable) for name, variable in variables.items()}
    target = files.target_path("save_checkpoint", path, ".npz")
    with files.naming_path("save_checkpoint", path):
        npz.write_npz(target, arrays, None if grid[0] == grid[1] else grid)


def _float32(name: str, variable: keras.Variable) -> np.ndarray:
    array = keras.ops.convert_to_numpy(variable).astype(np.float32)
    if not np.isfinite(array).all():
        raise ValueError(f"save_checkpoint: {name} holds values that are NaN or infinite; nothing is written.")
    return array
