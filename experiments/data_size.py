"""Top-1 against the size of the training set, for a Mixer, a ViT and a ResNet (Figure 2): docs/results/data_size.md.

    apt-get install dataset-fashion-mnist
    python experiments/data_size.py
    python experiments/data_size.py --dataset=digits --output=runs/data_size_digits
    python experiments/data_size.py --shots=5    # and 5-shot linear accuracy on digits

Every finished training is kept in results.json, so that the same command goes on after a stop. Needs the extra plot.
"""

import argparse
import gzip
import math
import os
import pathlib
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import finished
import keras
import numpy as np
import tensorflow as tf
from keras import layers
from permutations import LEARNING_RATE, MIXUP_ALPHA, WEIGHT_DECAY, make_mixer, make_resnet

from keras_mixer import files
from keras_mixer.benchmark.markdown import table
from keras_mixer.data import opening, pipeline
from keras_mixer.data.augment_settings import Augmentation
from keras_mixer.data.source import Source, indexed_records
from keras_mixer.evaluation import fewshot, predictions
from keras_mixer.pictures.figure import new_figure
from keras_mixer.training import optimizers, schedules

DEFAULTS = {
    "fashion-mnist": dict(image_size=28, train_images=10_000, batch_size=64),
    "digits": dict(image_size=16, train_images=1_437, batch_size=32),  # 3 % are 43 images, and a batch has no more
}
PATCH_SIZE, HEADS = 4, 4
STYLES = {"Mixer": ("C0", "o-"), "ViT": ("C1", "s--"), "ResNet": ("C2", "^:")}


# ---- Models ----


class PositionEmbedding(layers.Layer):
    """Add a learned vector to every token."""

    def build(self, shape):
        self.embedding = self.add_weight(shape=shape[1:], initializer=keras.initializers.RandomNormal(stddev=0.02))

    def call(self, tokens):
        return tokens + self.embedding


def make_vit(image_size, patch_size, classes, width, depth=4, heads=HEADS, mlp_ratio=2):
    """A ViT, by default of the depth and MLP ratio of the tiny Mixer; averages over tokens as the Mixer does."""
    inputs = keras.Input((image_size, image_size, 3))
    x = layers.Conv2D(width, patch_size, patch_size)(inputs)
    x = PositionEmbedding()(layers.Reshape((-1, width))(x))
    for _ in range(depth):
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        x = x + layers.MultiHeadAttention(heads, width // heads)(y, y)
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        x = x + layers.Dense(width)(layers.Dense(mlp_ratio * width, activation="gelu")(y))
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization(epsilon=1e-6)(x))
    return keras.Model(inputs, layers.Dense(classes, kernel_initializer="zeros")(x))


def make_model(args, name, classes):
    if name == "ViT":
        return make_vit(args.image_size, PATCH_SIZE, classes, args.vit_width)
    return {"Mixer": make_mixer, "ResNet": make_resnet}[name](args.image_size, PATCH_SIZE, classes)


# ---- Images ----


def read_images(args):
    """Return ((images, labels) to train on, (images, labels) to test): (N, H, W, 1) uint8, (N,) int64."""
    if args.dataset == "fashion-mnist":
        return read_idx(args.source, "train"), read_idx(args.source, "t10k")
    parts = []
    for training in (True, False):
        source = opening.open_source("digits", training=training)
        record = next(iter(source.records(None, 0).batch(source.num_examples)))
        parts.append((record["image"].numpy(), record["label"].numpy()))
    return parts


def read_idx(folder, prefix):
    paths = [folder / f"{prefix}-{kind}-ubyte.gz" for kind in ("images-idx3", "labels-idx1")]
    for path in paths:
        if not path.is_file():
            raise ValueError(
                f"--source: {path} is not there; apt-get install dataset-fashion-mnist, or use --dataset=digits."
            )
    images, labels = (gzip.decompress(path.read_bytes()) for path in paths)
    count, height, width = np.frombuffer(images, ">u4", 3, offset=4)
    images = np.frombuffer(images, np.uint8, offset=16).reshape(count, height, width, 1)
    return images, np.frombuffer(labels, np.uint8, offset=8).astype(np.int64)


def as_source(name, images, labels):
    """Arrays as a `Source`. Clothes are centred and upright as digits are: augmented, they get the same movements."""
    return Source(
        name=name,
        num_examples=len(images),
        class_names=tuple(str(label) for label in range(10)),
        photographs=False,
        records=indexed_records(len(images), lambda i: {"image": tf.gather(images, i), "label": tf.gather(labels, i)}),
        parse=lambda record: (record["image"], record["label"]),
    )


def num_images(args, percent):
    return round(args.train_images * percent / 100)


# ---- Trainings ----


def train(args, name, percent, seed, train_set, test_set):
    """Train on so many percent of the images; return the number of parameters, top-1 on all test images, few-shot."""
    # Smaller sets are part of larger ones, and all models see the same.
    rows = np.random.default_rng(seed).permutation(len(train_set[0]))[: num_images(args, percent)]
    source = as_source(f"{percent:g} % of {args.dataset}", *(array[rows] for array in train_set))
    size = dict(batch_size=args.batch_size, image_size=args.image_size)
    augmentation = Augmentation(args.augmentation, mixup_alpha=MIXUP_ALPHA if args.augmentation == "paper" else 0.0)
    batches = pipeline.train_batches(source, **size, seed=seed, augmentation=augmentation)

    classes = len(source.class_names)
    test = pipeline.eval_batches(as_source("test", *test_set), batch_size=250, image_size=args.image_size)
    test = test.map(lambda images, labels, mask: (images, tf.one_hot(labels, classes), mask))

    keras.utils.set_random_seed(seed)
    model = make_model(args, name, classes)
    compile_model(model, args.steps)
    model.fit(batches, steps_per_epoch=args.steps, epochs=1, verbose=0, shuffle=False)
    top1 = model.evaluate(test, verbose=0, return_dict=True)["top1"]
    return model.count_params(), top1, few_shot(args, model) if args.shots else None


def compile_model(model, steps, learning_rate=LEARNING_RATE):
    """Give a model of logits the optimiser of recipes/pretrain.py for so many steps, and top-1."""
    schedule = schedules.WarmupDecay(learning_rate, steps, steps // 10, "linear")
    model.compile(
        optimizers.make_optimizer("adamw", schedule, model, weight_decay=WEIGHT_DECAY, clip_norm=1.0),
        keras.losses.CategoricalCrossentropy(from_logits=True),
        weighted_metrics=[keras.metrics.CategoricalAccuracy(name="top1")],
        steps_per_execution=math.gcd(steps, 10),
        jit_compile=False,
    )


def few_shot(args, model):
    """Return the mean over three draws of the linear accuracy on scikit-learn's digits, from what the head gets."""
    body, found = keras.Model(model.input, model.layers[-1].input), []
    for training in (True, False):
        source = opening.open_source("digits", training=training)
        batches = pipeline.eval_batches(source, batch_size=250, image_size=args.image_size)
        found.append(predictions.extract_features(body, batches))
    (features, labels), test = found
    scores = []
    for seed in range(3):
        drawn = fewshot.draw_examples(labels, args.shots, seed)
        scores.append(fewshot.accuracy(fewshot.fit_least_squares(features[drawn], labels[drawn], 10), *test))
    return statistics.mean(scores)


def check(args, available):
    """Refuse what could not be trained, before anything is."""
    for name in ("image_size", "train_images", "batch_size", "steps", "seeds", "vit_width"):
        if getattr(args, name) < 1:
            raise ValueError(f"--{name}: must be a positive number, got {getattr(args, name)}.")
    if args.train_images > available:
        raise ValueError(f"--train_images: {args.dataset} has {available:,}, got {args.train_images:,}.")
    if not all(0 < percent <= 100 for percent in args.percents):
        raise ValueError(f"--percents: must be above 0 and at most 100, got {args.percents}.")
    if num_images(args, min(args.percents)) < args.batch_size:
        raise ValueError(
            f"--batch_size: {min(args.percents):g} % of {args.train_images:,} images are fewer than a batch of "
            f"{args.batch_size}; use a smaller one."
        )
    if args.image_size % PATCH_SIZE:
        raise ValueError(f"--image_size: patches of {PATCH_SIZE} px do not divide {args.image_size} px.")
    if args.vit_width % HEADS:
        raise ValueError(f"--vit_width: {HEADS} heads do not divide {args.vit_width}.")
    files.open_folder(args.output)


def main(args):
    for name, value in DEFAULTS[args.dataset].items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    train_set, test_set = read_images(args)
    check(args, len(train_set[0]))
    names = ("dataset", "image_size", "train_images", "batch_size", "steps", "vit_width", "augmentation", "shots")
    settings, path = {name: getattr(args, name) for name in names}, args.output / "results.json"
    trainings = finished.read(path, settings)
    tf.get_logger().setLevel("ERROR")  # every training is traced anew, of which TensorFlow warns
    jobs = [(name, percent, seed) for seed in range(args.seeds) for percent in args.percents for name in STYLES]
    for name, percent, seed in jobs:
        key = key_of(name, percent, seed)
        if key in trainings:
            continue
        began = time.perf_counter()
        trainings[key] = train(args, name, percent, seed, train_set, test_set)
        finished.write(path, settings, trainings)
        print(f"{key}: top-1 {trainings[key][1]:.2%}, {time.perf_counter() - began:.0f} s", flush=True)
        keras.backend.clear_session()
    plot(args, trainings, "data_size.png", 1, "top-1, test set")
    print_table(args, trainings, 1, "top-1")
    if args.shots:
        plot(args, trainings, "few_shot.png", 2, f"{args.shots}-shot linear top-1, digits")
        print_table(args, trainings, 2, f"{args.shots}-shot linear top-1 on digits")
    print(f"\nIn {args.output}: {'data_size.png, few_shot.png' if args.shots else 'data_size.png'}, results.json")


def key_of(name, percent, seed):
    return f"{name}, {percent:g} %, seed {seed}"


# ---- What it shows ----


def scores(args, trainings, name, which):
    """Return a score of one model, one list of seeds per size; `which` of what `train` returns."""
    return [[trainings[key_of(name, percent, s)][which] for s in range(args.seeds)] for percent in args.percents]


def label_of(args, trainings, name):
    """The name with its number of parameters."""
    return f"{name}, {trainings[key_of(name, args.percents[0], 0)][0]:,} parameters"


def plot(args, trainings, file_name, which, label):
    figure = new_figure(8, 4)
    axes = figure.subplots()
    sizes = [num_images(args, percent) for percent in args.percents]
    for name, (colour, style) in STYLES.items():
        values = np.array(scores(args, trainings, name, which))
        axes.plot(sizes, values.mean(1), style, color=colour, label=label_of(args, trainings, name))
        axes.fill_between(sizes, values.min(1), values.max(1), color=colour, alpha=0.15, linewidth=0)
    axes.set(xscale="log", xlabel=f"training images ({args.dataset})", ylabel=label)
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.set_xticks([], minor=True)
    axes.set_title(f"{args.steps:,} steps of {args.batch_size} images, whatever the size", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(title=f"mean and range; seeds: {args.seeds}", loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8)
    with files.replacing(args.output / file_name) as path:
        figure.savefig(path, format="png", dpi=120)


def print_table(args, trainings, which, label):
    sizes = [num_images(args, percent) for percent in args.percents]
    heads = [f"{size:,} images ({percent:g} %)" for size, percent in zip(sizes, args.percents, strict=True)]
    rows = []
    for name in STYLES:
        cells = [
            f"{statistics.mean(v):.1%} ({min(v):.1%} to {max(v):.1%})" for v in scores(args, trainings, name, which)
        ]
        rows.append((label_of(args, trainings, name), *cells))
    rows.append(("passes over the images", *(f"{args.steps * args.batch_size / size:.3g}" for size in sizes)))
    print("\n" + table((f"{label} after {args.steps:,} steps", *heads), rows), end="")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", choices=list(DEFAULTS), default="fashion-mnist")
    parser.add_argument("--source", type=pathlib.Path, default=pathlib.Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--image_size", type=int, help="default: 28, or 16 for digits")
    parser.add_argument("--train_images", type=int, help="what 100 %% are; default: 10000, or 1437 for digits")
    parser.add_argument("--percents", type=float, nargs="+", default=[3, 10, 30, 100])
    parser.add_argument("--batch_size", type=int, help="default: 64, or 32 for digits")
    parser.add_argument("--steps", type=int, default=1100)
    parser.add_argument(
        "--augmentation", choices=["none", "paper"], default="none", help="paper: small movements, and mixup 0.2"
    )
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--shots", type=int, default=0, help="also a linear classifier on digits, 0 for none")
    parser.add_argument("--vit_width", type=int, default=64, help="64 is the Mixer's; 48 has its number of parameters")
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("runs/data_size"))
    try:
        main(parser.parse_args())
    except (ValueError, OSError) as error:
        parser.error(str(error))
