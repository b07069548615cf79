"""Weights for other images: token MLPs for another size, the stem for grey instead of RGB or the other way round.

Token MLPs become block-diagonal for an integer factor, and are resampled for any other.

Shapes use one letter each: S tokens of the old grid, T of the new one, D hidden units.
"""

from collections.abc import Sequence

import numpy as np

from keras_mixer.types import Grid

# (channels of the model's images, those of the checkpoint's stem) that differ and yet go together -> what is done.
FITTING = {
    (1, 3): "the stem's kernel summed over its three channels, for grey images",
    (3, 1): "the stem's grey kernel divided among three channels",
}


def grid_factor(old_grid: Grid, new_grid: Grid) -> Grid | None:
    """Return (rows, columns) that multiply `old_grid` to `new_grid`, or None where they are not both whole.

    Example:
        >>> grid_factor((14, 14), (28, 42)), grid_factor((14, 14), (21, 14))
        ((2, 3), None)
    """
    (old_rows, old_columns), (new_rows, new_columns) = old_grid, new_grid
    if new_rows % old_rows or new_columns % old_columns:
        return None
    return new_rows // old_rows, new_columns // old_columns


def resize_token_mlp(
    arrays: Sequence[np.ndarray], old_grid: Grid, new_grid: Grid, hidden_dim: int | None = None
) -> Sequence[np.ndarray]:
    """Return the four arrays of a token MLP for another grid of patches (paper appendix C).

    Args:
        arrays: kernel, bias, kernel, bias: (S, D), (D,), (D, S), (S,) float32, tokens in row-major order.
        old_grid: (rows, columns) of the S patches.
        new_grid: (rows, columns) of the T patches.
        hidden_dim: hidden units of the new MLP. None, or D times the factor, for the exact block-diagonal weights
            where the grid grows by whole factors; D for the resampled ones.

    Returns:
        (T, D'), (D',), (D', T), (T,) float32; the same arrays where the grid and D are unchanged.

    Raises:
        ValueError: if `hidden_dim` is neither.

    Example:
        >>> arrays = np.ones((4, 3)), np.ones(3), np.ones((3, 4)), np.ones(4)
        >>> [array.shape for array in resize_token_mlp(arrays, old_grid=(2, 2), new_grid=(4, 4))]
        [(16, 12), (12,), (12, 16), (16,)]
    """
    old_dim = arrays[0].shape[1]
    factor = grid_factor(old_grid, new_grid)
    copies = factor[0] * factor[1] if factor else 1
    hidden_dim = old_dim * copies if hidden_dim is None else hidden_dim
    if tuple(old_grid) == tuple(new_grid) and hidden_dim == old_dim:
        return arrays
    if factor and copies > 1 and hidden_dim == old_dim * copies:
        return _block_diagonal(arrays, old_grid, factor)
    if hidden_dim == old_dim:
        return _resampled(arrays, old_grid, new_grid)
    raise ValueError(
        f"resolution: a token MLP of {old_dim} hidden units on {old_grid[0]} x {old_grid[1]} patches cannot get "
        f"{hidden_dim} on {new_grid[0]} x {new_grid[1]}; build the model with tokens_mlp_dim={old_dim}"
        + (f" or {old_dim * copies}." if copies > 1 else ".")
    )


def fit_stem(kernel: np.ndarray, channels: int) -> np.ndarray:
    """Return a kernel (P, P, 1 or 3, C) that gives for equal channels what one of the other number of them gives.

    Example:
        >>> fit_stem(np.ones((2, 2, 3, 4), "float32"), 1)[0, 0, :, 0]
        array([3.], dtype=float32)
    """
    if channels == 1:
        return kernel.sum(axis=2, keepdims=True, dtype=np.float32)
    return np.repeat(kernel / np.float32(channels), channels, axis=2)


def _block_diagonal(arrays: Sequence[np.ndarray], grid: Grid, factor: Grid) -> Sequence[np.ndarray]:
    """Give each part of the fine grid, a rectangle of the old size, its own copy of the MLP."""
    kernel_0, bias_0, kernel_1, bias_1 = arrays
    (rows, columns), (down, across) = grid, factor
    copies, dim = down * across, kernel_0.shape[1]
    # Part (a, b) holds the old tokens (r, c) at row a * rows + r and column b * columns + c of the fine grid.
    fine = np.arange(copies * rows * columns).reshape(down, rows, across, columns)
    tokens = fine.transpose(0, 2, 1, 3).reshape(copies, rows * columns)  # (copies, S)
    new_0 = np.zeros((tokens.size, copies * dim), kernel_0.dtype)
    new_1 = np.zeros((copies * dim, tokens.size), kernel_1.dtype)
    new_bias_1 = np.empty(tokens.size, bias_1.dtype)
    for copy, part in enumerate(tokens):
        hidden = slice(copy * dim, (copy + 1) * dim)
        new_0[part, hidden] = kernel_0
        new_1[hidden, part] = kernel_1
        new_bias_1[part] = bias_1
    return new_0, np.tile(bias_0, copies), new_1, new_bias_1


def _resampled(arrays: Sequence[np.ndarray], old_grid: Grid, new_grid: Grid) -> Sequence[np.ndarray]:
    """Let the MLP see its own grid: resample the new tokens to it, and its output back.

    Both resamplings are linear, so they fold into the kernels. Their rows sum to one: tokens that are the same
    everywhere give the hidden units exactly the pre-activations of the old grid.
    """
    kernel_0, bias_0, kernel_1, bias_1 = arrays
    to_old = _resampling(new_grid, old_grid).astype(kernel_0.dtype)  # (S, T)
    to_new = _resampling(old_grid, new_grid).astype(kernel_0.dtype)  # (T, S)
    return to_old.T @ kernel_0, bias_0, kernel_1 @ to_new.T, to_new @ bias_1


def _resampling(from_grid: Grid, to_grid: Grid) -> np.ndarray:
    """Matrix (tokens of `to_grid`, tokens of `from_grid`) of a separable bilinear resize with antialiasing."""
    return np.kron(_resampling_1d(from_grid[0], to_grid[0]), _resampling_1d(from_grid[1], to_grid[1]))


def _resampling_1d(old: int, new: int) -> np.ndarray:
    """Matrix (new, old): a triangle as wide as the coarser spacing around each new centre, rows that sum to one."""
    centres = (np.arange(new) + 0.5) * old / new - 0.5
    weights = np.maximum(0, 1 - np.abs(np.arange(old) - centres[:, None]) / max(1, old / new))
    return weights / weights.sum(axis=1, keepdims=True)
