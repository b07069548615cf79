"""The versions that a result depends on."""

import platform

import keras
import tensorflow as tf

from keras_mixer._version import __version__


def versions() -> dict[str, str]:
    """Return name -> version of this package and of what it runs on."""
    return {
        "keras_mixer": __version__,
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
        "python": platform.python_version(),
    }
