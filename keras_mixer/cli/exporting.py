"""What an export takes from the run that made its weights: what its card tells, and images to calibrate int8 with."""

import json
import os
import pathlib
from typing import Any

import numpy as np
import tensorflow as tf

from keras_mixer import buckets
from keras_mixer.data import checking, decode, file_crops, folders, opening, pipeline
from keras_mixer.data.pixel_settings import PixelSettings
from keras_mixer.paper import MODELS
from keras_mixer.starting_point import StartingPoint
from keras_mixer.types import Path
from keras_mixer.weights import released

CALIBRATION_IMAGES = 200


def card(start: StartingPoint) -> dict[str, Any]:
    """Return what model_card.md tells of the weights: their name, a run's data and accuracy, a release's card."""
    told: dict[str, Any] = {"Weights": start.name}
    dataset = start.settings.get("dataset")
    if dataset:
        told["Trained on"] = dataset
        told["Training images"] = start.settings.get("train_images")
    try:
        result = json.loads((buckets.path_of(start.name) / "result.json").read_text())
    except (OSError, ValueError):
        result = {}
    if dataset and "top1" in result:
        images = f"{result['num_examples']:,} held-out images" if "num_examples" in result else "the held-out images"
        told["Accuracy"] = f"top-1 {result['top1']:.2%}, measured on {images} of {dataset}"
        if "top5" in result:
            told["Accuracy"] += f"; top-5 {result['top5']:.2%}"
    model, _, released_name = str(start.settings.get("started_from") or start.name).partition(" ")
    if model in MODELS and released_name in released.NAMES:
        told["Model card of the released weights"] = f"{released.card_of(released_name)} of keras_mixer"
    return {name: value for name, value in told.items() if value is not None}


def told(folder: pathlib.Path, facts: str, how: str) -> str:
    """Return the line about a folder that was exported, whose file of `facts` has the largest difference."""
    difference = json.loads((folder / facts).read_text("utf-8"))["largest_difference"]
    return f"  {folder}/  {size_of(folder):,} bytes, {how}at most {difference:.1e} from the Keras model"


def size_of(path: pathlib.Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = [path] if path.is_file() else buckets.files_below(path)
    return sum(buckets.size_of(p) for p in files)


def calibration_images(
    given: str | None, data_dir: str | None, start: StartingPoint, side: int, crop: str, pixels: PixelSettings
) -> np.ndarray:
    """Return (N, side, side, 3) uint8: of the folder `given`, or images of the dataset that the run trained on."""
    if given is not None:
        folder = pathlib.Path(given).expanduser()
        paths = folders.list_files(folder)[0] if folder.is_dir() else []
        if not paths:
            raise ValueError(f"calibration_images: {folder} has no images; give a folder that has some.")
        chosen = [paths[i] for i in np.linspace(0, len(paths) - 1, min(CALIBRATION_IMAGES, len(paths))).astype(int)]
        return np.stack([_pixels(path, side, crop, pixels) for path in chosen])
    dataset = start.settings.get("dataset")
    if dataset is None:
        raise ValueError(f"calibration_images: {start.name} says no dataset; give a folder of images like yours.")
    source = opening.open_source(
        dataset,
        start.settings.get("train_split"),
        training=True,
        data_dir=data_dir,
        seed=start.settings.get("split_seed") or 0,
    )
    options: dict[str, Any] = {} if crop == "none" else {"crop": crop}
    options |= dict(batch_size=CALIBRATION_IMAGES, image_size=side, pixels=pixels)
    batches = pipeline.eval_batches(source, **options)
    images, _, mask = next(iter(batches))
    return np.round((images.numpy()[mask.numpy() > 0] + 1) * 127.5).astype(np.uint8)


def _pixels(path: Path, side: int, crop: str, pixels: PixelSettings) -> np.ndarray:
    try:
        return file_crops.decode_and_evaluation_crop(checking.read_bytes(path), crop, side, pixels).numpy()
    except tf.errors.OpError as error:
        raise ValueError(f"calibration_images: {decode.describe_error(error, os.fspath(path))}") from None
