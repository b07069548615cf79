"""Which layers of a model are trained."""

import difflib
import fnmatch
from collections.abc import Sequence

import keras


def freeze(model: keras.Model, patterns: Sequence[str]) -> list[str]:
    """Keep the weights of the layers that match any pattern as they are; return the names of those layers.

    Build the optimiser afterwards: it then holds no state for them.

    Args:
        model: a Keras model.
        patterns: of names of its layers, for example ["stem", "block_?"]; * and ? stand for any text and any character.

    Raises:
        ValueError: if a pattern matches no layer that has weights, or if nothing is left to train.

    Example:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, name="stem"), keras.layers.Dense(1)])
        >>> freeze(model, ["st*"])
        ['stem']
        >>> len(model.trainable_variables)
        2
    """
    layers = {layer.name: layer for layer in model.layers if layer.weights}
    frozen = []
    for pattern in patterns:
        names = fnmatch.filter(layers, pattern)
        if not names:
            near = difflib.get_close_matches(pattern, layers, n=1)
            hint = f"did you mean {near[0]}?" if near else f"the layers are {', '.join(layers)}."
            raise ValueError(f"freeze: no layer with weights is called {pattern!r}; {hint}")
        frozen += [name for name in names if name not in frozen]
    if not any(layer.trainable_variables for name, layer in layers.items() if name not in frozen):
        raise ValueError(f"freeze: {', '.join(patterns)} leaves nothing to train; leave out at least one layer.")
    for name in frozen:
        layers[name].trainable = False
    return frozen
