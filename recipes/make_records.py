"""Turn a folder of images into sharded TFRecords with a manifest, which every recipe reads as --dataset=<folder>.

Without flags: scikit-learn's handwritten digits as PNG, into runs/digits_records. Every image is decoded once, so that
damaged ones are found now and not in the middle of a run. See docs/guides/records.md.

    python recipes/make_records.py
    python recipes/make_records.py --dataset=path/to/folder --output=runs/my_records --num_shards=16
    python recipes/make_records.py --dataset=path/to/folder --output=runs/my_records --runner=DirectRunner
    python recipes/make_records.py --dataset=path/to/photographs --output=runs/small --max_side=512
    python recipes/make_records.py --verify --output=runs/my_records
    python recipes/make_records.py --upgrade --output=runs/old_records
"""

from keras_mixer.cli import quiet_tensorflow  # noqa: F401 - first: TensorFlow without its start-up notes

# isort: split
import contextlib
import os
import pathlib
import tempfile
from typing import Any

import tensorflow as tf

from keras_mixer.cli import entry
from keras_mixer.cli.flags import command, setting, settings_class
from keras_mixer.cli.settings import Elsewhere
from keras_mixer.data import (
    checking,
    folders,
    opening,
    record_parts,
    record_upgrade,
    record_writing,
    records,
    shrinking,
)


@settings_class
class Settings(Elsewhere):
    """Settings of the records to make."""

    dataset: str = setting("digits", "digits, or a folder root/<split>/<class>/* or root/<class>/*.", common=True)
    output: str = setting(None, "The folder of records to make; default runs/digits_records.", common=True)
    splits: tuple[str, ...] | None = setting(None, "Splits to take, for example train,val; default all.")
    num_shards: int | None = setting(
        None, "Shards of each split, at most one per image; default of about 128 MiB each."
    )
    num_streams: int | None = setting(
        None,
        "So many machines, or a divisor of it, each read the shards of their share alone; default 64 for a split of "
        "64,000 images or more, else 1.",
    )
    seed: int = setting(0, "Of the order of images, and of the tenth of a flat folder that is the split test.")
    on_bad_image: str = setting("stop", "stop, or skip to leave out and list images that cannot be read.")
    max_bad_fraction: float = setting(0.01, "Largest fraction of a split's images that may be skipped.")
    max_side: int | None = setting(
        None, "Shrink images whose longer side has more pixels to this, such as 512; default none.", common=True
    )
    quality: int = setting(None, "Of the JPEGs that shrunk images become, 1 to 100; default 95.")
    photographs: bool = setting(True, "Whether images may be cropped and flipped; not so for drawn signs.")
    overwrite: bool = setting(False, "Replace earlier records in --output.", common=True)
    upgrade: bool = setting(
        False, "Make nothing: give records of an earlier version in --output streams; their shards stay as they are."
    )
    verify: bool = setting(False, "Make nothing: compare the records in --output with their checksums.", common=True)


def run(settings: Settings) -> None:
    """Make the records that the settings describe, or verify them."""
    output = os.path.expanduser(settings.output or "runs/digits_records").rstrip("/")
    if settings.verify:
        manifest = records.verify_records(output)
        print(f"{output} is what its manifest promises: {_summary(manifest)}.")
        return
    if settings.upgrade:
        manifest = record_upgrade.upgrade_records(output, settings.num_streams)
        print(f"{output} can be read in streams: {_summary(manifest)}.")
        return
    if settings.dataset != "digits" and not settings.output:
        raise ValueError("output: give the folder of records to make, --output=<folder>.")
    if settings.quality is not None and settings.max_side is None:
        raise ValueError("quality: is of images that are shrunk; give --max_side, such as 512, or leave it out.")

    engine = settings.engine()

    # ---- The images: a folder, or the digits as one ----
    with contextlib.ExitStack() as stack:
        root, photographs = settings.dataset, settings.photographs
        if settings.dataset == "digits":
            root, photographs = stack.enter_context(tempfile.TemporaryDirectory()), False
            write_digits(pathlib.Path(root))

        # ---- Check and write ----
        quality = shrinking.QUALITY if settings.quality is None else settings.quality
        smaller = shrinking.Shrinking(settings.max_side, quality)
        plan = record_writing.plan_records(
            root,
            output,
            splits=list(settings.splits) if settings.splits else None,
            divided=(settings.num_shards, settings.num_streams),
            seed=settings.seed,
            reading=checking.Reading(settings.on_bad_image, settings.max_bad_fraction, smaller),
            overwrite=settings.overwrite,
        )
        how: dict[str, Any] = dict(seed=settings.seed, photographs=photographs, overwrite=settings.overwrite)
        if engine is None:
            manifest = record_writing.write_plan(plan, **how)
        else:
            manifest = record_parts.write_records(plan, engine, **how)
    for name, split in manifest["splits"].items():
        for bad in split["skipped"]:
            print(f"skipped from {name}: {folders.printable(bad['reason'])}")
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
        shrunk = f", {split['shrunk']:,} shrunk" if split.get("shrunk") else ""
        streams = f" of {split['streams']} streams" if split.get("streams", 1) > 1 else ""
        images = f"{name} {split['num_examples']:,} images in {shards} shard{'s' * (shards != 1)}{streams}"
        parts.append(f"{images}{converted}{shrunk}{skipped}")
    return "; ".join(parts)


if __name__ == "__main__":
    entry.run(Settings, run)
