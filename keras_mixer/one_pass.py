"""Elementwise functions in one pass over memory, also where TensorFlow runs one operation at a time.

There the tanh GELU is nine passes, its gradient another twenty, and in bfloat16 each converts what it reads and writes:
docs/results/model_speed.md.
"""

import functools
from collections.abc import Callable

import keras

from keras_mixer.types import Tensor


@functools.cache
def one_pass(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Compile an elementwise function, and its gradient, for a TensorFlow that has CPUs only.

    Each is computed in float32 or better and rounded once; the gradient needs nothing but the input. Elsewhere the
    function is returned as it is: other backends and other devices have kernels or compilers of their own.

    Args:
        function: from a tensor to one of its shape, in `keras.ops`; each has one result for the whole process.

    Example:
        >>> bool(one_pass(keras.ops.square)(keras.ops.ones(3))[0] == 1)
        True
    """
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    if any(device.device_type != "CPU" for device in tf.config.list_logical_devices()):
        return function

    def precise(x: Tensor) -> Tensor:
        dtype = keras.backend.result_type(x.dtype, "float32")
        return tf.cast(function(tf.cast(x, dtype)), x.dtype)

    forward = tf.function(precise, jit_compile=True)

    @tf.function(jit_compile=True)
    def backward(x: Tensor, upstream: Tensor) -> Tensor:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = precise(x)
        return tape.gradient(y, x, upstream)

    @tf.custom_gradient
    def compiled(x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        return forward(x), functools.partial(backward, x)

    return compiled
