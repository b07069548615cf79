"""A checkpoint, opened as far as its facts: a released name, a file, or the workdir of a run."""

import dataclasses
import json
import math
import os
import pathlib
from typing import Any

import keras
import numpy as np

from keras_mixer import arguments, buckets
from keras_mixer.class_names import NAMES, imagenet_classes
from keras_mixer.data import permutations
from keras_mixer.data.pixel_settings import PixelSettings
from keras_mixer.errors import InputError
from keras_mixer.models import MLPMixer
from keras_mixer.paper import MODELS, TINY
from keras_mixer.weights import formats, layouts, released
from keras_mixer.weights.bucket import fetched


@dataclasses.dataclass(frozen=True)
class StartingPoint:
    """A checkpoint, opened as far as its facts.

    Attributes:
        weights: what `MLPMixer(weights=...)` takes: a released name or the path of a file.
        sizes: keyword arguments of `MLPMixer`, patch_size and the others.
        image_size: side in pixels that it was trained at, or None where its patches form no square.
        channels: of its images, 3 or 1.
        num_classes: of its head, None without a head.
        class_names: of its head: names, or (WordNet id, name) of ImageNet's classes; None where they are not known.
        settings: of the run, where it is one; else empty.
        name: for people, for example "b16 imagenet21k" or "runs/pretrain".
        data_folders: of the run, data_dir and manual_dir as they were given; they are none of its settings, since a run
            may go on with its data in another place.
    """

    weights: str
    sizes: dict[str, Any]
    image_size: int | None
    channels: int
    num_classes: int | None
    class_names: list[Any] | None
    settings: dict[str, Any]
    name: str
    data_folders: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def is_released(self) -> bool:
        """Whether it was given by the name of a release of the authors."""
        return self.weights in released.NAMES

    @property
    def permutation(self) -> tuple[str, int]:
        """(kind, seed) of the permutation of pixels that the weights were trained with, kind "none" without one."""
        return self.settings.get("permutation", "none"), self.settings.get("permutation_seed", 0)

    @property
    def activation(self) -> str:
        """What makes probabilities of its logits: "softmax", or "sigmoid" where the run was trained with that loss."""
        return "sigmoid" if self.settings.get("loss") == "sigmoid" else "softmax"

    def side(self, image_size: int | None = None) -> int:
        """Return the side of its images in pixels: `image_size`, or the one that it was trained at.

        Raises:
            ValueError: if neither is known, if its patches do not divide it, or another size is asked of weights that
                know permuted images only.
        """
        side = self.image_size if image_size is None else image_size
        if side is None:
            raise InputError("image_size", f"the patches of {self.name} form no square", "give `image_size`")
        arguments.check_grid(side, side, self.sizes["patch_size"], "image_size")
        if side != self.image_size and self.permutation[0] != "none":
            fault = f"{self.name} was trained on images of {self.image_size} px, permuted, and knows no other"
            raise InputError("image_size", fault, f"leave out `image_size` {side}")
        return side

    def pixel_order(self, side: int) -> np.ndarray | None:
        """Return the order, for `permutations.permute`, that these weights want the pixels of an image in."""
        kind, seed = self.permutation
        return permutations.draw_order(kind, side, self.sizes["patch_size"], seed)

    def crop(self) -> str:
        """Return how the run that made the weights was evaluated: photographs are cropped, drawn signs are not."""
        dataset = self.settings.get("dataset") or ""
        drawn = dataset == "digits" or dataset.startswith("vtab-")
        is_folder = buckets.is_bucket(dataset) or os.path.isdir(os.path.expanduser(dataset))
        if dataset and not drawn and not is_folder:
            from keras_mixer.data.tfds import GLYPHS  # takes seconds to import

            drawn = dataset.split("/")[0].split(":")[0] in GLYPHS
        return "none" if drawn else self.settings.get("crop") or "resmall"

    def pixels(self, **given: Any) -> PixelSettings:
        """Return how files become pixels: as the run that made the weights, but for what is given and not None.

        A run of before `exact_decoding` was a setting decoded exactly.
        """
        earlier = {"exact_decoding": True} if self.settings else {}
        of_run = {f.name: self.settings[f.name] for f in dataclasses.fields(PixelSettings) if f.name in self.settings}
        chosen = {name: value for name, value in given.items() if value is not None}
        return PixelSettings(**{"channels": self.channels} | earlier | of_run | chosen)

    def names(self) -> list[str] | str:
        """Return what `decode_predictions` takes as the names: ImageNet's, the run's own, or numbers."""
        if self.class_names is not None and all(isinstance(name, str) for name in self.class_names):
            return list(self.class_names)
        imagenet = next((name for name, size in NAMES.items() if size == self.num_classes), None)
        return imagenet or [str(k) for k in range(self.num_classes or 0)]

    def build(self, side: int, channels: int | None = None, **kwargs: Any) -> keras.Model:
        """Build the Mixer with these weights for images (side, side, channels); `kwargs` are `MLPMixer`'s.

        Images have as many channels as those of the training where `channels` is None.
        """
        shape = (side, side, channels or self.channels)
        return MLPMixer(**self.sizes, weights=self.weights, input_shape=shape, **kwargs)


def find(weights: str | os.PathLike[str], model: str | None = None) -> StartingPoint:
    """Return the `StartingPoint` of a released name with its model, a file of weights, or the workdir of a run.

    Raises:
        FileNotFoundError: if there is no such file, or the run in the workdir has not finished.
        ValueError: for a released name without a model, a model that the file is not of, or a file of another kind.
    """
    text = os.fspath(weights)
    if text in released.NAMES:
        if model is None:
            those = [f["model"].removeprefix("Mixer").lower() for f in released.list_weights() if f["weights"] == text]
            raise InputError("model", f"weights {text} need one", f"give `model`, one of {', '.join(sorted(those))}")
        classes = 21843 if text == "imagenet21k" else 1000
        names = list(imagenet_classes("imagenet21k" if classes == 21843 else "imagenet1k"))
        return StartingPoint(text, dict(MODELS[model]), 224, 3, classes, names, {}, f"{model} {text}")
    told: dict[str, Any] = {}
    path = pathlib.Path(text) if formats.is_file_url(text) else buckets.path_of(text, "weights")
    buckets.check_seen(path, "weights")
    if path.is_dir():
        told = _run_json(path)
        path = path / "model.keras"
        finals = sorted(path.parent.glob("final/*/model.keras"))
        if not path.exists() and finals:
            raise ValueError(
                f"weights: {text} is a sweep of several runs; give one of them, such as {finals[0].parent}."
            )
        if not path.exists():
            raise FileNotFoundError(
                f"weights: {text} has no model.keras yet; let the run there finish, by the command that began it."
            )
    elif not path.suffix and "://" not in text and not path.exists():
        raise FileNotFoundError(
            f"weights: there is no folder {text!r}; give the workdir of a run, the path or URL of a file, or one of "
            f"{', '.join(released.NAMES)}."
        )
    elif path.name == "model.keras" and _is_permuted(path.parent):
        raise ValueError(
            f"weights: {text} is of a run on permuted images; give the folder {path.parent}, which says how."
        )
    start = _of_file(str(fetched(path)) if told else text, told.get("settings", {}), text, model)
    folders = {name: told.get("flags", {}).get(name) for name in ("data_dir", "manual_dir")} if told else {}
    return dataclasses.replace(start, data_folders=folders)


def _of_file(file: str, settings: dict[str, Any], name: str, model: str | None) -> StartingPoint:
    opened = layouts.in_released_layout(formats.open_file(file))
    found = layouts.sizes_of(opened.specs)
    sizes = {key: found[key] for key in TINY}
    if None in sizes.values() or not found["num_blocks"] or not found["patches"]:
        raise ValueError(f"weights: {name} holds no Mixer; give a released name, a Mixer's file, or a workdir.")
    if model is not None and any(sizes[key] != MODELS[model][key] for key in sizes if key != "tokens_mlp_dim"):
        fits = layouts.variant_of(**{k: v for k, v in sizes.items() if k != "tokens_mlp_dim"}) or sizes
        raise InputError("model", f"{name} is not of the model {model} but of {fits}", "leave `model` out")
    grid = opened.grid or (math.isqrt(found["patches"]),) * 2
    square = grid[0] == grid[1] and grid[0] * grid[1] == found["patches"]
    side = grid[0] * sizes["patch_size"] if square else None
    channels = 1 if found["image channels"] == 1 else 3
    return StartingPoint(file, sizes, side, channels, found["classes"], settings.get("class_names"), settings, name)


def _is_permuted(folder: pathlib.Path) -> bool:
    """Whether a folder is that of a run on permuted images, which a file of its weights does not say."""
    try:
        return _run_json(folder)["settings"].get("permutation", "none") != "none"
    except ValueError:
        return False


def _run_json(folder: pathlib.Path) -> dict[str, Any]:
    try:
        told = json.loads((folder / "run.json").read_text())
        return told | {"settings": dict(told["settings"])}
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(
            f"weights: {folder} is a folder but not the workdir of a run (run.json is missing or damaged); give a "
            "workdir, a file, or a released name."
        ) from None
