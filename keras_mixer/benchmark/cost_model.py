"""What a Mixer costs in floating-point operations, from its built layers or from its sizes; slopes of a cost."""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

TRAINING_FACTOR = 3  # each product once forward, once for the gradient of its input, once for that of its kernel

# Operations per element. Approximate: a transcendental function counts as one, and what a compiler fuses away counts.
LAYER_NORM, TANH_GELU, BIAS, RESIDUAL, MEAN = 8, 9, 1, 1, 1


def count_flop(model: "keras.Model") -> dict[str, int]:
    """Count the floating-point operations of one image's forward pass in matrix products, from the layers' shapes.

    A product of (m, k) and (k, n) counts 2 m k n. Every layer with a kernel counts, wherever it is nested: a
    convolution at each position of its output, a Dense layer at each position that it meets. The model is traced for
    one image; under TensorFlow and JAX nothing is computed. A training step costs `TRAINING_FACTOR` times this, or a
    little less (0.3 percent for Mixer-B/16), since the stem takes no gradient of the images.

    Args:
        model: a built Keras model of one input of fixed size.

    Returns:
        The numbers of "stem", "token_mixing", "channel_mixing", "head" and "other", by the layers' paths.

    Raises:
        ValueError: for an input without a fixed size, or a layer with a kernel that is of no known kind or not called.

    Example:
        >>> model = keras_mixer.MLPMixer(4, 2, 16, 8, 32, input_shape=(16, 16, 3), classes=10)
        >>> count_flop(model)["head"], sum(count_flop(model).values())
        (320, 106816)
    """
    import keras  # only here: the other functions need the standard library alone

    shape = (1, *model.input_shape[1:])
    if None in shape:
        raise ValueError(f"count_flop: the model's input {model.input_shape} has no fixed size; build it for one.")
    parts = dict.fromkeys(("stem", "token_mixing", "channel_mixing", "head", "other"), 0)
    layers = {id(layer): (layer, names) for layer, names in _layers_with_kernels(model)}
    met: dict[int, list[tuple[int, ...]]] = {key: [] for key in layers}
    original = keras.layers.Layer.__call__

    def recording(layer: keras.Layer, *args: Any, **kwargs: Any) -> Any:
        if id(layer) in met:
            met[id(layer)].append(tuple(args[0].shape))
        return original(layer, *args, **kwargs)

    keras.layers.Layer.__call__ = recording
    try:
        _trace(model, shape)
    finally:
        keras.layers.Layer.__call__ = original
    for key, (layer, names) in layers.items():
        if not met[key]:
            raise ValueError(f"count_flop: layer {layer.name} has a kernel and is not called, so cannot be counted.")
        part = next((name for name in names if name in parts), "other")
        parts[part] += sum(_flop_of_call(layer, shape) for shape in met[key])
    return parts


def mixer_flop(
    image_size: int,
    patch_size: int,
    num_blocks: int,
    hidden_dim: int,
    tokens_mlp_dim: int,
    channels_mlp_dim: int,
    classes: int = 1000,
) -> int:
    """Return what `count_flop` counts, from the sizes of a Mixer for square images: linear in the number of pixels.

    With S = (image_size / P)^2: 6 S P^2 C for the stem, 4 S C (D_S + D_C) for each block, 2 C K for the head.

    Example:
        >>> mixer_flop(224, 16, 12, 768, 384, 3072) / 1e9  # Mixer-B/16
        25.203535872
    """
    tokens = (image_size // patch_size) ** 2
    stem = 6 * tokens * patch_size**2 * hidden_dim
    return stem + num_blocks * 4 * tokens * hidden_dim * (tokens_mlp_dim + channels_mlp_dim) + 2 * hidden_dim * classes


def mixer_rest_flop(
    image_size: int,
    patch_size: int,
    num_blocks: int,
    hidden_dim: int,
    tokens_mlp_dim: int,
    channels_mlp_dim: int,
    classes: int = 1000,
) -> int:
    """Return about what `count_flop` leaves out: LayerNorms, biases, GELUs, residual sums and the mean.

    Example:
        >>> round(mixer_rest_flop(224, 16, 12, 768, 384, 3072) / 1e9, 2)  # 0.6 percent of the products
        0.15
    """
    tokens = (image_size // patch_size) ** 2
    elements = tokens * hidden_dim
    hidden = tokens_mlp_dim * hidden_dim + tokens * channels_mlp_dim
    block = 2 * (LAYER_NORM + BIAS + RESIDUAL) * elements + (BIAS + TANH_GELU) * hidden
    return num_blocks * block + (BIAS + LAYER_NORM + MEAN) * elements + classes


def vit_flop(
    image_size: int, patch_size: int, num_blocks: int, hidden_dim: int, mlp_dim: int, classes: int = 1000
) -> int:
    """Return the same for a ViT with a class token: its attention is quadratic in the number of pixels.

    Example:
        >>> vit_flop(224, 16, 12, 768, 3072) / 1e9  # ViT-B/16
        35.127656448
    """
    tokens = (image_size // patch_size) ** 2
    stem = 6 * tokens * patch_size**2 * hidden_dim
    tokens += 1
    attention = 8 * tokens * hidden_dim**2 + 4 * tokens**2 * hidden_dim
    return stem + num_blocks * (attention + 4 * tokens * hidden_dim * mlp_dim) + 2 * hidden_dim * classes


def log_log_slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Return the least-squares slope of log y over log x: 1 where y is linear in x, 2 where it is quadratic.

    Raises:
        ValueError: for fewer than two different x, or a value that is not positive.

    Example:
        >>> log_log_slope([1, 2, 4], [3, 12, 48])
        2.0
    """
    if len(x) != len(y) or len(set(x)) < 2 or min(*x, *y) <= 0:
        raise ValueError(f"log_log_slope: needs positive values at two or more different x, got {x} and {y}.")
    logs = [math.log(value) for value in x], [math.log(value) for value in y]
    means = [sum(values) / len(values) for values in logs]
    centred = [[value - mean for value in values] for values, mean in zip(logs, means, strict=True)]
    return sum(a * b for a, b in zip(*centred, strict=True)) / sum(a * a for a in centred[0])


def _layers_with_kernels(
    layer: "keras.Layer", names: tuple[str, ...] = (), seen: set[int] | None = None
) -> Iterator[tuple["keras.Layer", tuple[str, ...]]]:
    """Yield each nested layer that has a kernel, once, and the names on the way to it."""
    seen = set() if seen is None else seen
    if id(layer) in seen:
        return
    seen.add(id(layer))
    names = (*names, layer.name)
    if getattr(layer, "kernel", None) is not None:
        yield layer, names
        return
    children = layer.layers if hasattr(layer, "layers") else vars(layer).values()
    for child in children:
        if hasattr(child, "get_build_config"):  # what a Keras layer has, on any backend
            yield from _layers_with_kernels(child, names, seen)


def _trace(model: "keras.Model", shape: tuple[int, ...]) -> None:
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.function(lambda x: model(x, training=False)).get_concrete_function(tf.TensorSpec(shape))
    elif keras.backend.backend() == "jax":
        import jax

        jax.eval_shape(lambda x: model(x, training=False), jax.ShapeDtypeStruct(shape, "float32"))
    else:
        model(keras.ops.zeros(shape), training=False)


def _flop_of_call(layer: "keras.Layer", shape: tuple[int, ...]) -> int:
    kernel = tuple(layer.kernel.shape)
    if len(kernel) == 2:
        return 2 * math.prod(shape) * kernel[1]  # k numbers at each position, each times n of the kernel
    if len(kernel) == 4 and getattr(layer, "groups", 1) == 1 and getattr(layer, "data_format", "") == "channels_last":
        return 2 * math.prod(layer.compute_output_shape(shape)[:3]) * math.prod(kernel)
    raise ValueError(f"count_flop: layer {layer.name} with a kernel of shape {kernel} is of no kind that is counted.")
