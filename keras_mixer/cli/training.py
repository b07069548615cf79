"""A training run, from a built model to result.json; pretrain and finetune share it."""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_mixer import files
from keras_mixer.cli import closing, faster, inputs, page_evidence
from keras_mixer.cli.settings import Training
from keras_mixer.data import pipeline
from keras_mixer.data.mixing import Finish
from keras_mixer.data.pixel_settings import PixelSettings
from keras_mixer.data.source import Source
from keras_mixer.evaluation.predictions import make_evaluator
from keras_mixer.report import numbers
from keras_mixer.training import freezing, loop, lora, losses, optimizers, schedules, strategies, workdir
from keras_mixer.training.step import Execution, Trainer
from keras_mixer.training.telling import Telling

# What may change between a run and its continuation.
FREE = {
    *("workdir", "overwrite", "dry_run", "checkpoint_steps", "keep_checkpoints", "log_steps", "eval_steps", "pictures"),
    *("steps_per_execution", "gradient_accumulation_steps", "rematerialize"),
    *("strategy", "num_devices", "tpu", "data_dir", "manual_dir"),
    *("cache", "cache_gb", "cache_dir"),  # what a cache does to the pixels is a fact of its own
}

SHOWN, SMALL = 16, 64  # images of a batch that are shown; up to which a whole batch is made for that
FEW = 1_000  # images of an evaluation, whose accuracy is so unsure that it is said


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where a run comes from: what `pages.about` returns, and `facts`, which may not change when it goes on.

    Facts are name -> JSON value of what determines the run beside its settings.
    """

    about: dict[str, Any]
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Steps:
    """The lengths of a run, in steps: as a whole, of its warm-up, and between two rows of the log or evaluations."""

    total: int
    warmup: int
    log: int
    evaluation: int


def steps_of_run(settings: Training, num_examples: int) -> Steps:
    """Return the `Steps` of settings for so many training images."""
    total = settings.total_steps
    if settings.batch_size < 1:
        raise ValueError(f"batch_size: must be a positive number of images, got {settings.batch_size}.")
    if total is None:
        epochs = settings.epochs or 0
        if not 0 < epochs * num_examples < float("inf"):
            raise ValueError(f"epochs: must be a positive number, got {settings.epochs}.")
        total = round(epochs * num_examples / settings.batch_size)
    epoch = max(1, num_examples // settings.batch_size)
    log = min(100, epoch) if settings.log_steps is None else settings.log_steps
    evaluation = settings.eval_steps
    if evaluation is None:  # on the same steps as rows of the log
        evaluation = max(1, round(total / 12 / max(1, log))) * log
    loop.check_intervals(
        checkpoint_steps=settings.checkpoint_steps,
        keep_checkpoints=settings.keep_checkpoints,
        log_steps=log,
        eval_steps=evaluation,
        steps_per_execution=settings.steps_per_execution,
        gradient_accumulation_steps=settings.gradient_accumulation_steps,
    )
    warmup = min(10_000, total // 10) if settings.warmup_steps is None else settings.warmup_steps
    return Steps(total, warmup, log, evaluation)


def trainer_of(settings: Training, model: keras.Model, strategy: tf.distribute.Strategy, steps: Steps) -> Trainer:
    """Freeze what is to be frozen, and return the trainer of the settings."""
    freezing.freeze(model, list(settings.freeze))
    with strategy.scope():
        optimizer = optimizer_of(settings, model, steps)
    return loop.make_trainer(
        model,
        optimizer,
        losses.get_loss(settings.loss),
        strategy,
        settings.batch_size,
        Execution(settings.steps_per_execution, settings.gradient_accumulation_steps),
        Finish(inputs.augmentation(settings), model.output_shape[-1]),
    )


def optimizer_of(settings: Training, model: keras.Model, steps: Steps) -> keras.optimizers.Optimizer:
    """Return the optimizer of the settings, or refuse them."""
    return optimizers.make_optimizer(
        settings.optimizer,
        schedules.WarmupDecay(settings.learning_rate, steps.total, steps.warmup, decay=settings.schedule),
        model,
        weight_decay=settings.weight_decay,
        clip_norm=settings.clip_norm,
        ema_decay=settings.ema_decay,
        first_moment_dtype=settings.first_moment_dtype,
    )


def train_and_evaluate(
    settings: Training,
    trainer: Trainer,
    train_source: Source,
    eval_source: Source,
    steps: Steps,
    *,
    crop: str = "resmall",
    origin: Origin,
) -> dict[str, Any] | None:
    """Train in the workdir, or go on with it; evaluate every image once; write model.keras and result.json.

    What the run's page shows of data, first batch and weights is kept last; the page itself is the caller's.

    Args:
        settings: filled ones.
        trainer: from `trainer_of`.
        train_source, eval_source: see `data.source`.
        steps: from `steps_of_run`.
        crop: of the evaluation.
        origin: of the run.

    Returns:
        What result.json holds, or None where the run was finished before.
    """
    model, strategy = trainer.model, trainer.strategy
    chief, patch_size = strategies.is_chief(strategy), model.get_layer("stem").patch_size

    @functools.cache  # a pipeline takes a second to make, and the first may be asked for again
    def of_part(start_step: int, part: tuple[int, int], few: bool = False) -> Any:
        chosen = settings.with_values(batch_size=SHOWN) if few else settings
        return inputs.byte_batches(chosen, train_source, start_step, part, patch_size)

    def batches(start_step: int) -> Any:
        make = functools.partial(of_part, start_step)
        return strategies.distribute(strategy, make, settings.batch_size, trainer.prepare.neighbours)

    @functools.cache  # TensorBoard shows it, and the run's page
    def first_batch() -> Any:
        images, labels = trainer.prepare(*next(iter(of_part(0, (0, 1), few=settings.batch_size > SMALL))))
        return images[:SHOWN], labels[:SHOWN]

    fixed, details = _description(settings, model, train_source, eval_source, steps)
    about = fixed | origin.facts, details | origin.about
    with workdir.open_workdir(settings.workdir, *about, settings.overwrite, chief) as at:
        with loop.naming_lost_worker(trainer):
            strategies.wait_for_workers(strategy)  # what --overwrite removes, no worker takes for this run's
        if chief:
            print(_announcement(settings, model, train_source, eval_source, steps, strategy), flush=True)
        if (at / "result.json").exists() and (at / "model.keras").exists():
            if chief:
                print(_finished(at))
            return None
        distributed = strategies.distribute(
            strategy, _eval_batches(settings, eval_source, crop, patch_size), settings.batch_size
        )
        with inputs.naming_unreadable_files(train_source, eval_source, resumes=True):
            summary = loop.train(
                trainer,
                batches,
                at,
                steps.total,
                loop.Intervals(settings.checkpoint_steps, steps.log, steps.evaluation, settings.keep_checkpoints),
                evaluate=make_evaluator(model, distributed, trainer.image_loss, strategy),
                told=_telling(settings, eval_source, steps, lambda: first_batch()[0]),
            )
        result = _finish(settings, trainer, eval_source, steps, summary, at)
        if chief:
            sources = {"training": train_source, "evaluation": eval_source}
            pictures = getattr(settings, "pictures", True)  # a flag of fine-tuning only
            page_evidence.keep_of_training(at, model, sources, first_batch, pictures)
        return result


def _eval_batches(
    settings: Training, source: Source, crop: str, patch_size: int
) -> Callable[[tuple[int, int]], tf.data.Dataset]:
    """Return the function of a part that gives its batches of the evaluation."""
    options: dict[str, Any] = dict(batch_size=settings.batch_size, image_size=settings.image_size, crop=crop)
    options |= dict(pixels=PixelSettings(**settings.pixels()), as_bytes=True)

    def of_part(part: tuple[int, int]) -> tf.data.Dataset:
        batches = pipeline.eval_batches(source, part=part, **options)
        return inputs.permuted(settings, batches, settings.image_size, patch_size)

    return of_part


def _description(
    settings: Training, model: keras.Model, train_source: Source, eval_source: Source, steps: Steps
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what run.json holds: what may not change when the run goes on, and what may."""
    fixed = settings.as_json(FREE) | {
        "total_steps": steps.total,
        "warmup_steps": steps.warmup,
        "class_names": train_source.class_names,
        "train_images": train_source.num_examples,
        "eval_images": eval_source.num_examples,
        "train_files": train_source.fingerprint,
    }
    details = {"flags": settings.as_json(), "num_parameters": model.count_params(), "versions": inputs.versions()}
    return fixed, details


def _telling(settings: Training, eval_source: Source, steps: Steps, preview: Callable[[], tf.Tensor]) -> Telling:
    """Return what the run tells; TensorBoard compares what determines a run, in its types, but for what is None."""
    values = {name: ",".join(v) if isinstance(v, list) else v for name, v in settings.as_json(FREE).items()}
    compared = {name: value for name, value in values.items() if value is not None}
    return Telling(preview, compared, eval_source.num_examples, faster.advice_for(settings, steps.total))


def _announcement(
    settings: Training,
    model: keras.Model,
    train_source: Source,
    eval_source: Source,
    steps: Steps,
    strategy: tf.distribute.Strategy,
) -> str:
    devices, name = strategy.num_replicas_in_sync, f"Mixer {settings.model or ''}".strip()
    return (
        f"{name}: {model.count_params():,} parameters, {settings.image_size} px. {train_source.name}: "
        f"{train_source.num_examples:,} images, {len(train_source.class_names)} classes; {eval_source.name}: "
        f"{eval_source.num_examples:,}. {steps.total:,} steps of {settings.batch_size:,} images on {devices} "
        f"device{'s' * (devices > 1)}."
    )


def _finished(at: pathlib.Path) -> str:
    result = json.loads((at / "result.json").read_text())
    return (
        f"{at} is finished: {result['steps']:,} steps, top-1 {result['top1']:.2%}. Its page is report.html there; "
        "--overwrite trains anew."
    )


def _finish(
    settings: Training, trainer: Trainer, eval_source: Source, steps: Steps, summary: dict[str, Any], at: pathlib.Path
) -> dict[str, Any]:
    """Write model.keras and result.json, and return what the latter holds."""
    final = summary["evaluation"]
    result = {
        "steps": steps.total,
        "images_seen": steps.total * settings.batch_size,
        **final,
        "resumed_at_step": summary["start_step"],
        **{name: summary[name] for name in ("images_per_second", "training_seconds", "checkpoint_seconds")},
    }
    lora.merge_lora(trainer.model)
    if strategies.is_chief(trainer.strategy):
        print(f"saving {at / 'model.keras'} ...", flush=True)
        workdir.save_model(at / "model.keras", trainer.model)
        files.write_json(at / "result.json", result)
        top5 = f", top-5 {final['top5']:.2%}" if len(eval_source.class_names) > 5 else ""
        print(
            f"\ntop-1 {final['top1']:.2%}{top5} on all {final['num_examples']:,} images of "
            f"{eval_source.name}; {summary['training_seconds'] or 0:.0f} s of training at "
            f"{summary['images_per_second'] or 0:.0f} images/s.",
            flush=True,
        )
        if final["num_examples"] < FEW:
            low, high = numbers.wilson_interval(round(final["top1"] * final["num_examples"]), final["num_examples"])
            print(f"Of so few images that says: between {low:.0%} and {high:.0%}, with 95 % confidence.", flush=True)
        closing.write_curves(at, settings)
    return result
