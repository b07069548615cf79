"""Layers that are made of others: which of these are frozen or quantised is part of their configuration.

Keras saves and clones a layer by its configuration, and that of its parts is in none: frozen parts would train again,
and quantised weights find no place.
"""

from collections.abc import Mapping

import keras

from keras_mixer.types import Config, Shape


class CompositeLayer(keras.layers.Layer):
    """A layer of named parts that keep their state through saving, loading and cloning.

    A subclass gives `parts` and calls `restore_parts` at the end of `build`.
    """

    _state = None  # of the parts, which `from_config` found, until they are built

    def parts(self) -> dict[str, keras.layers.Layer]:
        """Return name -> layer of each part that has weights."""
        raise TypeError(f"{type(self).__name__}: must name its parts.")

    def restore_parts(self) -> None:
        """Freeze and quantise the parts, which are just built, as the configuration says, or with this layer."""
        if not self.trainable:  # type: ignore[has-type]  # a property of Keras
            self.trainable = False  # of the parts too, which are younger than this layer
        if self._state:
            set_state(all_parts(self.parts()), self._state)
            self._state = None

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the input's shape, which most of them keep."""
        return input_shape

    def get_config(self) -> Config:
        return {**super().get_config(), "parts": get_state(all_parts(self.parts()))}

    @classmethod
    def from_config(cls, config: Config) -> "CompositeLayer":
        config = dict(config)
        state = config.pop("parts", None)
        layer = super().from_config(config)
        layer._state = state
        return layer


def all_parts(layers: Mapping[str, keras.layers.Layer]) -> dict[str, keras.layers.Layer]:
    """Return path -> layer of named layers and of their parts, such as "token_mixing/dense_0", wholes before parts."""
    found = {}
    for name, layer in layers.items():
        found[name] = layer
        if isinstance(layer, CompositeLayer):
            found |= {f"{name}/{path}": part for path, part in all_parts(layer.parts()).items()}
    return found


def get_state(layers: Mapping[str, keras.layers.Layer]) -> Config:
    """Return what `set_state` restores, as JSON values, of the path -> layer of `all_parts`."""
    quantized = {path: layer for path, layer in layers.items() if getattr(layer, "quantization_mode", None)}
    return {
        "trainable": {path: layer.trainable for path, layer in layers.items()},
        "quantized": {
            path: [layer.quantization_mode, keras.saving.serialize_keras_object(layer.quantization_config)]
            for path, layer in quantized.items()
        },
    }


def set_state(layers: Mapping[str, keras.layers.Layer], state: Config) -> None:
    """Freeze and quantise built layers, path -> layer, as `get_state` found them."""
    for path, layer in layers.items():
        if path in state["trainable"]:  # else it was not built, and is as what holds it
            layer.trainable = state["trainable"][path]
    for path, (mode, config) in state["quantized"].items():
        layers[path].quantize(mode, config=keras.saving.deserialize_keras_object(config))
