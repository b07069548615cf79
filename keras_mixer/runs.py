"""A trained Mixer in two lines: `load_run` opens what a run, a file, a release or an export left behind."""

import dataclasses
import functools
import json
import os
import pathlib
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from keras_mixer import buckets, exported, run_data
from keras_mixer.class_names import decode_predictions, imagenet_classes
from keras_mixer.data import crops, given_images, permutations
from keras_mixer.data.folders import printable
from keras_mixer.data.mixing import to_model_range
from keras_mixer.data.pixel_settings import PixelSettings
from keras_mixer.errors import InputError
from keras_mixer.evaluation.image_predictions import ImagePredictions, Prediction
from keras_mixer.evaluation.predictions import predict_images
from keras_mixer.paper import MODELS
from keras_mixer.starting_point import StartingPoint, find
from keras_mixer.training import losses

Probabilities = Callable[[np.ndarray], tf.Tensor]  # images (B, H, W, channels) uint8 -> (B, K)


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
    _start: StartingPoint = dataclasses.field(repr=False)
    _activation: str = dataclasses.field(repr=False)  # of its logits

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

    def evaluate(
        self,
        dataset: str | os.PathLike[str] | None = None,
        split: str | None = None,
        *,
        data_dir: str | None = None,
        batch_size: int = 64,
        progress: bool | None = None,
    ) -> dict[str, float]:
        """Return how right the model is on every image of a dataset once, as `recipes/evaluate.py` measures it.

        Args:
            dataset: "digits", a folder of class folders or records, or a TFDS name; None for the images that the
                training run was evaluated on.
            split: of the dataset; None for the run's own, or validation, val or test, whichever it has first.
            data_dir: where TFDS keeps its data.
            batch_size: images that the model sees at a time.
            progress: whether to show a bar; None shows it on a terminal.

        Returns:
            top1, top5 and expected_calibration_error (fractions), loss (mean per image) and num_examples.

        Raises:
            ValueError: for a dataset of other classes, or none where the place is no training run.

        Example:
            >>> load_run("runs/pretrain").evaluate()["top1"]  # doctest: +SKIP
            0.9778
        """
        given = {"dataset": None if dataset is None else os.fspath(dataset), "eval_split": split, "data_dir": data_dir}
        source = run_data.open_of_run(self._start, {k: v for k, v in given.items() if v is not None}, training=False)
        run_data.check_classes(self._start, source, "use the dataset of its training")
        shown: dict[str, Any] = dict(image_size=self.image_size, crop=self.crop, pixels=self.pixels)
        batches = run_data.eval_batches(self._start, source, batch_size=batch_size, **shown)
        hidden = not sys.stderr.isatty() if progress is None else not progress
        with tqdm(total=source.num_examples, unit=" images", disable=hidden) as bar:
            model = run_data.of_logits(self.model, self._activation)
            how = losses.get_loss(self._activation), losses.get_probabilities(self._activation)
            return predict_images(model, batches, *how, on_batch=bar.update).totals()

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
    if crop is not None and crop not in crops.EVALUATION_CROPS:
        raise ValueError(f"crop: must be resmall, resize or none, got {crop!r}.")
    if model is not None and model not in MODELS:
        raise ValueError(f"model: {model!r} is unknown; use one of {', '.join(MODELS)}.")
    folder = exported.find(place)
    if folder is None:
        return of_starting_point(find(place, model), image_size, crop, pixels)
    if model is not None:
        raise InputError("model", f"{folder} is exported and says what it is", "leave `model` out")
    return of_export(exported.open_export(folder), image_size, crop, pixels)


def of_starting_point(
    start: StartingPoint,
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
        result=_json(buckets.path_of(start.name) / "result.json") if start.settings else {},
        _classes=classes,
        _build=build,
        _make_probabilities=make_probabilities,
        _start=start,
        _activation=start.activation,
    )


def of_export(
    export: exported.Export, image_size: int | None = None, crop: str | None = None, pixels: PixelSettings | None = None
) -> Run:
    """Return the `Run` of an exported version; arguments and errors are those of `load_run`."""
    height, width = export.size
    if image_size is not None and (image_size, image_size) != export.size:
        fault = f"{export.folder} was exported for {height} x {width} pixels, got {image_size}"
        raise InputError("image_size", fault, "leave `image_size` out")
    classes, channels, name = export.classes, (pixels or export.pixels).channels, str(export.folder)
    names = imagenet_classes(classes) if isinstance(classes, str) else classes
    start = StartingPoint(name, {}, None, channels, len(names), list(names), {}, name)
    return Run(
        name=name,
        class_names=_words(classes),
        image_size=height if height == width else export.size,
        crop=crop or export.crop,
        pixels=pixels or export.pixels,
        settings=export.facts,
        result={},
        _classes=classes,
        _build=export.build,
        _make_probabilities=lambda run: export.load(),
        _start=start,
        _activation=export.facts.get("activation", "softmax"),
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
