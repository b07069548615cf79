"""The architecture of the golden checkpoint, and its weights in a model."""

import numpy as np

import keras_mixer

SIZES = dict(patch_size=8, num_blocks=3, hidden_dim=48, tokens_mlp_dim=20, channels_mlp_dim=96)


def build(**kwargs):
    """The golden model's architecture for logits, with new weights."""
    kwargs = dict(input_shape=(32, 32, 3), classes=10, classifier_activation=None) | kwargs
    return keras_mixer.MLPMixer(**SIZES, **kwargs)


def write_checkpoint(golden, path, prefix="checkpoint/"):
    """Write the golden arrays under `prefix` as a file in the released layout."""
    np.savez(path, **{k.removeprefix(prefix): v for k, v in golden.items() if k.startswith(prefix)})
    return path
