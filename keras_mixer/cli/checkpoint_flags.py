"""What the recipes share that use a trained checkpoint: its flags, which one it is, its size, and the model of it."""

import hashlib
import pathlib
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl import flags

from keras_mixer import files, starting_point
from keras_mixer.cli import shared_flags
from keras_mixer.cli.command_line import command
from keras_mixer.data import crops, permutations, pipeline
from keras_mixer.data.source import Source
from keras_mixer.paper import MODELS
from keras_mixer.starting_point import StartingPoint
from keras_mixer.training import strategies

FLAGS: Any = flags.FLAGS
DEFAULT_WEIGHTS = "runs/pretrain"
WEIGHTS_HELP = (
    f"A released name, a .npz, .keras, .weights.h5 or .safetensors file, or a run's workdir; default {DEFAULT_WEIGHTS}."
)
MODEL_HELP = f"Variant, which a released name needs: {', '.join(MODELS)}; default what the file holds."
SIZE_HELP = "Image side in pixels; default the one that the weights were trained at."


def define_weights() -> None:
    """Define --weights and --model, which name a checkpoint."""
    flags.DEFINE_string("weights", None, WEIGHTS_HELP)
    flags.DEFINE_string("model", None, MODEL_HELP)


def define_view() -> None:
    """Define the flags of how one image becomes what the model sees, by default as in the evaluation of the run."""
    flags.DEFINE_integer("image_size", None, SIZE_HELP)
    flags.DEFINE_string(
        "crop", None, "resmall (paper's Table 3), resize (Table 2), or none; default that of the run's evaluation."
    )
    shared_flags.define_pixel_flags(of_run=True)


def define_flags(default_workdir: str, training: bool = False) -> None:
    """Define the flags of a recipe that runs a checkpoint over a dataset."""
    shared_flags.define_common_flags(default_workdir)
    FLAGS.set_default("model", None)
    FLAGS["weights"].help, FLAGS["model"].help, FLAGS["image_size"].help = WEIGHTS_HELP, MODEL_HELP, SIZE_HELP
    FLAGS["workdir"].help = "Folder of the results; earlier ones of this recipe are replaced."
    if training:
        flags.DEFINE_string("train_split", None, "Split to draw the examples from; default train.")
    flags.DEFINE_string("eval_split", None, "Default validation, val or test, whichever the dataset has first.")
    flags.DEFINE_string("on_bad_image", "stop", "stop; or skip, for a folder: check all files first, omit bad ones.")
    flags.DEFINE_float("max_bad_fraction", 0.01, "With --on_bad_image=skip: more bad files than this fraction stop.")
    flags.DEFINE_string(
        "crop",
        None,
        "Of photographs: resmall (paper's Table 3), resize (Table 2); default that of the run, else resmall.",
    )
    shared_flags.define_pixel_flags(of_run=True)


def find() -> StartingPoint:
    """Return the `StartingPoint` of --weights and --model, by default the run that pretrain.py leaves."""
    if FLAGS.model is not None:
        shared_flags.check_model_name()
    if FLAGS.weights is not None:
        return starting_point.find(FLAGS.weights, FLAGS.model)
    if not (pathlib.Path(DEFAULT_WEIGHTS) / "model.keras").exists():
        raise ValueError(
            f"weights: {DEFAULT_WEIGHTS} is not there or not finished; make it with {command('pretrain')}, which "
            "takes about a minute, or give --weights."
        )
    return starting_point.find(DEFAULT_WEIGHTS, FLAGS.model)


def check_crop() -> str | None:
    """Return --crop, None where it is not given."""
    if FLAGS.crop not in (None, *crops.EVALUATION_CROPS):
        raise ValueError(f"crop: must be resmall, resize or none, got {FLAGS.crop!r}.")
    return FLAGS.crop


def set_crop(start: StartingPoint) -> None:
    """Set --crop, where it is not given, to how the photographs of the run that made the weights were evaluated."""
    FLAGS.crop = FLAGS.crop or start.settings.get("crop") or "resmall"


def weights_key(model: keras.Model) -> str:
    """Return the sha256 of a model's weights, bit for bit, and of its dtype policy."""
    digest = hashlib.sha256(keras.config.dtype_policy().name.encode())
    for variable in model.variables:
        digest.update(np.ascontiguousarray(keras.ops.convert_to_numpy(variable)).data)
    return digest.hexdigest()


def eval_batches(
    strategy: tf.distribute.Strategy, source: Source, start: StartingPoint, side: int, crop: str
) -> tf.data.Dataset:
    """Return one pass over a source as the weights of `start` want it, shared by the replicas of a strategy."""
    kind, seed = start.permutation
    options = dict(batch_size=FLAGS.batch_size, image_size=side, crop=crop, pixels=shared_flags.pixel_settings(start))

    def of_part(part: tuple[int, int]) -> tf.data.Dataset:
        batches = pipeline.eval_batches(source, part=part, **options)
        return permutations.permute_batches(batches, kind, side, start.sizes["patch_size"], seed)

    of_part((0, 1))  # a bad argument shows here, and as itself
    return strategies.distribute(strategy, of_part, FLAGS.batch_size)


def check_batch(strategy: tf.distribute.Strategy) -> None:
    """Refuse a --batch_size that the devices cannot share evenly."""
    count = strategy.num_replicas_in_sync
    if FLAGS.batch_size < 1 or FLAGS.batch_size % count:
        raise ValueError(
            f"batch_size: {FLAGS.batch_size} must be positive and shared evenly by {count} devices; use a multiple of "
            f"{count}."
        )


def open_results_folder(strategy: tf.distribute.Strategy) -> pathlib.Path:
    """Return --workdir as a path to a folder that holds no training run and, by the chief, can be written."""
    if not FLAGS.workdir:
        raise ValueError("workdir: must name a folder, got an empty text.")
    folder = pathlib.Path(FLAGS.workdir).expanduser()
    if (folder / "run.json").exists():
        raise ValueError(f"workdir: {folder} is the folder of a training run, to keep; choose another --workdir.")
    return files.open_folder(folder, "workdir") if strategies.is_chief(strategy) else folder
