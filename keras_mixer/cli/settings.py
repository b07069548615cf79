"""The settings that commands share, by what they are about; those of a command are some of these and its own fields.

A field that has a `usual` value is None until `filled`: so a preset, a task or a checkpoint can give it another one.
"""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from keras_mixer.cli.flags import Settings, changed, setting, settings_class
from keras_mixer.data import crops
from keras_mixer.data.job_parts import Engine, check_engine
from keras_mixer.data.pixel_settings import PixelSettings
from keras_mixer.errors import InputError
from keras_mixer.paper import MODELS

DEFAULT_WEIGHTS = "runs/pretrain"
_PIXELS = PixelSettings()
C = TypeVar("C", bound=type)


@settings_class
class Model(Settings):
    """Model."""

    model: str = setting("tiny", f"Variant: {', '.join(MODELS)}.", choices=tuple(MODELS), common=True)
    weights: str | None = setting(
        None, "Start from a released name, or a .npz, .keras, .weights.h5 or .safetensors file or URL.", common=True
    )


@settings_class
class Checkpoint(Model):
    """Model: a trained one."""

    model: str = changed(
        Model, "model", None, help=f"Variant, which a released name needs: {', '.join(MODELS)}; default the file's."
    )
    weights: str | None = changed(
        Model,
        "weights",
        None,
        help="A released name, a .npz, .keras, .weights.h5 or .safetensors file, or a run's workdir; default "
        f"{DEFAULT_WEIGHTS}.",
    )


@settings_class
class Data(Settings):
    """Data."""

    dataset: str = setting("digits", "digits, a folder of class folders, or a TFDS name.", common=True)
    data_dir: str | None = setting(None, "Where TFDS keeps its data, or the folder of one prepared dataset.")
    manual_dir: str | None = setting(None, "Where archives lie that TFDS cannot download itself, such as ImageNet's.")
    eval_split: str | None = setting(None, "Default validation, val or test, whichever the dataset has first.")
    split_seed: int = setting(0, "Chooses the tenth of a folder without splits that is held out for test.")
    on_bad_image: str = setting("stop", "stop; or skip, for a folder: check all files first, omit bad ones.")
    max_bad_fraction: float = setting(0.01, "With --on_bad_image=skip: more bad files than this fraction stop.")


def left_to_run(*of: type) -> Callable[[C], C]:
    """Decorate a class of settings so that a run can fill the fields of some of its bases, where none is given by hand.

    What has a default there is None until `filled`, and the default what is usual. To stand below `settings_class`.
    """

    def decorate(cls: C) -> C:
        hints = inspect.get_annotations(cls)
        for base in of:
            for field in dataclasses.fields(base):
                if field.default is not None and field.name not in hints:
                    hints[field.name] = field.type
                    setattr(cls, field.name, changed(base, field.name, None, usual=field.default))
        cls.__annotations__ = hints
        return cls

    return decorate


def by_hand(settings: Settings, of: type) -> dict[str, Any]:
    """Return name -> value of what is given in settings, of the fields of one of their bases."""
    values = {field.name: getattr(settings, field.name) for field in dataclasses.fields(of)}
    return {name: value for name, value in values.items() if value is not None}


@settings_class
class TrainingData(Data):
    """Data."""

    train_split: str | None = setting(None, "For example train[:99%]; default train.")


@settings_class
class Pixels(Settings):
    """Pixels: how files become them."""

    image_size: int = setting(None, "Image side in pixels; default 224, and 16 for the tiny model.", common=True)
    alpha: str = setting(
        None, "Under transparent pixels: white, black, or drop to show what is stored there.", usual=_PIXELS.alpha
    )
    exif_rotation: bool = setting(
        None, "Turn photographs upright by EXIF, which the authors do not.", usual=_PIXELS.exif_rotation
    )
    antialias: bool = setting(
        None, "Filter before images are shrunk, which the authors do not.", usual=_PIXELS.antialias
    )
    exact_decoding: bool = setting(
        None,
        "Decode large JPEGs, 4 times the result or more, in full, as the authors do; slower.",
        usual=_PIXELS.exact_decoding,
    )
    channels: int = setting(None, "Of the images: 3, or 1 for grey, such as X-rays.", usual=_PIXELS.channels)

    def pixels(self) -> dict[str, Any]:
        """Return the fields of `PixelSettings` that are given, name -> value."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(PixelSettings)}
        return {name: value for name, value in values.items() if value is not None}


def _of_run(name: str) -> Any:
    help = next(field for field in dataclasses.fields(Pixels) if field.name == name).metadata["help"]
    return changed(Pixels, name, None, usual=None, help=f"{help} Default that of the run.")


@settings_class
class View(Pixels):
    """Pixels: how a trained model sees an image; by default as in the evaluation of its run."""

    image_size: int = changed(
        Pixels, "image_size", None, help="Image side in pixels; default the one that the weights were trained at."
    )
    crop: str | None = setting(
        None,
        "Of photographs: resmall (paper's Table 3), resize (Table 2), or none; default that of the run.",
        choices=crops.EVALUATION_CROPS,
    )
    alpha: str = _of_run("alpha")
    exif_rotation: bool = _of_run("exif_rotation")
    antialias: bool = _of_run("antialias")
    exact_decoding: bool = _of_run("exact_decoding")
    channels: int = _of_run("channels")


@settings_class
class Augmentation(Settings):
    """Augmentation."""

    augmentation: str = setting(
        None,
        "paper (inception crop and flip, or small moves for drawn signs), keras_cv (its RandAugment and MixUp), "
        "hyper_rule (BiT's crop and flip, for a task of VTAB-1k), none.",
        usual="paper",
    )
    crop_area: tuple[float, ...] = setting(
        None, "Of photographs: least and most of the image in a crop.", usual=crops.CROP_AREA
    )
    crop_aspect: tuple[float, ...] = setting(None, "Of photographs: the same of width/height.", usual=crops.CROP_ASPECT)
    flip_rate: float = setting(
        None, "Fraction of photographs mirrored left to right; 0 for signs, text or X-rays.", usual=0.5
    )
    randaugment_magnitude: int = setting(
        None, "The paper's m, 0 for none; 15 is 1.5 times the nominal maximum.", usual=0, common=True
    )
    mixup_alpha: float = setting(None, "The paper's mixup p, 0 for none.", usual=0.2, common=True)
    cutmix_alpha: float = setting(0.0, "Of CutMix, 0 for none; with mixup too, each batch gets one of them.")
    random_erasing_rate: float = setting(0.0, "Fraction of images of which a rectangle is replaced by noise.")
    label_smoothing: float = setting(0.0, "Fraction of each label that is spread over all classes.")
    permutation: str = setting(
        None, "Of the pixels of every image, last of all: none, patches_and_pixels, or global.", usual="none"
    )
    permutation_seed: int = setting(0, "Draws the permutation, the same for training and evaluation.")


@settings_class
class Elsewhere(Settings):
    """Engine: for work that outgrows a machine, through Apache Beam (docs/guides/beam.md)."""

    runner: str | None = setting(
        None,
        "DirectRunner (several processes of this machine), FlinkRunner, SparkRunner, DataflowRunner or another of "
        "Beam's; default none, in this process. Needs pip install 'keras_mixer[beam]'.",
    )
    beam_options: str = setting(
        "",
        "Beam's own options for --runner, in one text: --beam_options='--direct_num_workers=2', by default as many as "
        "cores, or --beam_options='--flink_master=host:8081 --environment_type=LOOPBACK'.",
    )

    def engine(self) -> Engine | None:
        """Return the engine that the settings name, once it was looked at; None for this process."""
        if self.runner is None:
            if self.beam_options:
                raise InputError("beam_options", "are for `runner`", "give `runner`, such as DirectRunner")
            return None
        found = Engine(self.runner, self.beam_options)
        check_engine(found)
        return found


@settings_class
class Devices(Settings):
    """Devices and numbers."""

    batch_size: int = setting(None, "Images in a global batch, over all devices.", usual=64, common=True)
    strategy: str = setting(
        "auto",
        "auto, one_device, mirrored, multi_worker (processes that TF_CONFIG lists) or tpu.",
        common=True,
    )
    tpu: str | None = setting(None, "tpu: name or grpc:// address; default local, the TPU of this virtual machine.")
    num_devices: int | None = setting(None, "mirrored: so many GPUs, or logical CPUs where there is no GPU.")
    precision: str = setting(
        "float32", "float32 or mixed_bfloat16.", choices=("float32", "mixed_bfloat16"), common=True
    )
    seed: int = setting(0, "Of initial weights, order, augmentation, mixup, dropout and stochastic depth.")


@settings_class
class Optimisation(Settings):
    """Optimisation."""

    total_steps: int | None = setting(None, "Steps of the run; wins over --epochs.", common=True)
    epochs: float | None = setting(None, "Passes over the training images.", usual=100, common=True)
    learning_rate: float = setting(
        None, "Highest learning rate; it rises linearly, then decays.", usual=3e-3, common=True
    )
    optimizer: str = setting("adamw", "adamw; or sgd, the heavy ball of the authors' fine-tuning.")
    schedule: str = setting(
        "linear", "linear or cosine decay of the learning rate after its warm-up.", choices=("linear", "cosine")
    )
    weight_decay: float = setting(None, "adamw: fraction of each kernel removed per step at rate 1.", usual=0.1)
    warmup_steps: int | None = setting(None, "Steps of the linear rise; default a tenth of the run, at most 10,000.")
    clip_norm: float = setting(1.0, "Global norm above which the gradient of a batch is scaled down; 0 for never.")
    ema_decay: float | None = setting(None, "Keep, evaluate and save a moving average of the weights, such as 0.9999.")
    first_moment_dtype: str = setting("float32", "Or bfloat16, as the authors' code, for half the momentum.")
    loss: str = setting(None, "softmax; or sigmoid, the authors' for ImageNet (summed over classes).", usual="softmax")
    dropout_rate: float = setting(None, "Fraction dropped after each Dense layer of the MLPs.", usual=0.0)
    stochastic_depth_rate: float = setting(None, "Fraction of images for which the last block is dropped.", usual=0.1)
    rescale_stochastic_depth: bool = setting(False, "Divide a kept branch by 1 - rate; the authors do not.")
    freeze: tuple[str, ...] = setting(
        (), "Names of layers that are not trained, such as stem,block_?; * and ? match any."
    )
    rematerialize: bool = setting(False, "Compute activations again in the backward pass, to save memory.")
    gradient_accumulation_steps: int = setting(1, "Parts of a device's batch computed one after the other.")
    steps_per_execution: int = setting(1, "Steps between two returns to Python; for TPUs, 50 or more.")


@settings_class
class Run(Settings):
    """The run."""

    workdir: str = setting("runs/pretrain", "Folder of the run; the same flags again continue it.", common=True)
    overwrite: bool = setting(False, "Remove the earlier run in --workdir and start anew.", common=True)
    checkpoint_steps: int = setting(500, "Steps between two checkpoints.")
    keep_checkpoints: int = setting(2, "How many of the newest checkpoints stay.")
    log_steps: int | None = setting(
        None, "Steps between two rows of metrics.csv; default a pass over the data, at most 100."
    )
    eval_steps: int | None = setting(None, "Steps between two evaluations; default a twelfth of the run.")


@settings_class
class Batches(Model, TrainingData, Pixels, Augmentation, Devices):
    """Of training batches."""


@settings_class
class Training(Batches, Optimisation, Run):
    """Of a training run."""


@settings_class
class Results(Settings):
    """Results."""

    workdir: str = setting(
        "runs/results", "Folder of the results; earlier ones of this command are replaced.", common=True
    )


@settings_class
class Measuring(Checkpoint, Data, View, Devices, Results):
    """Of a trained model that runs over a dataset."""
