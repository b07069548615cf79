"""The flags that commands share, and what they describe: data, model, strategy, precision and seed."""

import dataclasses
import difflib
from typing import Any

import keras
import tensorflow as tf
from absl import flags

import keras_mixer
from keras_mixer.data import crops, opening, permutations, pipeline
from keras_mixer.data.augment_settings import Augmentation
from keras_mixer.data.pixel_settings import PixelSettings
from keras_mixer.data.source import Source
from keras_mixer.paper import MODELS
from keras_mixer.starting_point import StartingPoint
from keras_mixer.training import strategies

FLAGS: Any = flags.FLAGS


def define_common_flags(default_workdir: str) -> None:
    """Define the flags that every recipe has."""
    flags.DEFINE_string("model", "tiny", f"Variant: {', '.join(MODELS)}.")
    flags.DEFINE_string(
        "weights",
        None,
        "Start from a released name, or a .npz, .keras, .weights.h5 or .safetensors file or URL.",
    )
    flags.DEFINE_string("dataset", "digits", "digits, a folder of class folders, or a TFDS name.")
    flags.DEFINE_string("data_dir", None, "Where TFDS keeps its data, or the folder of one prepared dataset.")
    flags.DEFINE_string("manual_dir", None, "Where archives lie that TFDS cannot download itself, such as ImageNet's.")
    flags.DEFINE_integer("image_size", None, "Image side in pixels; default 224, and 16 for the tiny model.")
    flags.DEFINE_integer("batch_size", 64, "Images in a global batch, over all devices.")
    flags.DEFINE_string(
        "strategy", "auto", "auto, one_device, mirrored, multi_worker (processes that TF_CONFIG lists) or tpu."
    )
    flags.DEFINE_string("tpu", None, "tpu: name or grpc:// address; default local, the TPU of this virtual machine.")
    flags.DEFINE_integer("num_devices", None, "mirrored: so many GPUs, or logical CPUs where there is no GPU.")
    flags.DEFINE_string("precision", "float32", "float32 or mixed_bfloat16.")
    flags.DEFINE_integer("seed", 0, "Of initial weights, order, augmentation, mixup, dropout and stochastic depth.")
    flags.DEFINE_integer("split_seed", 0, "Chooses the tenth of a folder without splits that is held out for test.")
    flags.DEFINE_string("workdir", default_workdir, "Folder of the run; the same flags again continue it.")


def define_data_flags() -> None:
    """Define the flags of a recipe that trains: splits, pixels and augmentation."""
    define_pixel_flags()
    flags.DEFINE_string("train_split", None, "For example train[:99%]; default train.")
    flags.DEFINE_string("eval_split", None, "Default validation, val or test, whichever the dataset has first.")
    flags.DEFINE_string("on_bad_image", "stop", "stop; or skip, for a folder: check all files first, omit bad ones.")
    flags.DEFINE_float("max_bad_fraction", 0.01, "With --on_bad_image=skip: more bad files than this fraction stop.")
    flags.DEFINE_string(
        "augmentation",
        "paper",
        "paper (inception crop and flip, or small moves for drawn signs), keras_cv (its RandAugment and MixUp), none.",
    )
    area, aspect = crops.CROP_AREA, crops.CROP_ASPECT
    flags.DEFINE_list("crop_area", [f"{v:g}" for v in area], "Of photographs: least and most of the image in a crop.")
    flags.DEFINE_list("crop_aspect", [f"{v:g}" for v in aspect], "Of photographs: the same of width/height.")
    flags.DEFINE_float("flip_rate", 0.5, "Fraction of photographs mirrored left to right; 0 for signs, text or X-rays.")
    flags.DEFINE_integer("randaugment_magnitude", 0, "The paper's m, 0 for none; 15 is 1.5 times the nominal maximum.")
    flags.DEFINE_float("mixup_alpha", 0.2, "The paper's mixup p, 0 for none.")
    flags.DEFINE_float("cutmix_alpha", 0.0, "Of CutMix, 0 for none; with mixup too, each batch gets one of them.")
    flags.DEFINE_float("random_erasing_rate", 0.0, "Fraction of images of which a rectangle is replaced by noise.")
    flags.DEFINE_float("label_smoothing", 0.0, "Fraction of each label that is spread over all classes.")
    flags.DEFINE_string(
        "permutation", "none", "Of the pixels of every image, last of all: none, patches_and_pixels, or global."
    )
    flags.DEFINE_integer("permutation_seed", 0, "Draws the permutation, the same for training and evaluation.")


def define_pixel_flags(of_run: bool = False) -> None:
    """Define the flags of how files become pixels; `of_run`: by default as the run that made the weights."""
    default: dict[str, Any] = {f.name: None if of_run else f.default for f in dataclasses.fields(PixelSettings)}
    end = " Default that of the run." if of_run else ""
    flags.DEFINE_string(
        "alpha", default["alpha"], f"Under transparent pixels: white, black, or drop to show what is stored there.{end}"
    )
    flags.DEFINE_boolean(
        "exif_rotation", default["exif_rotation"], f"Turn photographs upright by EXIF, which the authors do not.{end}"
    )
    flags.DEFINE_boolean(
        "antialias", default["antialias"], f"Filter before images are shrunk, which the authors do not.{end}"
    )
    flags.DEFINE_integer("channels", default["channels"], f"Of the images: 3, or 1 for grey, such as X-rays.{end}")


def pixel_settings(start: StartingPoint | None = None) -> PixelSettings:
    """Return the `PixelSettings` of the flags, where they are not given those of the run of a `StartingPoint`."""
    return start.pixels(**given_pixels()) if start else PixelSettings(**given_pixels())


def given_pixels() -> dict[str, Any]:
    """Return the fields of `PixelSettings` that the flags give, name -> value."""
    values = {f.name: FLAGS[f.name].value for f in dataclasses.fields(PixelSettings)}
    return {name: value for name, value in values.items() if value is not None}


def image_size() -> int:
    """--image_size, or the model's usual one."""
    return FLAGS.image_size if FLAGS.image_size is not None else 16 if FLAGS.model == "tiny" else 224


def make_strategy() -> tf.distribute.Strategy:
    """The strategy that --strategy, --num_devices and --tpu name; to be made before anything else of TensorFlow."""
    return strategies.make_strategy(FLAGS.strategy, FLAGS.num_devices, FLAGS.tpu)


def check_model_name() -> None:
    """Refuse an unknown --model, naming near ones."""
    if FLAGS.model not in MODELS:
        near = difflib.get_close_matches(FLAGS.model.lower(), MODELS, n=2)
        hint = f"did you mean {' or '.join(near)}?" if near else f"use one of {', '.join(MODELS)}."
        raise ValueError(f"model: {FLAGS.model!r} is unknown; {hint}")


def build_model(classes: int, **kwargs: Any) -> keras.Model:
    """Build --model for logits, with --weights where given."""
    side = image_size()
    return keras_mixer.MLPMixer(
        **MODELS[FLAGS.model],
        weights=FLAGS.weights,
        input_shape=(side, side, FLAGS.channels),
        classes=classes,
        classifier_activation=None,
        name=f"mixer_{FLAGS.model}",
        **kwargs,
    )


def set_precision_and_seed() -> None:
    """Set the global dtype policy from --precision, and every seed from --seed."""
    if not 0 <= FLAGS.seed < 2**31:
        raise ValueError(f"seed: must be at least 0 and below 2**31, got {FLAGS.seed}.")
    keras.utils.set_random_seed(FLAGS.seed)
    if FLAGS.precision not in ("float32", "mixed_bfloat16"):
        raise ValueError(f"precision: must be float32 or mixed_bfloat16, got {FLAGS.precision!r}.")
    keras.config.set_dtype_policy(FLAGS.precision)


def open_source(training: bool) -> Source:
    """Open --dataset, the split to train on or the one to evaluate on."""
    return opening.open_source(
        FLAGS.dataset,
        FLAGS.train_split if training else FLAGS.eval_split,
        training=training,
        data_dir=FLAGS.data_dir,
        manual_dir=FLAGS.manual_dir,
        seed=FLAGS.split_seed,
        on_bad_image=FLAGS.on_bad_image,
        max_bad_fraction=FLAGS.max_bad_fraction,
    )


def open_sources() -> tuple[Source, Source]:
    """Open --dataset for training and for evaluation; both must have the same classes."""
    train, evaluation = open_source(training=True), open_source(training=False)
    if train.class_names != evaluation.class_names:
        raise ValueError(f"dataset: {train.name} and {evaluation.name} must have the same classes, and have not.")
    return train, evaluation


def train_batches(
    source: Source,
    start_step: int,
    part: tuple[int, int] = (0, 1),
    batch_size: int | None = None,
    patch_size: int | None = None,
) -> tf.data.Dataset:
    """Return the training batches that the flags describe, from `start_step` on; `patch_size` as for `permuted`."""
    options: dict[str, Any] = dict(seed=FLAGS.seed, augmentation=augmentation(), pixels=pixel_settings())
    options |= {"batch_size": batch_size or FLAGS.batch_size, "image_size": image_size()}
    batches = pipeline.train_batches(source, start_step=start_step, part=part, **options)
    return permuted(batches, patch_size)


def permuted(batches: Any, patch_size: int | None = None) -> tf.data.Dataset:
    """Return batches with their images permuted as --permutation says; the patch is by default that of --model."""
    if FLAGS.permutation == "none":
        return batches
    if patch_size is None:
        check_model_name()
        patch_size = MODELS[FLAGS.model]["patch_size"]
    seed = FLAGS.permutation_seed
    return permutations.permute_batches(batches, FLAGS.permutation, image_size(), patch_size, seed)


def check_train_batches(source: Source) -> None:
    """Refuse the flags that `train_batches` would, before anything is written."""
    pixel_settings()
    given = [name for name in ("crop_area", "crop_aspect", "flip_rate") if FLAGS[name].present]
    if given and (FLAGS.augmentation == "none" or not source.photographs):
        why = "--augmentation=none only resizes" if FLAGS.augmentation == "none" else f"{source.name} has drawn signs"
        raise ValueError(f"{given[0]}: has no effect, since {why}; leave it out.")
    pipeline.check_sizes(source, FLAGS.batch_size, image_size())
    augmentation()
    permutations.check_kind(FLAGS.permutation, FLAGS.permutation_seed)


def augmentation() -> Augmentation:
    """Return the `Augmentation` of the flags."""
    values: dict[str, Any] = {field.name: FLAGS[field.name].value for field in dataclasses.fields(Augmentation)}
    return Augmentation(**values | {name: numbers_of(name) for name in ("crop_area", "crop_aspect")})


def numbers_of(name: str) -> tuple[float, ...]:
    """Return the numbers that a flag lists with commas between them."""
    try:
        return tuple(float(text) for text in FLAGS[name].value)
    except ValueError:
        given = ",".join(FLAGS[name].value)
        raise ValueError(
            f"{name}: must be two numbers with a comma between, got {given!r}; write --{name}="
            f"{','.join(FLAGS[name].default)}."
        ) from None
