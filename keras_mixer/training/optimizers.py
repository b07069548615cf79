"""The authors' two optimisers: AdamW with epsilon where they put it, and heavy-ball SGD; both clip globally."""

import keras
from keras import ops

_register = keras.saving.register_keras_serializable(package="keras_mixer")


class _ClipAfterAllReduce:
    """Clip the gradient of the global batch.

    Keras clips each replica's gradient before they are summed, which is another norm. Both methods are private to
    Keras 3.15; tests/training/test_optimizers.py guards that they still exist and are still called.
    """

    def _clip_gradients(self, grads):
        if keras.backend.backend() == "tensorflow":
            return grads  # clipped below, after the all-reduce
        return super()._clip_gradients(grads)

    def _all_reduce_sum_gradients(self, grads_and_vars):
        grads_and_vars = super()._all_reduce_sum_gradients(grads_and_vars)
        grads = super()._clip_gradients([grad for grad, _ in grads_and_vars])
        return [(grad, variable) for grad, (_, variable) in zip(grads, grads_and_vars, strict=True)]


@_register
class HeavyBallSGD(_ClipAfterAllReduce, keras.optimizers.Optimizer):
    """Momentum SGD as the authors fine-tune: v = momentum v + g; w -= learning_rate(t) v (paper section 3).

    `keras.optimizers.SGD` puts the learning rate into v, which is another trajectory as soon as the rate changes.

    Args:
        learning_rate: a number or a schedule.
        momentum: in [0, 1).
        **kwargs: of `keras.optimizers.Optimizer`, for example `global_clipnorm`.

    Example:
        >>> HeavyBallSGD(0.03, momentum=0.9, global_clipnorm=1.0).momentum
        0.9
    """

    def __init__(self, learning_rate=0.01, momentum=0.9, name="heavy_ball_sgd", **kwargs):
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        self.momentum = momentum

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self._traces = self.add_optimizer_variables(variables, "trace")

    def update_step(self, gradient, variable, learning_rate):
        trace = self._traces[self._get_variable_index(variable)]
        gradient = ops.cast(gradient, variable.dtype)
        self.assign(trace, ops.add(ops.multiply(trace, self.momentum), gradient))
        self.assign_sub(variable, ops.multiply(ops.cast(learning_rate, variable.dtype), trace))

    def get_config(self):
        return {**super().get_config(), "momentum": self.momentum}


@_register
class AdamW(_ClipAfterAllReduce, keras.optimizers.Adam):
    """Adam with decoupled weight decay, w -= learning_rate(t) (m_hat / (sqrt(v_hat) + epsilon) + weight_decay w).

    `keras.optimizers.AdamW` adds epsilon to sqrt(v) before the bias correction, which makes it larger early in
    training than the authors' (paper section 3; Loshchilov and Hutter 2019).

    Args:
        learning_rate: a number or a schedule.
        weight_decay: fraction of a decayed weight that a step at rate 1 removes.
        **kwargs: of `keras.optimizers.Adam`, for example `global_clipnorm`.

    Example:
        >>> AdamW(0.001, weight_decay=0.1).epsilon
        1e-08
    """

    def __init__(self, learning_rate=0.001, weight_decay=0.1, epsilon=1e-8, name="adamw", **kwargs):
        super().__init__(learning_rate=learning_rate, weight_decay=weight_decay, epsilon=epsilon, name=name, **kwargs)

    def update_step(self, gradient, variable, learning_rate):
        dtype = variable.dtype
        index = self._get_variable_index(variable)
        momentum, velocity = self._momentums[index], self._velocities[index]
        gradient, step = ops.cast(gradient, dtype), ops.cast(self.iterations + 1, dtype)
        self.assign(momentum, ops.add(self.beta_1 * momentum, (1 - self.beta_1) * gradient))
        self.assign(velocity, ops.add(self.beta_2 * velocity, (1 - self.beta_2) * ops.square(gradient)))
        momentum_hat = momentum / (1 - ops.power(ops.cast(self.beta_1, dtype), step))
        velocity_hat = velocity / (1 - ops.power(ops.cast(self.beta_2, dtype), step))
        update = momentum_hat / (ops.sqrt(velocity_hat) + self.epsilon)
        self.assign_sub(variable, ops.multiply(ops.cast(learning_rate, dtype), update))


def make_optimizer(kind, learning_rate, model, *, weight_decay=0.0, clip_norm=1.0):
    """Return the optimiser for `model`, as the recipes use it.

    Args:
        kind: "adamw" (pre-training) or "sgd" (heavy ball, momentum 0.9, fine-tuning).
        learning_rate: a number or a schedule.
        model: whose kernels are decayed; biases and LayerNorm parameters never are.
        weight_decay: for "adamw", multiplied by the learning rate in every step.
        clip_norm: the global norm above which the gradient of the whole batch is scaled down; None for never.

    Raises:
        ValueError: for another kind, a negative decay, or decay with "sgd", which the authors do not use.

    Example:
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> make_optimizer("sgd", 0.03, model).global_clipnorm
        1.0
    """
    if not 0 <= weight_decay < float("inf"):
        raise ValueError(f"weight_decay: must be a number that is not negative, got {weight_decay}.")
    if kind == "sgd":
        if weight_decay:
            raise ValueError(f"weight_decay: heavy-ball SGD is used without, got {weight_decay}; use 0.")
        return HeavyBallSGD(learning_rate, global_clipnorm=clip_norm)
    if kind != "adamw":
        raise ValueError(f"optimizer: must be 'adamw' or 'sgd', got {kind!r}.")
    optimizer = AdamW(learning_rate, weight_decay=weight_decay or None, global_clipnorm=clip_norm)
    optimizer.exclude_from_weight_decay(var_list=[v for v in model.trainable_variables if v.name != "kernel"])
    return optimizer
