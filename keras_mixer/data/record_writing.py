"""From a folder of images to sharded TFRecords with a manifest: every image checked, and all written or nothing.

Records hold JPEG and PNG alone, which every machine decodes without Python; images of other kinds become PNG.
"""

import collections
import concurrent.futures
import errno
import functools
import json
import os
import pathlib
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_mixer import buckets, files
from keras_mixer.data import checking, folders, image_limits
from keras_mixer.data.progress import Progress
from keras_mixer.data.record_folder import check_output, explained, new_folder
from keras_mixer.data.record_layout import FRAME, check_layout, example_of, layout
from keras_mixer.data.records import FORMAT, MANIFEST, VERSION, sha256
from keras_mixer.data.shrinking import NO_SHRINKING, QUALITY, Shrinking
from keras_mixer.data.source import check_paths
from keras_mixer.data.splits import select
from keras_mixer.data.streams import BLOCK
from keras_mixer.types import File

CHUNK = 128  # images that are held at a time


class SplitPlan(NamedTuple):
    """A split to write: its images in their listed order, those left out so far, and how it is divided."""

    images: list[File]
    bad: checking.BadImages
    num_shards: int
    num_streams: int


class Plan(NamedTuple):
    """Records to write: what was found by the arguments of `write_records`.

    Attributes:
        output: the folder of records.
        class_names: in the order of their labels.
        splits: name -> what is to be written of it.
        num_bytes: of all images, which the records take about.
        shrinking: which of them become smaller.
    """

    output: pathlib.Path
    class_names: tuple[str, ...]
    splits: dict[str, SplitPlan]
    num_bytes: int
    shrinking: Shrinking = NO_SHRINKING


class Written(NamedTuple):
    """What `write_shard` has written.

    Attributes:
        shard: what the manifest says of the file.
        converted: number of its images that became PNG.
        labels: of its images, each once, ascending.
        skipped: its images that cannot be read, as the manifest lists them.
        shrunk: number of its images that became smaller.
    """

    shard: dict[str, Any]
    converted: int
    labels: list[int]
    skipped: list[dict[str, str]]
    shrunk: int = 0


def write_records(
    root: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    splits: Sequence[str] | None = None,
    num_shards: int | None = None,
    num_streams: int | None = None,
    seed: int = 0,
    on_bad_image: str = "stop",
    max_bad_fraction: float = 0.01,
    photographs: bool = True,
    overwrite: bool = False,
    max_side: int | None = None,
    quality: int = QUALITY,
) -> dict[str, Any]:
    """Turn a folder of images into a folder of records, which `opening.open_source` opens.

    Every image is decoded once to see that it can be. The bytes of JPEG and PNG are written unchanged; other images
    become PNG without loss, upright, their first frame, with their transparency. The files are a function of the
    images, the seed and the numbers of shards and streams. They are written into a temporary folder beside `output`,
    which is renamed at the end: after an error or a kill there is no output, or the former one.

    Args:
        root: root/<split>/<class>/*, or root/<class>/* of which a seeded tenth of each class is "test".
        output: the new folder.
        splits: names; None takes all.
        num_shards: of each split, at most one per image; None makes shards of about 128 MiB.
        num_streams: so many machines, or a divisor of it, may each read a share of the shards of their own (see
            `streams`); of a split with fewer images, 1. None takes 64 for a split of 64,000 images or more, else 1.
        seed: of the order, random over all shards, and of the split of a flat folder.
        on_bad_image: "stop", or "skip" to leave out images that cannot be read, and list them in the manifest. Files
            that are no images by their name are left out either way, with a warning.
        max_bad_fraction: more than this fraction of a split's images skipped is an error.
        photographs: False for drawn signs, which a crop or flip would change; kept in the manifest.
        overwrite: replace earlier records at `output`, and nothing else.
        max_side: in pixels. An image whose longer side has more is shrunk to it, by area and upright, and written as a
            JPEG, or as a PNG where it has transparent pixels. None leaves every image as large as it is.
        quality: of these JPEGs, 1 to 100.

    Returns:
        The manifest, as a dict.

    Raises:
        ValueError: for bad arguments, class folders (see `folders.folder_images`) or images.
        OSError: if the output exists or cannot be written, for instance on a full disk.
    """
    plan = plan_records(
        root,
        output,
        splits=splits,
        divided=(num_shards, num_streams),
        seed=seed,
        reading=checking.Reading(on_bad_image, max_bad_fraction, Shrinking(max_side, quality)),
        overwrite=overwrite,
    )
    return write_plan(plan, seed=seed, photographs=photographs, overwrite=overwrite)


def write_plan(plan: Plan, *, seed: int, photographs: bool, overwrite: bool) -> dict[str, Any]:
    """Write what `plan_records` has planned, and return the manifest; arguments and errors are of `write_records`."""
    manifest = manifest_head(plan, seed, photographs)
    with new_folder(plan.output, overwrite) as folder:
        free = None if buckets.is_bucket(folder) else shutil.disk_usage(folder).free
        if free is not None and plan.num_bytes > free:
            raise OSError(errno.ENOSPC, f"the images take {plan.num_bytes:,} bytes, and {free:,} are free")
        for split, of_split in plan.splits.items():
            written = []
            with Progress(f"{split}:", len(of_split.images), "images") as progress:
                for name, images in shards_of(split, of_split, seed):
                    given = images, of_split.bad, progress.update, plan.shrinking
                    written.append(write_shard(folder / name, *given))
            manifest["splits"][split] = split_facts(split, of_split, written)
        write_manifest(folder, manifest)  # last, so that a bucket has all that it names
    return manifest


def plan_records(
    root: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    splits: Sequence[str] | None,
    divided: tuple[int | None, int | None],
    seed: int,
    reading: checking.Reading,
    overwrite: bool,
) -> Plan:
    """Check the arguments of `write_records`, list the images and return the `Plan`; nothing is written.

    `divided` is (num_shards, num_streams); the errors are those of `write_records`.
    """
    for name, path in (("dataset", root), ("output", output)):
        if not os.fspath(path):
            raise ValueError(f"{name}: must name a folder, got an empty text.")
    check_paths(dataset=root, output=output)
    root, output = (buckets.path_of(path, name) for name, path in (("dataset", root), ("output", output)))
    output = output if buckets.is_bucket(output) else output.resolve()
    checking.check_policy(reading.on_bad_image, reading.max_bad_fraction)
    check_layout(*divided)
    if not root.is_dir():
        raise ValueError(f"dataset: the folder {str(root)!r} does not exist or is not a folder.")
    if root.resolve() in (output, *output.parents):
        raise ValueError(f"output: {output} is in the folder of the images; choose one outside of it.")
    with explained(output):
        check_output(output, overwrite)
    root = folders.data_root(root)
    names = folders.folder_splits(root)
    planned, num_bytes = {}, 0
    for wanted in splits or names:
        split = select(wanted, dict.fromkeys(names, 0), root)[0]
        class_names, images, others = folders.folder_images(root, split, seed)
        if not images:
            raise ValueError(f"dataset: split {split} of {root} has no images; add some or name other splits.")
        folders.told_of_others(root, others)
        bad = checking.BadImages(
            root, split, len(images), None if reading.on_bad_image == "stop" else reading.max_bad_fraction
        )
        size = sum(_size(path, reading.shrinking) for path, _ in images)
        planned[split] = SplitPlan(images, bad, *layout(len(images), size, *divided))
        num_bytes += size
    return Plan(output, class_names, planned, num_bytes, reading.shrinking)


def manifest_head(plan: Plan, seed: int, photographs: bool) -> dict[str, Any]:
    """Return the manifest with no split yet."""
    manifest: dict[str, Any] = {"format": FORMAT, "version": VERSION, "seed": seed, "photographs": photographs}
    if plan.shrinking.max_side is not None:
        manifest |= {"max_side": plan.shrinking.max_side, "quality": plan.shrinking.quality}
    return manifest | {"class_names": list(plan.class_names), "splits": {}}


def shards_of(split: str, plan: SplitPlan, seed: int) -> Iterator[tuple[str, list[File]]]:
    """Yield the file name of each shard of a split and its images: all of them, in an order random over all shards."""
    images, count = plan.images, plan.num_shards
    order = np.random.default_rng(seed).permutation(len(images))
    bounds = [len(images) * i // count for i in range(count + 1)]
    for k in range(count):
        yield f"{split}-{k:05d}-of-{count:05d}.tfrecord", [images[i] for i in order[bounds[k] : bounds[k + 1]]]


def write_shard(
    path: pathlib.Path,
    images: Sequence[File],
    bad: checking.BadImages,
    on_progress: Callable[[int], Any] | None = None,
    shrinking: Shrinking = NO_SHRINKING,
) -> Written:
    """Write one shard, which appears whole; its bytes are a function of its images, and no other shard's matter.

    Args:
        path: of the file.
        images: (path, label) of each, in the order of their records.
        bad: where images that cannot be read are added; their names and records are relative to its root.
        on_progress: called with the number of images that are done since its last call.
        shrinking: which images become smaller.

    Raises:
        ValueError: of `bad`, for an image that cannot be read.
        OSError: if it cannot be written.
    """
    examples, changes, labels, known = 0, collections.Counter[str](), set(), len(bad.skipped)
    read = functools.partial(checking.read_for_records, shrinking=shrinking)
    offset, blocks = 0, []
    with (
        concurrent.futures.ThreadPoolExecutor(checking.num_threads()) as threads,
        files.replacing(path) as written,
        tf.io.TFRecordWriter(str(written)) as writer,
    ):
        for start in range(0, len(images), CHUNK):
            chunk = images[start : start + CHUNK]
            # One chunk at a time: `map` submits all it is given, and would hold every image.
            checked = threads.map(read, [name for name, _ in chunk])
            for (name, label), (encoded, change, fault) in zip(chunk, checked, strict=True):
                if fault is not None or encoded is None:
                    bad.add(name, fault or "")
                    continue
                changes[change] += 1
                record = example_of(encoded, label, os.path.relpath(name, bad.root))
                writer.write(record)
                if examples % BLOCK == 0:
                    blocks.append(offset)
                examples, offset = examples + 1, offset + len(record) + FRAME
                labels.add(label)
            if on_progress is not None:
                on_progress(len(chunk))
        writer.close()
        facts = {"bytes": buckets.size_of(written), "sha256": sha256(written), "blocks": blocks}
    shard = {"file": path.name, "examples": examples, **facts}
    return Written(shard, changes["converted"], sorted(labels), bad.skipped[known:], changes["shrunk"])


def split_facts(split: str, plan: SplitPlan, written: Sequence[Written]) -> dict[str, Any]:
    """Return what the manifest says of a split whose shards are written; a ValueError where a class has no image."""
    checking.check_classes_left(plan.images, [("", label) for shard in written for label in shard.labels], split)
    return {
        "num_examples": sum(of.shard["examples"] for of in written),
        "streams": plan.num_streams,
        "converted": sum(of.converted for of in written),
        "shrunk": sum(of.shrunk for of in written),
        "skipped": [bad for of in written for bad in of.skipped],
        "shards": [of.shard for of in written],
    }


def write_manifest(folder: pathlib.Path, manifest: dict[str, Any]) -> None:
    """Write the manifest of records, the offsets of a shard on one line; what it names is there already."""
    text = re.sub(r"\[[\d,\s]+\]", lambda offsets: " ".join(offsets[0].split()), json.dumps(manifest, indent=1))
    with files.writing(folder / MANIFEST) as file:
        file.write(text + "\n")


def _size(path: str | os.PathLike[str], shrinking: Shrinking) -> int:  # of a file that may become a record, at most
    size = os.path.getsize(path) if os.path.isfile(path) else 0
    # A JPEG of a high quality has about a byte for each pixel.
    return min(size, (shrinking.max_side or size) ** 2) if size <= image_limits.MAX_BYTES else 0
