"""A tiny Mixer with a head that tells classes apart, and its export, written once for all tests of a process."""

import keras
import numpy as np

import keras_mixer

NAMES = ["cat", "dog", "fox", "owl", "emu", "yak", "Füchsin"]
SIDE = 16
_exported: list = []


def tiny_model(**kwargs):
    """Return a Mixer of 3,767 parameters for 16 px, whose seven probabilities differ."""
    keras.utils.set_random_seed(0)
    model = keras_mixer.MLPMixer(4, 2, 16, 8, 32, input_shape=(SIDE, SIDE, 3), classes=len(NAMES), **kwargs)
    model.get_layer("head").kernel.assign(np.random.default_rng(0).normal(size=(16, len(NAMES))))
    return model


def exported(factory):
    """Return (model, folder of its version 3); `factory` is pytest's `tmp_path_factory`."""
    if not _exported:
        model = tiny_model()
        folder = keras_mixer.export.saved_model(
            model, factory.mktemp("served"), class_names=NAMES, version=3, card={"Trained on": "nothing"}
        )
        _exported.append((model, folder))
    return _exported[0]


def random_images(count, seed=1):
    """Return (count, 16, 16, 3) uint8 noise."""
    return np.random.default_rng(seed).integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)


def by_keras(model, images):
    """Return the probabilities that Keras gives for uint8 images."""
    return np.array(model(keras_mixer.preprocess_input(images), training=False))
