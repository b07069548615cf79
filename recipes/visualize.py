"""Draw the weights of a checkpoint as the paper does (section 3.5): hidden units of token mixing, units of the stem.

A hidden unit of a token-mixing MLP has a weight for each patch, and so is an image. Without flags: of the first three
blocks, also beside each other as in Figure 4, and the stem, of the run in runs/pretrain.

    python recipes/visualize.py
    python recipes/visualize.py --weights=imagenet21k --model=b16 --blocks=0,5,11
    python recipes/visualize.py --weights=runs/mine --blocks=all --units=100 --output=pictures
"""

from keras_mixer.cli import quiet_tensorflow  # noqa: F401 - first: TensorFlow without its start-up notes

# isort: split
import math
from typing import Any

from keras_mixer import files
from keras_mixer.cli import entry, trained
from keras_mixer.cli.flags import setting, settings_class
from keras_mixer.cli.settings import Checkpoint
from keras_mixer.pictures import weights
from keras_mixer.pictures.figure import new_figure
from keras_mixer.starting_point import StartingPoint
from keras_mixer.weights import checkpoint, npz


@settings_class
class Settings(Checkpoint):
    """Settings of the pictures."""

    blocks: tuple[str, ...] | None = setting(
        None, "Numbers of blocks from 0, by commas, or all; default the first three.", common=True
    )
    units: int = setting(
        384, "Most units in a picture; those of the lowest spatial frequency come first.", least=1, common=True
    )
    grid: tuple[int, ...] | None = setting(
        None, "Rows,columns of patches, where they form no square and the file does not say.", least=1, common=True
    )
    output: str = setting(
        "runs/visualize", "Folder of the pictures; those of the same names are replaced.", common=True
    )


def run(settings: Settings) -> None:
    """Draw what the settings name."""
    # ---- Settings ----
    new_figure(1, 1)  # says at once where matplotlib is missing
    start = trained.find(settings)
    blocks, given = blocks_of(settings, start), grid_of_flag(settings)
    opened = checkpoint.open_checkpoint(start.weights, start.sizes, grid=given)
    rows, columns = grid_of(opened, given)
    # All weights first: what cannot be drawn is found before anything is written.
    kernels = {i: npz.read_finite(opened.file, f"MixerBlock_{i}/token_mixing/Dense_0/kernel") for i in blocks}
    stem = npz.read_finite(opened.file, "stem/kernel")
    folder = files.open_folder(settings.output)

    name = start.name
    if start.permutation[0] != "none":
        name += ", trained on permuted images"

    # ---- One picture per block, and the stem ----
    for i, kernel in kernels.items():
        path = folder / f"block_{i}.png"
        text = weights.write_token_mixing(path, kernel, (rows, columns), name, i, settings.units)
        print(f"{path}: {text.split('.')[0]}.", flush=True)
    if len(kernels) > 1:
        path, first = folder / "side_by_side.png", dict(list(kernels.items())[:3])
        text = weights.write_side_by_side(path, first, (rows, columns), name, min(settings.units, 128))
        print(f"{path}: {text.split('.')[0]}.")
    path = folder / "stem.png"
    text = weights.write_stem(path, stem, name, settings.units)
    print(f"{path}: {text.split('.')[0]}.")


def blocks_of(settings: Settings, start: StartingPoint) -> Any:
    """Return the numbers of --blocks, each once, ascending."""
    count = start.sizes["num_blocks"]
    if settings.blocks is None or settings.blocks == ("all",):
        return list(range(count if settings.blocks else min(3, count)))
    given = [text.strip() for text in settings.blocks]
    if not given or not all(text.isdecimal() and int(text) < count for text in given):
        raise ValueError(
            f"blocks: must be numbers from 0 to {count - 1}, the blocks of {start.name}, or all, got "
            f"{','.join(settings.blocks)!r}."
        )
    return sorted({int(text) for text in given})


def grid_of_flag(settings: Settings) -> Any:
    """Return --grid as (rows, columns), or None."""
    if settings.grid is not None and len(settings.grid) != 2:
        raise ValueError(
            f"grid: must be rows,columns of patches, two positive numbers, got {','.join(map(str, settings.grid))!r}; "
            "write --grid=7,14."
        )
    return settings.grid


def grid_of(checkpoint: Any, given: Any) -> Any:
    """Return (rows, columns) of patches: of --grid, as noted in the file, else a square."""
    side = math.isqrt(checkpoint.tokens)
    noted = checkpoint.file.grid
    if noted and given and tuple(noted) != given:
        raise ValueError(
            f"grid: {checkpoint.source} says that its patches are {noted[0]} x {noted[1]}, got {given[0]} x "
            f"{given[1]}; leave --grid out."
        )
    grid = given or noted
    if grid is None and side * side != checkpoint.tokens:
        raise ValueError(
            f"grid: {checkpoint.source} holds token MLPs for {checkpoint.tokens} patches, which form no square, and "
            "does not say which rectangle; give --grid=rows,columns."
        )
    return grid or (side, side)


if __name__ == "__main__":
    entry.run(Settings, run)
