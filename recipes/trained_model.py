"""What the recipes share that use a trained checkpoint: its flags, which one it is, its size, and the model of it."""

import common  # first: it imports TensorFlow without its start-up notes

# isort: split
import hashlib
import os
import pathlib

import keras
import numpy as np
from absl import flags

import keras_mixer
import starting_point
from keras_mixer.class_names import NAMES
from keras_mixer.data import permutations, pipeline
from keras_mixer.data.crops import EVALUATION_CROPS
from keras_mixer.training import strategies, workdir

FLAGS = flags.FLAGS
DEFAULT_WEIGHTS = "runs/pretrain"
WEIGHTS_HELP = (
    f"A released name, a .npz, .keras, .weights.h5 or .safetensors file, or a run's workdir; default {DEFAULT_WEIGHTS}."
)
MODEL_HELP = f"Variant, which a released name needs: {', '.join(starting_point.MODELS)}; default what the file holds."
SIZE_HELP = "Image side in pixels; default the one that the weights were trained at."


def define_flags(default_workdir, training=False):
    """Define the flags of a recipe that runs a checkpoint over a dataset."""
    common.define_common_flags(default_workdir)
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
    common.define_pixel_flags(of_run=True)


def find():
    """Return the `StartingPoint` of --weights and --model, by default the run that pretrain.py leaves."""
    if FLAGS.model is not None:
        common.check_model_name()
    if FLAGS.weights is not None:
        return starting_point.find(FLAGS.weights, FLAGS.model)
    if not (pathlib.Path(DEFAULT_WEIGHTS) / "model.keras").exists():
        raise ValueError(
            f"weights: {DEFAULT_WEIGHTS} is not there or not finished; make it with python recipes/pretrain.py, which "
            "takes about a minute, or give --weights."
        )
    return starting_point.find(DEFAULT_WEIGHTS, FLAGS.model)


def image_size(start):
    """Return --image_size, or the side that the weights were trained at."""
    side = start.image_size if FLAGS.image_size is None else FLAGS.image_size
    if side is None:
        raise ValueError(f"image_size: the patches of {start.name} form no square; give --image_size.")
    if side != start.image_size and permutation(start)[0] != "none":
        raise ValueError(
            f"image_size: {start.name} was trained on images of {start.image_size} px, permuted, and knows no other; "
            f"leave out --image_size={side}."
        )
    return side


def permutation(start):
    """Return (kind, seed) of the permutation of pixels that the run which made the weights was trained with."""
    return start.settings.get("permutation", "none"), start.settings.get("permutation_seed", 0)


def pixel_order(start, side):
    """Return the order, for `permutations.permute`, that these weights want the pixels of an image in."""
    kind, seed = permutation(start)
    return permutations.draw_order(kind, side, start.sizes["patch_size"], seed)


def build(start, side, **kwargs):
    """Build the Mixer of a checkpoint for images of `side` pixels; `kwargs` are `MLPMixer`'s."""
    return keras_mixer.MLPMixer(**start.sizes, weights=start.weights, input_shape=(side, side, 3), **kwargs)


def crop_of(start):
    """Return --crop, or how the run that made the weights was evaluated: photographs are cropped, drawn signs not."""
    if FLAGS.crop is not None:
        if FLAGS.crop not in EVALUATION_CROPS:
            raise ValueError(f"crop: must be resmall, resize or none, got {FLAGS.crop!r}.")
        return FLAGS.crop
    dataset = start.settings.get("dataset")
    drawn = dataset is not None and (dataset == "digits" or dataset.startswith("vtab-"))
    if dataset is not None and not drawn and not os.path.isdir(os.path.expanduser(dataset)):
        from keras_mixer.data.tfds_source import GLYPHS  # takes seconds to import

        drawn = dataset.split("/")[0].split(":")[0] in GLYPHS
    return "none" if drawn else start.settings.get("crop") or "resmall"


def set_crop(start):
    """Set --crop, where it is not given, to how the photographs of the run that made the weights were evaluated."""
    FLAGS.crop = FLAGS.crop or start.settings.get("crop") or "resmall"


def classes_of(start):
    """Return what `decode_predictions` takes as the names: ImageNet's, the run's own, or the numbers of the classes."""
    if start.class_names is not None and all(isinstance(name, str) for name in start.class_names):
        return list(start.class_names)
    imagenet = next((name for name, size in NAMES.items() if size == start.num_classes), None)
    return imagenet or [str(k) for k in range(start.num_classes)]


def weights_key(model):
    """Return the sha256 of a model's weights, bit for bit, and of its dtype policy."""
    digest = hashlib.sha256(keras.config.dtype_policy().name.encode())
    for variable in model.variables:
        digest.update(np.ascontiguousarray(keras.ops.convert_to_numpy(variable)))
    return digest.hexdigest()


def eval_batches(strategy, source, start, side, crop):
    """Return one pass over a source as the weights of `start` want it, shared by the replicas of a strategy."""
    kind, seed = permutation(start)
    options = dict(batch_size=FLAGS.batch_size, image_size=side, crop=crop, pixels=common.pixel_settings(start))

    def of_part(part):
        batches = pipeline.eval_batches(source, part=part, **options)
        return permutations.permute_batches(batches, kind, side, start.sizes["patch_size"], seed)

    of_part((0, 1))  # a bad argument shows here, and as itself
    return strategies.distribute(strategy, of_part, FLAGS.batch_size)


def check_batch(strategy):
    """Refuse a --batch_size that the devices cannot share evenly."""
    count = strategy.num_replicas_in_sync
    if FLAGS.batch_size < 1 or FLAGS.batch_size % count:
        raise ValueError(
            f"batch_size: {FLAGS.batch_size} must be positive and shared evenly by {count} devices; use a multiple of "
            f"{count}."
        )


def open_results_folder(strategy):
    """Return --workdir as a path to a folder that holds no training run and, by the chief, can be written."""
    if not FLAGS.workdir:
        raise ValueError("workdir: must name a folder, got an empty text.")
    folder = pathlib.Path(FLAGS.workdir).expanduser()
    if (folder / "run.json").exists():
        raise ValueError(f"workdir: {folder} is the folder of a training run, to keep; choose another --workdir.")
    if not strategies.is_chief(strategy):
        return folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with workdir.atomic_file(folder / ".writable"):
            pass
        (folder / ".writable").unlink()
    except OSError as error:
        raise OSError(f"workdir: cannot write to {folder} ({error.strerror}); choose another --workdir.") from None
    return folder
