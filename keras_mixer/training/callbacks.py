"""What happens between two executions of `fit`: stop on NaN, log and evaluate; `background` saves."""

import contextlib
import logging
import pathlib
import sys
import time
from collections.abc import Callable, Iterator

import keras
import numpy as np
import tensorflow as tf
from tensorboard.plugins.hparams import api as hyper_parameters
from tqdm import tqdm

from keras_mixer import files
from keras_mixer.training import ema, remaining, telling
from keras_mixer.training.metrics import MetricsFile
from keras_mixer.training.step import STATISTICS
from keras_mixer.training.telling import Telling
from keras_mixer.types import Tensor

logger = logging.getLogger("keras_mixer")
SCORES = ("loss", "top1", "top5")
Evaluate = Callable[[], dict[str, float]]  # loss, top1, top5 and num_examples of the present weights


class NonFiniteLoss(ArithmeticError):
    """The loss became NaN or infinite; the message names the step."""

    exit_code = 3


class StepCallback(keras.callbacks.Callback):
    """A callback that counts steps of the run instead of executions of this call of `fit`."""

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        self.last_step, self.total_steps = self.model.step, self.model.total_steps

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self.on_step(self.model.step)
        self.last_step = self.model.step

    def due(self, step: int, every: int) -> bool:
        """Whether a multiple of `every` lies in the steps since the last call, or the run is over."""
        return step // every > self.last_step // every or step == self.total_steps

    def on_step(self, step: int) -> None:
        raise NotImplementedError


class StopOnNonFinite(StepCallback):
    """Raise `NonFiniteLoss` for the first step whose loss is NaN or infinite."""

    def on_step(self, step: int) -> None:
        losses = self.model.rows[:, 0]
        bad = np.flatnonzero(~np.isfinite(losses))
        if len(bad):
            raise NonFiniteLoss(
                f"the loss became {losses[bad[0]]} at step {self.last_step + 1 + bad[0]}; the last good state is kept "
                "in checkpoints/. Lower --learning_rate or raise --warmup_steps, and start with another --workdir, or "
                "with --overwrite, which removes this one."
            )


class Log(StepCallback):
    """Progress bar, metrics.csv and TensorBoard; loss, accuracy and gradient norm are means since the last row.

    Args:
        workdir: the folder, or None for a worker that only computes.
        batch_size: images in a global batch.
        log_steps: steps between two rows.
        eval_steps: steps between two evaluations.
        evaluate: what is asked every `eval_steps`; None for no evaluation while training.
        told: what else it shows and says.

    Attributes:
        running: sums since the last row and the number of their steps, which belong to a checkpoint.
        evaluation: what `evaluate` last returned, with "raw_..." beside where an average of weights is kept.
    """

    def __init__(
        self,
        workdir: pathlib.Path | None,
        batch_size: int,
        log_steps: int,
        eval_steps: int,
        evaluate: Evaluate | None,
        told: Telling = Telling(),  # noqa: B008 - it is frozen
    ) -> None:
        super().__init__()
        self.workdir, self.batch_size, self.told = workdir, batch_size, told
        self.log_steps, self.eval_steps, self.evaluate = log_steps, eval_steps, evaluate
        self.running = np.zeros(len(STATISTICS) + 1)
        self.evaluation: dict[str, float] = {}
        self.seconds = 0.0  # spent training, without evaluation and the first, tracing execution
        self.timed_steps = 0
        self.clock: float | None = None
        self.window = 0
        self.metrics: MetricsFile | None = None
        self.writer: tf.summary.SummaryWriter | None = None
        self.bar: tqdm | None = None

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        super().on_train_begin(logs)
        passes = 2 if self.model.optimizer.use_ema else 1
        images = passes * self.told.eval_images if self.evaluate else 0
        self.remaining = remaining.Remaining(self.total_steps, self.batch_size, self.eval_steps, images)
        if self.workdir is None:
            return
        self.metrics = MetricsFile(self.workdir / "metrics.csv", self.last_step)
        with self._naming_tensorboard():
            self.writer = tf.summary.create_file_writer(str(self.workdir / "tensorboard"))
        terminal = sys.stderr.isatty()
        self.bar = tqdm(
            total=self.total_steps, initial=self.last_step, unit="step", disable=not terminal, dynamic_ncols=True
        )
        self.say: Callable[[str], None] = tqdm.write if terminal else lambda text: print(text, flush=True)
        if not terminal:
            going_on = f"going on after step {self.last_step:,}; " if self.last_step else ""
            self.say(f"{going_on}compiling the training step ...")
        shown = self.told.preview() if self.told.preview and self.last_step == 0 else None
        with self._naming_tensorboard(), self.writer.as_default(step=0):
            if self.told.settings:
                hyper_parameters.hparams(dict(self.told.settings))
            if shown is not None:
                tf.summary.image("training_images", shown / 2 + 0.5, max_outputs=len(shown))

    def on_step(self, step: int) -> None:
        if self.clock is None:  # the first execution traces and compiles
            self.clock = time.perf_counter()
        else:
            self.window += step - self.last_step
        self._foresee(step)
        self.running += [*self.model.rows.sum(axis=0, dtype=np.float64), len(self.model.rows)]
        evaluating = self.evaluate is not None and self.due(step, self.eval_steps)
        logging = evaluating or self.due(step, self.log_steps)
        elapsed = time.perf_counter() - self.clock
        speed = self.window * self.batch_size / elapsed if self.window else 0.0
        if self.bar is not None:
            self.bar.update(step - self.last_step)
            shown = {"loss": f"{self.model.rows[-1, 0]:.4f}", "images/s": f"{speed:.0f}"}
            if self.evaluation:
                shown["eval top1"] = f"{self.evaluation['top1']:.2%}"
            self.bar.set_postfix(shown, refresh=False)
        if not logging:
            return
        self.seconds, self.timed_steps = self.seconds + elapsed, self.timed_steps + self.window
        means = dict(zip(STATISTICS, self.running[:-1] / self.running[-1], strict=True))
        self.running[:] = 0
        row: dict[str, float] = {
            "step": step,
            # The rate of the step just taken; the optimiser has already counted it.
            "learning_rate": float(_rate(self.model.optimizer, step - 1)),
            "train_loss": means["loss"],
            "train_top1": means["top1"],
            "gradient_norm": means["gradient_norm"],
            "weight_norm": float(tf.linalg.global_norm([v.value for v in self.model.model.trainable_variables])),
            "images_per_second": round(speed, 1),
        }
        if evaluating:
            began, expected = time.perf_counter(), self.remaining.evaluation_seconds()
            if expected > telling.LONG_EVALUATION and self.workdir is not None:
                self.say(f"evaluating: about {remaining.duration(expected)} ...")
            row |= self.evaluate_now()
            self.remaining.paused(time.perf_counter() - began)
        if self.metrics is not None:
            self._write(row)
        self.clock, self.window = time.perf_counter(), 0

    def _foresee(self, step: int) -> None:
        """Say once how long the run will take, where it takes long; on a terminal the bar says it."""
        seconds = self.remaining.executed(step, time.perf_counter())
        if seconds is None or seconds < remaining.WORTH_SAYING or self.workdir is None:
            return
        advice = list(self.told.advice(seconds)) if self.told.advice else []
        if advice or not sys.stderr.isatty():
            self.say("\n".join([self.remaining.sentence(step, seconds), *advice]))

    def evaluate_now(self) -> dict[str, float]:
        """Evaluate the weights, and their average where there is one; return the row's values."""
        assert self.evaluate is not None
        self.evaluation = self.evaluate()
        row = {f"eval_{name}": self.evaluation[name] for name in SCORES}
        if self.model.optimizer.use_ema:
            with ema.averaged_weights(self.model.model, self.model.optimizer):
                averaged = self.evaluate()
            self.evaluation = averaged | {f"raw_{name}": self.evaluation[name] for name in SCORES}
            row |= {f"ema_{name}": averaged[name] for name in SCORES}
        return row

    def _write(self, row: dict[str, float]) -> None:
        assert self.metrics is not None
        assert self.writer is not None  # they are opened together
        self.metrics.write(row)
        with self._naming_tensorboard(), self.writer.as_default(step=row["step"]):
            for name, value in row.items():
                if name != "step":
                    tf.summary.scalar(name, value)
        self.say(telling.line(row, self.total_steps))

    def close(self) -> None:
        """Close the files; to be called however training ends."""
        for output in (self.metrics, self.writer, self.bar):
            if output is not None:
                try:
                    output.close()
                except tf.errors.OpError as error:  # another one may be on its way, and says more
                    logger.warning("the last rows of tensorboard/ could not be written (%s).", _reason(error))

    @contextlib.contextmanager
    def _naming_tensorboard(self) -> Iterator[None]:
        # TensorFlow calls a file that is too large "out of range", which Keras would take for the end of the data.
        try:
            yield
        except tf.errors.OpError as error:
            raise files.unwritable(
                f"{self.workdir}/tensorboard", _reason(error), "the newest checkpoint is kept"
            ) from None

    @property
    def images_per_second(self) -> float:
        """Over the whole run, without evaluation and the first execution; 0 if nothing was timed."""
        return self.timed_steps * self.batch_size / self.seconds if self.seconds else 0.0


def _reason(error: tf.errors.OpError) -> str:
    """The operating system's part of a TensorFlow error: "{{node ...}} path; No space left on device [Op:...]"."""
    return (error.message or type(error).__name__).split("\n")[0].split("; ")[-1].split(" [Op")[0]


def _rate(optimizer: keras.optimizers.Optimizer, step: int) -> Tensor:
    schedule = optimizer._learning_rate
    return schedule(step) if callable(schedule) else optimizer.learning_rate
