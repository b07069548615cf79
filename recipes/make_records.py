"""Turn a folder of images into sharded TFRecords with a manifest, which every recipe reads as --dataset=<folder>.

Without flags: scikit-learn's handwritten digits as PNG, into runs/digits_records. Every image is decoded once, so that
damaged ones are found now and not in the middle of a run. See docs/records.md.

    python recipes/make_records.py
    python recipes/make_records.py --dataset=path/to/folder --output=runs/my_records --num_shards=16
    python recipes/make_records.py --verify --output=runs/my_records
"""

from keras_mixer.cli import entry  # first: it imports TensorFlow without its start-up notes

# isort: split
import contextlib
import os
import pathlib
import tempfile
from typing import Any

import tensorflow as tf
from absl import flags

from keras_mixer.cli.command_line import command
from keras_mixer.data import folders, opening, record_writing, records

FLAGS: Any = flags.FLAGS
flags.DEFINE_string("dataset", "digits", "digits, or a folder root/<split>/<class>/* or root/<class>/*.")
flags.DEFINE_string("output", "runs/digits_records", "The folder of records to make.")
flags.DEFINE_list("splits", None, "Splits to take, for example train,val; default all.")
flags.DEFINE_integer("num_shards", None, "Shards of each split, at most one per image; default of about 128 MiB each.")
flags.DEFINE_integer("seed", 0, "Of the order of images, and of the tenth of a flat folder that is the split test.")
flags.DEFINE_string("on_bad_image", "stop", "stop, or skip to leave out and list images that cannot be read.")
flags.DEFINE_float("max_bad_fraction", 0.01, "Largest fraction of a split's images that may be skipped.")
flags.DEFINE_boolean("photographs", True, "Whether images may be cropped and flipped; not so for drawn signs.")
flags.DEFINE_boolean("overwrite", False, "Replace earlier records in --output.")
flags.DEFINE_boolean("verify", False, "Make nothing: compare the records in --output with their checksums.")


def main(_: list[str]) -> None:
    FLAGS.output = os.path.expanduser(FLAGS.output)
    if FLAGS.verify:
        manifest = records.verify_records(FLAGS.output)
        print(f"{FLAGS.output} is what its manifest promises: {_summary(manifest)}.")
        return
    if FLAGS.dataset != "digits" and not FLAGS["output"].present:
        raise ValueError("output: give the folder of records to make, --output=<folder>.")

    # ---- The images: a folder, or the digits as one ----
    with contextlib.ExitStack() as stack:
        root, photographs = FLAGS.dataset, FLAGS.photographs
        if FLAGS.dataset == "digits":
            root, photographs = stack.enter_context(tempfile.TemporaryDirectory()), False
            write_digits(pathlib.Path(root))

        # ---- Check and write ----
        manifest = record_writing.write_records(
            root,
            FLAGS.output,
            splits=FLAGS.splits,
            num_shards=FLAGS.num_shards,
            seed=FLAGS.seed,
            on_bad_image=FLAGS.on_bad_image,
            max_bad_fraction=FLAGS.max_bad_fraction,
            photographs=photographs,
            overwrite=FLAGS.overwrite,
        )
    for name, split in manifest["splits"].items():
        for bad in split["skipped"]:
            print(f"skipped from {name}: {folders.printable(bad['reason'])}")
    output = FLAGS.output.rstrip("/")
    print(
        f"{output}: {_summary(manifest)}. Next:\n"
        f"  {command('pretrain')} --dataset={output} --workdir={output}_run    # train on them\n"
        f"  {command('make_records')} --verify --output={output}    # after a copy"
    )


def write_digits(root: pathlib.Path) -> None:
    """Write scikit-learn's digits as root/<split>/<class>/<number>.png."""
    for split in ("train", "test"):
        source = opening.open_source("digits", split, training=False)
        for name in source.class_names:
            (root / split / name).mkdir(parents=True)
        for i, record in enumerate(source.records(None, 0)):
            image, label = source.parse(record)
            path = root / split / source.class_names[int(label)] / f"{i:04d}.png"
            path.write_bytes(tf.io.encode_png(image).numpy())


def _summary(manifest: dict[str, Any]) -> str:
    parts = []
    for name, split in manifest["splits"].items():
        shards = len(split["shards"])
        skipped = f", {len(split['skipped'])} skipped" if split["skipped"] else ""
        converted = f", {split['converted']:,} converted to PNG" if split.get("converted") else ""
        images = f"{name} {split['num_examples']:,} images in {shards} shard{'s' * (shards != 1)}"
        parts.append(f"{images}{converted}{skipped}")
    return "; ".join(parts)


if __name__ == "__main__":
    entry.run(main)
