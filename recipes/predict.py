"""Name what is in pictures: the most probable classes of each image file, as a table or as JSON lines.

Images are files, folders (all images in them) and patterns. Without any: the first ten digits of scikit-learn's test
set, by the run in runs/pretrain.

    python recipes/predict.py
    python recipes/predict.py --weights=runs/mine cat.jpg folder/ "photos/*.png"
    python recipes/predict.py --weights=imagenet1k --model=b16 cat.jpg --json
    python recipes/predict.py --weights=runs/export cat.jpg

Exit code 0; 1 where some files could not be read, which standard error names; 2 for bad input, in one sentence.
"""

from keras_mixer.cli import quiet_tensorflow  # noqa: F401 - first: TensorFlow without its start-up notes

# isort: split
import dataclasses
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from tqdm import tqdm

from keras_mixer import exported, runs
from keras_mixer.cli import entry, inputs, trained
from keras_mixer.cli.flags import changed, setting, settings_class
from keras_mixer.cli.settings import DEFAULT_WEIGHTS, Checkpoint, View
from keras_mixer.data import given_images, opening, pipeline
from keras_mixer.data.folders import printable
from keras_mixer.runs import ImagePredictions, Run


@settings_class
class Settings(Checkpoint, View):
    """Settings of a prediction."""

    images: tuple[str, ...] = setting((), "Files, folders and patterns.", positional=True)
    weights: str | None = changed(
        Checkpoint,
        "weights",
        None,
        help="A released name, a .npz, .keras, .weights.h5 or .safetensors file, a run, or an export; default "
        f"{DEFAULT_WEIGHTS}.",
    )
    top: int = setting(5, "Classes to name for each image.", least=1, common=True)
    batch_size: int = setting(32, "Images that the model sees at a time.", least=1, common=True)
    precision: str = setting("float32", "float32 or mixed_bfloat16.", choices=("float32", "mixed_bfloat16"))
    json: bool = setting(False, "Write a line of JSON for each image instead of the table.", common=True)


@inputs.restoring_precision
def run(settings: Settings) -> None:
    """Print what is in the images; `keras_mixer.load_run(...).predict` returns the same."""
    # ---- Settings ----
    keras.config.set_dtype_policy(settings.precision)
    paths = given_images.find_images(list(settings.images))

    # ---- Model and images ----
    opened = open_run(settings)
    names, images = (paths, paths) if settings.images else test_digits(opened)

    # ---- Predictions, a batch at a time while the next one is read ----
    try:
        predictions = opened.predict_each(images, settings.top, settings.batch_size)
        failed = print_all(predictions, names, json_line if settings.json else table)
    except BrokenPipeError:  # of `| head`, which wants no more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    if failed:
        entry.stop(f"{failed} of {len(names)} files could not be read.", entry.EXIT_FAILED)


def open_run(settings: Settings) -> Run:
    """Return the `Run` of the settings: of an export, or of a checkpoint."""
    folder = exported.find(settings.weights) if settings.weights else None
    if folder is None:
        start = trained.find(settings)
        return runs.of_starting_point(start, settings.image_size, settings.crop, start.pixels(**settings.pixels()))
    export = exported.open_export(folder)
    if settings.model is not None:
        raise ValueError(f"model: {folder} is exported and says what it is; leave --model out.")
    if settings.precision != "float32":
        raise ValueError(f"precision: {folder} computes as it was exported; leave --precision out.")
    pixels = dataclasses.replace(export.pixels, **settings.pixels())
    return runs.of_export(export, settings.image_size, settings.crop, pixels)


def print_all(predictions: Any, names: Sequence[str], form: Callable[[str, ImagePredictions, int], str]) -> int:
    """Print the predictions for all images in a form, `table` or `json_line`; return how many could not be read."""
    failed = 0
    bar = tqdm(total=len(names), unit=" images", disable=not sys.stderr.isatty())
    width = max(len(printable(name)) for name in names)
    for name, best in zip(names, predictions, strict=True):
        if best.fault is not None:
            failed += 1
            tqdm.write(f"error: {printable(best.fault)}", file=sys.stderr)
        else:
            with bar.external_write_mode(file=sys.stdout):
                print(form(name, best, width), flush=True)
        bar.update()
    bar.close()
    return failed


def test_digits(run: Run) -> tuple[list[str], list[np.ndarray]]:
    """Return the names and pixels of the first ten test digits, for a run that knows digits."""
    digits = opening.open_source("digits", "test[:10]", training=False)
    if tuple(run.class_names) != digits.class_names:
        raise ValueError(f"image: {run.name} knows no digits, so give images, such as cat.jpg or 'photos/*.jpg'.")
    data = pipeline.eval_batches(digits, batch_size=10, image_size=run.image_size)
    images, labels, _ = (array.numpy() for array in next(iter(data)))
    return [f"test digit {i}, a {label}" for i, label in enumerate(labels)], list(
        np.round((images + 1) * 127.5).astype(np.uint8)
    )


def json_line(name: str, best: ImagePredictions, _: int) -> str:
    """One image's predictions as JSON."""
    found = [{"class": k, "name": printable(text), "probability": round(p, 6)} for k, text, p in best]
    return json.dumps({"image": name, "predictions": found})


def table(name: str, best: ImagePredictions, width: int) -> str:
    """One image's predictions as lines: the name of the image, then probability and name of each class."""
    rows = enumerate(best)
    return "\n".join(f"{'' if i else printable(name):{width}}  {p:7.2%}  {printable(text)}" for i, (_, text, p) in rows)


if __name__ == "__main__":
    entry.run(Settings, run)
