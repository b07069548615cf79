"""MLP-Mixer (Tolstikhin et al. 2021) for Keras 3."""

import importlib
from typing import Any

from keras_mixer._version import __version__ as __version__
from keras_mixer.class_names import decode_predictions
from keras_mixer.layers import MixerBlock, MlpBlock, PatchEmbed, StochasticDepth
from keras_mixer.models import (
    MixerB16,
    MixerB32,
    MixerH14,
    MixerL16,
    MixerL32,
    MixerS8,
    MixerS16,
    MixerS32,
    MLPMixer,
    preprocess_input,
)
from keras_mixer.released import list_weights
from keras_mixer.weights import load_checkpoint, save_checkpoint

__all__ = [
    "MLPMixer",
    "MixerB16",
    "MixerB32",
    "MixerBlock",
    "MixerH14",
    "MixerL16",
    "MixerL32",
    "MixerS8",
    "MixerS16",
    "MixerS32",
    "MlpBlock",
    "PatchEmbed",
    "StochasticDepth",
    "decode_predictions",
    "list_weights",
    "load_checkpoint",
    "load_run",
    "preprocess_input",
    "save_checkpoint",
]


def __getattr__(name: str) -> Any:
    """Import what needs TensorFlow when it is first used; a model on another backend does not need it."""
    if name == "export":
        return importlib.import_module("keras_mixer.export")
    if name == "load_run":
        return importlib.import_module("keras_mixer.runs").load_run
    raise AttributeError(f"module 'keras_mixer' has no attribute {name!r}")
