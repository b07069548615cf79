"""Large photographs made smaller once, as records or in a cache: what it gives and costs; docs/results/records.md.

    python experiments/shrink_once.py rate
    python experiments/shrink_once.py accuracy --source=/usr/share/openclipart/png    # apt-get install openclipart-png

`rate` writes photographs of 12 megapixels and measures how many a core makes ready for training, of CPU time, each way
in turn. `accuracy` trains a small Mixer on pictures as they are and on the same ones shrunk.
"""

import argparse
import collections
import dataclasses
import io
import pathlib
import tempfile
import time

from keras_mixer.cli import quiet_tensorflow  # noqa: F401 - first: TensorFlow without its start-up notes

# isort: split
import keras
import numpy as np
import tensorflow as tf
from data_size import compile_model
from PIL import Image
from real_pictures import CLASSES, CROP_AREA, SCALES
from tqdm import tqdm

import keras_mixer
from keras_mixer.benchmark import input_speed
from keras_mixer.benchmark.markdown import table
from keras_mixer.data import image_cache, opening, pipeline, record_writing
from keras_mixer.data.augment_settings import Augmentation
from keras_mixer.data.pixel_settings import PixelSettings

PHONE = 3000, 4000  # pixels
FOLDER = "folder, nothing kept"


# ---- Rate


def phone_photographs(count: int) -> list[bytes]:
    """Return JPEGs of 12 megapixels and about 2.5 MB: enlarged cuts of scikit-learn's photographs with grain."""
    rng, encoded = np.random.default_rng(0), []
    for small in input_speed.photographs(count):
        large = np.asarray(Image.open(io.BytesIO(small)).resize(PHONE[::-1], Image.Resampling.LANCZOS), np.int16)
        grain = rng.normal(0, 5, (*PHONE, 1)).astype(np.int16)
        file = io.BytesIO()
        Image.fromarray(np.clip(large + grain, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=87)
        encoded.append(file.getvalue())
    return encoded


def write_folder(root: pathlib.Path, count: int) -> float:
    """Write them as two classes to train on, and return their size in MB."""
    photographs = phone_photographs(count)
    for i, encoded in enumerate(photographs):
        path = root / "train" / "ab"[i % 2] / f"{i:03d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded)
    return sum(map(len, photographs)) / count / 1e6


def stage(source, args, how):
    """Return batches of a pass each, which end, for `input_speed.measure`."""

    def make(passes):
        part = dataclasses.replace(source, records=lambda *of: source.records(*of).take(passes * args.images))
        return pipeline.train_batches(part, batch_size=args.images, image_size=224, seed=0, augmentation=how)

    return make, args.images


def rate(args):
    input_speed.use_one_core()
    with tempfile.TemporaryDirectory() as place:
        place, how, pixels = pathlib.Path(place), Augmentation(), PixelSettings()
        megabytes = write_folder(place / "photographs", args.images)
        sources = {FOLDER: opening.open_source(str(place / "photographs"), training=True)}
        for side in args.max_sides:
            for _ in range(2):  # the first traces the decoders
                began = time.process_time()
                options = dict(max_side=side, overwrite=True)
                facts = record_writing.write_records(place / "photographs", place / f"{side}", **options)
            seconds = (time.process_time() - began) / args.images
            shard = facts["splits"]["train"]["shards"][0]["bytes"] / args.images / 1e3
            print(f"--max_side={side}: {shard:.0f} kB an image, {1 / seconds:.1f} written per second of CPU time")
            sources[f"records with `--max_side={side}`"] = opening.open_source(str(place / f"{side}"), training=True)
        for area in args.crop_areas:
            side = image_cache.side_for(224, dataclasses.replace(how, crop_area=(area, 1.0)))
            none, memory = image_cache.Memory(0), image_cache.Memory(10**10)
            disk = image_cache.Folder(place / f"cache_{side}", 10**10, f"{side}")
            kinds = {", first pass": none, " in memory, later passes": memory, " on disk, later passes": disk}
            crop = "" if area == how.crop_area[0] else f" (`--crop_area={area:g},1`)"
            for name, store in kinds.items():
                cached = image_cache.cached(sources[FOLDER], store, side, pixels)
                collections.deque(cached.records(None, 0).map(cached.parse), maxlen=0)
                sources[f"cache at {side:,} px{crop if store is none else ''}{name}"] = cached
            print(f"cache at {side} px: {memory.used / args.images / 1e6:.2f} MB an image")
        stages = {name: stage(source, args, how) for name, source in sources.items()}
        rates = input_speed.measure(stages, args.seconds, args.rounds)
    print(f"{args.images} photographs of {PHONE[1]} x {PHONE[0]}, {megabytes:.1f} MB each\n")
    phone, rows = np.median(rates[FOLDER]), []
    for name, values in rates.items():
        median = np.median(values)
        reach = f"{min(values):,.0f} to {max(values):,.0f}"
        rows.append((name, f"{median:,.0f}", reach, f"{median / phone:.1f}"))
    print(table(("way", "images/s per core", "range", "times the folder"), rows))


# ---- Accuracy


def write_pictures(args, root):
    """Write opaque PNGs of pictures on white, at their own size up to --largest, a fifth of each class for test."""
    sizes = []
    for name in CLASSES:
        paths = [path for path in sorted((args.source / name).rglob("*.png")) if not path.is_symlink()]
        written = 0
        for path in np.random.default_rng(0).permutation(paths):
            if written == args.images_per_class:
                break
            try:
                with Image.open(path) as opened:
                    if not args.max_side < max(opened.size) <= args.largest or min(opened.size) < args.max_side // 4:
                        continue
                    picture = opened.convert("RGBA")
            except (OSError, ValueError, Image.DecompressionBombError):
                continue
            target = root / ("test" if written % 5 == 4 else "train") / name / f"{written:04d}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            shown = Image.new("RGB", picture.size, "white")
            shown.paste(picture, mask=picture.getchannel("A"))
            shown.save(target, compress_level=1)
            sizes.append(max(picture.size))
            written += 1
    print(f"{len(sizes):,} pictures, longer side {min(sizes)} to {max(sizes)} px, median {int(np.median(sizes))}")


def train(args, folder, seed):
    """Return top-1 on the test pictures."""
    sources = [opening.open_source(str(folder), training=training) for training in (True, False)]
    batches = pipeline.train_batches(
        sources[0], batch_size=32, image_size=64, seed=seed, augmentation=Augmentation(crop_area=CROP_AREA)
    )
    keras.utils.set_random_seed(seed)
    scale = SCALES["mini"]
    options = dict(input_shape=(64, 64, 3), classes=len(CLASSES), classifier_activation=None)
    model = keras_mixer.MLPMixer(**scale["mixer"], **options)
    compile_model(model, args.steps, scale["learning_rate"])
    model.fit(batches, steps_per_epoch=args.steps, epochs=1, verbose=0, shuffle=False)
    hits = total = 0
    for images, labels, mask in pipeline.eval_batches(sources[1], batch_size=100, image_size=64):
        right = (np.argmax(model(images, training=False), -1) == labels.numpy()) * mask.numpy()
        hits, total = hits + right.sum(), total + mask.numpy().sum()
    return hits / total


def accuracy(args):
    tf.get_logger().setLevel("ERROR")
    with tempfile.TemporaryDirectory() as place:
        place, found, sizes = pathlib.Path(place), {}, {}
        write_pictures(args, place / "pictures")
        for side in (None, args.max_side):
            facts = record_writing.write_records(place / "pictures", place / f"{side}", max_side=side)
            told = {name: (of["num_examples"], of["shrunk"]) for name, of in facts["splits"].items()}
            sizes[side] = f"{sum(p.stat().st_size for p in (place / f'{side}').iterdir()) / 1e6:.0f}"
            print(f"max_side {side}: {told}, {sizes[side]} MB")
        for seed in tqdm(range(args.seeds), disable=None):
            for side in (None, args.max_side):
                found.setdefault(side, []).append(100 * train(args, place / f"{side}", seed))
                print(f"seed {seed}, max_side {side}: {found[side][-1]:.1f} %", flush=True)
                keras.backend.clear_session()
    rows = []
    for side, values in found.items():
        name = f"`--max_side={side}`" if side else "as they are"
        rows.append((name, sizes[side], f"{', '.join(f'{v:.1f}' for v in values)} %", f"{np.mean(values):.1f} %"))
    print(table(("records", "MB", "top-1 of each seed", "mean"), rows))
    change = np.subtract(found[args.max_side], found[None])
    print(f"\nDifference {change.mean():+.1f} points, of single seeds {change.min():+.1f} to {change.max():+.1f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["rate", "accuracy"])
    parser.add_argument("--images", type=int, default=16, help="rate: photographs, and of a batch")
    parser.add_argument("--max_sides", type=int, nargs="+", default=[512])
    parser.add_argument("--crop_areas", type=float, nargs="+", default=[0.05, 0.35], help="rate: least of a crop")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--source", type=pathlib.Path, default=pathlib.Path("/usr/share/openclipart/png"))
    parser.add_argument("--max_side", type=int, default=128, help="accuracy: of the smaller pictures")
    parser.add_argument("--largest", type=int, default=1000)
    parser.add_argument("--images_per_class", type=int, default=200)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    {"rate": rate, "accuracy": accuracy}[given.what](given)
