"""Linear few-shot accuracy of a checkpoint's features (paper section 3): least squares on a few images per class.

Without flags: the features of the run in runs/pretrain, on scikit-learn's handwritten digits, in a few seconds.

    python recipes/fewshot.py
    python recipes/fewshot.py --weights=imagenet21k --model=b16 --dataset=path/to/folder --shots=5,10
    python recipes/fewshot.py --weights=imagenet21k --model=b16 --dataset=cifar100 --crop=resize
"""

from keras_mixer.cli import entry  # first: it imports TensorFlow without its start-up notes

# isort: split
import hashlib
import json
import pathlib
import zipfile
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl import flags

from keras_mixer.cli import checkpoint_flags, shared_flags
from keras_mixer.data import subsets
from keras_mixer.data.progress import Progress
from keras_mixer.data.source import Source
from keras_mixer.evaluation import fewshot
from keras_mixer.evaluation.predictions import extract_features
from keras_mixer.starting_point import StartingPoint
from keras_mixer.training import strategies, workdir

FLAGS: Any = flags.FLAGS
checkpoint_flags.define_flags(default_workdir="runs/fewshot", training=True)
flags.DEFINE_list("shots", ["1", "5", "10", "25"], "Training images per class, by commas.")
flags.DEFINE_list("seeds", ["0", "1", "2"], "Each draws other training images; the table has their mean.")
flags.DEFINE_float("l2", 1024.0, "Lambda of the regularised least squares.")
for module in (shared_flags, checkpoint_flags):  # so that --help shows their flags
    flags.adopt_module_key_flags(module)


def main(_: list[str]) -> None:
    # ---- Settings ----
    shots, seeds = numbers_of("shots", 1), numbers_of("seeds", 0)
    if not 0 < FLAGS.l2 < float("inf"):
        raise ValueError(f"l2: must be a positive number, got {FLAGS.l2}.")
    shared_flags.set_precision_and_seed()
    strategy = shared_flags.make_strategy()
    checkpoint_flags.check_batch(strategy)
    start = checkpoint_flags.find()
    checkpoint_flags.set_crop(start)
    side = start.side(FLAGS.image_size)

    # ---- Data: which examples each seed draws; images of others are never decoded ----
    train_source, test_source = shared_flags.open_sources()
    checkpoint_flags.eval_batches(
        strategy, test_source, start, side, FLAGS.crop
    )  # checks its arguments before the work
    labels = subsets.read_labels(train_source)
    classes: dict[str, Any] = dict(num_classes=len(train_source.class_names), class_names=train_source.class_names)
    drawn = {seed: fewshot.draw_examples(labels, max(shots), seed, **classes) for seed in seeds}
    needed = np.unique(np.concatenate(list(drawn.values())))
    train_source = subsets.subset(train_source, needed)

    # ---- Features, computed once ----
    with strategy.scope():
        model = start.build(side, shared_flags.pixel_settings(start).channels, include_top=False, pooling="avg")
    folder = checkpoint_flags.open_results_folder(strategy)
    train_features, train_labels = features_of(train_source, model, strategy, start, side, folder)
    test_features, test_labels = features_of(test_source, model, strategy, start, side, folder)
    if not strategies.is_chief(strategy):
        return

    # ---- A classifier for each number of shots and each seed ----
    results = []
    print(f"\n{start.name}, {side} px, {test_source.name}: {len(test_labels):,} test images, l2 {FLAGS.l2:g}")
    print(f"{'shots':>5}  {'top-1':>8}  {'deviation':>9}  of seeds {', '.join(map(str, seeds))}")
    for n in shots:
        top1 = []
        for seed in seeds:
            # A draw of more shots begins, class by class, with that of fewer.
            rows = np.searchsorted(needed, drawn[seed].reshape(-1, max(shots))[:, :n].ravel())
            fit = fewshot.fit_least_squares(train_features[rows], train_labels[rows], classes["num_classes"], FLAGS.l2)
            top1.append(fewshot.accuracy(fit, test_features, test_labels))
        results.append(
            {"shots": n, "top1": float(np.mean(top1)), "top1_deviation": float(np.std(top1)), "top1_by_seed": top1}
        )
        print(f"{n:5}  {np.mean(top1):8.2%}  {np.std(top1):9.2%}", flush=True)
    summary = {
        "recipe": "fewshot",
        "weights": start.name,
        "results": results,
        "seeds": seeds,
        "l2": FLAGS.l2,
        "num_examples": len(test_labels),
        "train_source": train_source.name,
        "test_source": test_source.name,
        "image_size": side,
        "flags": entry.settings(),
        "versions": entry.versions(),
    }
    workdir.write_json(folder / "result.json", summary)
    print(f"The table, and the accuracy of each seed, are in {folder / 'result.json'}")


def features_of(
    source: Source,
    model: keras.Model,
    strategy: tf.distribute.Strategy,
    start: StartingPoint,
    side: int,
    folder: pathlib.Path,
) -> Any:
    """Return features (N, C) and labels (N,) of every image of a source, from --workdir where they are kept."""
    shown = (side, FLAGS.crop, shared_flags.pixel_settings(start), start.permutation)
    parts = (checkpoint_flags.weights_key(model), subsets.content_key(source), *shown)
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
    label = f"{source.name}: features of"
    with entry.naming_unreadable_files(source), Progress(label, source.num_examples, "images") as progress:
        batches = checkpoint_flags.eval_batches(strategy, source, start, side, FLAGS.crop)
        values, labels = extract_features(model, batches, strategy, progress.update)
    if strategies.is_chief(strategy):
        description = json.dumps({"source": source.name, "image_size": side, "crop": FLAGS.crop})
        with workdir.atomic_file(path, "wb") as file:
            np.savez(file, features=values, labels=labels, key=np.array(key), description=np.array(description))
    return values, labels


def numbers_of(flag: str, least: int) -> list[Any]:
    """Return the numbers that a flag lists, each once, ascending."""
    texts = FLAGS[flag].value
    if not texts or not all(text.strip().isdecimal() and int(text) >= least for text in texts):
        raise ValueError(
            f"{flag}: must list whole numbers of at least {least}, got {','.join(texts)!r}; write --{flag}="
            f"{','.join(FLAGS[flag].default)}."
        )
    return sorted({int(text) for text in texts})


if __name__ == "__main__":
    entry.run(main)
