"""What --weights names where it is a SavedModel that recipes/export.py wrote."""

import dataclasses
import json
import pathlib

import tensorflow as tf
from absl import flags

from keras_mixer.class_names import NAMES, imagenet_classes
from keras_mixer.data.pixel_settings import PixelSettings
from starting_point import StartingPoint

FLAGS = flags.FLAGS


@dataclasses.dataclass
class ExportedModel:
    """An exported version.

    Attributes:
        folder: of the version.
        start: its name and classes, as of other weights.
        size: (height, width) in pixels.
        crop: that it gives encoded images.
    """

    folder: pathlib.Path
    start: StartingPoint
    size: tuple
    crop: str

    def check_flags(self):
        """Return the size, or raise a ValueError for a flag that an exported model cannot follow."""
        if FLAGS.image_size is not None and (FLAGS.image_size,) * 2 != self.size:
            raise ValueError(
                f"image_size: {self.folder} was exported for {self.size[0]} x {self.size[1]} pixels, got "
                f"{FLAGS.image_size}; leave --image_size out."
            )
        if FLAGS.model is not None:
            raise ValueError(f"model: {self.folder} is exported and says what it is; leave --model out.")
        if FLAGS.precision != "float32":
            raise ValueError(f"precision: {self.folder} computes as it was exported; leave --precision out.")
        return self.size

    def load(self):
        """Return images (B, height, width, 3) uint8 -> probabilities (B, K)."""
        try:
            signature = tf.saved_model.load(str(self.folder)).signatures["serving_default"]
        except (tf.errors.OpError, OSError, ValueError, KeyError) as error:
            reason = str(getattr(error, "message", error)).splitlines()[0]
            raise ValueError(f"weights: {self.folder} cannot be loaded ({reason}); export it again.") from None
        return lambda images: signature(images=tf.constant(images))["probabilities"]


def find(weights):
    """Return the `ExportedModel` of a version, or of the newest version in a folder; None for other weights."""
    base = pathlib.Path(weights or ".").expanduser()
    if not weights or not base.is_dir():
        return None
    versions = [p for p in base.iterdir() if p.name.isdecimal() and (p / "saved_model.pb").exists()]
    folder = base if (base / "saved_model.pb").exists() else max(versions, key=lambda p: int(p.name), default=None)
    if folder is None:
        return None
    try:
        facts = json.loads((folder / "export.json").read_text("utf-8"))
        ids, names, size = facts["class_ids"], facts["class_names"], tuple(facts["image_size"])
        crop, activation = facts["crop"], facts["activation"]
        pixels = {
            f.name: facts[f.name] for f in dataclasses.fields(PixelSettings) if f.name in facts
        }  # older have none
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(
            f"weights: {folder} is a SavedModel, but not one of recipes/export.py (export.json is missing or damaged)."
        ) from None
    known = [name for name, count in NAMES.items() if count == len(ids)]
    imagenet = bool(known) and ids == [identity for identity, _ in imagenet_classes(known[0])]
    named = list(imagenet_classes(known[0])) if imagenet else list(names)
    settings = {"loss": activation, **pixels}
    start = StartingPoint(str(folder), {}, size[0], len(names), named, settings, str(folder))
    return ExportedModel(folder, start, size, crop)
