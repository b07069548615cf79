"""A Mixer, a ViT and a ResNet on few and many pictures, with and without augmentation; docs/results/transfer.md.

    apt-get install openclipart-png
    python experiments/real_pictures.py
    python experiments/real_pictures.py --scale=S --steps=4000 --output=runs/real_pictures_S    # a day on two cores

Every finished training is kept in results.json, so that the same command goes on after a stop. Needs the extra plot.
"""

import argparse
import dataclasses
import math
import os
import pathlib
import time
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import finished
import keras
import numpy as np
import tensorflow as tf
from data_size import STYLES, as_source, compile_model, make_vit
from permutations import make_resnet
from PIL import Image, ImageOps
from tqdm import tqdm

import keras_mixer
from keras_mixer import cost_model, files, paper
from keras_mixer.benchmark.markdown import table
from keras_mixer.data import pipeline
from keras_mixer.data.augment_settings import Augmentation
from keras_mixer.pictures.figure import new_figure

# The default of --classes: categories of 100 pictures or more that say what is shown, as "unsorted" does not.
CLASSES = (
    *("animals", "computer", "food", "geography", "office", "people", "recreation", "shapes", "signs_and_symbols"),
    *("tools", "transportation"),
)
STORED_SIDE, TEST_PART = 96, 0.2
CROP_AREA = (0.35, 1.0)  # drawings stand on white, and the paper's 0.05 of one often shows nothing
# Of about equal cost at 64 px: 0.6 GFLOP for each S model, 0.1 for each mini one; mlp_ratio of the ViTs is 4.
SCALES = {
    "S": dict(mixer=paper.VARIANTS["s16"], vit=dict(width=384, depth=10, heads=6), learning_rate=3e-4),
    "mini": dict(
        mixer=dict(patch_size=8, num_blocks=4, hidden_dim=128, tokens_mlp_dim=64, channels_mlp_dim=512),
        vit=dict(width=128, depth=3, heads=4),
        learning_rate=1e-3,
    ),
}
TITLES = {"S": {"Mixer": "Mixer-S/16", "ResNet": "ResNet-50"}, "mini": {}}
REGULARISATION = {
    "crops and flips": Augmentation(crop_area=CROP_AREA),
    "with RandAugment 10 and mixup 0.2": Augmentation(crop_area=CROP_AREA, randaugment_magnitude=10, mixup_alpha=0.2),
}


# ---- Models of about equal cost ----


def make_model(args, name):
    scale, shape, classes = SCALES[args.scale], (args.image_size, args.image_size, 3), len(args.classes)
    if name == "ViT":
        return make_vit(args.image_size, scale["mixer"]["patch_size"], classes, **scale["vit"], mlp_ratio=4)
    options = dict(input_shape=shape, classes=classes, classifier_activation=None)
    if name == "Mixer":
        return keras_mixer.MLPMixer(**scale["mixer"], **options)
    if args.scale == "mini":
        return make_resnet(args.image_size, None, classes)
    return keras.applications.ResNet50V2(weights=None, **options)


def flop_of(args, name):
    """Return the operations of one picture's forward pass in matrix products and convolutions."""
    scale, classes = SCALES[args.scale], len(args.classes)
    if name == "Mixer":
        return sum(cost_model.mixer_flop(args.image_size, scale["mixer"], classes).values())
    if name == "ViT":
        width, depth, patch_size = scale["vit"]["width"], scale["vit"]["depth"], scale["mixer"]["patch_size"]
        return cost_model.vit_flop(args.image_size, patch_size, depth, width, 4 * width, classes)
    convolutions = [x for x in make_model(args, name).layers if isinstance(x, keras.layers.Conv2D)]
    return sum(2 * math.prod(x.kernel.shape) * math.prod(x.output.shape[1:3]) for x in convolutions)


# ---- Pictures ----


def read_pictures(args):
    """Return a list of arrays (N, 96, 96, 3) uint8, one for each class: on white, padded to a square, none twice."""
    found, seen = [], set()
    for name in args.classes:
        paths = [path for path in sorted((args.source / name).rglob("*.png")) if not path.is_symlink()]
        paths = np.random.default_rng(0).permutation(paths)
        pictures = []
        for path in tqdm(paths, desc=name, unit=" pictures", disable=None):
            picture = read_picture(path)
            if picture is not None and picture.tobytes() not in seen:
                seen.add(picture.tobytes())
                pictures.append(picture)
            if len(pictures) == args.images_per_class:
                break
        if len(pictures) < 10:
            raise ValueError(
                f"--source: {args.source / name} has {len(pictures)} pictures that can be used, and each class needs "
                "10; apt-get install openclipart-png, or name other --classes."
            )
        found.append(np.stack(pictures))
    return found


def read_picture(path):
    """Return (96, 96, 3) uint8, or None where Pillow refuses the file."""
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path) as opened:
            picture = opened.convert("RGBA")
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
    shown = Image.new("RGB", picture.size, "white")
    shown.paste(picture, mask=picture.getchannel("A"))
    return np.asarray(ImageOps.pad(shown, (STORED_SIDE, STORED_SIDE), Image.Resampling.BOX, color="white"))


def split(args, pictures, percent, seed):
    """Return sources to train on and to test with. A seed draws its own pictures; smaller sets are in larger ones."""
    parts = {"train": [], "test": []}
    for label, of_class in enumerate(pictures):
        rows, held = np.random.default_rng((seed, label)).permutation(of_class), round(TEST_PART * len(of_class))
        parts["test"] += [(picture, label) for picture in rows[:held]]
        rows = rows[held:]
        parts["train"] += [(picture, label) for picture in rows[: round(len(rows) * percent / 100)]]
    return [as_pictures(args, name, rows) for name, rows in parts.items()]


def as_pictures(args, name, rows):
    images, labels = (np.array(column) for column in zip(*rows, strict=True))
    return dataclasses.replace(as_source(name, images, labels), class_names=tuple(args.classes), photographs=True)


# ---- Trainings ----


def train(args, name, percent, regularisation, seed, pictures):
    """Return the number of parameters, and top-1 on the test pictures and on those trained on, not augmented."""
    training, test = split(args, pictures, percent, seed)
    size = dict(batch_size=args.batch_size, image_size=args.image_size)
    batches = pipeline.train_batches(training, **size, seed=seed, augmentation=REGULARISATION[regularisation])

    keras.utils.set_random_seed(seed)
    model = make_model(args, name)
    compile_model(model, args.steps, SCALES[args.scale]["learning_rate"])
    model.fit(batches, steps_per_epoch=args.steps, epochs=1, verbose=0, shuffle=False)
    return model.count_params(), top1(args, model, test), top1(args, model, training)


def top1(args, model, source):
    batches = pipeline.eval_batches(source, batch_size=100, image_size=args.image_size)
    batches = batches.map(lambda images, labels, mask: (images, tf.one_hot(labels, len(args.classes)), mask))
    return model.evaluate(batches, verbose=0, return_dict=True)["top1"]


def jobs_of(args):
    """Whole experiments first, seed by seed."""
    return [
        (name, percent, regularisation, seed)
        for seed in range(args.seeds)
        for percent in args.percents
        for regularisation in REGULARISATION
        for name in STYLES
    ]


def key_of(name, percent, regularisation, seed):
    return f"{name}, {percent:g} %, {regularisation}, seed {seed}"


def check(args):
    for name in ("steps", "seeds", "batch_size", "images_per_class"):
        if getattr(args, name) < 1:
            raise ValueError(f"--{name}: must be a positive number, got {getattr(args, name)}.")
    if not all(0 < percent <= 100 for percent in args.percents):
        raise ValueError(f"--percents: must be above 0 and at most 100, got {args.percents}.")
    if args.image_size < 32 or args.image_size % 16:
        raise ValueError(f"--image_size: must be a multiple of 16 px from 32 on, got {args.image_size}.")
    files.open_folder(args.output)


def main(args):
    check(args)
    settings, path = {name: getattr(args, name) for name in SETTINGS}, args.output / "results.json"
    trainings = finished.read(path, settings)
    pictures = read_pictures(args)
    tf.get_logger().setLevel("ERROR")  # every training is traced anew, of which TensorFlow warns
    for job in tqdm(jobs_of(args), desc="trainings", disable=None):
        if key_of(*job) in trainings:
            continue
        began = time.perf_counter()
        trainings[key_of(*job)] = train(args, *job, pictures)
        finished.write(path, settings, trainings)
        _, test, training = trainings[key_of(*job)]
        tqdm.write(f"{key_of(*job)}: {test:.1%}, of its own {training:.1%}; {time.perf_counter() - began:.0f} s")
        keras.backend.clear_session()
    plot(args, trainings, sizes_of(args, pictures))
    print_tables(args, trainings, sizes_of(args, pictures))
    print(f"\nIn {args.output}: real_pictures.png, results.json")


# ---- What it shows ----


def sizes_of(args, pictures):
    return [split(args, pictures, percent, seed=0)[0].num_examples for percent in args.percents]


def values(args, trainings, name, percent, regularisation, which):
    """Return top-1 of all seeds; `which` of what `train` returns."""
    return np.array([trainings[key_of(name, percent, regularisation, s)][which] for s in range(args.seeds)])


def plot(args, trainings, sizes):
    figure = new_figure(9, 4)
    for axes, regularisation in zip(figure.subplots(1, 2, sharey=True), REGULARISATION, strict=True):
        for name, (colour, style) in STYLES.items():
            test = np.array([values(args, trainings, name, p, regularisation, 1) for p in args.percents])
            axes.plot(sizes, test.mean(1), style, color=colour, label=name)
            axes.fill_between(sizes, test.min(1), test.max(1), color=colour, alpha=0.15, linewidth=0)
        axes.set(xscale="log", xlabel="training pictures", title=regularisation)
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.set_xticks([], minor=True)
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel(f"top-1 after {args.steps:,} steps of {args.batch_size}")
    figure.axes[0].legend(title=f"mean and range; seeds: {args.seeds}", fontsize=8)
    with files.replacing(args.output / "real_pictures.png") as path:
        figure.savefig(path, format="png", dpi=120)


def print_tables(args, trainings, sizes):
    """Print the tables of docs/results/transfer.md: of one seed all in one, else one for each regularisation."""
    for name in STYLES:
        parameters = trainings[key_of(name, args.percents[0], next(iter(REGULARISATION)), 0)][0]
        print(f"{name}: {parameters:,} parameters, {flop_of(args, name) / 1e9:.2f} GFLOP for a picture")
    (few, many), (plain, strong) = (min(args.percents), max(args.percents)), REGULARISATION
    first, shown = "top-1, test (on its own pictures)", lambda *of: cell(args, trainings, *of)
    if args.seeds == 1:
        cases = [(few, plain), (few, strong), (many, plain), (many, strong)]
        columns = ("few", "few, RandAugment and mixup", "many", "many, RandAugment and mixup")
        rows = [(TITLES[args.scale].get(name, name), *(shown(name, *case) for case in cases)) for name in STYLES]
        print("\n" + table((first, *columns), rows))
        return
    heads = f"few: {min(sizes):,}", f"many: {max(sizes):,}"
    gain = lambda name, one, other: (
        100 * (values(args, trainings, name, *other, 1) - values(args, trainings, name, *one, 1))
    )
    seeds, rows, strong_rows = "; ".join(map(str, range(args.seeds))), [], []
    for name in STYLES:
        gained = gain(name, (few, plain), (many, plain))
        told = f"{gained.mean():+.1f} ({gained.min():+.1f} to {gained.max():+.1f})"
        rows.append((name, seeds, shown(name, few, plain), shown(name, many, plain), told))
        lost = {percent: f"{gain(name, (percent, plain), (percent, strong)).mean():+.1f}" for percent in (few, many)}
        strong_rows.append((name, shown(name, few, strong), lost[few], shown(name, many, strong), lost[many]))
    print("\n" + table((first, "seeds", *heads, "gained"), rows))
    print(f"{strong}:\n\n" + table((first, heads[0], "against none", heads[1], "against none"), strong_rows), end="")


def cell(args, trainings, name, percent, regularisation):
    """Top-1 of every seed on the test pictures, and on those trained on."""
    test, own = (values(args, trainings, name, percent, regularisation, which) for which in (1, 2))
    return f"{', '.join(f'{v:.1%}' for v in test)} ({', '.join(f'{v:.1%}' for v in own)})"


SETTINGS = ("scale", "classes", "images_per_class", "image_size", "percents", "steps", "batch_size")

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", choices=list(SCALES), default="mini", help="S is 6 to 8 times as much work")
    parser.add_argument("--source", type=pathlib.Path, default=pathlib.Path("/usr/share/openclipart/png"))
    parser.add_argument("--classes", nargs="+", default=list(CLASSES), help="folders of --source")
    parser.add_argument("--images_per_class", type=int, default=500, help="at most; a fifth of them is to test with")
    parser.add_argument("--image_size", type=int, default=64)
    parser.add_argument("--percents", type=float, nargs="+", default=[10, 100])
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("runs/real_pictures"))
    try:
        main(parser.parse_args())
    except (ValueError, OSError) as error:
        parser.error(str(error))
