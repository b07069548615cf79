"""Change the token mixing as the authors tried without gain (paper, Appendix A): docs/results/block_variants.md.

    apt-get install dataset-fashion-mnist
    python experiments/block_variants.py
    python experiments/block_variants.py --seeds=5 --output=runs/block_variants

Every finished training is kept in results.json, so that the same command goes on after a stop. Needs the extra plot.
"""

import argparse
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
from data_size import as_source, compile_model, read_idx
from keras import layers, ops
from permutations import MIXUP_ALPHA

from keras_mixer import MixerBlock, MlpBlock, PatchEmbed
from keras_mixer.benchmark.markdown import table
from keras_mixer.data import pipeline
from keras_mixer.data.augment_settings import Augmentation

PATCH_SIZE, BLOCKS, WIDTH, TOKENS_MLP, CHANNELS_MLP = 4, 4, 64, 32, 128  # the tiny Mixer of the recipes
GROUPS = VIEWS = 4
BATCH_SIZE, CLASSES = 64, 10


# ---- Ways to mix tokens, each from a table (B, S, C) to one of the same shape ----


def shared(x):
    """The paper's: one MLP for all channels."""
    return MlpBlock(TOKENS_MLP, over="tokens")(x)


def untied(x):
    """An MLP for each channel."""
    _, tokens, channels = x.shape
    gelu = lambda y: keras.activations.gelu(y, approximate=True)
    x = layers.EinsumDense("bsc,csd->bcd", (channels, TOKENS_MLP), gelu, "cd", kernel_initializer=per_channel())(x)
    return layers.Permute((2, 1))(
        layers.EinsumDense("bcd,cds->bcs", (channels, tokens), bias_axes="cs", kernel_initializer=per_channel())(x)
    )


def per_channel():
    """LeCun normal for kernels (C, in, out): the number of inputs is the middle axis."""

    def draw(shape, dtype=None):
        return keras.random.normal(shape, stddev=shape[1] ** -0.5, dtype=dtype)

    return draw


def grouped(x):
    """An MLP for each of so many groups of channels."""
    parts = ops.split(x, GROUPS, axis=-1)
    return ops.concatenate([MlpBlock(TOKENS_MLP, over="tokens")(part) for part in parts], axis=-1)


def views(x):
    """Learned views: the channels are projected, each part of them has an MLP of its own, and are projected back."""
    return layers.Dense(WIDTH)(grouped(layers.Dense(WIDTH)(x)))


# ---- Models ----


def block(x, token_mixing):
    x = x + token_mixing(layers.LayerNormalization(epsilon=1e-6)(x))
    return x + MlpBlock(CHANNELS_MLP)(layers.LayerNormalization(epsilon=1e-6)(x))


def merged(x):
    """Each two by two tokens become one, of the same width: (B, S, C) to (B, S / 4, C)."""
    _, tokens, channels = x.shape
    side = math.isqrt(tokens)
    x = ops.reshape(x, (-1, side // 2, 2, side // 2, 2, channels))
    x = ops.reshape(ops.transpose(x, (0, 1, 3, 2, 4, 5)), (-1, tokens // 4, 4 * channels))
    return layers.Dense(channels)(x)


def make_model(kind, image_size):
    """Return a model of logits; `kind` is a key of `KINDS`."""
    images = keras.Input((image_size, image_size, 3))
    x = PatchEmbed(WIDTH, PATCH_SIZE)(images)
    for i in range(BLOCKS):
        if kind == "pyramid" and i == BLOCKS // 2:
            x = merged(x)
        x = MixerBlock(TOKENS_MLP, CHANNELS_MLP)(x) if kind == "the paper's" else block(x, KINDS[kind])
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization(epsilon=1e-6)(x))
    return keras.Model(images, layers.Dense(CLASSES, kernel_initializer="zeros")(x))


KINDS = {
    "the paper's": shared,
    "untied, per channel": untied,
    f"{GROUPS} groups of channels": grouped,
    f"{VIEWS} learned views": views,
    "pyramid": shared,
}


# ---- Trainings ----


def train(args, kind, seed, train_set, test_set):
    """Return the number of parameters, top-1 on all test images, and milliseconds of a step."""
    rows = np.random.default_rng(seed).permutation(len(train_set[0]))[: args.train_images]
    source = as_source("Fashion-MNIST", *(array[rows] for array in train_set))
    size = dict(batch_size=BATCH_SIZE, image_size=args.image_size)
    batches = pipeline.train_batches(
        source, **size, seed=seed, augmentation=Augmentation("none", mixup_alpha=MIXUP_ALPHA)
    )
    test = pipeline.eval_batches(as_source("test", *test_set), batch_size=250, image_size=args.image_size)
    test = test.map(lambda images, labels, mask: (images, tf.one_hot(labels, CLASSES), mask))

    keras.utils.set_random_seed(seed)
    model = make_model(kind, args.image_size)
    compile_model(model, args.steps)
    times = []
    ended = lambda batch, logs: times.append(time.perf_counter())
    model.fit(
        batches,
        steps_per_epoch=args.steps,
        verbose=0,
        shuffle=False,
        callbacks=[keras.callbacks.LambdaCallback(on_train_batch_end=ended)],
    )
    milliseconds = statistics.median(np.diff(times)) / math.gcd(args.steps, 10) * 1e3
    return model.count_params(), model.evaluate(test, verbose=0, return_dict=True)["top1"], milliseconds


def main(args):
    if args.image_size % (2 * PATCH_SIZE):
        raise ValueError(f"--image_size: must be a multiple of {2 * PATCH_SIZE} px, got {args.image_size}.")
    train_set, test_set = (read_idx(args.source, part) for part in ("train", "t10k"))
    settings = {name: getattr(args, name) for name in ("image_size", "train_images", "steps")}
    path = args.output / "results.json"
    trainings = finished.read(path, settings)
    tf.get_logger().setLevel("ERROR")  # every training is traced anew, of which TensorFlow warns
    for seed in range(args.seeds):
        for kind in KINDS:
            key = f"{kind}, seed {seed}"
            if key not in trainings:
                trainings[key] = train(args, kind, seed, train_set, test_set)
                finished.write(path, settings, trainings)
                print(f"{key}: top-1 {trainings[key][1]:.2%}", flush=True)
                keras.backend.clear_session()
    rows = []
    for kind in KINDS:
        found = [trainings[f"{kind}, seed {seed}"] for seed in range(args.seeds)]
        top1 = [result[1] for result in found]
        milliseconds = statistics.median(result[2] for result in found)
        spread = f"{statistics.mean(top1):.1%} ({min(top1):.1%} to {max(top1):.1%})"
        rows.append((kind, f"{found[0][0]:,}", spread))
        print(f"{kind}: {milliseconds:.0f} ms a step")  # not in the table: it holds on an idle machine only
    print("\n" + table(("token mixing", "parameters", f"top-1, mean (range) of {args.seeds} seeds"), rows))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=pathlib.Path, default=pathlib.Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--image_size", type=int, default=32)
    parser.add_argument("--train_images", type=int, default=10_000)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("runs/block_variants"))
    try:
        main(parser.parse_args())
    except (ValueError, OSError) as error:
        parser.error(str(error))
