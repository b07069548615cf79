"""One opened checkpoint of a Mixer: what it holds, whether it fits a model, and its arrays into the model."""

import dataclasses
import logging
import math
from collections.abc import Iterator, Mapping

import keras
import numpy as np

from keras_mixer.types import Grid, Sizes
from keras_mixer.weights import layouts, mixer_variables, npz, resolution
from keras_mixer.weights.npz import ArrayFile

logger = logging.getLogger("keras_mixer")


@dataclasses.dataclass
class LoadReport:
    """What `load_checkpoint` did with each array, by its name in the released layout.

    `loaded`: bit for bit. `resized`: name to (old shape, new shape). `new`: started at zero, only the head's arrays.
    `unused`: in the file, not in the model. `notes`: sentences.
    """

    source: str
    loaded: list[str] = dataclasses.field(default_factory=list)
    resized: dict[str, tuple] = dataclasses.field(default_factory=dict)
    new: list[str] = dataclasses.field(default_factory=list)
    unused: list[str] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)

    def __str__(self) -> str:
        parts = [f"{len(self.loaded)} arrays loaded"]
        if self.resized:
            parts.append(f"{len(self.resized)} resized")
        if self.new:
            instead = " in the place of the file's" if {*self.new} <= {*self.unused} else ""
            parts.append(f"newly initialised at zero: {', '.join(self.new)}{instead}")
        if unused := [name for name in self.unused if name not in self.new]:
            parts.append(f"not used: {', '.join(unused)}")
        return f"{self.source}: " + "; ".join([*parts, *self.notes]) + "."


class Checkpoint:
    """One opened checkpoint: its sizes are known, its arrays are not yet read. See `open_checkpoint`."""

    def __init__(self, file: ArrayFile, grid: Grid | None = None) -> None:
        self.file = layouts.in_released_layout(file)
        shapes = {name: shape for name, (shape, _) in self.file.specs.items()}
        kernel = shapes.get("MixerBlock_0/token_mixing/Dense_0/kernel", ())
        # Without token MLPs zero, which `check` then refuses.
        self.tokens, self.tokens_mlp_dim = (kernel[0], kernel[1]) if len(kernel) == 2 else (0, 0)
        head = shapes.get("head/kernel", ())
        self.has_head = bool({"head/kernel", "head/bias"} & set(shapes))
        self.num_classes = head[1] if len(head) == 2 else None
        self.notes = list(self.file.notes)
        self._grid = grid or file.grid
        if self._grid and self.tokens and math.prod(self._grid) != self.tokens:
            raise ValueError(
                f"weights: grid {self._grid} has {math.prod(self._grid)} patches, but {self.source} holds token MLPs "
                f"for {self.tokens}."
            )

    @property
    def source(self) -> str:
        return self.file.source

    def check(self, sizes: Sizes, channels: int = 3, grid: Grid | None = None) -> None:
        """Raise a ValueError with a +/- list unless the file holds exactly the arrays of a Mixer of these sizes.

        `grid` is that of a model whose D_S is fixed. Without it D_S is still to be chosen, by `tokens_mlp_dim_at`.
        """
        wanted = sizes["tokens_mlp_dim"]
        growth = self._growth(wanted, grid) if self.tokens and self.tokens_mlp_dim else None
        of_file = layouts.sizes_of(self.file.specs)["image channels"]
        if (channels, of_file) in resolution.FITTING:
            self.notes.append(resolution.FITTING[channels, of_file])
            channels = of_file
        expected = layouts.released_shapes(
            {**sizes, "tokens_mlp_dim": self.tokens_mlp_dim if growth else wanted},
            tokens=self.tokens or math.prod(grid or (14, 14)),
            classes=(self.num_classes or 1000) if self.has_head else None,
            channels=channels,
        )
        layouts.check_specs(self.file, expected)
        if growth and growth > 1:
            self.notes.append(
                f"token MLPs are {growth} times as wide as tokens_mlp_dim={wanted}, of a higher resolution"
            )

    def _growth(self, wanted: int, grid: Grid | None) -> int | None:
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

    def check_classes(self, classes: int | None, include_top: bool) -> int | None:
        """Return the classes of the head to build: `classes`, or the checkpoint's where None."""
        if classes is None and include_top and not self.has_head:
            raise ValueError(
                f"weights: {self.source} has no head; give classes for a new head that starts at zero, or "
                "include_top=False."
            )
        return classes or self.num_classes

    def tokens_mlp_dim_at(self, grid: Grid) -> int:
        """Return D_S of the model that these weights need on `grid`: grown where the grid grows by whole factors."""
        factor = resolution.grid_factor(self.grid_for(grid), grid)
        return self.tokens_mlp_dim * (factor[0] * factor[1] if factor else 1)

    def grid_for(self, grid: Grid) -> Grid:
        """Return the (rows, columns) of this checkpoint's patches: as noted in the file, else a square."""
        if self._grid:
            return self._grid
        side = math.isqrt(self.tokens)
        if side * side == self.tokens:
            return side, side
        if math.prod(grid) == self.tokens:
            return grid
        raise ValueError(
            f"weights: {self.source} holds token MLPs for {self.tokens} patches, which form no square, and does not "
            "say which rectangle; give grid=(rows, columns) to load_checkpoint."
        )

    def load_into(self, model: keras.Model, new_head: bool = False, keep_on_error: bool = False) -> LoadReport:
        """Assign every array and return a LoadReport; see `load_checkpoint`.

        With `keep_on_error` all arrays are read and checked before the first is assigned: the model is then unchanged
        by an error, at the price of holding the checkpoint once more.
        """
        variables = mixer_variables.mixer_variables(model)
        grid = mixer_variables.mixer_grid(model)
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

    def _assignments(
        self, variables: Mapping[str, keras.Variable], grid: Grid, report: LoadReport
    ) -> Iterator[tuple[keras.Variable, np.ndarray]]:
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
                arrays = [resolution.fit_stem(arrays[0], variable.shape[2])]
            if mlp:
                hidden_dim = variables[names[0]].shape[1]
                arrays = list(resolution.resize_token_mlp(arrays, old_grid, grid, hidden_dim))
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
