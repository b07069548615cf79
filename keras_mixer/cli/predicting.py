"""A trained model that any process can open by itself, since what it takes is plain values."""

import dataclasses
import os
import pathlib
from typing import Any

import keras

from keras_mixer import buckets, exported, runs
from keras_mixer.cli import trained
from keras_mixer.cli.settings import DEFAULT_WEIGHTS, Checkpoint, View
from keras_mixer.runs import Run

FILES = ("", "model.keras", "saved_model.pb")  # the weights of a file, a run and an export


@dataclasses.dataclass(frozen=True)
class Opener:
    """Opens the `Run` of settings when it is called: of an export, or of a checkpoint.

    Attributes:
        weights, model, image_size, crop, precision: as the settings have them.
        pixels: those of `PixelSettings` that are given.
    """

    weights: str | None
    model: str | None
    image_size: int | None
    crop: str | None
    pixels: dict[str, Any]
    precision: str

    def __call__(self) -> Run:
        """Open the run, and set its precision for the whole process; a ValueError for what does not go together."""
        keras.config.set_dtype_policy(self.precision)
        folder = exported.find(self.weights) if self.weights else None
        if folder is None:
            given: dict[str, Any] = dict(weights=self.weights, model=self.model)
            start = trained.find(Checkpoint(**given))
            return runs.of_starting_point(start, self.image_size, self.crop, start.pixels(**self.pixels))
        export = exported.open_export(folder)
        if self.model is not None:
            raise ValueError(f"model: {folder} is exported and says what it is; leave --model out.")
        if self.precision != "float32":
            raise ValueError(f"precision: {folder} computes as it was exported; leave --precision out.")
        return runs.of_export(export, self.image_size, self.crop, dataclasses.replace(export.pixels, **self.pixels))

    def described(self) -> list[Any]:
        """Return the settings as JSON values, with size and time of the file of weights, which may be written anew."""
        found = exported.find(self.weights) if self.weights else None
        place = buckets.path_of(found or self.weights or DEFAULT_WEIGHTS, "weights")
        files: list[pathlib.Path] = [place / name if name else place for name in FILES]
        states = [(buckets.size_of(file), buckets.time_of(file)) for file in files if file.is_file()]
        return [os.fspath(place), dataclasses.asdict(self), states]


def opener(settings: Any) -> Opener:
    """Return the `Opener` of settings that are a `Checkpoint`, a `View`, and have a precision."""
    assert isinstance(settings, Checkpoint)
    assert isinstance(settings, View)
    pixels, precision = settings.pixels(), getattr(settings, "precision", "float32")
    return Opener(settings.weights, settings.model, settings.image_size, settings.crop, pixels, precision)
