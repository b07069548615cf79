"""The training step: the gradient of one global batch, however many devices and micro-batches share it."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Protocol

import keras
import numpy as np
import tensorflow as tf

from keras_mixer.random_draws import global_batch
from keras_mixer.types import Loss

STATISTICS = ("loss", "top1", "gradient_norm", "stop")
Batch = tuple[tf.Tensor, ...]  # what `Prepare` takes: images, labels, and what it needs beside them
Execute = Callable[[Iterator[Batch]], dict[str, tf.Tensor]]  # from the batches to the rows of `STATISTICS`


class Prepare(Protocol):
    """Makes images (B, H, W, channels) in [-1, 1] and labels (B, K) of what crosses to the device.

    Attributes:
        neighbours: N, rows of other parts before those of a part: its tensors are (N + B, ...).
    """

    @property
    def neighbours(self) -> int: ...

    def __call__(self, *batch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]: ...


@dataclasses.dataclass(frozen=True)
class Ready:
    """The `Prepare` of images and labels that are what the model trains on."""

    neighbours: int = 0

    def __call__(self, *batch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        images, labels = batch
        return images, labels


@dataclasses.dataclass(frozen=True)
class Execution:
    """How steps are computed, which changes speed and memory, and no result.

    Attributes:
        steps_per_execution: steps between two returns to Python; logs and checkpoints come after whole executions.
        gradient_accumulation_steps: parts of a replica's batch that are computed one after the other, to save memory.
        jit_compile: whether XLA compiles the step, or with several replicas its forward and backward pass; None for
            where it is known to be faster.
    """

    steps_per_execution: int = 1
    gradient_accumulation_steps: int = 1
    jit_compile: bool | None = None


class Trainer(keras.Model):
    """Wraps a built model so that `fit` trains it exactly, under any `tf.distribute` strategy.

    With more than one replica, Keras 3.15's own `fit` clips each one's gradient, and fails for accumulated gradients,
    several steps per execution, XLA, and several workers. Here a step sums the gradient over micro-batches and
    replicas, and only then clips and applies it. The first callback of `fit` has to be a `CountSteps`.

    Args:
        model: images (B, H, W, 3) float32 in [-1, 1] -> logits (B, K).
        loss: (labels (B, K), logits (B, K)) -> (B,); its mean over the global batch is minimised.
        strategy: the `tf.distribute` strategy that the model was built under.
        batch_size: images in a global batch, a multiple of replicas times `gradient_accumulation_steps`.
        execution: how steps are computed.
        prepare: what is done to a batch on the device, see `Prepare`.

    Attributes:
        step: steps taken.
        rows: `STATISTICS` of each step of the last execution, (steps, 4).
        total_steps: where the last execution ends, whatever `steps_per_execution` is.
        stop: set it to 1 to have `rows` say `stop` on every worker after the same execution.
    """

    train_function: Execute | None  # of Keras, which asks `make_train_function` for it

    def __init__(
        self,
        model: keras.Model,
        loss: Loss,
        strategy: tf.distribute.Strategy,
        batch_size: int,
        execution: Execution = Execution(),
        prepare: Prepare = Ready(),
    ) -> None:
        super().__init__(name="trainer")
        self.prepare = prepare
        self.model, self.image_loss, self.strategy, self.batch_size = model, loss, strategy, batch_size
        self.steps_each, self.parts = execution.steps_per_execution, execution.gradient_accumulation_steps
        self.use_xla = bool(execution.jit_compile)
        self.step, self.total_steps, self.stop = 0, 2**31 - 1, 0
        self.rows = np.zeros((0, len(STATISTICS)))  # of the last execution
        self.built = True

    @property
    def executions(self) -> int:
        """How many executions there are from `step` to `total_steps`; they end at multiples of `steps_each`."""
        return -(-self.total_steps // self.steps_each) - self.step // self.steps_each

    def call(self, images: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        return self.model(images, training=training)

    def _maybe_symbolic_build(self, iterator: Iterator[Batch] | None = None, data_batch: Batch | None = None) -> None:
        """All is built already; Keras would take a batch for it, which fails with several workers."""

    def state(self) -> dict[str, np.ndarray]:
        """Return name -> array of all that a step reads or writes: weights, seeds, optimiser."""
        return {name: np.array(array) for name, array in self.each_array()}

    def each_array(self) -> Iterator[tuple[str, np.ndarray]]:
        """Yield the names and arrays of `state` one by one; the next step may write over an array."""
        for name, variable in self._named_variables().items():
            yield name, _to_numpy(variable)

    def set_state(self, arrays: dict[str, np.ndarray]) -> None:
        """Assign what `state` returned."""
        for name, variable in self._named_variables().items():
            variable.assign(arrays[name])

    def _named_variables(self) -> dict[str, keras.Variable]:
        # Keras numbers seed generators by process; the order is enough to tell them apart.
        parts = {"model": self.model.variables, "optimizer": self.optimizer.variables}
        return {
            f"{part}/{i:04d}/{_without_number(v.path)}": v for part, group in parts.items() for i, v in enumerate(group)
        }

    def train_step(self, data: Batch, stop: float | tf.Tensor = 0.0) -> tf.Tensor:
        """One step of one replica: (images, labels) -> the replica's share of `STATISTICS`, (4,) float32."""
        context = tf.distribute.get_replica_context()
        grads, seeds, sums = self._gradients(data, context.replica_id_in_sync_group)
        for variable, value in zip(self._seed_states(), seeds, strict=True):
            variable.assign(value)
        grads = context.all_reduce(tf.distribute.ReduceOp.SUM, grads)
        grads, norm = self.optimizer.clip(grads)
        self.optimizer.apply(grads, self.model.trainable_variables)
        return tf.concat([sums, [norm / self.strategy.num_replicas_in_sync, stop]], axis=0)

    def gradients(self, data: Batch, replica_id: tf.Tensor) -> tuple[list[tf.Tensor], list[tf.Tensor], tf.Tensor]:
        """Return the replica's share of the gradient, the next states of the seeds, and of the loss and top-1."""
        total = self.batch_size
        size = total // self.strategy.num_replicas_in_sync  # of this replica; with several workers not in images.shape
        part = size // self.parts
        weights = [v.value for v in self.model.trainable_variables]
        seeds = [tf.convert_to_tensor(v.value) for v in self._seed_states()]
        mapping = list(zip(self._seed_states(), seeds, strict=True))
        grads, after, sums = [tf.zeros_like(w) for w in weights], seeds, tf.zeros(2)
        for i in range(1) if self.parts == 1 else tf.range(self.parts):  # the latter is a loop of the graph
            rows = part + self.prepare.neighbours
            images, labels = self.prepare(
                *(tf.slice(x, [i * part, *[0] * (x.shape.rank - 1)], [rows, *x.shape[1:]]) for x in data)
            )  # (N + B, ...) -> (B / parts, ...)
            # Every part starts from the same seeds and takes its rows of the whole batch's draws.
            with keras.StatelessScope(state_mapping=mapping) as scope, tf.GradientTape() as tape:
                token = global_batch.set((replica_id * size + i * part, total))
                try:
                    logits = self.model(images, training=True)  # (B, K)
                finally:
                    global_batch.reset(token)
                loss = tf.reduce_sum(self.image_loss(labels, logits)) / total
            with scope:  # recomputed activations read the seeds, too
                more = tape.gradient(loss, weights)
            hits = tf.argmax(logits, -1) == tf.argmax(labels, -1)
            grads = more if self.parts == 1 else [a + b for a, b in zip(grads, more, strict=True)]
            sums += tf.stack([loss, tf.reduce_sum(tf.cast(hits, tf.float32)) / total])
            after = [scope.get_current_value(v) for v in self._seed_states()]
        return grads, after, sums

    def _seed_states(self) -> list[keras.Variable]:
        return [v for v in self.model.variables if v.name == "seed_generator_state"]

    def make_train_function(self, force: bool = False) -> Execute:
        """Make the function that `fit` calls with an iterator once `begin_execution` has bound how many steps."""
        if self.train_function is not None and not force:
            return self.train_function
        strategy, alone = self.strategy, self.strategy.num_replicas_in_sync == 1
        # A step with an all-reduce over several devices cannot be compiled as one. Where it is not, it is a function of
        # its own all the same: else TensorFlow optimises the graph otherwise, which changes last bits of a gradient.
        # Only a loop over parts of a batch is for autograph to convert; to look for more in Keras takes seconds.
        how = dict(autograph=self.parts > 1)
        one_step = tf.function(
            functools.partial(strategy.run, self.train_step), jit_compile=self.use_xla and alone, **how
        )
        self._gradients = self.gradients
        if self.use_xla and not alone:
            self._gradients = tf.function(self.gradients, jit_compile=True, **how)

        @tf.function
        def steps(iterator: Iterator[Batch], count: tf.Tensor, stop: tf.Tensor) -> dict[str, tf.Tensor]:
            rows = tf.TensorArray(tf.float32, count, element_shape=(len(STATISTICS),))
            for i in tf.range(count):
                per_replica = one_step(args=(next(iterator), stop))
                rows = rows.write(i, strategy.reduce(tf.distribute.ReduceOp.SUM, per_replica, axis=None))
            return {"rows": rows.stack()}  # (count, 4)

        self._steps = self.train_function = steps
        return steps

    def begin_execution(self) -> None:
        """Bind how many steps the next call of `train_function` takes, and what it says of `stop`."""
        # Executions end at multiples of `steps_each`, also after a restart, so that what follows them does.
        count = min(self.steps_each - self.step % self.steps_each, self.total_steps - self.step)
        bound = dict(count=tf.constant(count), stop=tf.constant(float(self.stop)))
        self.train_function = functools.partial(self._steps, **bound)

    def end_execution(self, logs: dict[str, tf.Tensor]) -> None:
        """Take the rows of what `train_function` returned, and count its steps."""
        self.rows = np.asarray(logs["rows"])
        self.step += len(self.rows)


class CountSteps(keras.callbacks.Callback):
    """Tells a `Trainer` where its executions begin and end; the first of the callbacks, so that others see the rows."""

    def on_train_batch_begin(self, batch: int, logs: dict[str, tf.Tensor] | None = None) -> None:
        self.model.begin_execution()

    def on_train_batch_end(self, batch: int, logs: dict[str, tf.Tensor] | None = None) -> None:
        self.model.end_execution(logs)


def _to_numpy(variable: keras.Variable) -> np.ndarray:
    """The value, in memory that may be the variable's own; bfloat16, which NumPy lacks, as float32."""
    array = np.asarray(variable.numpy())
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def _without_number(path: str) -> str:
    return "/".join(
        "seed_generator" if p.startswith("seed_generator_") and p[15:].isdigit() else p for p in path.split("/")
    )
