"""One call of `fit` from the step where the last run stopped to the last step."""

import contextlib
import dataclasses
import itertools
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from keras_mixer.training import background, callbacks, checkpoints, signals, strategies
from keras_mixer.training.step import CountSteps, Execution, Prepare, Ready, Trainer
from keras_mixer.training.telling import Telling
from keras_mixer.types import Loss


class WorkerLost(RuntimeError):
    """Another worker of the cluster, or a host of the TPU, has gone; the message says what to do."""

    exit_code = 1


@dataclasses.dataclass(frozen=True)
class Intervals:
    """Steps between two checkpoints, two rows of the log and two evaluations; how many of the newest checkpoints stay.

    Raises:
        ValueError: for one that is not positive.
    """

    checkpoint_steps: int = 1000
    log_steps: int = 100
    eval_steps: int = 1000
    keep_checkpoints: int = checkpoints.KEEP

    def __post_init__(self) -> None:
        check_intervals(**dataclasses.asdict(self))


def make_trainer(
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    loss: Loss,
    strategy: tf.distribute.Strategy,
    batch_size: int,
    execution: Execution = Execution(),  # noqa: B008 - it is frozen
    prepare: Prepare = Ready(),  # noqa: B008 - it is frozen
) -> Trainer:
    """Return a compiled `step.Trainer` around `model`, whose `fit` and state the recipes use.

    Args:
        model: images in [-1, 1] -> logits.
        optimizer: from `optimizers.make_optimizer`.
        loss: (labels, logits) -> loss per image; its mean over the global batch is minimised.
        strategy: the `tf.distribute` strategy the model was built under.
        batch_size: images in a global batch.
        execution: how steps are computed.
        prepare: what is done to a batch on the device, `data.mixing.Finish` for batches that come as bytes; without
            it batches are images in [-1, 1] and labels (B, K).

    Raises:
        ValueError: for a number of steps that is not positive, a batch that cannot be shared evenly, or an optimiser
            that is not ours.
    """
    if not hasattr(optimizer, "takes_final_gradients"):
        raise ValueError(
            f"optimizer: {type(optimizer).__name__} would sum and clip the gradient of each device again; use "
            "keras_mixer.training.optimizers.make_optimizer, AdamW or HeavyBallSGD."
        )
    check_intervals(steps_per_execution=execution.steps_per_execution)
    check_batch(batch_size, strategy, execution.gradient_accumulation_steps)
    if execution.jit_compile is None:
        execution = dataclasses.replace(execution, jit_compile=_xla_is_faster(model, strategy))
    with strategy.scope():
        trainer = Trainer(model, loss, strategy, batch_size, execution, prepare)
        optimizer.takes_final_gradients = True
        optimizer.build(model.trainable_variables)
        trainer.compile(optimizer)
    return trainer


def _xla_is_faster(model: keras.Model, strategy: tf.distribute.Strategy) -> bool:
    # A TPU compiles everything by itself, that of another machine as well; and TensorFlow's build for it has no XLA for
    # the CPU. On CPU, XLA does not use the bfloat16 units.
    if isinstance(strategy, tf.distribute.TPUStrategy) or tf.config.list_physical_devices("TPU_SYSTEM"):
        return False
    return model.compute_dtype == "float32" or bool(tf.config.list_physical_devices("GPU"))


def check_batch(batch_size: int, strategy: tf.distribute.Strategy, gradient_accumulation_steps: int = 1) -> None:
    """Raise a ValueError if the global batch cannot be shared evenly by devices and micro-batches."""
    check_intervals(gradient_accumulation_steps=gradient_accumulation_steps)
    devices, parts = strategy.num_replicas_in_sync, gradient_accumulation_steps
    if batch_size % devices:
        raise ValueError(f"batch_size: {batch_size} cannot be shared evenly by {devices} devices; use a multiple.")
    if batch_size % (devices * parts):
        raise ValueError(
            f"gradient_accumulation_steps: the {batch_size // devices} images of a device cannot be divided into "
            f"{parts} equal parts; use a divisor, or a batch_size that is a multiple of {devices * parts}."
        )


def check_intervals(**steps: int) -> None:
    """Raise a ValueError that names the first interval which is not a positive number of steps."""
    for name, value in steps.items():
        if value < 1:
            raise ValueError(f"{name}: must be a positive number of steps, got {value}.")


def train(
    trainer: Trainer,
    batches: Callable[[int], tf.data.Dataset | tf.distribute.DistributedDataset],
    workdir: pathlib.Path,
    total_steps: int,
    intervals: Intervals = Intervals(),
    *,
    evaluate: callbacks.Evaluate | None = None,
    told: Telling = Telling(),  # noqa: B008 - it is frozen
) -> dict[str, Any]:
    """Train to `total_steps`, from the newest checkpoint in the workdir if it has one.

    SIGTERM and SIGINT save the state after the present step and end the run; a second one exits at once.

    Args:
        trainer: from `make_trainer`.
        batches: start_step -> dataset of (images float32 in [-1, 1], labels (B, K)), as `strategies.distribute` has it.
        workdir: a folder from `workdir.open_workdir`. With several workers, one that all of them see.
        total_steps: of the whole run.
        intervals: when to save, to log and to evaluate.
        evaluate: from `evaluation.predictions.make_evaluator`; None for no evaluation.
        told: what the run shows in TensorBoard and says beside its numbers.

    Returns:
        dict of start_step; evaluation, the last one, empty without `evaluate`; and of this process, None where no
        execution was timed: images_per_second and training_seconds, without evaluation and the first execution, and
        checkpoint_seconds, that training waited for checkpoints, which are written while it goes on.

    Raises:
        ValueError: where no checkpoint of the workdir can be used.
        NonFiniteLoss: naming the step; the last good state is on disk.
        Interrupted: after a signal; the state is on disk.
        WorkerLost: where another worker or a TPU's host died; the checkpoints are on disk.
        files.SaveError: if the disk is full; the checkpoints before are on disk.
    """
    written, each = workdir if strategies.is_chief(trainer.strategy) else None, intervals
    log = callbacks.Log(written, trainer.batch_size, each.log_steps, each.eval_steps, evaluate, told)
    state = lambda: itertools.chain(trainer.each_array(), [("log/running", log.running)])
    saving = background.Checkpoint(
        written and written / "checkpoints", each.checkpoint_steps, state, each.keep_checkpoints
    )
    for callback in (log, saving):
        callback.set_model(trainer)
    with signals.on_signal(saving.ask_to_stop), naming_lost_worker(trainer), contextlib.closing(saving):
        start = _restore(trainer, workdir, log, saving)
        trainer.total_steps = total_steps
        if start < total_steps:
            # One call for the whole run: Keras overwrites weights with their average at each end of a `fit`.
            data, parts = batches(start), [CountSteps(), callbacks.StopOnNonFinite(), log, saving]
            with contextlib.closing(log):
                trainer.fit(data, steps_per_epoch=trainer.executions, shuffle=False, verbose=0, callbacks=parts)
            if trainer.step < total_steps:  # Keras only warns when the data end too soon
                raise RuntimeError(f"the training data ended after step {trainer.step}, and they should be endless.")
        elif evaluate is not None:  # it was stopped between its last checkpoint and its result
            log.evaluate_now()
    if saving.signum is not None:
        raise signals.Interrupted(saving.signum, trainer.step)
    if trainer.optimizer.use_ema:
        trainer.optimizer.finalize_variable_values(trainer.model.trainable_variables)
    timed = bool(log.seconds)
    return {
        "start_step": start,
        "evaluation": log.evaluation,
        "images_per_second": round(log.images_per_second, 1) if timed else None,
        "training_seconds": round(log.seconds, 1) if timed else None,
        "checkpoint_seconds": round(saving.seconds, 2) if timed else None,
    }


def _restore(trainer: Trainer, workdir: pathlib.Path, log: callbacks.Log, saving: background.Checkpoint) -> int:
    """Put trainer and log where the newest checkpoint was, save a first one where there is none; return the step."""
    folder = workdir / "checkpoints"
    trainer.step, arrays = checkpoints.read_newest(folder, dict(saving.state()))
    if arrays is None and (workdir / "metrics.csv").exists():  # it is made after the first checkpoint
        raise ValueError(
            f"workdir: {folder} has no checkpoint, and metrics.csv says that the run had begun; restore one, or "
            "--overwrite to start anew."
        )
    strategies.check_same_step(trainer.strategy, trainer.step)
    if arrays is not None:
        trainer.set_state(arrays)
        log.running[:] = arrays["log/running"]
    else:
        saving.save(0, wait=True)  # so that a NaN in the first steps also leaves a good state
    return trainer.step


@contextlib.contextmanager
def naming_lost_worker(trainer: Trainer) -> Iterator[None]:
    """Turn the error of a collective, or of a host of a TPU, whose other end has gone into a `WorkerLost`."""
    try:
        yield
    except strategies.LOST as error:
        after = f"has gone after step {trainer.step} ({type(error).__name__})"
        if isinstance(trainer.strategy, tf.distribute.TPUStrategy):
            raise WorkerLost(
                f"tpu: a host of the TPU {after}; look at its state with `gcloud compute tpus tpu-vm describe`, and "
                "run the same command again when it is READY: it continues from the newest checkpoint."
            ) from error
        if not strategies.has_workers(trainer.strategy):
            raise
        raise WorkerLost(
            f"strategy: another worker {after}; start the same command on every worker again, and it continues from "
            "the newest checkpoint."
        ) from error
