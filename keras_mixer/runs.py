"""A trained Mixer in two lines: `load_run` opens what a run, a file, a release or an export left behind."""

import dataclasses
import functools
import json
import os
import pathlib
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from keras_mixer import exported, starting_point
from keras_mixer.class_names import decode_predictions, imagenet_classes
from keras_mixer.data import given_images, permutations
from keras_mixer.data.crops import EVALUATION_CROPS
from keras_mixer.data.folders import printable
from keras_mixer.data.pipeline import to_model_range
from keras_mixer.data.pixel_settings import PixelSettings
from keras_mixer.errors import InputError
from keras_mixer.paper import MODELS

Probabilities = Callable[[np.ndarray], tf.Tensor]  # images (B, H, W, channels) uint8 -> (B, K)


class Prediction(NamedTuple):
    """One class of an image.

    Attributes:
        class_id: WordNet id of an ImageNet class, else the index of the class.
        name: of the class.
        probability: fraction, in [0, 1].
    """

    class_id: str | int
    name: str
    probability: float


class ImagePredictions(list[Prediction]):
    """The most probable classes of one image, best first; empty where the image could not be read.

    Attributes:
        image: its path, or for example "image 3" where it came as an array.
        fault: one sentence where it could not be read, else None.
        name, probability: of the best class.
    """

    def __init__(self, image: str, predictions: Sequence[Prediction] = (), fault: str | None = None) -> None:
        super().__init__(predictions)
        self.image, self.fault = image, fault

    @property
    def name(self) -> str:
        return self._best().name

    @property
    def probability(self) -> float:
        return self._best().probability

    def _best(self) -> Prediction:
        if not self:
            raise ValueError(f"{self.image}: has no prediction, since it could not be read: {self.fault}")
        return self[0]


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """A trained Mixer with what it takes to use it; made by `load_run`.

    Attributes:
        name: the place that it was loaded from.
        class_names: a name for each class, in the order of the head.
        image_size: side of its images in pixels; (height, width) where they are no squares.
        crop: what an evaluation cuts out of an image: "resmall", "resize" or "none".
        pixels: how files become pixels, see `keras_mixer.data.pixel_settings`.
        settings: of the training run, as in its run.json; of an export those of export.json; else empty.
        result: of the training run, as in its result.json; else empty.
    """

    name: str
    class_names: list[str]
    image_size: int | tuple[int, int]
    crop: str
    pixels: PixelSettings
    settings: dict[str, Any]
    result: dict[str, Any]
    _classes: list[str] | str = dataclasses.field(repr=False)  # as `decode_predictions` takes them
    _build: Callable[[], keras.Model] = dataclasses.field(repr=False)
    _make_probabilities: Callable[["Run"], Probabilities] = dataclasses.field(repr=False)

    @functools.cached_property
    def model(self) -> keras.Model:
        """The Keras model: images (B, H, W, channels) in [-1, 1] -> probabilities (B, K).

        Its layer "head" has the logits: `keras.Model(run.model.input, run.model.get_layer("head").output)` gives them.
        The model of an export is a SavedModel, which has no such layer.
        """
        return self._build()

    def predict(
        self, images: Any, top: int = 5, batch_size: int = 32, progress: bool | None = None
    ) -> list[ImagePredictions]:
        """Name what is in images, with the numbers of `recipes/predict.py`.

        Args:
            images: one image or a list of them: a path, a folder or a pattern (which stand for all their images), the
                bytes of a file, a uint8 array (H, W), (H, W, 3) or (H, W, 4) of any size, or a Pillow image; or an
                array (B, H, W, 3).
            top: classes to name for each image; fewer where the head has fewer.
            batch_size: images that the model sees at a time.
            progress: whether to show a bar; None shows it on a terminal for more than one batch.

        Returns:
            For each image its most probable classes, best first: a list of `Prediction` (class_id, name, probability)
            that has `.image`, and `.name` and `.probability` of the best. An image that cannot be read costs itself
            alone: its list is empty, `.fault` says why, and a warning names it.

        Raises:
            ValueError: for a path that names no image, or a `top` or `batch_size` below 1.

        Example:
            >>> run = load_run("runs/photos")  # doctest: +SKIP
            >>> run.predict("cat.jpg")[0].name  # doctest: +SKIP
            'cat'
        """
        given = given_images.listed(images)
        hidden = not sys.stderr.isatty() or len(given) <= batch_size if progress is None else not progress
        found = []
        for prediction in tqdm(
            self.predict_each(given, top, batch_size), total=len(given), unit=" images", disable=hidden
        ):
            if prediction.fault is not None:
                warnings.warn(f"predict: {printable(prediction.fault)}", stacklevel=2)
            found.append(prediction)
        return found

    def predict_each(self, images: Sequence[Any], top: int = 5, batch_size: int = 32) -> Iterator[ImagePredictions]:
        """Yield what `predict` returns, one image after the other; `images` are single ones, no folders or patterns."""
        for name, value in (("top", top), ("batch_size", batch_size)):
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
                raise ValueError(f"{name}: must be a positive number, got {value!r}.")
        top = min(top, len(self.class_names))
        names = [
            os.fspath(image) if isinstance(image, str | os.PathLike) else f"image {i}" for i, image in enumerate(images)
        ]
        load = given_images.loader(self.image_size, self.crop, self.pixels)
        for batch in given_images.read_ahead(images, names, load, batch_size):
            best: dict[int, list[Prediction]] = {}
            if batch.indices:
                decoded = decode_predictions(self._probabilities_of(batch.images, batch_size), top, self._classes)
                best = {i: [Prediction(*row) for row in rows] for i, rows in zip(batch.indices, decoded, strict=True)}
            for index in sorted(best.keys() | batch.faults.keys()):
                yield ImagePredictions(names[index], best.get(index, ()), batch.faults.get(index))

    @functools.cached_property
    def _probabilities(self) -> Probabilities:
        return self._make_probabilities(self)

    def _probabilities_of(self, images: np.ndarray, batch_size: int) -> np.ndarray:
        """Return (B, K); the last batch is filled up, so that the model is compiled once."""
        filling = np.zeros((batch_size - len(images), *images.shape[1:]), np.uint8)
        whole = np.concatenate([images, filling]) if len(images) < batch_size else images
        return self._probabilities(whole).numpy()[: len(images)]

    def __repr__(self) -> str:
        size = " x ".join(map(str, np.atleast_1d(self.image_size)))
        told = f"{size} px, {len(self.class_names):,} classes, crop {self.crop}"
        if "top1" in self.result:
            images = f" of {self.result['num_examples']:,} images" if "num_examples" in self.result else ""
            told += f", top-1 {self.result['top1']:.1%}{images}"
        return f"Run({self.name!r}: {told})"


def load_run(
    place: str | os.PathLike[str],
    model: str | None = None,
    *,
    image_size: int | None = None,
    crop: str | None = None,
    pixels: PixelSettings | None = None,
) -> Run:
    """Load a trained Mixer with its class names, image size and crop, ready to predict.

    Args:
        place: the workdir of a finished run, a file of weights with a head, a folder that `recipes/export.py` wrote,
            or the name of a released checkpoint.
        model: variant of a released checkpoint, such as "b16"; for all else left out.
        image_size: side in pixels; None takes the one of the training. Not for exports, which have theirs.
        crop: "resmall", "resize" or "none"; None takes that of the run's own evaluation.
        pixels: how files become pixels; None takes the run's own.

    Raises:
        FileNotFoundError: if there is no such file, or the run has not finished.
        ValueError: for a place that holds no Mixer with a head, or an argument that does not go with it.

    Example:
        >>> run = load_run("runs/photos")  # doctest: +SKIP
        >>> [(best.name, best.probability) for best in run.predict(["cat.jpg", "dog.png"])]  # doctest: +SKIP
        [('cat', 0.97), ('dog', 0.88)]
    """
    if crop is not None and crop not in EVALUATION_CROPS:
        raise ValueError(f"crop: must be resmall, resize or none, got {crop!r}.")
    if model is not None and model not in MODELS:
        raise ValueError(f"model: {model!r} is unknown; use one of {', '.join(MODELS)}.")
    folder = exported.find(place)
    if folder is None:
        return of_starting_point(starting_point.find(place, model), image_size, crop, pixels)
    if model is not None:
        raise InputError("model", f"{folder} is exported and says what it is", "leave `model` out")
    return of_export(exported.open_export(folder), image_size, crop, pixels)


def of_starting_point(
    start: starting_point.StartingPoint,
    image_size: int | None = None,
    crop: str | None = None,
    pixels: PixelSettings | None = None,
) -> Run:
    """Return the `Run` of a checkpoint that has been found; arguments and errors are those of `load_run`."""
    if start.num_classes is None:
        raise ValueError(f"weights: {start.name} has no head, so it names no class; give weights that have one.")
    side, classes = start.side(image_size), start.names()
    pixels = pixels or start.pixels()

    def build() -> keras.Model:
        return start.build(side, pixels.channels, classes=start.num_classes, classifier_activation=start.activation)

    def make_probabilities(run: Run) -> Probabilities:
        mixer, order = run.model, start.pixel_order(side)

        @tf.function(reduce_retracing=True)
        def probabilities(images: tf.Tensor) -> tf.Tensor:
            return mixer(to_model_range(permutations.permute(images, order)), training=False)

        return probabilities

    return Run(
        name=start.name,
        class_names=_words(classes),
        image_size=side,
        crop=crop or start.crop(),
        pixels=pixels,
        settings=start.settings,
        result=_json(pathlib.Path(start.weights).parent / "result.json") if start.settings else {},
        _classes=classes,
        _build=build,
        _make_probabilities=make_probabilities,
    )


def of_export(
    export: exported.Export, image_size: int | None = None, crop: str | None = None, pixels: PixelSettings | None = None
) -> Run:
    """Return the `Run` of an exported version; arguments and errors are those of `load_run`."""
    height, width = export.size
    if image_size is not None and (image_size, image_size) != export.size:
        fault = f"{export.folder} was exported for {height} x {width} pixels, got {image_size}"
        raise InputError("image_size", fault, "leave `image_size` out")
    return Run(
        name=str(export.folder),
        class_names=_words(export.classes),
        image_size=height if height == width else export.size,
        crop=crop or export.crop,
        pixels=pixels or export.pixels,
        settings=export.facts,
        result={},
        _classes=export.classes,
        _build=export.build,
        _make_probabilities=lambda run: export.load(),
    )


def _words(classes: list[str] | str) -> list[str]:
    return [words for _, words in imagenet_classes(classes)] if isinstance(classes, str) else classes


def _json(path: pathlib.Path) -> dict[str, Any]:
    """Return what a file of JSON says; empty where it is missing or damaged."""
    try:
        facts = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}
