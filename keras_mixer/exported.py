"""A SavedModel that `keras_mixer.export` wrote, opened again: its facts, and its probabilities."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_mixer import buckets
from keras_mixer.class_names import NAMES, imagenet_classes
from keras_mixer.data.pixel_settings import PixelSettings
from keras_mixer.weights import formats


@dataclasses.dataclass(frozen=True)
class Export:
    """An exported version.

    Attributes:
        folder: of the version.
        classes: as `decode_predictions` takes them: the name of an ImageNet head, or the names.
        size: (height, width) of its images in pixels.
        crop: that it gives encoded images.
        pixels: how it makes pixels of them.
        facts: what its export.json says.
    """

    folder: pathlib.Path
    classes: list[str] | str
    size: tuple[int, int]
    crop: str
    pixels: PixelSettings
    facts: dict[str, Any]

    def load(self) -> Callable[[np.ndarray], tf.Tensor]:
        """Return a function of images (B, height, width, channels) uint8 that gives probabilities (B, K).

        Raises:
            ValueError: if TensorFlow cannot load the folder.
        """
        signature = self._layer("serving_default")
        return lambda images: signature(tf.constant(images))["probabilities"]

    def build(self) -> keras.Model:
        """Return a Keras model of the SavedModel: images in [-1, 1] -> probabilities (B, K)."""
        images = keras.Input((*self.size, self.pixels.channels))
        pixel_values = keras.layers.Rescaling(127.5, 127.5)(images)  # [-1, 1] -> [0, 255]
        return keras.Model(images, self._layer("serving_float")(pixel_values)["probabilities"])

    def _layer(self, endpoint: str) -> keras.layers.Layer:
        try:
            return keras.layers.TFSMLayer(str(self.folder), call_endpoint=endpoint)
        except (tf.errors.OpError, OSError, ValueError, KeyError) as error:
            reason = str(getattr(error, "message", error)).splitlines()[0]
            raise ValueError(f"weights: {self.folder} cannot be loaded ({reason}); export it again.") from None


def find(place: str | os.PathLike[str]) -> pathlib.Path | None:
    """Return the folder of an exported version, of the newest one in a folder of versions; None for other places."""
    text = os.fspath(place)
    if not text or formats.is_file_url(text):
        return None
    base = buckets.path_of(text, "weights")
    buckets.check_seen(base, "weights")
    if not base.is_dir():
        return None
    versions = [p for p in base.iterdir() if p.name.isdecimal() and (p / "saved_model.pb").exists()]
    return base if (base / "saved_model.pb").exists() else max(versions, key=lambda p: int(p.name), default=None)


def open_export(folder: pathlib.Path) -> Export:
    """Return the `Export` of the folder of a version.

    Raises:
        ValueError: if its export.json is missing or damaged.
    """
    try:
        facts = json.loads((folder / "export.json").read_text("utf-8"))
        ids, names = facts["class_ids"], list(facts["class_names"])
        height, width = facts["image_size"]
        fields = [f.name for f in dataclasses.fields(PixelSettings)]
        # Older exports say nothing of pixels, and of channels that they are "RGB"; they decode exactly.
        told = {name: facts[name] for name in fields if facts.get(name, "RGB") != "RGB"}
        pixels = PixelSettings(**{"exact_decoding": True} | told)
        crop = facts["crop"]
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(
            f"weights: {folder} is a SavedModel, but not one of recipes/export.py (export.json is missing or damaged)."
        ) from None
    imagenet = next((name for name, count in NAMES.items() if count == len(ids)), None)
    if imagenet is not None and ids == [identity for identity, _ in imagenet_classes(imagenet)]:
        return Export(folder, imagenet, (height, width), crop, pixels, facts)
    return Export(folder, names, (height, width), crop, pixels, facts)
