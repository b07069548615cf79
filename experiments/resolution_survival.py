"""Top-1 of one trained Mixer at other image sizes, without fine-tuning, by both schemes of `weights.resolution`.

    python experiments/resolution_survival.py --seeds=3

Trains a small Mixer on scikit-learn's digits (1,797 images of 8 x 8, a fifth held out), resized to 32 x 32 px, for each
seed; then evaluates its weights at 0.5 to 2 times the side. `--weights` evaluates a trained model of the same
architecture instead.
"""

import argparse
import tempfile

import keras
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import keras_mixer
from keras_mixer.benchmark.markdown import table

SIDE = 32
SIZES = {"patch_size": 4, "num_blocks": 4, "hidden_dim": 64, "tokens_mlp_dim": 64, "channels_mlp_dim": 128}


def images_of(pixels, height, width):
    """(B, 8, 8) digits in [0, 16] -> (B, height, width, 3) in [-1, 1], bilinear."""
    grey = keras.ops.image.resize(pixels[..., None].astype("float32") / 16, (height, width), interpolation="bilinear")
    return np.repeat(2 * keras.ops.convert_to_numpy(grey) - 1, 3, axis=-1)


def train(pixels, labels, epochs, seed, path):
    """Train a model from scratch, and save it as a checkpoint."""
    keras.utils.set_random_seed(seed)
    model = keras_mixer.MLPMixer(**SIZES, input_shape=(SIDE, SIDE, 3), classes=10, stochastic_depth_rate=0.1)
    steps = epochs * -(-len(pixels) // 64)
    schedule = keras.optimizers.schedules.CosineDecay(0.0, steps - 50, warmup_target=3e-3, warmup_steps=50)
    model.compile(keras.optimizers.AdamW(schedule, weight_decay=0.01), "sparse_categorical_crossentropy")
    model.fit(images_of(pixels, SIDE, SIDE), labels, batch_size=64, epochs=epochs, verbose=0)
    keras_mixer.save_checkpoint(model, path)


def top1(weights, pixels, labels, height, width, scheme):
    """Top-1 in percent at one size."""
    model = keras_mixer.MLPMixer(
        **SIZES, weights=weights if scheme == "default" else None, input_shape=(height, width, 3), classes=10
    )
    if scheme == "resampled":
        keras_mixer.load_checkpoint(model, weights)
    scores = model.predict(images_of(pixels, height, width), batch_size=128, verbose=0)
    return 100 * float(np.mean(scores.argmax(-1) == labels))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", help="a trained checkpoint of this script's architecture; none: train")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    digits = load_digits()
    split = train_test_split(digits.images, digits.target, test_size=0.2, random_state=0, stratify=digits.target)
    train_pixels, test_pixels, train_labels, test_labels = split
    sizes = [(16, 16), (20, 20), (24, 24), (28, 28), (32, 32), (24, 40), (40, 40), (48, 48), (56, 56), (64, 64)]
    rows = {(size, "resampled"): [] for size in sizes} | {((64, 64), "default"): []}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(1 if args.weights else args.seeds):
            path = args.weights or f"{folder}/{seed}.npz"
            if not args.weights:
                train(train_pixels, train_labels, args.epochs, seed, path)
            for (size, scheme), row in rows.items():
                row.append(top1(path, test_pixels, test_labels, *size, scheme))
    lines = []
    for ((height, width), scheme), row in rows.items():
        name = "block-diagonal" if scheme == "default" else "unchanged" if (height, width) == (SIDE, SIDE) else scheme
        times = f"{height / SIDE:g}" if height == width else f"{height / SIDE:g} x {width / SIDE:g}"
        scores = f"{np.mean(row):.1f} ({', '.join(f'{x:.1f}' for x in row)})"
        lines.append((f"{height} x {width}", times, name, scores))
    print(table(("image size", "times the side", "scheme", "top-1 %, mean (each seed)"), lines))


if __name__ == "__main__":
    main()
