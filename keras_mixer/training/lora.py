"""Low-rank adapters: train two thin matrices beside each kernel of the MLPs instead of the kernel (Hu et al. 2021)."""

import keras


def enable_lora(model: keras.Model, rank: int, head: str = "head") -> None:
    """Freeze the model but for its head, and add a trainable product of two thin matrices to every other Dense kernel.

    Build the optimiser afterwards. `merge_lora` folds the products into the kernels.

    Args:
        model: a Keras model.
        rank: of the products; 4 to 16 is usual.
        head: name of the layer that stays fully trainable.

    Raises:
        ValueError: for a rank that is not positive.

    Example:
        >>> model = keras.Sequential(
        ...     [keras.Input((4,)), keras.layers.Dense(4), keras.layers.Dense(2, name="head")]
        ... )
        >>> enable_lora(model, 1)
        >>> sum(v.shape.num_elements() for v in model.trainable_variables)  # 4 + 4, and the head's 10
        18
    """
    if rank < 1:
        raise ValueError(f"lora_rank: must be a positive number, got {rank}.")
    for dense in _dense_layers(model):
        if dense.name != head:
            dense.enable_lora(rank)
            dense.bias.trainable = False
    for layer in model._flatten_layers(include_self=False, recursive=True):
        if isinstance(layer, (keras.layers.LayerNormalization, keras.layers.Conv2D)):
            layer.trainable = False


def merge_lora(model: keras.Model) -> None:
    """Fold the products into their kernels, so that the model is what it was without adapters, with other weights."""
    for dense in _dense_layers(model):
        if dense.lora_enabled:
            dense._kernel.assign(dense.kernel)
            dense.lora_kernel_a.assign(keras.ops.zeros_like(dense.lora_kernel_a))


def _dense_layers(model: keras.Model) -> list[keras.layers.Dense]:
    layers = model._flatten_layers(include_self=False, recursive=True)
    return [layer for layer in layers if isinstance(layer, keras.layers.Dense)]
