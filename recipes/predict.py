"""Name what is in pictures: the most probable classes of each image file, as a table or as JSON lines.

Images are files, folders (all images in them) and patterns. Without any: the first ten digits of scikit-learn's test
set, by the run in runs/pretrain.

    python recipes/predict.py
    python recipes/predict.py --weights=runs/mine cat.jpg folder/ "photos/*.png"
    python recipes/predict.py --weights=imagenet1k --model=b16 cat.jpg --json
    python recipes/predict.py --weights=runs/export cat.jpg

Exit code 0; 1 where some files could not be read, which standard error names; 2 for bad input, in one sentence.
"""

from keras_mixer.cli import entry  # first: it imports TensorFlow without its start-up notes

# isort: split
import dataclasses
import json
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from absl import flags
from tqdm import tqdm

from keras_mixer import exported, runs
from keras_mixer.cli import checkpoint_flags, shared_flags
from keras_mixer.data import given_images, opening, pipeline
from keras_mixer.data.folders import printable
from keras_mixer.runs import ImagePredictions, Run

FLAGS: Any = flags.FLAGS
checkpoint_flags.define_weights()
checkpoint_flags.define_view()
for module in (shared_flags, checkpoint_flags):  # so that --help shows their flags
    flags.adopt_module_key_flags(module)
FLAGS["weights"].help += " Or what recipes/export.py wrote."
flags.DEFINE_integer("top", 5, "Classes to name for each image.")
flags.DEFINE_integer("batch_size", 32, "Images that the model sees at a time.")
flags.DEFINE_string("precision", "float32", "float32 or mixed_bfloat16.")
flags.DEFINE_boolean("json", False, "Write a line of JSON for each image instead of the table.")


def main(argv: list[str]) -> None:
    # ---- Settings ----
    for name in ("top", "batch_size"):
        if FLAGS[name].value < 1:
            raise ValueError(f"{name}: must be a positive number, got {FLAGS[name].value}.")
    if FLAGS.precision not in ("float32", "mixed_bfloat16"):
        raise ValueError(f"precision: must be float32 or mixed_bfloat16, got {FLAGS.precision!r}.")
    keras.config.set_dtype_policy(FLAGS.precision)
    paths = given_images.find_images(argv[1:])

    # ---- Model and images ----
    run = open_run()
    names, images = (paths, paths) if argv[1:] else test_digits(run)

    # ---- Predictions, a batch at a time while the next one is read ----
    try:
        failed = print_all(run.predict_each(images, FLAGS.top, FLAGS.batch_size), names)
    except BrokenPipeError:  # of `| head`, which wants no more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    if failed:
        entry.stop(f"{failed} of {len(names)} files could not be read.", entry.EXIT_FAILED)


def open_run() -> Run:
    """Return the `Run` that the flags describe: of an export, or of a checkpoint."""
    folder = exported.find(FLAGS.weights) if FLAGS.weights else None
    if folder is None:
        start = checkpoint_flags.find()
        pixels = start.pixels(**shared_flags.given_pixels())
        return runs.of_starting_point(start, FLAGS.image_size, checkpoint_flags.check_crop(), pixels)
    export = exported.open_export(folder)
    if FLAGS.model is not None:
        raise ValueError(f"model: {folder} is exported and says what it is; leave --model out.")
    if FLAGS.precision != "float32":
        raise ValueError(f"precision: {folder} computes as it was exported; leave --precision out.")
    pixels = dataclasses.replace(export.pixels, **shared_flags.given_pixels())
    return runs.of_export(export, FLAGS.image_size, checkpoint_flags.check_crop(), pixels)


def print_all(predictions: Any, names: Sequence[str]) -> int:
    """Print the predictions for all images, and return how many could not be read."""
    failed = 0
    bar = tqdm(total=len(names), unit=" images", disable=not sys.stderr.isatty())
    width = max(len(printable(name)) for name in names)
    for name, best in zip(names, predictions, strict=True):
        if best.fault is not None:
            failed += 1
            tqdm.write(f"error: {printable(best.fault)}", file=sys.stderr)
        else:
            text = json_line(name, best) if FLAGS.json else table(printable(name), best, width)
            with bar.external_write_mode(file=sys.stdout):
                print(text, flush=True)
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


def json_line(name: str, best: ImagePredictions) -> str:
    """One image's predictions as JSON."""
    found = [{"class": k, "name": printable(text), "probability": round(p, 6)} for k, text, p in best]
    return json.dumps({"image": name, "predictions": found})


def table(name: str, best: ImagePredictions, width: int) -> str:
    """One image's predictions as lines: the name of the image, then probability and name of each class."""
    rows = enumerate(best)
    return "\n".join(f"{'' if i else name:{width}}  {p:7.2%}  {printable(text)}" for i, (_, text, p) in rows)


if __name__ == "__main__":
    entry.run(main, positional=True)
