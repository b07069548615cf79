"""The authors' two optimisers: AdamW with epsilon where they put it, and heavy-ball SGD; both clip globally."""

from typing import Any, TypeAlias

import keras
from keras import ops

from keras_mixer.types import Config, Tensor

LearningRate: TypeAlias = float | keras.optimizers.schedules.LearningRateSchedule
_register = keras.saving.register_keras_serializable(package="keras_mixer")


class _ClipAfterAllReduce(keras.optimizers.Optimizer):
    """Clip the gradient of the global batch.

    Keras clips each replica's gradient before they are summed, which is another norm. Both private methods are of
    Keras 3.15; tests/training/test_step.py guards that they still exist and are still called.
    """

    # True where the gradients given are those of the global batch, clipped, as `step.Trainer` has them.
    takes_final_gradients = False
    first_moment_dtype: str

    def clip(self, grads: list[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Return the gradients clipped, and their global norm before that: what Keras has, with the norm told."""
        norm = ops.sqrt(ops.sum(ops.stack([ops.sum(ops.square(grad)) for grad in grads])))
        limit = self.global_clipnorm
        if not limit or self.clipnorm:  # which Keras puts first
            return super()._clip_gradients(grads), norm
        scale = limit * ops.minimum(1.0 / norm, 1.0 / limit) + (norm - norm)  # NaN where the norm is not finite
        return [grad * scale for grad in grads], norm

    def _clip_gradients(self, grads: list[Tensor]) -> list[Tensor]:
        # On TensorFlow below, after the all-reduce.
        return grads if keras.backend.backend() == "tensorflow" else self.clip(grads)[0]

    def _all_reduce_sum_gradients(
        self, grads_and_vars: list[tuple[Tensor, keras.Variable]]
    ) -> list[tuple[Tensor, keras.Variable]]:
        if self.takes_final_gradients:
            return grads_and_vars
        grads_and_vars = super()._all_reduce_sum_gradients(grads_and_vars)
        grads, _ = self.clip([grad for grad, _ in grads_and_vars])
        return [(grad, variable) for grad, (_, variable) in zip(grads, grads_and_vars, strict=True)]

    def _add_first_moments(self, variables: list[keras.Variable], name: str) -> list[keras.Variable]:
        if self.first_moment_dtype == "float32":
            return self.add_optimizer_variables(variables, name)
        return [
            self.add_variable(
                v.shape, "zeros", dtype=self.first_moment_dtype, name=f"{v.path.replace('/', '_')}_{name}"
            )
            for v in variables
        ]


@_register
class HeavyBallSGD(_ClipAfterAllReduce, keras.optimizers.Optimizer):
    """Momentum SGD as the authors fine-tune: v = momentum v + g; w -= learning_rate(t) v (paper section 3).

    `keras.optimizers.SGD` puts the learning rate into v, which is another trajectory as soon as the rate changes.

    Args:
        learning_rate: a number or a schedule.
        momentum: in [0, 1).
        first_moment_dtype: in which v is stored; it is computed in float32.
        **kwargs: of `keras.optimizers.Optimizer`, for example `global_clipnorm`.

    Example:
        >>> HeavyBallSGD(0.03, momentum=0.9, global_clipnorm=1.0).momentum
        0.9
    """

    def __init__(
        self,
        learning_rate: LearningRate = 0.01,
        momentum: float = 0.9,
        first_moment_dtype: str = "float32",
        name: str = "heavy_ball_sgd",
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        self.momentum, self.first_moment_dtype = momentum, first_moment_dtype

    def build(self, variables: list[keras.Variable]) -> None:
        if self.built:
            return
        super().build(variables)
        self._traces = self._add_first_moments(variables, "trace")

    def update_step(self, gradient: Tensor, variable: keras.Variable, learning_rate: Tensor) -> None:
        stored = self._traces[self._get_variable_index(variable)]
        trace = ops.add(
            ops.multiply(ops.cast(stored, variable.dtype), self.momentum), ops.cast(gradient, variable.dtype)
        )
        self.assign(stored, trace)
        self.assign_sub(variable, ops.multiply(ops.cast(learning_rate, variable.dtype), trace))

    def get_config(self) -> Config:
        return {**super().get_config(), "momentum": self.momentum, "first_moment_dtype": self.first_moment_dtype}


@_register
class AdamW(_ClipAfterAllReduce, keras.optimizers.Adam):
    """Adam with decoupled weight decay, w -= learning_rate(t) (m_hat / (sqrt(v_hat) + epsilon) + weight_decay w).

    `keras.optimizers.AdamW` adds epsilon to sqrt(v) before the bias correction, which makes it larger early in
    training than the authors' (paper section 3; Loshchilov and Hutter 2019).

    Args:
        learning_rate: a number or a schedule.
        weight_decay: fraction of a decayed weight that a step at rate 1 removes.
        first_moment_dtype: in which m is stored; it is computed in float32.
        **kwargs: of `keras.optimizers.Adam`, for example `global_clipnorm`.

    Example:
        >>> AdamW(0.001, weight_decay=0.1).epsilon
        1e-08
    """

    def __init__(
        self,
        learning_rate: LearningRate = 0.001,
        weight_decay: float | None = 0.1,
        epsilon: float = 1e-8,
        first_moment_dtype: str = "float32",
        name: str = "adamw",
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate=learning_rate, weight_decay=weight_decay, epsilon=epsilon, name=name, **kwargs)
        self.first_moment_dtype = first_moment_dtype

    def build(self, variables: list[keras.Variable]) -> None:
        if self.built:
            return
        keras.optimizers.Optimizer.build(self, variables)
        self._momentums = self._add_first_moments(variables, "momentum")
        self._velocities = self.add_optimizer_variables(variables, "velocity")

    def update_step(self, gradient: Tensor, variable: keras.Variable, learning_rate: Tensor) -> None:
        dtype = variable.dtype
        index = self._get_variable_index(variable)
        stored, velocity = self._momentums[index], self._velocities[index]
        gradient, step = ops.cast(gradient, dtype), ops.cast(self.iterations + 1, dtype)
        momentum = ops.add(self.beta_1 * ops.cast(stored, dtype), (1 - self.beta_1) * gradient)
        self.assign(stored, momentum)
        self.assign(velocity, ops.add(self.beta_2 * velocity, (1 - self.beta_2) * ops.square(gradient)))
        momentum_hat = momentum / (1 - ops.power(ops.cast(self.beta_1, dtype), step))
        velocity_hat = velocity / (1 - ops.power(ops.cast(self.beta_2, dtype), step))
        update = momentum_hat / (ops.sqrt(velocity_hat) + self.epsilon)
        self.assign_sub(variable, ops.multiply(ops.cast(learning_rate, dtype), update))

    def get_config(self) -> Config:
        return {**super().get_config(), "first_moment_dtype": self.first_moment_dtype}


def make_optimizer(
    kind: str,
    learning_rate: LearningRate,
    model: keras.Model,
    *,
    weight_decay: float = 0.0,
    clip_norm: float | None = 1.0,
    ema_decay: float | None = None,
    first_moment_dtype: str = "float32",
) -> keras.optimizers.Optimizer:
    """Return the optimiser for `model`, as the recipes use it.

    Args:
        kind: "adamw" (pre-training) or "sgd" (heavy ball, momentum 0.9, fine-tuning).
        learning_rate: a number or a schedule.
        model: whose kernels are decayed; biases and LayerNorm parameters never are.
        weight_decay: for "adamw", multiplied by the learning rate in every step.
        clip_norm: the global norm above which the gradient of the whole batch is scaled down; None or 0 for never.
        ema_decay: fraction of the moving average of the weights that a step keeps, for example 0.9999; None for no
            average.
        first_moment_dtype: "float32", or "bfloat16" to store the momentum in half the memory, as the authors do.

    Raises:
        ValueError: for another kind or dtype, a decay or norm outside its range, or weight decay with "sgd", which the
            authors do not use.

    Example:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> make_optimizer("sgd", 0.03, model).global_clipnorm
        1.0
    """
    if not 0 <= weight_decay < float("inf"):
        raise ValueError(f"weight_decay: must be a number that is not negative, got {weight_decay}.")
    if clip_norm is not None and not 0 <= clip_norm < float("inf"):
        raise ValueError(f"clip_norm: must be a number that is not negative, got {clip_norm}; use 0 for never.")
    if ema_decay is not None and not 0 < ema_decay < 1:
        raise ValueError(f"ema_decay: must be a fraction in (0, 1), got {ema_decay}; leave it out for no average.")
    if first_moment_dtype not in ("float32", "bfloat16"):
        raise ValueError(f"first_moment_dtype: must be 'float32' or 'bfloat16', got {first_moment_dtype!r}.")
    kwargs: Config = dict(global_clipnorm=clip_norm or None, first_moment_dtype=first_moment_dtype)
    if ema_decay is not None:
        kwargs |= dict(use_ema=True, ema_momentum=ema_decay)
    if kind == "sgd":
        if weight_decay:
            raise ValueError(f"weight_decay: heavy-ball SGD is used without, got {weight_decay}; use 0.")
        return HeavyBallSGD(learning_rate, **kwargs)
    if kind != "adamw":
        raise ValueError(f"optimizer: must be 'adamw' or 'sgd', got {kind!r}.")
    optimizer = AdamW(learning_rate, weight_decay=weight_decay or None, **kwargs)
    optimizer.exclude_from_weight_decay(var_list=[v for v in model.trainable_variables if v.name != "kernel"])
    return optimizer
