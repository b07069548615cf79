"""What the page of a run shows of its model and its images, asked while they are there."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_mixer.cli import pages
from keras_mixer.data.source import Source
from keras_mixer.evaluation import report_files
from keras_mixer.evaluation.predictions import Predictions, Predictor
from keras_mixer.evaluation.report_files import Seen
from keras_mixer.report import evidence, kept, occlusion
from keras_mixer.training import strategies

SEVERAL_PROCESSES = "A run of several processes covers no parts of images."


@dataclasses.dataclass(frozen=True)
class Asked:
    """A model that was asked about every image of a source, and how: so it can be asked again.

    Attributes:
        model, predictor, predictions: see `evaluation.predictions`.
        source: whose images.
        shown: dict of image_size, crop and pixels of the images.
        strategy, batch_size: with which it was asked.
        permute: a dataset of batches -> the same with the pixels in the order that the model wants.
    """

    model: keras.Model
    predictor: Predictor
    predictions: Predictions
    source: Source
    shown: dict[str, Any]
    strategy: tf.distribute.Strategy
    batch_size: int
    permute: Callable[[tf.data.Dataset], tf.data.Dataset]


def write_files(folder: pathlib.Path, asked: Asked, root: str, pictures: bool) -> tuple[list[pathlib.Path], Seen]:
    """Write what `report_files.write` does; return the paths, and what was seen of the images."""
    seen = report_files.look_at(asked.predictions, asked.source, asked.shown, root, pictures)
    return report_files.write(folder, asked.predictions, asked.source, seen, pictures), seen


def of_images(asked: Asked, seen: Seen, pictures: bool) -> kept.Evidence:
    """Return what the page shows of single images."""
    predictions, names = asked.predictions, asked.source.class_names
    found = evidence.of_images(predictions, names, seen)
    if not pictures:
        return found | {"no_occlusion": "Pictures were left out by --nopictures."}
    if strategies.has_workers(asked.strategy):
        return found | {"no_occlusion": SEVERAL_PROCESSES}
    indices = evidence.to_occlude(predictions)
    images = np.stack([seen.images[i] for i in indices])
    places = occlusion.boxes(images.shape[1:3], asked.model.get_layer("stem").patch_size)

    def batches(part: tuple[int, int]) -> tf.data.Dataset:
        covered = occlusion.covered_batches(images, predictions.predicted[indices], places, asked.batch_size)
        return asked.permute(covered)

    data = strategies.distribute(asked.strategy, batches, asked.batch_size)
    drops = occlusion.drops(asked.predictor.probability_of_label(data), len(images))
    return found | evidence.of_occlusion(predictions, names, seen, drops, places)


def of_weights(model: keras.Model) -> kept.Evidence:
    """Return the pictures of a model's weights."""
    stem = model.get_layer("stem")
    blocks = [layer for layer in model.layers if layer.name.startswith("block_")][: evidence.MOST_BLOCKS]
    kernels = {i: _array(block.token_mixing.dense_0.kernel) for i, block in enumerate(blocks)}
    height, width = model.input_shape[1:3]
    return evidence.of_weights(_array(stem.conv.kernel), kernels, (height // stem.patch_size, width // stem.patch_size))


def keep_of_training(
    folder: pathlib.Path,
    model: keras.Model,
    sources: dict[str, Source],
    batch: Callable[[], tuple[tf.Tensor, tf.Tensor]],
    pictures: bool,
) -> None:
    """Keep what the page shows of a training run's data, first batch and weights; `batch` gives images and labels."""
    with pages.sparing_the_run(folder):
        found = evidence.of_data(**sources)
        if pictures:
            images, labels = (tensor.numpy() for tensor in batch())
            found |= evidence.of_batch(images, labels, sources["training"].class_names) | of_weights(model)
        kept.keep(folder, found, anew=True)


def _array(variable: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(variable), np.float32)
