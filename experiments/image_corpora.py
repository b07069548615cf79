"""Decode every file of folders of test images, and compare with Pillow: the table of docs/results/input_speed.md.

    python experiments/image_corpora.py pillow-13.0.0/Tests/images giflib-5.2.1 ...

Each file is decoded as training does it, in TensorFlow alone as a server does it, and as records store it. Pillow shows
the first frame, upright, on white. JPEG is "close": TensorFlow takes the fast inverse cosine transform, as the authors.
"""

import argparse
import collections
import io
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps
from tqdm import tqdm

from keras_mixer.benchmark.markdown import table
from keras_mixer.data import checking, decode, folders

CLOSE = 1.5  # grey levels in the mean
COLUMNS = ("equal", "close", "differs", "read here only", "refused here only", "refused by both")
# Endings of one kind of file are one row; others have a row each.
ROWS = (
    *((".tif", ".tiff"), (".bmp", ".dib"), (".jpg", ".mpo"), (".jp2", ".j2k")),
    *((".pbm", ".pgm", ".pnm", ".ppm"), (".avif", ".heif")),
)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=pathlib.Path, help="folders with image files, at any depth")
    parser.add_argument("--list", action="store_true", help="name the files that are not equal, and those refused")
    args = parser.parse_args()
    paths = [path for folder in args.folders for path in folders.list_files(folder)[0]]
    counts, refusals, named, disagree = collections.defaultdict(collections.Counter), collections.Counter(), [], []
    for path in tqdm(paths, unit=" files"):
        outcome, reason, differing = compare(path)
        ending = os.path.splitext(path)[1].lower()
        counts[next((row for row in ROWS if ending in row), (ending,))][outcome] += 1
        if reason:
            refusals[reason] += 1
        if outcome not in ("equal", "close"):
            named.append(f"{outcome}: {path} {reason}")
        if differing:
            disagree.append(path)
    total = sum(counts.values(), collections.Counter())
    rows = [*sorted(counts.items(), key=lambda item: (-item[1].total(), item[0])), (("all",), total)]
    cells = [(", ".join(names), f"{row.total():,}", *(row[c] or "" for c in COLUMNS)) for names, row in rows]
    print(table(("ending", "files", *COLUMNS), cells))
    print("\nRefused, and why:")
    for reason, count in refusals.most_common():
        print(f"- {count}: {reason}")
    print(f"\nServer or records show other pixels than training: {len(disagree)} of {len(paths)} {disagree or ''}")
    if args.list:
        print("\n".join(named))


@tf.function(input_signature=[tf.TensorSpec([], tf.string)])
def by_tensorflow_alone(encoded):
    return decode.decode_image(encoded, python=False)


@tf.function(input_signature=[tf.TensorSpec([], tf.string)])
def as_in_training(encoded):
    return decode.decode_image(encoded)


def compare(path):
    """Return the outcome, why the file was refused, and whether a server or records would show other pixels."""
    encoded = pathlib.Path(path).read_bytes()
    ours, fault = attempt(as_in_training, encoded)
    served, _ = attempt(by_tensorflow_alone, encoded)
    stored, _, _ = checking.read_for_records(path)
    recorded = None if stored is None else attempt(by_tensorflow_alone, stored)[0]
    differing = served is not None and not np.array_equal(served, ours)
    differing |= (recorded is None) != (ours is None) or (ours is not None and not np.array_equal(recorded, ours))
    theirs = by_pillow(encoded)
    if ours is None:
        return ("refused by both" if theirs is None else "refused here only"), fault, differing
    if theirs is None:
        return "read here only", "", differing
    if theirs.shape != ours.shape:
        return "differs", "", differing
    difference = np.abs(ours.astype(int) - theirs).mean()
    return ("equal" if not difference else "close" if difference < CLOSE else "differs"), "", differing


def attempt(function, encoded):
    """Return (pixels, "") or (None, why not)."""
    try:
        return function(encoded).numpy(), ""
    except tf.errors.InvalidArgumentError as error:
        return None, decode.describe_error(error, "").partition("(")[2].rpartition(")")[0]


def by_pillow(encoded):
    """Return what Pillow shows of a file, or None."""
    try:
        with Image.open(io.BytesIO(encoded)) as picture:
            picture.load()
            picture = ImageOps.exif_transpose(picture)
            if picture.mode[0] == "I":  # 16 bits of grey, which Pillow's own conversion clips
                return np.repeat((np.asarray(picture) >> 8)[:, :, None], 3, axis=2).astype(np.uint8)
            picture = picture.convert("RGBA")
    except Exception:  # whatever a library raises on a damaged file
        return None
    shown = Image.new("RGB", picture.size, "white")
    shown.paste(picture, mask=picture.getchannel("A"))
    return np.asarray(shown)


if __name__ == "__main__":
    main()
