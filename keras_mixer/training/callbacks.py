"""What happens between two steps of `fit`: stop on NaN, log and evaluate, save."""

import sys
import time

import keras
import tensorflow as tf
from tqdm import tqdm

from keras_mixer.training.checkpoints import save_state
from keras_mixer.training.workdir import MetricsFile

COLUMNS = (
    "step",
    "learning_rate",
    "train_loss",
    "train_top1",
    "eval_loss",
    "eval_top1",
    "eval_top5",
    "images_per_second",
)


class NonFiniteLoss(ArithmeticError):
    """The loss became NaN or infinite; the message names the step."""


class _StepCallback(keras.callbacks.Callback):
    """A callback that counts steps of the run instead of batches of this call of `fit`."""

    def __init__(self, start_step, total_steps):
        super().__init__()
        self.start_step, self.total_steps = start_step, total_steps
        self.last_step = start_step

    def on_train_batch_end(self, batch, logs=None):
        step = self.start_step + batch + 1
        self.on_step(step, logs)
        self.last_step = step

    def due(self, step, every):
        """Whether a multiple of `every` lies in the steps since the last call, or the run is over."""
        return step // every > self.last_step // every or step == self.total_steps

    def on_step(self, step, logs):
        raise NotImplementedError


class StopOnNonFinite(_StepCallback):
    """Raise `NonFiniteLoss` at the first step whose loss is NaN or infinite."""

    def on_step(self, step, logs):
        loss = float(logs["loss"])
        if not abs(loss) < float("inf"):
            raise NonFiniteLoss(
                f"the loss became {loss} at step {step}; the last good state is kept in checkpoints/. "
                "Lower --learning_rate or raise --warmup_steps, and start with --overwrite or another --workdir."
            )


class Log(_StepCallback):
    """Progress bar, metrics.csv and TensorBoard; loss and accuracy are means over the steps since the last row.

    Args:
        start_step, total_steps: of the run.
        workdir: the folder.
        batch_size: images in a global batch.
        log_steps: steps between two rows.
        eval_steps: steps between two evaluations.
        evaluate: () -> dict with top1, top5 and loss; None for no evaluation while training.
    """

    def __init__(self, start_step, total_steps, workdir, batch_size, log_steps, eval_steps, evaluate):
        super().__init__(start_step, total_steps)
        self.workdir, self.batch_size = workdir, batch_size
        self.log_steps, self.eval_steps, self.evaluate = log_steps, eval_steps, evaluate
        self.evaluation = None  # the last one
        self.seconds = 0.0  # spent training, without evaluation and the first, tracing step
        self.timed_steps = 0
        self.metrics = MetricsFile(self.workdir / "metrics.csv", COLUMNS, self.start_step)
        self.writer = tf.summary.create_file_writer(str(self.workdir / "tensorboard"))
        terminal = sys.stderr.isatty()
        self.bar = tqdm(total=self.total_steps, initial=self.start_step, unit="step", disable=not terminal)
        self.say = tqdm.write if terminal else lambda text: print(text, flush=True)
        self.clock, self.window = None, 0

    def on_step(self, step, logs):
        if self.clock is None:  # the first step traces and compiles
            self.clock = time.perf_counter()
        else:
            self.window += step - self.last_step
        self.bar.update(step - self.last_step)
        self.bar.set_postfix(loss=f"{logs['loss']:.4f}", refresh=False)
        evaluating = self.evaluate is not None and self.due(step, self.eval_steps)
        if not (evaluating or self.due(step, self.log_steps)):
            return
        elapsed = time.perf_counter() - self.clock
        speed = self.window * self.batch_size / elapsed if self.window else 0.0
        self.seconds, self.timed_steps = self.seconds + elapsed, self.timed_steps + self.window
        row = {
            "step": step,
            # The rate of the step just taken; the optimiser has already counted it.
            "learning_rate": float(_rate(self.model.optimizer, step - 1)),
            "train_loss": float(logs["loss"]),
            "train_top1": float(logs["top1"]),
            "images_per_second": round(speed, 1),
        }
        if evaluating:
            self.evaluation = self.evaluate()
            row |= {f"eval_{name}": self.evaluation[name] for name in ("loss", "top1", "top5")}
        self.metrics.write(row)
        with self.writer.as_default(step=step):
            for name, value in row.items():
                if name != "step":
                    tf.summary.scalar(name, value)
        self.say(_line(row, self.total_steps))
        self.model.reset_metrics()
        self.clock, self.window = time.perf_counter(), 0

    def close(self):
        """Close the files; to be called however training ends."""
        self.metrics.close()
        self.writer.close()
        self.bar.close()

    @property
    def images_per_second(self):
        """Over the whole run, without evaluation and the first step; 0 if nothing was timed."""
        return self.timed_steps * self.batch_size / self.seconds if self.seconds else 0.0


def _rate(optimizer, step):
    schedule = optimizer._learning_rate
    return schedule(step) if callable(schedule) else optimizer.learning_rate


def _line(row, total_steps):
    parts = [f"step {row['step']}/{total_steps}", f"lr {row['learning_rate']:.2e}", f"loss {row['train_loss']:.4f}"]
    if "eval_top1" in row:
        parts += [f"eval loss {row['eval_loss']:.4f}", f"eval top1 {row['eval_top1']:.2%}"]
    return "  ".join([*parts, f"{row['images_per_second']:.0f} images/s"])


class Checkpoint(_StepCallback):
    """Save the whole state every so many steps and at the end. Put it last, so that it saves what the others did."""

    def __init__(self, start_step, total_steps, folder, checkpoint_steps):
        super().__init__(start_step, total_steps)
        self.folder, self.checkpoint_steps = folder, checkpoint_steps

    def on_step(self, step, logs):
        if self.due(step, self.checkpoint_steps):
            try:
                save_state(self.folder, self.model, step)
            except FloatingPointError as error:
                raise NonFiniteLoss(f"{error} Lower --learning_rate; the state before it is kept.") from None
