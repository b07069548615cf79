"""The variables of a Keras model that holds a Mixer's layers, by their names in the released layout."""

import keras

from keras_mixer import layers as layers_module
from keras_mixer.types import Grid


def mixer_variables(model: keras.Model) -> dict[str, keras.Variable]:
    """Return released name -> Keras variable, in the order of the forward pass, of a model with a Mixer's layers.

    Raises:
        ValueError: if the model lacks one of the layers, or holds them quantised.
    """
    layers = _mixer_layers(model)
    variables = _of_dense("stem", layers["stem"].conv)
    i = 0
    while f"block_{i}" in layers:
        block, name = layers[f"block_{i}"], f"MixerBlock_{i}"
        for layer, title in ((block.layer_norm_0, "LayerNorm_0"), (block.layer_norm_1, "LayerNorm_1")):
            variables |= {f"{name}/{title}/scale": layer.gamma, f"{name}/{title}/bias": layer.beta}
        for mlp in ("token_mixing", "channel_mixing"):
            for j, dense in enumerate((getattr(block, mlp).dense_0, getattr(block, mlp).dense_1)):
                variables |= _of_dense(f"{name}/{mlp}/Dense_{j}", dense)
        i += 1
    norm = layers["pre_head_layer_norm"]
    variables |= {"pre_head_layer_norm/scale": norm.gamma, "pre_head_layer_norm/bias": norm.beta}
    if "head" in layers:
        variables |= _of_dense("head", layers["head"])
    return variables


def _of_dense(name: str, layer: keras.layers.Layer) -> dict[str, keras.Variable]:
    if getattr(layer, "quantization_mode", None):
        raise ValueError(f"weights: {name} is quantised ({layer.quantization_mode}), which no checkpoint layout holds.")
    return {f"{name}/kernel": layer.kernel, f"{name}/bias": layer.bias}


def mixer_grid(model: keras.Model) -> Grid:
    """Return the (rows, columns) of patches of a built model's images."""
    stem = _mixer_layers(model)["stem"]
    _, height, width, _ = stem.get_build_config()["input_shape"]
    return height // stem.patch_size, width // stem.patch_size


def _mixer_layers(model: keras.Model) -> dict[str, keras.layers.Layer]:
    """Return name -> layer of a model, or of the one model inside it that is a Mixer."""
    if not isinstance(getattr(model, "layers", None), list):
        raise ValueError(
            f"weights: model must be an MLPMixer or a Keras model that holds its layers, got {type(model).__name__}."
        )
    layers = {layer.name: layer for layer in model.layers}
    if "stem" not in layers:
        inner = [{part.name: part for part in getattr(layer, "layers", [])} for layer in layers.values()]
        mixers = [parts for parts in inner if "stem" in parts]
        layers = mixers[0] if len(mixers) == 1 else layers
    missing = [name for name in ("stem", "block_0", "pre_head_layer_norm") if name not in layers]
    if missing:
        raise ValueError(f"weights: the model {model.name!r} has no layer {missing[0]!r}; it is no Mixer.")
    for name, kind in (("stem", layers_module.PatchEmbed), ("block_0", layers_module.MixerBlock)):
        if not isinstance(layers[name], kind):
            found = type(layers[name]).__name__
            raise ValueError(
                f"weights: the layer {name!r} of the model {model.name!r} is a {found}, not a {kind.__name__}; it is "
                "no Mixer."
            )
    return layers
