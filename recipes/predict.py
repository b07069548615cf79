"""Name what is in pictures: the most probable classes of each image file, as a table or as JSON lines.

Images are files, folders (all images in them) and patterns. Without any: the first ten digits of scikit-learn's test
set, by the run in runs/pretrain.

    python recipes/predict.py
    python recipes/predict.py --weights=runs/mine cat.jpg folder/ "photos/*.png"
    python recipes/predict.py --weights=imagenet1k --model=b16 cat.jpg --json
    python recipes/predict.py --weights=runs/export cat.jpg
    python recipes/predict.py --weights=runs/mine photos --output=runs/named --runner=DirectRunner

Exit code 0; 1 where some files could not be read, which standard error names, or their lines in --output; 2 for bad
input, in one sentence.
"""

from keras_mixer.cli import quiet_tensorflow  # noqa: F401 - first: TensorFlow without its start-up notes

# isort: split
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from keras_mixer.cli import entry, inputs, predicting
from keras_mixer.cli.flags import changed, setting, settings_class
from keras_mixer.cli.settings import DEFAULT_WEIGHTS, Checkpoint, Elsewhere, View
from keras_mixer.data import given_images, opening, pipeline
from keras_mixer.data.folders import printable
from keras_mixer.data.job_parts import Engine
from keras_mixer.errors import InputError
from keras_mixer.evaluation import prediction_parts
from keras_mixer.runs import ImagePredictions, Run


@settings_class
class Settings(Checkpoint, View, Elsewhere):
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
    output: str | None = setting(None, "A new folder, for files of such lines; the same command goes on.", common=True)
    images_per_file: int = setting(4096, "Images of each file in --output.", least=1)


@inputs.restoring_precision
def run(settings: Settings) -> None:
    """Print what is in the images; `keras_mixer.load_run(...).predict` returns the same."""
    # ---- Settings ----
    engine = settings.engine()
    paths = given_images.find_images(list(settings.images))

    # ---- Model and images ----
    opener = predicting.opener(settings)
    opened = opener()
    if settings.output is not None:
        write_files(settings, opener, paths, engine)
        return
    if engine is not None:
        raise InputError("runner", "writes files of predictions", "give `output`, a folder for them")
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


def write_files(settings: Settings, opener: predicting.Opener, paths: Sequence[str], engine: Engine | None) -> None:
    """Write the predictions of images into --output, and exit with 1 where some could not be read."""
    if not paths:
        raise InputError("output", "is for images, and none is given", "name files, folders or patterns")
    shape = settings.top, settings.batch_size, settings.images_per_file
    output = str(settings.output)
    written, failed = prediction_parts.write_predictions(paths, output, opener, opener.described(), shape, engine)
    print(f"{output}: {len(paths):,} images in {len(written):,} file{'s' * (len(written) != 1)}.")
    if failed:
        entry.stop(f"{failed} of {len(paths)} files could not be read; their lines say why.", entry.EXIT_FAILED)


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
    return prediction_parts.json_line(name, best)


def table(name: str, best: ImagePredictions, width: int) -> str:
    """One image's predictions as lines: the name of the image, then probability and name of each class."""
    rows = enumerate(best)
    return "\n".join(f"{'' if i else printable(name):{width}}  {p:7.2%}  {printable(text)}" for i, (_, text, p) in rows)


if __name__ == "__main__":
    entry.run(Settings, run)
