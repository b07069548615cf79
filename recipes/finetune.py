"""Fine-tune a pretrained Mixer on other images, the way the paper does (section 3 and Appendix C).

Heavy-ball SGD, global clip 1, cosine decay after a warm-up, no weight decay, a new head that starts at zero. Another
image size than the checkpoint's, such as 448 for 224, resizes the token MLPs the paper's way. Without flags: what
`python recipes/pretrain.py` left in runs/pretrain, on the same digits at twice the size.

    python recipes/finetune.py --weights=imagenet21k --model=b16 --dataset=path/to/folder
    python recipes/finetune.py --weights=imagenet21k --model=b16 --task=pets --image_size=448
    python recipes/finetune.py --weights=imagenet21k --model=l16 --task=vtab-clevr_count --sweep --strategy=tpu
"""

from keras_mixer.cli import entry  # first: it imports TensorFlow without its start-up notes

# isort: split
import logging
import pathlib
from typing import Any

import keras
import tensorflow as tf
from absl import flags

from keras_mixer import starting_point
from keras_mixer.cli import shared_flags, sweep, trained_classes, training
from keras_mixer.cli.command_line import command
from keras_mixer.data import pipeline, tasks
from keras_mixer.data.source import Source
from keras_mixer.data.tasks import Task
from keras_mixer.evaluation import report_files
from keras_mixer.evaluation.predictions import predict_images
from keras_mixer.paper import MODELS
from keras_mixer.starting_point import StartingPoint
from keras_mixer.training import loop, lora, losses, strategies

FLAGS: Any = flags.FLAGS
logger = logging.getLogger("keras_mixer")
DEFAULT_WEIGHTS = "runs/pretrain"
shared_flags.define_common_flags(default_workdir="runs/finetune")
shared_flags.define_data_flags()
training.define_training_flags(epochs=None, optimizer="sgd", schedule="cosine", learning_rate=0.01, weight_decay=0.0)
for name, value in {"model": None, "batch_size": None, "mixup_alpha": 0.0}.items():
    FLAGS.set_default(name, value)
flags.DEFINE_string("task", None, f"A task of the paper, which sets data, size and steps: {', '.join(tasks.TASKS)}.")
flags.DEFINE_float("stochastic_depth_rate", 0.0, "Fraction of images for which the last block is dropped.")
flags.DEFINE_string("crop", "resmall", "Of the evaluation: resmall (paper's Table 3) or resize (Table 2).")
flags.DEFINE_boolean("keep_head", False, "Start from the checkpoint's head, whose classes must be the dataset's.")
flags.DEFINE_boolean("linear_probe", False, "Train the head only.")
flags.DEFINE_integer("lora_rank", None, "Train the head and low-rank adapters of this rank in place of the MLPs.")
flags.DEFINE_boolean("development", False, "Hold part of the training images out, and evaluate on it: to choose flags.")
flags.DEFINE_float("development_fraction", 0.1, "The part that --development and --sweep hold out; a task has its own.")
flags.DEFINE_boolean("pictures", True, "Draw confusion.png and mistakes.png, which need matplotlib.")
flags.DEFINE_boolean("sweep", False, "Try --learning_rates on a development split, then train the best on everything.")
flags.DEFINE_list("learning_rates", None, "Of --sweep; default the task's, or .003,.01,.03,.06.")
flags.DEFINE_list("seeds", ["0"], "Of the final runs of --sweep; with several, mean and deviation are reported.")
for module in (shared_flags, training):  # so that --help shows their flags
    flags.adopt_module_key_flags(module)


def main(_: list[str]) -> None:
    # ---- Settings: the task, then flags by hand ----
    pipeline.check_crop(FLAGS.crop)
    if FLAGS.pictures:
        report_files.check_matplotlib()
    if FLAGS.model is not None:
        shared_flags.check_model_name()
    # A sweep's runs are processes of their own; a strategy comes before anything else of TensorFlow.
    strategy: Any = None if FLAGS.sweep else shared_flags.make_strategy()
    start = starting_point.find(_weights(), FLAGS.model)
    check_permutation(start)
    task = tasks.get_task(FLAGS.task) if FLAGS.task else None
    set_defaults(task, start)
    if FLAGS.sweep:
        sweep.run(task)
        return
    loss = losses.get_loss(FLAGS.loss)
    shared_flags.set_precision_and_seed()

    # ---- Data ----
    train_source, eval_source = open_sources(task)
    if FLAGS.batch_size is None:
        FLAGS.batch_size = default_batch_size(train_source.num_examples)
    if FLAGS.total_steps is None and FLAGS.epochs is None:
        FLAGS.total_steps = default_steps(train_source.num_examples)
    loop.check_batch(FLAGS.batch_size, strategy, FLAGS.gradient_accumulation_steps)
    shared_flags.check_train_batches(train_source)
    steps = training.steps_of_run(train_source.num_examples)

    # ---- Model: the checkpoint's body, a new head of zeros ----
    side = FLAGS.image_size
    with strategy.scope():
        model = start.build(
            side,
            channels=FLAGS.channels,
            classes=len(train_source.class_names),
            classifier_activation=None,
            dropout_rate=FLAGS.dropout_rate,
            stochastic_depth_rate=FLAGS.stochastic_depth_rate,
            rescale_stochastic_depth=FLAGS.rescale_stochastic_depth,
            rematerialize=FLAGS.rematerialize,
            name="mixer",
        )
        if not FLAGS.keep_head:
            new_head(model)
        else:
            trained_classes.check(start, train_source, "leave --keep_head out for a new head")
        if FLAGS.lora_rank is not None:
            lora.enable_lora(model, FLAGS.lora_rank)
    if FLAGS.linear_probe:
        FLAGS["freeze"].value = [layer.name for layer in model.layers if layer.weights and layer.name != "head"]
    trainer = training.trainer_of_flags(model, loss, strategy, *steps[:2])

    # ---- Train, evaluate every image once, save ----
    result = training.train_and_evaluate(
        trainer, train_source, eval_source, steps, {"started_from": start.name}, FLAGS.crop
    )
    if result or not (pathlib.Path(FLAGS.workdir) / "classes.csv").exists():
        if not result:  # it was stopped after its result and before its report
            with strategy.scope():
                model = keras.saving.load_model(pathlib.Path(FLAGS.workdir) / "model.keras")
        report(model, eval_source, strategy)


def _weights() -> str:
    if FLAGS.weights is not None:
        return FLAGS.weights
    if not (pathlib.Path(DEFAULT_WEIGHTS) / "model.keras").exists():
        raise ValueError(
            f"weights: give a released name, a file or a workdir; or make {DEFAULT_WEIGHTS}, which is the default, by "
            f"{command('pretrain')}."
        )
    return DEFAULT_WEIGHTS


def check_permutation(start: StartingPoint) -> None:
    """Refuse to go on silently with plain images where the checkpoint knows permuted ones."""
    kind = start.settings.get("permutation", "none")
    if kind != "none" and not FLAGS["permutation"].present:
        raise ValueError(
            f"permutation: {start.name} was trained with --permutation={kind} --permutation_seed="
            f"{start.settings['permutation_seed']} at {start.image_size} px; give these, or --permutation=none for "
            "plain images."
        )


def set_defaults(task: Task | None, start: StartingPoint) -> None:
    """Set the flags that were not given by hand from the task, or from the checkpoint."""
    if FLAGS.linear_probe and FLAGS.lora_rank is not None:
        raise ValueError("lora_rank: cannot be combined with --linear_probe; leave one of them out.")
    given = [name for name in ("learning_rate", "seed", "development") if FLAGS[name].present]
    if FLAGS.sweep and given:
        raise ValueError(f"{given[0]}: --sweep chooses it; use --learning_rates and --seeds.")
    given = [name for name in ("learning_rates", "seeds") if FLAGS[name].present]
    if given and not FLAGS.sweep:
        raise ValueError(f"{given[0]}: needs --sweep; without it use --{given[0].rstrip('s')}.")
    if not 0 < FLAGS.development_fraction < 1:
        raise ValueError(f"development_fraction: must be in (0, 1), got {FLAGS.development_fraction}.")
    chosen = {}
    if task is not None:
        if FLAGS["dataset"].present or FLAGS["train_split"].present or FLAGS["eval_split"].present:
            raise ValueError(f"task: {task.key} sets --dataset and its splits; leave those out, or --task.")
        chosen = {
            "dataset": task.key,
            "image_size": task.image_size,
            **({} if FLAGS["epochs"].present else {"total_steps": task.steps}),
            # Of another number of steps a tenth is the warm-up, as without a task.
            **({} if FLAGS["epochs"].present or FLAGS["total_steps"].present else {"warmup_steps": task.warmup_steps}),
            "augmentation": task.augmentation,
            "batch_size": 512,
        }
    elif FLAGS.weights is None and not FLAGS["dataset"].present:
        chosen["image_size"] = 2 * (start.image_size or 16)  # something to see without flags
    chosen.setdefault("image_size", start.image_size or 224)
    chosen["channels"] = start.channels
    for name, value in chosen.items():
        if not FLAGS[name].present and FLAGS[name].value in (None, FLAGS[name].default):
            FLAGS[name].value = value
    if FLAGS.model is None:
        FLAGS.model = next((n for n, sizes in MODELS.items() if same_sizes(sizes, start.sizes)), "mixer")


def same_sizes(sizes: dict[str, int], others: Any) -> bool:
    """Whether two Mixers differ in nothing but the width of their token MLPs, which grows with the image."""
    return all(others[key] == value for key, value in sizes.items() if key != "tokens_mlp_dim")


def open_sources(task: Task | None) -> tuple[Source, Source]:
    """Open the images to train on and to evaluate on; with --development both are parts of the training images."""
    if task is not None:
        phase = "develop" if FLAGS.development else "final"
        return tasks.open_task(task, phase, data_dir=FLAGS.data_dir, manual_dir=FLAGS.manual_dir)
    if FLAGS.development:
        split = FLAGS.train_split or "train"
        if "[" in split:
            raise ValueError(
                f"train_split: --development divides a whole split, got {split!r}; use {split.split('[')[0]}."
            )
        percent = round(100 * FLAGS.development_fraction) or 1
        FLAGS.train_split, FLAGS.eval_split = f"{split}[:{100 - percent}%]", f"{split}[{100 - percent}%:]"
        train_source, eval_source = shared_flags.open_sources()
        tasks.check_every_class(train_source)
        return train_source, eval_source
    return shared_flags.open_sources()


def default_batch_size(num_examples: int) -> int:
    """The paper's 512; for fewer images the largest power of two that makes at least eight batches, and at least 8."""
    size = 512
    while size > max(num_examples // 8, 8):
        size //= 2
    return min(size, num_examples)


def default_steps(num_examples: int) -> int:
    """500 steps below 20,000 images, 10,000 below 500,000, else 20,000 (the BiT hyper-rule, as the paper says)."""
    return 500 if num_examples < 20_000 else 10_000 if num_examples < 500_000 else 20_000


def new_head(model: keras.Model) -> None:
    """Start the head at zero, also where the checkpoint's happens to have as many classes."""
    head = model.get_layer("head")
    for variable in (head.kernel, head.bias):
        variable.assign(keras.ops.zeros(variable.shape))


def report(model: keras.Model, eval_source: Source, strategy: tf.distribute.Strategy) -> None:
    """Write and name the pictures of what the model gets wrong, and say what to do next."""
    folder, crop = pathlib.Path(FLAGS.workdir), FLAGS.crop
    pixels, root = shared_flags.pixel_settings(), FLAGS.dataset
    shown = dict(image_size=FLAGS.image_size, crop=crop, pixels=pixels)

    def of_part(part: tuple[int, int]) -> tf.data.Dataset:
        batches = pipeline.eval_batches(eval_source, batch_size=FLAGS.batch_size, part=part, **shown)
        return shared_flags.permuted(batches, model.get_layer("stem").patch_size)

    batches = strategies.distribute(strategy, of_part, FLAGS.batch_size)
    loss = losses.get_loss(FLAGS.loss)
    probabilities = {"softmax": tf.nn.softmax, "sigmoid": tf.nn.sigmoid}[FLAGS.loss]
    predictions = predict_images(model, batches, loss, probabilities, strategy)
    if not strategies.is_chief(strategy):
        return
    written = report_files.write(folder, predictions, eval_source, shown, root, FLAGS.pictures)
    print(
        "\n".join(f"  {path}" for path in written)
        + f"\nNext:\n  {command('predict')} --weights={FLAGS.workdir} path/to/images\n"
        f"  {command('plot')} --workdirs={FLAGS.workdir}"
    )


if __name__ == "__main__":
    entry.run(main)
