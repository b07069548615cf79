"""A built Keras model, or a large matrix product, made ready to be timed under TensorFlow or JAX."""

import os
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_mixer import cost_model
from keras_mixer.benchmark import memory, throughput
from keras_mixer.benchmark.throughput import Prepared, Repeat
from keras_mixer.types import Tensor

LEARNING_RATE = 1e-3  # of the plain gradient descent that a training step ends with


def prepare_model(
    build: Callable[[], keras.Model],
    mode: str,
    compile_with: str,
    batch_size: int,
    count: Callable[[keras.Model], dict[str, int]] | None = None,
) -> Prepared:
    """Build a model and return its inference or training step as a `throughput.Prepared`.

    A training step is forward, softmax cross-entropy on the logits, backward, and plain gradient descent.

    Args:
        build: returns a model for (H, W, 3) images in [-1, 1] that gives logits; called once, and timed.
        mode: inference or training.
        compile_with: graph (TensorFlow only) or xla.
        batch_size: images per call; they stay on the device.
        count: from the model to the operations per image of its parts; None for those of a Mixer.
    """
    imports = _peak_memory()
    start = time.perf_counter()
    model = build()
    build_seconds = time.perf_counter() - start
    flop = count(model) if count else _flop_of_mixer(model)
    rng = np.random.default_rng(0)
    images = rng.uniform(-1, 1, (batch_size, *model.input_shape[1:])).astype("float32")
    labels = rng.integers(0, model.output_shape[-1], batch_size).astype("int32")
    facts = {
        **_environment(),
        "build_seconds": build_seconds,
        "imports_mib": imports,
        "built_mib": _peak_memory(),
        "gflop_per_image": sum(flop.values()) / 1e9,
        "flop_per_image": flop,
        "parameters": model.count_params(),
    }
    make = {"tensorflow": _tensorflow_run, "jax": _jax_run}[keras.backend.backend()]
    return throughput.Prepared(make(model, mode, compile_with, images, labels), facts, _peak_memory)


def _flop_of_mixer(model: keras.Model) -> dict[str, int]:
    config = model.get_config()
    return cost_model.mixer_flop(config["input_shape"][0], config, config["classes"])


def prepare_peak(dtype: str, size: int) -> Prepared:
    """Return the product of two (size, size) matrices as a `throughput.Prepared`: what the cores can reach.

    Args:
        dtype: float32 or bfloat16.
        size: 4096 is large enough on a CPU.
    """
    facts = {**_environment(), "gflop_per_image": 2 * size**3 / 1e9}
    if keras.backend.backend() == "jax":
        import jax
        import jax.numpy as jnp

        x = jax.random.normal(jax.random.key(0), (size, size), dtype)
        return throughput.Prepared(_jax_repeat(jax.jit(jnp.matmul), (x, x)), facts, _peak_memory)
    import tensorflow as tf

    x = tf.cast(tf.random.normal((size, size)), dtype)
    product = tf.function(lambda: tf.matmul(x, x))
    return throughput.Prepared(_tensorflow_repeat(product), facts, _peak_memory)


def check_backend(compile_with: str | None) -> None:
    """Refuse a backend or a way of compiling that cannot be measured."""
    backend = keras.backend.backend()
    if backend not in ("tensorflow", "jax"):
        raise ValueError(f"KERAS_BACKEND: tensorflow and jax can be measured, got {backend!r}.")
    if backend == "jax" and compile_with == "graph":
        raise ValueError("compile: graph is TensorFlow's; under KERAS_BACKEND=jax use --compile=xla.")


def _tensorflow_run(model: keras.Model, mode: str, compile_with: str, images: np.ndarray, labels: np.ndarray) -> Repeat:
    import tensorflow as tf

    images, labels = tf.constant(images), tf.constant(labels)
    weights = [variable.value for variable in model.trainable_variables]

    def infer() -> Tensor:
        return model(images, training=False)

    def train() -> Tensor:
        with tf.GradientTape() as tape:
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, model(images, training=True))
            loss = tf.reduce_mean(losses)
        for weight, gradient in zip(weights, tape.gradient(loss, weights), strict=True):
            weight.assign_sub(LEARNING_RATE * gradient)
        return loss

    step = tf.function(train if mode == "training" else infer, jit_compile=compile_with == "xla")
    return _tensorflow_repeat(step)


def _tensorflow_repeat(step: Callable[[], Tensor]) -> Repeat:
    import tensorflow as tf

    def run(calls: int) -> None:
        for _ in range(calls):
            result = step()
        # A GPU works in order: when the last is done, all are. Cut here, or a compiler would leave out the rest.
        tf.reshape(result, [-1])[0].numpy()

    return run


def _jax_run(model: keras.Model, mode: str, compile_with: str, images: np.ndarray, labels: np.ndarray) -> Repeat:
    import jax
    import jax.numpy as jnp

    images, labels = jnp.asarray(images), jnp.asarray(labels)
    values = lambda variables: [variable.value for variable in variables]
    fixed = values(model.non_trainable_variables)
    if mode == "inference":
        infer = jax.jit(lambda weights, x: model.stateless_call(weights, fixed, x, training=False)[0])
        return _jax_repeat(infer, (values(model.trainable_variables), images))

    def loss(weights: list[Tensor], x: Tensor, y: Tensor) -> Tensor:
        logits, _ = model.stateless_call(weights, fixed, x, training=True)
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], axis=1))

    def train(weights: list[Tensor], x: Tensor, y: Tensor) -> list[Tensor]:
        gradients = jax.grad(loss)(weights, x, y)
        return [weight - LEARNING_RATE * gradient for weight, gradient in zip(weights, gradients, strict=True)]

    step = jax.jit(train, donate_argnums=0)
    state = [jnp.array(value) for value in values(model.trainable_variables)]  # copies: a donated one is gone

    def run(calls: int) -> None:
        nonlocal state
        for _ in range(calls):
            state = step(state, images, labels)
        jax.block_until_ready(state)

    return run


def _jax_repeat(function: Callable[..., Tensor], arguments: tuple[Any, ...]) -> Repeat:
    import jax

    in_order = jax.default_backend() != "cpu"  # on a CPU several calls would run at a time

    def run(calls: int) -> None:
        for _ in range(calls):
            result = function(*arguments)
            if not in_order:
                jax.block_until_ready(result)
        jax.block_until_ready(result)

    return run


def _peak_memory() -> float:
    """Of the first GPU where there is one, else of this process, MiB."""
    if keras.backend.backend() == "jax":
        import jax

        if jax.default_backend() != "cpu":
            return jax.local_devices()[0].memory_stats()["peak_bytes_in_use"] / 2**20
    else:
        import tensorflow as tf

        if tf.config.list_physical_devices("GPU"):
            return tf.config.experimental.get_memory_info("GPU:0")["peak"] / 2**20
    return memory.peak_mib()


def _environment() -> dict[str, Any]:
    """The device's name and the versions, which every rate depends on."""
    backend = keras.backend.backend()
    versions = {"keras": keras.__version__, "backend": backend}
    device = throughput.cpu_name()
    if backend == "jax":
        import jax

        versions["jax"] = jax.__version__
        if jax.default_backend() != "cpu":
            device = jax.local_devices()[0].device_kind
    else:
        import tensorflow as tf

        versions["tensorflow"] = tf.__version__
        gpus = tf.config.list_physical_devices("GPU")
        if gpus:
            device = tf.config.experimental.get_device_details(gpus[0]).get("device_name", gpus[0].name)
    return {"device": device, "versions": versions, "precision": keras.config.dtype_policy().name, "pid": os.getpid()}
