"""Exact top-1, top-5 and loss of a checkpoint over every image of a dataset once, and what it gets wrong.

Without flags: the run in runs/pretrain on scikit-learn's handwritten digits, in a few seconds.

    python recipes/evaluate.py
    python recipes/evaluate.py --weights=runs/mine --dataset=path/to/folder --eval_split=test
    python recipes/evaluate.py --weights=imagenet1k --model=b16 --dataset=imagenet2012_real --data_dir=path/to/tfds
    python recipes/evaluate.py --weights=imagenet1k --model=b16 --dataset=imagenet_v2
"""

from keras_mixer.cli import entry  # first: it imports TensorFlow without its start-up notes

# isort: split
import dataclasses
import pathlib
import time
from typing import Any

import tensorflow as tf
from absl import flags

import keras_mixer
from keras_mixer.cli import checkpoint_flags, shared_flags, trained_classes
from keras_mixer.data import real_labels
from keras_mixer.data.progress import Progress
from keras_mixer.evaluation import real, report_files
from keras_mixer.evaluation.predictions import predict_images
from keras_mixer.training import losses, strategies, workdir

FLAGS: Any = flags.FLAGS
PUBLISHED_SIZE = 224  # pixels, at which the released checkpoints' accuracies were measured
checkpoint_flags.define_flags(default_workdir="runs/evaluate")
flags.DEFINE_string("loss", None, "softmax or sigmoid: loss and probabilities; default the run's own, else softmax.")
flags.DEFINE_string("real_labels", None, "The original real.json: also top-1 against several valid labels per image.")
flags.DEFINE_boolean("pictures", True, "Draw confusion.png and mistakes.png, which need matplotlib.")
for module in (shared_flags, checkpoint_flags):  # so that --help shows their flags
    flags.adopt_module_key_flags(module)


def main(_: list[str]) -> None:
    # ---- Settings ----
    if FLAGS.pictures:
        report_files.check_matplotlib()
    shared_flags.set_precision_and_seed()
    strategy = shared_flags.make_strategy()
    checkpoint_flags.check_batch(strategy)
    start = checkpoint_flags.find()
    checkpoint_flags.set_crop(start)
    side, pixels = start.side(FLAGS.image_size), shared_flags.pixel_settings(start)
    loss_name = FLAGS.loss or start.settings.get("loss", "softmax")
    loss = losses.get_loss(loss_name)

    # ---- Data ----
    source = shared_flags.open_source(training=False)
    trained_classes.check(start, source, "use the dataset of its training, or recipes/fewshot.py")
    batches = checkpoint_flags.eval_batches(strategy, source, start, side, FLAGS.crop)
    label_sets = real_labels.find_label_sets(source, FLAGS.dataset, FLAGS.data_dir, FLAGS.real_labels)

    # ---- Every image once ----
    with strategy.scope():
        model = start.build(side, pixels.channels, classes=start.num_classes, classifier_activation=None)
    folder = checkpoint_flags.open_results_folder(strategy)
    probabilities = {"softmax": tf.nn.softmax, "sigmoid": tf.nn.sigmoid}[loss_name]
    began = time.perf_counter()
    with entry.naming_unreadable_files(source), Progress("evaluated", source.num_examples, "images") as progress:
        predictions = predict_images(model, batches, loss, probabilities, strategy, progress.update)
    seconds = time.perf_counter() - began

    # ---- Numbers and files ----
    result = {"recipe": "evaluate", "weights": start.name, "dataset": source.name, **predictions.totals()}
    if label_sets is not None:
        result |= real.real_accuracy(predictions.predicted, label_sets)
    published = {}
    if side == PUBLISHED_SIZE:
        has_real = label_sets is not None
        published = published_accuracy(FLAGS.weights, FLAGS.model, FLAGS.dataset, FLAGS.eval_split, has_real)
    result |= {
        "published": published,
        "loss_function": loss_name,
        "image_size": side,
        "crop": FLAGS.crop if source.photographs else "none",
        **dataclasses.asdict(pixels),
        "num_parameters": model.count_params(),
        "seconds": seconds,
        "images_per_second": len(predictions.labels) / seconds,
        "flags": entry.settings(),
        "versions": entry.versions(),
    }
    if strategies.is_chief(strategy):
        (folder / "result.json").unlink(missing_ok=True)  # it comes last, so that it never belongs to other files
        shown = dict(image_size=side, crop=FLAGS.crop, pixels=pixels)
        report_files.write(folder, predictions, source, shown, FLAGS.dataset, FLAGS.pictures)
        workdir.write_json(folder / "result.json", result)
        print_result(result, folder)


def published_accuracy(
    weights: str, model: str | None, dataset: str, split: str | None, has_real: bool
) -> dict[str, Any]:
    """Return what was published for a released checkpoint on this dataset: metric -> source -> fraction."""
    name = "imagenet1k" if weights == "imagenet" else weights
    for fact in keras_mixer.list_weights():
        if (fact["weights"], fact["model"].lower()) == (name, f"mixer{model}") and split in (None, "validation"):
            scores = {"top1": fact["top1"] if dataset in ("imagenet2012", "imagenet2012_real") else None}
            scores["real_top1"] = fact["real"] if has_real else None
            return {k: {by: percent / 100 for by, percent in v.items()} for k, v in scores.items() if v}
    return {}


def print_result(result: dict[str, Any], folder: pathlib.Path) -> None:
    """Print the numbers, with those published beside them."""
    what = f"{result['weights']}, {result['image_size']} px, crop {result['crop']}"
    print(f"\n{what}, on every image of {result['dataset']}:")
    counts = {"top1": "num_examples", "top5": "num_examples", "real_top1": "real_num_examples"}
    for key, name in (("top1", "top-1"), ("top5", "top-5"), ("real_top1", "ReaL top-1")):
        if key in result:
            others = "".join(f", {by} {value:.2%}" for by, value in result["published"].get(key, {}).items())
            skipped = f", {result['real_skipped']:,} without a label skipped" if key == "real_top1" else ""
            print(f"  {name:18} {result[key]:8.2%}  of {result[counts[key]]:,} images{skipped}{others}")
    print(f"  {'loss':18} {result['loss']:8.4f}  ({result['loss_function']} cross-entropy)")
    print(f"  {'calibration error':18} {result['expected_calibration_error']:8.4f}")
    print(f"Numbers, tables and pictures of what it gets wrong are in {folder}: result.json, classes.csv, ...")


if __name__ == "__main__":
    entry.run(main)
