"""What the recipes that train share: flags of the run, and the run itself from a built model to result.json."""

from keras_mixer.cli import entry  # first: it imports TensorFlow without its start-up notes

# isort: split
import logging
from typing import Any

import keras
import tensorflow as tf
from absl import flags

from keras_mixer.cli import shared_flags
from keras_mixer.data import pipeline
from keras_mixer.data.source import Source
from keras_mixer.evaluation.predictions import make_evaluator
from keras_mixer.training import freezing, loop, lora, optimizers, schedules, strategies, workdir
from keras_mixer.training.step import Execution, Trainer
from keras_mixer.types import Loss

FLAGS: Any = flags.FLAGS
logger = logging.getLogger("keras_mixer")

# What may change between a run and its continuation.
FREE_FLAGS = {
    "workdir",
    "overwrite",
    "checkpoint_steps",
    "keep_checkpoints",
    "log_steps",
    "eval_steps",
    "steps_per_execution",
    "gradient_accumulation_steps",
    "rematerialize",
    "pictures",
    "strategy",
    "num_devices",
    "tpu",
    "data_dir",
    "manual_dir",
}


def define_training_flags(
    epochs: float | None, optimizer: str, schedule: str, learning_rate: float, weight_decay: float
) -> None:
    """Define the flags of a training run, with the defaults of a recipe."""
    flags.DEFINE_integer("total_steps", None, "Steps of the run; wins over --epochs.")
    flags.DEFINE_float("epochs", epochs, "Passes over the training images.")
    flags.DEFINE_string("optimizer", optimizer, "adamw; or sgd, the heavy ball of the authors' fine-tuning.")
    flags.DEFINE_string("schedule", schedule, "linear or cosine decay of the learning rate after its warm-up.")
    flags.DEFINE_float("learning_rate", learning_rate, "Highest learning rate; it rises linearly, then decays.")
    flags.DEFINE_float("weight_decay", weight_decay, "adamw: fraction of each kernel removed per step at rate 1.")
    flags.DEFINE_integer("warmup_steps", None, "Steps of the linear rise; default a tenth of the run, at most 10,000.")
    flags.DEFINE_float("clip_norm", 1.0, "Global norm above which the gradient of a batch is scaled down; 0 for never.")
    flags.DEFINE_float("ema_decay", None, "Keep, evaluate and save a moving average of the weights, such as 0.9999.")
    flags.DEFINE_string("first_moment_dtype", "float32", "Or bfloat16, as the authors' code, for half the momentum.")
    flags.DEFINE_string("loss", "softmax", "softmax; or sigmoid, the authors' for ImageNet (summed over classes).")
    flags.DEFINE_float("dropout_rate", 0.0, "Fraction dropped after each Dense layer of the MLPs.")
    flags.DEFINE_boolean("rescale_stochastic_depth", False, "Divide a kept branch by 1 - rate; the authors do not.")
    flags.DEFINE_list("freeze", [], "Names of layers that are not trained, such as stem,block_?; * and ? match any.")
    flags.DEFINE_boolean("rematerialize", False, "Compute activations again in the backward pass, to save memory.")
    flags.DEFINE_integer("gradient_accumulation_steps", 1, "Parts of a device's batch computed one after the other.")
    flags.DEFINE_integer("steps_per_execution", 1, "Steps between two returns to Python; for TPUs, 50 or more.")
    flags.DEFINE_integer("checkpoint_steps", 500, "Steps between two checkpoints.")
    flags.DEFINE_integer("keep_checkpoints", 2, "How many of the newest checkpoints stay.")
    flags.DEFINE_integer(
        "log_steps", None, "Steps between two rows of metrics.csv; default a pass over the data, at most 100."
    )
    flags.DEFINE_integer("eval_steps", None, "Steps between two evaluations; default a twelfth of the run.")
    flags.DEFINE_boolean("overwrite", False, "Remove the earlier run in --workdir and start anew.")


def steps_of_run(num_examples: int) -> tuple[int, int, int, int]:
    """Return (total_steps, warmup_steps, log_steps, eval_steps) from the flags."""
    total = FLAGS.total_steps
    if total is None:
        if not 0 < FLAGS.epochs < float("inf"):
            raise ValueError(f"epochs: must be a positive number, got {FLAGS.epochs}.")
        total = round(FLAGS.epochs * num_examples / FLAGS.batch_size)
    epoch = max(1, num_examples // FLAGS.batch_size)
    log = min(100, epoch) if FLAGS.log_steps is None else FLAGS.log_steps
    evaluation = FLAGS.eval_steps
    if evaluation is None:  # on the same steps as rows of the log
        evaluation = max(1, round(total / 12 / max(1, log))) * log
    loop.check_intervals(
        checkpoint_steps=FLAGS.checkpoint_steps,
        keep_checkpoints=FLAGS.keep_checkpoints,
        log_steps=log,
        eval_steps=evaluation,
        steps_per_execution=FLAGS.steps_per_execution,
        gradient_accumulation_steps=FLAGS.gradient_accumulation_steps,
    )
    warmup = min(10_000, total // 10) if FLAGS.warmup_steps is None else FLAGS.warmup_steps
    return total, warmup, log, evaluation


def trainer_of_flags(
    model: keras.Model, loss: Loss, strategy: tf.distribute.Strategy, total_steps: int, warmup_steps: int
) -> Trainer:
    """Freeze --freeze and return the trainer that the flags describe."""
    freezing.freeze(model, FLAGS.freeze)
    with strategy.scope():
        optimizer = optimizers.make_optimizer(
            FLAGS.optimizer,
            schedules.WarmupDecay(FLAGS.learning_rate, total_steps, warmup_steps, decay=FLAGS.schedule),
            model,
            weight_decay=FLAGS.weight_decay,
            clip_norm=FLAGS.clip_norm,
            ema_decay=FLAGS.ema_decay,
            first_moment_dtype=FLAGS.first_moment_dtype,
        )
    return loop.make_trainer(
        model,
        optimizer,
        loss,
        strategy,
        FLAGS.batch_size,
        Execution(FLAGS.steps_per_execution, FLAGS.gradient_accumulation_steps),
    )


def train_and_evaluate(
    trainer: Trainer,
    train_source: Source,
    eval_source: Source,
    steps: Any,
    extra_settings: dict[str, Any] | None = None,
    crop: str = "resmall",
) -> dict[str, Any] | None:
    """Train in --workdir, or go on with it; evaluate every image once; write model.keras and result.json.

    Args:
        trainer: from `trainer_of_flags`.
        train_source, eval_source: see `data.source`.
        steps: (total_steps, warmup_steps, log_steps, eval_steps).
        extra_settings: name -> JSON value of what determines the run beside the flags.
        crop: of the evaluation.

    Returns:
        dict of what result.json holds, or None where the run was finished before.
    """
    model, strategy, side = trainer.model, trainer.strategy, shared_flags.image_size()
    total_steps, warmup_steps, log_steps, eval_steps = steps
    chief, patch_size = strategies.is_chief(strategy), model.get_layer("stem").patch_size

    def eval_batches(part: tuple[int, int]) -> Any:
        options = dict(batch_size=FLAGS.batch_size, image_size=side, crop=crop, pixels=shared_flags.pixel_settings())
        return shared_flags.permuted(pipeline.eval_batches(eval_source, part=part, **options), patch_size)

    def batches(start_step: int) -> Any:
        def of_part(part: tuple[int, int]) -> Any:
            return shared_flags.train_batches(train_source, start_step, part, patch_size=patch_size)

        return strategies.distribute(strategy, of_part, FLAGS.batch_size)

    def preview() -> Any:
        some = shared_flags.train_batches(train_source, 0, batch_size=min(16, FLAGS.batch_size), patch_size=patch_size)
        return next(iter(some))[0]

    settings = entry.settings(FREE_FLAGS) | {
        "total_steps": total_steps,
        "warmup_steps": warmup_steps,
        "class_names": train_source.class_names,
        "train_images": train_source.num_examples,
        "eval_images": eval_source.num_examples,
        "train_files": train_source.fingerprint,
    }
    details = {"flags": entry.settings(), "num_parameters": model.count_params(), "versions": entry.versions()}
    settings |= extra_settings or {}
    with workdir.open_workdir(FLAGS.workdir, settings, details, FLAGS.overwrite, chief) as folder:
        with loop.naming_lost_worker(trainer):
            strategies.wait_for_workers(strategy)  # what --overwrite removes, no worker takes for this run's
        if chief:
            print(
                f"Mixer {FLAGS.model}: {model.count_params():,} parameters, {side} px. {train_source.name}: "
                f"{train_source.num_examples:,} images, {len(train_source.class_names)} classes; {eval_source.name}: "
                f"{eval_source.num_examples:,}. {total_steps} steps of {FLAGS.batch_size} images on "
                f"{strategy.num_replicas_in_sync} device{'s' * (strategy.num_replicas_in_sync > 1)}.",
                flush=True,
            )
        results = (folder / "result.json", folder / "model.keras")
        if all(path.exists() for path in results):
            if chief:
                print(f"{folder} is finished: {results[0].read_text().strip()}")
            return None
        distributed = strategies.distribute(strategy, eval_batches, FLAGS.batch_size)
        evaluate = make_evaluator(model, distributed, trainer.image_loss, strategy)
        with entry.naming_unreadable_files(train_source, eval_source):
            summary = loop.train(
                trainer,
                batches,
                folder,
                total_steps,
                loop.Intervals(FLAGS.checkpoint_steps, log_steps, eval_steps, FLAGS.keep_checkpoints),
                evaluate=evaluate,
                preview=preview,
            )
            final = summary["evaluation"]
        result = {
            "steps": total_steps,
            "images_seen": total_steps * FLAGS.batch_size,
            **final,
            "resumed_at_step": summary["start_step"],
            **{name: summary[name] for name in ("images_per_second", "training_seconds", "checkpoint_seconds")},
        }
        lora.merge_lora(model)
        if chief:
            workdir.save_model(folder / "model.keras", model)
            workdir.write_json(folder / "result.json", result)
            print(
                f"\ntop-1 {final['top1']:.2%}, top-5 {final['top5']:.2%} on all {final['num_examples']:,} images of "
                f"{eval_source.name}; {summary['training_seconds'] or 0:.0f} s of training at "
                f"{summary['images_per_second'] or 0:.0f} images/s."
            )
        return result
