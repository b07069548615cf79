"""Linear few-shot accuracy of a checkpoint's features (paper section 3): least squares on a few images per class.

Without flags: the features of the run in runs/pretrain, on scikit-learn's handwritten digits, in a few seconds.

    python recipes/fewshot.py
    python recipes/fewshot.py --weights=imagenet21k --model=b16 --dataset=path/to/folder --shots=5,10
    python recipes/fewshot.py --weights=imagenet21k --model=b16 --dataset=cifar100
"""

from keras_mixer.cli import quiet_tensorflow  # noqa: F401 - first: TensorFlow without its start-up notes

# isort: split
import hashlib
import json
import pathlib
import zipfile
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_mixer import files
from keras_mixer.cli import closing, entry, inputs, trained
from keras_mixer.cli.flags import changed, setting, settings_class
from keras_mixer.cli.settings import Measuring, TrainingData
from keras_mixer.data import subsets
from keras_mixer.data.progress import Progress
from keras_mixer.data.source import Source
from keras_mixer.evaluation import fewshot
from keras_mixer.evaluation.predictions import extract_features
from keras_mixer.starting_point import StartingPoint
from keras_mixer.training import strategies


@settings_class
class Settings(Measuring, TrainingData):
    """Settings of a few-shot evaluation."""

    shots: tuple[int, ...] = setting(
        (1, 5, 10, 25), "Training images per class, by commas.", least=1, distinct=True, common=True
    )
    seeds: tuple[int, ...] = setting(
        (0, 1, 2), "Each draws other training images; the table has their mean.", least=0, distinct=True, common=True
    )
    l2: float = setting(1024.0, "Lambda of the regularised least squares.", common=True)
    workdir: str = changed(Measuring, "workdir", "runs/fewshot")


@inputs.restoring_precision
def run(settings: Settings) -> dict[str, Any] | None:
    """Evaluate the features as the settings say; return what result.json holds, None by a worker that is no chief."""
    # ---- Settings ----
    shots, seeds = sorted(settings.shots), sorted(settings.seeds)
    if not 0 < settings.l2 < float("inf"):
        raise ValueError(f"l2: must be a positive number, got {settings.l2}.")
    inputs.set_precision_and_seed(settings)
    strategy = inputs.make_strategy(settings)
    start = trained.find(settings)
    # The authors measured theirs with `resize`; a run has a crop of its own.
    settings = settings.filled(crop=start.settings.get("crop") or ("resize" if start.is_released else "resmall"))
    trained.check_batch(settings.batch_size, strategy)
    side = start.side(settings.image_size)

    # ---- Data: which examples each seed draws; images of others are never decoded ----
    train_source, test_source = inputs.open_sources(settings)
    trained.eval_batches(settings, strategy, test_source, start, side)  # checks its arguments before the work
    labels = subsets.read_labels(train_source)
    classes: dict[str, Any] = dict(num_classes=len(train_source.class_names), class_names=train_source.class_names)
    shots = possible_shots(shots, labels, classes, strategy)
    drawn = {seed: fewshot.draw_examples(labels, max(shots), seed, **classes) for seed in seeds}
    needed = np.unique(np.concatenate(list(drawn.values())))
    train_source = subsets.subset(train_source, needed)

    # ---- Features, computed once ----
    with strategy.scope():
        model = start.build(side, start.pixels(**settings.pixels()).channels, include_top=False, pooling="avg")
    folder = trained.open_results_folder(settings.workdir, strategy)
    train_features, train_labels = features_of(settings, train_source, model, strategy, start, folder)
    test_features, test_labels = features_of(settings, test_source, model, strategy, start, folder)
    if not strategies.is_chief(strategy):
        return None

    # ---- A classifier for each number of shots and each seed ----
    def accuracy(n: int, seed: int) -> float:
        # A draw of more shots begins, class by class, with that of fewer.
        rows = np.searchsorted(needed, drawn[seed].reshape(-1, max(shots))[:, :n].ravel())
        fit = fewshot.fit_least_squares(train_features[rows], train_labels[rows], classes["num_classes"], settings.l2)
        return fewshot.accuracy(fit, test_features, test_labels)

    crop = settings.crop if test_source.photographs else "none"
    what = f"{start.name}, {side} px, crop {crop}, {test_source.name}"
    print(f"\n{what}: {len(test_labels):,} test images, l2 {settings.l2:g}")
    results = print_table({n: [accuracy(n, seed) for seed in seeds] for n in shots}, seeds)
    summary = {
        "recipe": "fewshot",
        "weights": start.name,
        "results": results,
        "seeds": seeds,
        "l2": settings.l2,
        "num_examples": len(test_labels),
        "train_source": train_source.name,
        "test_source": test_source.name,
        "image_size": side,
        "crop": crop,
        "flags": settings.as_json(),
        "versions": inputs.versions(),
    }
    files.write_json(folder / "result.json", summary)
    print(f"The accuracy of each seed is in {folder / 'result.json'}. {closing.to_classifier(settings)}")
    return summary


def possible_shots(
    shots: list[int], labels: Any, classes: dict[str, Any], strategy: tf.distribute.Strategy
) -> list[int]:
    """Return the numbers of shots that every class can fill, and say which are skipped."""
    shots, skipped = fewshot.possible_shots(labels, shots, **classes)
    if skipped and strategies.is_chief(strategy):
        print(skipped, flush=True)
    return shots


def print_table(scores: dict[int, list[float]], seeds: list[int]) -> list[dict[str, Any]]:
    """Print mean and deviation of the accuracies for each number of shots, and return them as rows."""
    print(f"{'shots':>5}  {'top-1':>8}  {'deviation':>9}  of seeds {', '.join(map(str, seeds))}")
    rows = []
    for n, top1 in scores.items():
        rows.append(
            {"shots": n, "top1": float(np.mean(top1)), "top1_deviation": float(np.std(top1)), "top1_by_seed": top1}
        )
        print(f"{n:5}  {np.mean(top1):8.2%}  {np.std(top1):9.2%}", flush=True)
    return rows


def features_of(
    settings: Settings,
    source: Source,
    model: keras.Model,
    strategy: tf.distribute.Strategy,
    start: StartingPoint,
    folder: pathlib.Path,
) -> Any:
    """Return features (N, C) and labels (N,) of every image of a source, from --workdir where they are kept."""
    side = start.side(settings.image_size)
    shown = (side, settings.crop, start.pixels(**settings.pixels()), start.permutation)
    parts = (trained.weights_key(model), subsets.content_key(source), *shown)
    key = hashlib.sha256(repr(parts).encode()).hexdigest()
    path = folder / f"features_{key[:16]}.npz"
    if not strategies.has_workers(strategy):  # of which some might have the file and others wait for them
        try:
            with np.load(path) as kept:
                if str(kept["key"]) == key:
                    print(f"{source.name}: the features of {source.num_examples:,} images are taken from {path}")
                    return kept["features"], kept["labels"]
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            print(f"{source.name}: {path} is damaged and is replaced")
    label, quiet = f"{source.name}: features of", not strategies.is_chief(strategy)
    with inputs.naming_unreadable_files(source), Progress(label, source.num_examples, "images", quiet) as progress:
        batches = trained.eval_batches(settings, strategy, source, start, side)
        values, labels = extract_features(model, batches, strategy, progress.update)
    if strategies.is_chief(strategy):
        description = json.dumps({"source": source.name, "image_size": side, "crop": settings.crop})
        with files.writing(path, "wb") as file:
            np.savez(file, features=values, labels=labels, key=np.array(key), description=np.array(description))
    return values, labels


if __name__ == "__main__":
    entry.run(Settings, run)
