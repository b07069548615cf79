"""Exact top-1, top-5 and loss of a checkpoint over every image of a dataset once, and what it gets wrong.

Without flags: the run in runs/pretrain on scikit-learn's handwritten digits, in a few seconds.

    python recipes/evaluate.py
    python recipes/evaluate.py --weights=runs/mine --dataset=path/to/folder --eval_split=test
    python recipes/evaluate.py --weights=imagenet1k --model=b16 --dataset=imagenet2012_real --data_dir=path/to/tfds
    python recipes/evaluate.py --weights=imagenet1k --model=b16 --dataset=imagenet_v2
"""

from keras_mixer.cli import quiet_tensorflow  # noqa: F401 - first: TensorFlow without its start-up notes

# isort: split
import dataclasses
import pathlib
import time
from typing import Any

import keras_mixer
from keras_mixer import files, run_data
from keras_mixer.cli import closing, entry, inputs, page_evidence, pages, trained
from keras_mixer.cli.flags import changed, setting, settings_class
from keras_mixer.cli.page_evidence import Asked
from keras_mixer.cli.settings import Data, Measuring, by_hand, left_to_run
from keras_mixer.data import real_labels
from keras_mixer.data.progress import Progress
from keras_mixer.evaluation import real, report_files
from keras_mixer.evaluation.predictions import Predictor
from keras_mixer.report import evidence, kept, page
from keras_mixer.training import losses, strategies

OTHERS = "use the dataset of its training, or recipes/fewshot.py"
PUBLISHED_SIZE = 224  # pixels, at which the released checkpoints' accuracies were measured


@settings_class
@left_to_run(Data)
class Settings(Measuring):
    """Settings of an evaluation."""

    dataset: str = changed(
        Measuring, "dataset", None, help="digits, a folder of class folders, or a TFDS name; default that of the run."
    )
    loss: str | None = setting(None, "softmax or sigmoid: loss and probabilities; default the run's own, else softmax.")
    real_labels: str | None = setting(
        None, "The original real.json: also top-1 against several valid labels per image."
    )
    pictures: bool = setting(True, "Draw confusion.png and mistakes.png, which need matplotlib.", common=True)
    workdir: str = changed(Measuring, "workdir", "runs/evaluate")


@inputs.restoring_precision
def run(settings: Settings) -> dict[str, Any]:
    """Evaluate as the settings say, and return what result.json holds."""
    # ---- Settings ----
    if settings.pictures:
        report_files.check_matplotlib()
    inputs.set_precision_and_seed(settings)
    strategy = inputs.make_strategy(settings)
    start = trained.find(settings)
    run_data.check_head(start, OTHERS)
    given, data = settings, by_hand(settings, Data)
    of_run = {} if "dataset" in data else run_data.settings_of(start)
    of_run = {name: value for name, value in of_run.items() if hasattr(settings, name)}
    settings = settings.filled(crop=start.settings.get("crop") or "resmall", **of_run)
    trained.check_batch(settings.batch_size, strategy)
    side, pixels = start.side(settings.image_size), start.pixels(**settings.pixels())
    loss_name = settings.loss or start.settings.get("loss", "softmax")
    loss = losses.get_loss(loss_name)

    # ---- Data ----
    source = run_data.open_of_run(start, data, training=False)
    run_data.check_classes(start, source, OTHERS)
    batches = trained.eval_batches(settings, strategy, source, start, side)
    label_sets = real_labels.find_label_sets(source, settings.dataset, settings.data_dir, settings.real_labels)

    # ---- Every image once ----
    with strategy.scope():
        model = start.build(side, pixels.channels, classes=start.num_classes, classifier_activation=None)
    folder = trained.open_results_folder(settings.workdir, strategy)
    predictor = Predictor(model, loss, losses.get_probabilities(loss_name), strategy)
    began = time.perf_counter()
    progress = Progress("evaluated", source.num_examples, "images", quiet=not strategies.is_chief(strategy))
    with inputs.naming_unreadable_files(source), progress:
        predictions = predictor.predict(batches, progress.update)
    seconds = time.perf_counter() - began

    # ---- Numbers and files ----
    result = {"recipe": "evaluate", "weights": start.name, "dataset": source.name, **predictions.totals()}
    if label_sets is not None:
        result |= real.real_accuracy(predictions.predicted, label_sets)
    result |= {
        "published": published_accuracy(settings, label_sets is not None) if side == PUBLISHED_SIZE else {},
        "loss_function": loss_name,
        "image_size": side,
        "crop": settings.crop if source.photographs else "none",
        **dataclasses.asdict(pixels),
        "num_parameters": model.count_params(),
        "seconds": seconds,
        "images_per_second": len(predictions.labels) / seconds,
        "flags": settings.as_json(),
        "versions": inputs.versions(),
        **pages.about("evaluate", given, settings),
    }
    if strategies.is_chief(strategy):
        shown = dict(image_size=side, crop=settings.crop, pixels=pixels)
        permute = lambda batches: run_data.permuted(start, batches, side)
        asked = Asked(model, predictor, predictions, source, shown, strategy, settings.batch_size, permute)
        write(folder, settings, asked, result)
        print_result(result, folder)
    return result


def write(folder: pathlib.Path, settings: Settings, asked: Asked, result: dict[str, Any]) -> None:
    """Write what the model gets wrong, then the numbers, then the page of all of it."""
    for name in ("result.json", kept.NAME, page.NAME):  # they come last, so that they never belong to other files
        (folder / name).unlink(missing_ok=True)
    written, seen = page_evidence.write_files(folder, asked, settings.dataset, settings.pictures)
    closing.show_in_tensorboard(folder, written)
    files.write_json(folder / "result.json", result)
    with pages.sparing_the_run(folder):
        found = page_evidence.of_images(asked, seen, settings.pictures) | evidence.of_data(evaluation=asked.source)
        kept.keep(folder, found | (page_evidence.of_weights(asked.model) if settings.pictures else {}), anew=True)
        pages.write(settings.workdir)


def published_accuracy(settings: Settings, has_real: bool) -> dict[str, Any]:
    """Return what was published for a released checkpoint on this dataset: metric -> source -> fraction."""
    asked = ("imagenet1k" if settings.weights == "imagenet" else settings.weights, f"mixer{settings.model}")
    for fact in keras_mixer.list_weights():
        if (fact["weights"], fact["model"].lower()) == asked and settings.eval_split in (None, "validation"):
            known = settings.dataset in ("imagenet2012", "imagenet2012_real")
            scores = {"top1": fact["top1"] if known else None}
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
    print(f"Numbers, tables and pictures of what it gets wrong are in {folder}: report.html, result.json, ...")


if __name__ == "__main__":
    entry.run(Settings, run)
