"""Checkpoints of a Mixer: strict loading from every format, and saving in the released .npz layout."""

import dataclasses
import logging
import math
import os

import keras
import numpy as np

from keras_mixer import npz, released, resolution, stem_channels, weight_files, weight_layouts

logger = logging.getLogger("keras_mixer")


@dataclasses.dataclass
class LoadReport:
    """What `load_checkpoint` did with each array, by its name in the released layout.

    `loaded`: taken bit for bit. `resized`: name to (old shape, new shape), for another image size. `new`: started at
    zero, which only the head's arrays can be. `unused`: in the file, not in the model. `notes`: sentences.
    """

    source: str
    loaded: list[str] = dataclasses.field(default_factory=list)
    resized: dict[str, tuple] = dataclasses.field(default_factory=dict)
    new: list[str] = dataclasses.field(default_factory=list)
    unused: list[str] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)

    def __str__(self):
        parts = [f"{len(self.loaded)} arrays loaded"]
        if self.resized:
            parts.append(f"{len(self.resized)} resized")
        if self.new:
            parts.append(f"newly initialised at zero: {', '.join(self.new)}")
        if self.unused:
            parts.append(f"not used: {', '.join(self.unused)}")
        return f"{self.source}: " + "; ".join([*parts, *self.notes]) + "."


class Checkpoint:
    """One opened checkpoint: its sizes are known, its arrays are not yet read. See `open_checkpoint`."""

    def __init__(self, file, grid=None):
        self.file = weight_layouts.in_released_layout(file)
        shapes = {name: shape for name, (shape, _) in self.file.specs.items()}
        kernel = shapes.get("MixerBlock_0/token_mixing/Dense_0/kernel", ())
        self.tokens, self.tokens_mlp_dim = kernel if len(kernel) == 2 else (None, None)
        head = shapes.get("head/kernel", ())
        self.has_head = bool({"head/kernel", "head/bias"} & set(shapes))
        self.num_classes = head[1] if len(head) == 2 else None
        self.notes = list(self.file.notes)
        self._grid = grid or file.grid
        if self._grid and self.tokens and math.prod(self._grid) != self.tokens:
            raise ValueError(
                f"weights: grid {tuple(self._grid)} has {math.prod(self._grid)} patches, but {self.source} holds token "
                f"MLPs for {self.tokens}."
            )

    @property
    def source(self):
        return self.file.source

    def check(self, sizes, channels=3, grid=None):
        """Raise a ValueError with a +/- list unless the file holds exactly the arrays of a Mixer of these sizes.

        `grid` is that of a model whose D_S is fixed. Without it D_S is still to be chosen, by `tokens_mlp_dim_at`.
        """
        wanted = sizes["tokens_mlp_dim"]
        growth = self._growth(wanted, grid) if self.tokens and self.tokens_mlp_dim else None
        of_file = weight_layouts.sizes_of(self.file.specs)["image channels"]
        if (channels, of_file) in stem_channels.FITTING:
            self.notes.append(stem_channels.FITTING[channels, of_file])
            channels = of_file
        expected = weight_layouts.released_shapes(
            **{**sizes, "tokens_mlp_dim": self.tokens_mlp_dim if growth else wanted},
            tokens=self.tokens or math.prod(grid or (14, 14)),
            classes=(self.num_classes or 1000) if self.has_head else None,
            channels=channels,
        )
        weight_layouts.check_specs(self.file, expected)
        if growth and growth > 1:
            self.notes.append(
                f"token MLPs are {growth} times as wide as tokens_mlp_dim={wanted}, of a higher resolution"
            )

    def _growth(self, wanted, grid):
        """How many times as wide these token MLPs are as one of `wanted` units that can hold them; None for none."""
        if grid is not None:
            return 1 if wanted in (self.tokens_mlp_dim, self.tokens_mlp_dim_at(grid)) else None
        if self.tokens_mlp_dim == wanted:
            return 1
        # A checkpoint of a higher resolution is wider by as much as its grid outgrows a square (paper appendix C).
        growth, rest = divmod(self.tokens_mlp_dim, wanted)
        side = math.isqrt(self.tokens // growth) if growth else 0
        grid = self._grid or (math.isqrt(self.tokens),) * 2
        grown = rest == 0 and side * side * growth == self.tokens == math.prod(grid) and not any(n % side for n in grid)
        return growth if grown else None

    def check_classes(self, classes, include_top):
        """Return the classes of the head to build: `classes`, or the checkpoint's where None."""
        if classes is None and include_top and not self.has_head:
            raise ValueError(
                f"weights: {self.source} has no head; give classes for a new head that starts at zero, or "
                "include_top=False."
            )
        return classes or self.num_classes

    def tokens_mlp_dim_at(self, grid):
        """Return D_S of the model that these weights need on `grid`: grown where the grid grows by whole factors."""
        factor = resolution.grid_factor(self.grid_for(grid), grid)
        return self.tokens_mlp_dim * (factor[0] * factor[1] if factor else 1)

    def grid_for(self, grid):
        """Return the (rows, columns) of this checkpoint's patches: as noted in the file, else a square."""
        if self._grid:
            return tuple(self._grid)
        side = math.isqrt(self.tokens)
        if side * side == self.tokens:
            return side, side
        if math.prod(grid) == self.tokens:
            return tuple(grid)
        raise ValueError(
            f"weights: {self.source} holds token MLPs for {self.tokens} patches, which form no square, and does not "
            "say which rectangle; give grid=(rows, columns) to load_checkpoint."
        )

    def load_into(self, model, new_head=False, keep_on_error=False):
        """Assign every array and return a LoadReport; see `load_checkpoint`.

        With `keep_on_error` all arrays are read and checked before the first is assigned: the model is then unchanged
        by an error, at the price of holding the checkpoint once more.
        """
        variables = weight_layouts.mixer_variables(model)
        grid = weight_layouts.mixer_grid(model)
        report = LoadReport(self.source, notes=list(self.notes))
        if "head/kernel" in variables and not self.has_head and not new_head:
            raise ValueError(
                f"weights: {self.source} has no head for this model's {variables['head/kernel'].shape[1]} classes.\n"
                "- head/kernel\n- head/bias"
            )
        assignments = self._assignments(variables, grid, report)
        for variable, array in list(assignments) if keep_on_error else assignments:
            variable.assign(array)
        logger.log(logging.WARNING if report.new or report.resized else logging.INFO, "%s", report)
        return report

    def _assignments(self, variables, grid, report):
        """Yield (variable, array) one array at a time, and fill in the report."""
        old_grid = self.grid_for(grid)
        rounded = {v.dtype for v in variables.values()} - {"float32", "float64"}
        if rounded:
            report.notes.append(f"rounded to the model's {', '.join(sorted(rounded))}")
        if old_grid != grid:
            sizes = " to ".join(f"{rows} x {columns}" for rows, columns in (old_grid, grid))
            report.notes.append(f"token MLPs resized from {sizes} patches")
        new_head = "head/kernel" in variables and self.num_classes != variables["head/kernel"].shape[1]
        report.unused += sorted(
            n for n in self.file.specs if n not in variables or (n.startswith("head/") and new_head)
        )
        done = set()
        for name, variable in variables.items():
            if name in done:
                continue
            if name.startswith("head/") and new_head:
                report.new.append(name)
                yield variable, np.zeros(variable.shape, "float32")
                continue
            mlp = name.split("/Dense_")[0] if "/token_mixing/" in name else None
            names = [f"{mlp}/Dense_{i}/{part}" for i in (0, 1) for part in ("kernel", "bias")] if mlp else [name]
            arrays = [npz.read_finite(self.file, n) for n in names]
            before = [array.shape for array in arrays]
            if name == "stem/kernel" and before[0][2] != variable.shape[2]:
                arrays = [stem_channels.fit(arrays[0], variable.shape[2])]
            if mlp:
                hidden_dim = variables[names[0]].shape[1]
                arrays = resolution.resize_token_mlp(*arrays, old_grid, grid, hidden_dim)
            for n, old_shape, array in zip(names, before, arrays, strict=True):
                if tuple(variables[n].shape) != array.shape:
                    raise ValueError(
                        f"weights: {n} of {self.source} is {array.shape}, of the model {variables[n].shape}."
                    )
                if old_shape != array.shape or (mlp and old_grid != grid):
                    report.resized[n] = (old_shape, array.shape)
                else:
                    report.loaded.append(n)
                done.add(n)
                yield variables[n], array


def open_checkpoint(weights, sizes, channels=3, grid=None, model_grid=None):
    """Open a checkpoint and check its names, shapes and dtypes against a model's sizes, without reading an array.

    Args:
        weights: see `load_checkpoint`.
        sizes: patch_size, num_blocks, hidden_dim, tokens_mlp_dim and channels_mlp_dim of the model, by name.
        channels: of its images.
        grid: (rows, columns) of the checkpoint's patches, where neither the file says it nor they form a square.
        model_grid: (rows, columns) of the patches of a model that is built already.

    Returns:
        A Checkpoint.

    Raises:
        ValueError: for a name that does not exist for these sizes, a file that does not hold exactly their arrays.
        OSError: if the file cannot be found or fetched.
    """
    grid = None if grid is None else weight_layouts.check_grid(grid)
    if isinstance(weights, str) and released.is_name(weights):
        path = released.fetch_released(weights, sizes)
        grid = grid or (224 // sizes["patch_size"],) * 2
        file = npz.open_npz(path)
    else:
        file = weight_files.open_file(weights)
    checkpoint = Checkpoint(file, grid)
    checkpoint.check(sizes, channels, model_grid)
    return checkpoint


def load_checkpoint(model, weights, grid=None):
    """Load a checkpoint into a built model, strictly: every array must be there, none other, all finite float32.

    Only the head is replaced: where the numbers of classes differ, the model's head starts at zero. For another image
    size the token MLPs are resized; see `keras_mixer.resolution`. After an error the model is unchanged.

    Args:
        model: an `MLPMixer`, or a model that holds its layers (`stem`, `block_0` ..., `pre_head_layer_norm`).
        weights: the name of a released checkpoint (see `list_weights`); the path or URL of an .npz in the released
            layout or in the older one of the authors' code, of a .keras or .weights.h5 file, or of a timm .safetensors
            file; or a mapping from names to arrays, in the released or the timm layout.
        grid: (rows, columns) of the checkpoint's patches, where neither the file says it nor they form a square.

    Returns:
        A LoadReport, which is also logged: what was loaded, resized and newly initialised.

    Raises:
        ValueError: with a +/- list, if the checkpoint does not fit the model or is not finite or not whole.
        OSError: if the file cannot be found, read or fetched.

    Example:
        >>> model = keras_mixer.MLPMixer(4, 2, 16, 8, 32, input_shape=(16, 16, 3), classes=10)
        >>> keras_mixer.save_checkpoint(model, "mixer.npz")
        >>> len(keras_mixer.load_checkpoint(model, "mixer.npz").loaded)
        30
    """
    variables = weight_layouts.mixer_variables(model)
    patch, _, channels, hidden_dim = variables["stem/kernel"].shape
    blocks = sum(name.endswith("/token_mixing/Dense_0/kernel") for name in variables)
    sizes = {
        "patch_size": patch,
        "num_blocks": blocks,
        "hidden_dim": hidden_dim,
        "tokens_mlp_dim": variables["MixerBlock_0/token_mixing/Dense_0/kernel"].shape[1],
        "channels_mlp_dim": variables["MixerBlock_0/channel_mixing/Dense_0/kernel"].shape[1],
    }
    checkpoint = open_checkpoint(weights, sizes, channels, grid, weight_layouts.mixer_grid(model))
    return checkpoint.load_into(model, keep_on_error=True)


def save_checkpoint(model, path):
    """Write a model's weights as the released .npz layout: float32, uncompressed, atomically.

    The authors' code reads the file, and so does `load_checkpoint`, bit for bit. A model without a head gives a file
    without one. Where the patches form no square, the archive's comment notes the grid.

    Args:
        model: an `MLPMixer`, or a model that holds its layers.
        path: of the file, which must end in .npz, in a folder that exists; ~ is expanded; an older file is replaced.

    Raises:
        ValueError: for a path of another suffix, a model that is no Mixer, is quantised, or holds values that are not
            finite.
        OSError: if the file cannot be written; an older one is then unchanged.

    Example:
        >>> model = keras_mixer.MLPMixer(4, 2, 16, 8, 32, input_shape=(16, 16, 3), classes=10)
        >>> keras_mixer.save_checkpoint(model, "mixer.npz")
    """
    grid = weight_layouts.mixer_grid(model)
    arrays = {name: _float32(name, variable) for name, variable in weight_layouts.mixer_variables(model).items()}
    try:
        target = npz.output_path("save_checkpoint", path)
        npz.write_npz(target, arrays, None if grid[0] == grid[1] else grid)
    except OSError as error:
        if error.errno is None:  # a sentence already
            raise
        what = f"save_checkpoint: path {os.fspath(path)!r} cannot be written ({error.strerror or error})"
        raise OSError(error.errno, what) from None


def _float32(name, variable):
    def get():
        array = keras.ops.convert_to_numpy(variable).astype(np.float32)
        if not np.isfinite(array).all():
            raise ValueError(f"save_checkpoint: {name} holds values that are NaN or infinite; nothing is written.")
        return array

    return get
