"""Draw the weights of a checkpoint as the paper does (section 3.5): hidden units of token mixing, units of the stem.

A hidden unit of a token-mixing MLP has a weight for each patch, and so is an image. Without flags: of the first three
blocks, and the stem, of the run in runs/pretrain.

    python recipes/visualize.py
    python recipes/visualize.py --weights=imagenet21k --model=b16 --blocks=0,5,11
    python recipes/visualize.py --weights=runs/mine --blocks=all --units=100 --output=pictures
"""

from keras_mixer.cli import entry  # first: it imports TensorFlow without its start-up notes

# isort: split
import math
from typing import Any

from absl import flags

from keras_mixer import files
from keras_mixer.cli import checkpoint_flags
from keras_mixer.pictures import weights
from keras_mixer.pictures.figure import new_figure
from keras_mixer.starting_point import StartingPoint
from keras_mixer.weights import checkpoint, npz

FLAGS: Any = flags.FLAGS
checkpoint_flags.define_weights()
flags.adopt_module_key_flags(checkpoint_flags)  # so that --help shows them
flags.DEFINE_list("blocks", None, "Numbers of blocks from 0, by commas, or all; default the first three.")
flags.DEFINE_integer("units", 384, "Most units in a picture; those of the lowest spatial frequency come first.")
flags.DEFINE_list("grid", None, "Rows,columns of patches, where they form no square and the file does not say.")
flags.DEFINE_string("output", "runs/visualize", "Folder of the pictures; those of the same names are replaced.")


def main(_: list[str]) -> None:
    # ---- Settings ----
    new_figure(1, 1)  # says at once where matplotlib is missing
    if FLAGS.units < 1:
        raise ValueError(f"units: must be a positive number, got {FLAGS.units}.")
    start = checkpoint_flags.find()
    blocks = blocks_of(start)
    opened = checkpoint.open_checkpoint(start.weights, start.sizes, grid=grid_of_flag())
    rows, columns = grid_of(opened)
    # All weights first: what cannot be drawn is found before anything is written.
    kernels = {i: npz.read_finite(opened.file, f"MixerBlock_{i}/token_mixing/Dense_0/kernel") for i in blocks}
    stem = npz.read_finite(opened.file, "stem/kernel")
    folder = files.open_folder(FLAGS.output)

    name = start.name
    if start.permutation[0] != "none":
        name += ", trained on permuted images"

    # ---- One picture per block, and the stem ----
    for i, kernel in kernels.items():
        path = folder / f"block_{i}.png"
        text = weights.write_token_mixing(path, kernel, (rows, columns), name, i, FLAGS.units)
        print(f"{path}: {text.split('.')[0]}.", flush=True)
    path = folder / "stem.png"
    text = weights.write_stem(path, stem, name, FLAGS.units)
    print(f"{path}: {text.split('.')[0]}.")


def blocks_of(start: StartingPoint) -> Any:
    """Return the numbers of --blocks, each once, ascending."""
    count = start.sizes["num_blocks"]
    if FLAGS.blocks is None or FLAGS.blocks == ["all"]:
        return list(range(count if FLAGS.blocks else min(3, count)))
    given = [text.strip() for text in FLAGS.blocks]
    if not given or not all(text.isdecimal() and int(text) < count for text in given):
        raise ValueError(
            f"blocks: must be numbers from 0 to {count - 1}, the blocks of {start.name}, or all, got "
            f"{','.join(FLAGS.blocks)!r}."
        )
    return sorted({int(text) for text in given})


def grid_of_flag() -> Any:
    """Return --grid as (rows, columns), or None."""
    if FLAGS.grid is None:
        return None
    if len(FLAGS.grid) != 2 or not all(text.strip().isdecimal() and int(text) for text in FLAGS.grid):
        raise ValueError(
            f"grid: must be rows,columns of patches, two positive numbers, got {','.join(FLAGS.grid)!r}; write "
            "--grid=7,14."
        )
    return int(FLAGS.grid[0]), int(FLAGS.grid[1])


def grid_of(checkpoint: Any) -> Any:
    """Return (rows, columns) of patches: of --grid, as noted in the file, else a square."""
    side = math.isqrt(checkpoint.tokens)
    noted, given = checkpoint.file.grid, grid_of_flag()
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
    entry.run(main)
