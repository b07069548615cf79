"""Train a Mixer and a ResNet on permuted images (paper section 3.4): the table of docs/results/permutations.md.

    python experiments/permutations.py
    python experiments/permutations.py --dataset=path/to/folder --image_size=32 --steps=3000

Two seeds, each with a permutation of its own: twelve trainings. Some minutes on two cores; needs the extra plot. Every
finished training is kept in results.json, so that the same command goes on after a stop.
"""

import argparse
import csv
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

import keras_mixer
from keras_mixer import files
from keras_mixer.benchmark.markdown import table
from keras_mixer.data import opening, permutations, pipeline
from keras_mixer.data.augment_settings import Augmentation
from keras_mixer.pictures.figure import new_figure
from keras_mixer.training import optimizers, schedules

LEARNING_RATE, WEIGHT_DECAY, MIXUP_ALPHA, BATCH_SIZE = 3e-3, 0.1, 0.2, 64  # those of recipes/pretrain.py
COLOURS = {"none": "C0", "patches_and_pixels": "C1", "global": "C3"}


def make_mixer(image_size, patch_size, classes):
    """The tiny Mixer of the recipes."""
    sizes = dict(num_blocks=4, hidden_dim=64, tokens_mlp_dim=32, channels_mlp_dim=128)
    shape = (image_size, image_size, 3)
    return keras_mixer.MLPMixer(patch_size, **sizes, input_shape=shape, classes=classes, classifier_activation=None)


def make_resnet(image_size, patch_size, classes):
    """A ResNet of three stages of one block each, about as many parameters as the Mixer."""

    def unit(x, filters, strides=1):
        x = layers.Conv2D(filters, 3, strides, padding="same", use_bias=False)(x)
        return layers.BatchNormalization(momentum=0.9)(x)

    inputs = keras.Input((image_size, image_size, 3))
    x = layers.ReLU()(unit(inputs, 16))
    for filters, strides in ((16, 1), (32, 2), (64, 2)):
        y = unit(layers.ReLU()(unit(x, filters, strides)), filters)
        if strides > 1:
            x = layers.BatchNormalization(momentum=0.9)(layers.Conv2D(filters, 1, strides, use_bias=False)(x))
        x = layers.ReLU()(x + y)
    return keras.Model(inputs, layers.Dense(classes)(layers.GlobalAveragePooling2D()(x)))


MODELS = {"Mixer": make_mixer, "ResNet": make_resnet}


def train(args, make_model, kind, seed):
    """Return top-1 on all images of the evaluation, after each of `args.points` equal parts of the training."""
    source, test = (opening.open_source(args.dataset, training=training) for training in (True, False))
    classes = len(source.class_names)
    permuted = lambda data: permutations.permute_batches(data, kind, args.image_size, args.patch_size, seed)
    size = dict(batch_size=BATCH_SIZE, image_size=args.image_size)
    batches = permuted(
        pipeline.train_batches(source, **size, seed=seed, augmentation=Augmentation(mixup_alpha=MIXUP_ALPHA))
    )
    evaluation = permuted(pipeline.eval_batches(test, **size))
    evaluation = evaluation.map(lambda images, labels, mask: (images, tf.one_hot(labels, classes), mask)).cache()

    every = args.steps // args.points
    keras.utils.set_random_seed(seed)
    model = make_model(args.image_size, args.patch_size, classes)
    schedule = schedules.WarmupDecay(LEARNING_RATE, args.steps, args.steps // 10, "linear")
    model.compile(
        optimizers.make_optimizer("adamw", schedule, model, weight_decay=WEIGHT_DECAY, clip_norm=1.0),
        keras.losses.CategoricalCrossentropy(from_logits=True),
        weighted_metrics=[keras.metrics.CategoricalAccuracy(name="top1")],
        steps_per_execution=math.gcd(every, 10),
        jit_compile=False,
    )
    history = model.fit(
        batches, steps_per_epoch=every, epochs=args.points, validation_data=evaluation, verbose=0, shuffle=False
    )
    return model.count_params(), history.history["val_top1"]


def check(args):
    """Refuse what could not be trained, before anything is."""
    for name in ("steps", "points", "seeds", "patch_size"):
        if getattr(args, name) < 1:
            raise ValueError(f"--{name}: must be a positive number, got {getattr(args, name)}.")
    if args.steps % args.points:
        raise ValueError(f"--points: {args.steps} steps cannot be divided into {args.points} equal parts.")
    if args.image_size < args.patch_size or args.image_size % args.patch_size:
        raise ValueError(f"--patch_size: patches of {args.patch_size} px do not divide {args.image_size} px.")
    if opening.open_source(args.dataset, training=True).num_examples < BATCH_SIZE:
        raise ValueError(f"--dataset: {args.dataset} has fewer training images than a batch of {BATCH_SIZE}.")
    files.open_folder(args.output)


def main(args):
    check(args)
    path = args.output / "results.json"
    settings = {name: getattr(args, name) for name in ("dataset", "image_size", "patch_size", "steps", "points")}
    trainings = finished.read(path, settings)
    curves, parameters = {}, {}
    for name, make_model in MODELS.items():
        for kind in permutations.KINDS:
            for seed in range(args.seeds):
                key = f"{name} {kind} seed {seed}"
                if key not in trainings:
                    began = time.perf_counter()
                    trainings[key] = train(args, make_model, kind, seed)
                    finished.write(path, settings, trainings)
                    seconds = time.perf_counter() - began
                    print(f"{key}: top-1 {trainings[key][1][-1]:.2%}, {seconds:.0f} s", flush=True)
                parameters[name], curves[name, kind, seed] = trainings[key]
    steps = [(i + 1) * (args.steps // args.points) for i in range(args.points)]
    with files.replacing(args.output / "permutations.csv") as path, open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["model", "permutation", "seed", "step", "top1"])
        for (name, kind, seed), curve in curves.items():
            writer.writerows([name, kind, seed, step, f"{value:.6f}"] for step, value in zip(steps, curve, strict=True))
    plot(args, steps, curves, parameters)
    print_table(args, curves, parameters)


def plot(args, steps, curves, parameters):
    figure = new_figure(9, 4)
    for axes, name in zip(figure.subplots(1, len(MODELS), sharey=True), MODELS, strict=True):
        for kind, colour in COLOURS.items():
            values = np.array([curves[name, kind, seed] for seed in range(args.seeds)])
            style = dict(color=colour, linestyle="--" if kind == "patches_and_pixels" else "-")
            axes.plot(steps, values.mean(0), **style, label=kind.replace("_", " "))
            axes.fill_between(steps, values.min(0), values.max(0), color=colour, alpha=0.15, linewidth=0)
        axes.set(title=f"{name}, {parameters[name]:,} parameters", xlabel="step")
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("top-1, evaluation")
    figure.axes[0].legend(title=f"permutation; mean and range of {args.seeds} seeds", loc="lower right", fontsize=8)
    with files.replacing(args.output / "permutations.png") as path:
        figure.savefig(path, format="png", dpi=120)


def print_table(args, curves, parameters):
    kinds, rows = [kind.replace("_", " ") for kind in COLOURS], []
    for name in MODELS:
        ends = {kind: [curves[name, kind, seed][-1] for seed in range(args.seeds)] for kind in COLOURS}
        mean = {kind: statistics.mean(values) for kind, values in ends.items()}
        cells = [f"{mean[kind]:.1%} ({min(values):.1%} to {max(values):.1%})" for kind, values in ends.items()]
        lost = 1 - mean["global"] / mean["none"]
        rows.append((f"{name}, {parameters[name]:,} parameters", *cells, f"{lost:.1%}"))
    print("\n" + table((f"top-1 after {args.steps} steps", *kinds, "global loses, of its top-1"), rows), end="")
    print(f"\nThe curves are in {args.output}: permutations.png, permutations.csv, results.json")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--image_size", type=int, default=16)
    parser.add_argument("--patch_size", type=int, default=4)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--points", type=int, default=6, help="evaluations in the course of a training")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("runs/permutations"))
    try:
        main(parser.parse_args())
    except (ValueError, OSError) as error:
        parser.error(str(error))
