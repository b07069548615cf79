"""From a folder of images to sharded TFRecords with a manifest: every image checked, and all written or nothing.

Records hold JPEG and PNG alone, which every machine decodes without Python; images of other kinds become PNG.
"""

import concurrent.futures
import contextlib
import errno
import json
import math
import os
import pathlib
import re
import shutil
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_mixer import buckets, files
from keras_mixer.data import checking, folders, image_limits
from keras_mixer.data.progress import Progress
from keras_mixer.data.records import FORMAT, MANIFEST, VERSION, sha256
from keras_mixer.data.source import check_paths
from keras_mixer.data.splits import select
from keras_mixer.data.streams import BLOCK
from keras_mixer.types import File

SHARD_BYTES = 128 * 2**20  # of a shard where their number is not given
STREAMS = 64  # of a large split
FRAME = 16  # bytes of a record in a file beside its own: its length, and two checksums
CLAIM = ".writing"  # in a bucket, of the process that writes
CHUNK = 128  # images that are held at a time


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

    Returns:
        The manifest, as a dict.

    Raises:
        ValueError: for bad arguments, class folders (see `folders.folder_images`) or images.
        OSError: if the output exists or cannot be written, for instance on a full disk.
    """
    for name, path in (("dataset", root), ("output", output)):
        if not os.fspath(path):
            raise ValueError(f"{name}: must name a folder, got an empty text.")
    check_paths(dataset=root, output=output)
    root, output = (buckets.path_of(path, name) for name, path in (("dataset", root), ("output", output)))
    output = output if buckets.is_bucket(output) else output.resolve()
    checking.check_policy(on_bad_image, max_bad_fraction)
    check_layout(num_shards, num_streams)
    if not root.is_dir():
        raise ValueError(f"dataset: the folder {str(root)!r} does not exist or is not a folder.")
    if root.resolve() in (output, *output.parents):
        raise ValueError(f"output: {output} is in the folder of the images; choose one outside of it.")
    _check_output(output, overwrite)
    root = folders.data_root(root)
    names = folders.folder_splits(root)
    listed: dict[str, tuple[list[File], checking.BadImages]] = {}
    for wanted in splits or names:
        split = select(wanted, dict.fromkeys(names, 0), root)[0]
        class_names, images, others = folders.folder_images(root, split, seed)
        if not images:
            raise ValueError(f"dataset: split {split} of {root} has no images; add some or name other splits.")
        folders.told_of_others(root, others)
        bad = checking.BadImages(root, split, len(images), None if on_bad_image == "stop" else max_bad_fraction)
        listed[split] = (images, bad)
    manifest: dict[str, Any] = {"format": FORMAT, "version": VERSION, "seed": seed, "photographs": photographs}
    manifest |= {"class_names": list(class_names), "splits": {}}
    with _new_folder(output, overwrite) as folder:
        sizes = {split: sum(_size(path) for path, _ in images) for split, (images, _) in listed.items()}
        free = None if buckets.is_bucket(folder) else shutil.disk_usage(folder).free
        if free is not None and sum(sizes.values()) > free:
            raise OSError(errno.ENOSPC, f"the images take {sum(sizes.values()):,} bytes, and {free:,} are free")
        for split, (images, bad) in listed.items():
            count, streams = layout(len(images), sizes[split], num_shards, num_streams)
            shards, converted = _write_split(folder, split, images, count, seed, bad)
            num_examples = sum(shard["examples"] for shard in shards)
            manifest["splits"][split] = {"num_examples": num_examples, "streams": streams, "converted": converted}
            manifest["splits"][split] |= {"skipped": bad.skipped, "shards": shards}
        write_manifest(folder, manifest)  # last, so that a bucket has all that it names
    return manifest


def check_layout(num_shards: int | None, num_streams: int | None) -> None:
    """Raise a ValueError unless these are positive, and the shards can be divided into the streams."""
    if num_shards is not None and num_shards < 1:
        raise ValueError(f"num_shards: must be a positive number of files, got {num_shards}.")
    if num_streams is not None and num_streams < 1:
        raise ValueError(f"num_streams: must be a positive number, got {num_streams}.")
    if num_shards and num_streams and num_shards % num_streams:
        raise ValueError(
            f"num_shards: {num_shards} shards cannot be divided into {num_streams} streams; use a multiple of "
            f"{num_streams}, or leave --num_shards out."
        )


def layout(num_images: int, num_bytes: int, num_shards: int | None, num_streams: int | None) -> tuple[int, int]:
    """Return the numbers of shards and streams of a split; the arguments are of `write_records`.

    Example:
        >>> layout(1_281_167, 144 * 10**9, None, None), layout(1_437, 10**6, None, None), layout(50_000, 10**9, 8, 4)
        ((1088, 64), (1, 1), (8, 4))
    """
    streams = num_streams or (STREAMS if num_images >= STREAMS * 1000 else 1)
    streams = streams if num_images >= streams else 1
    shards = num_shards or streams * max(1, round(num_bytes / SHARD_BYTES / streams))
    shards = min(shards, num_images // streams * streams)
    return shards, math.gcd(shards, streams)


def write_manifest(folder: pathlib.Path, manifest: dict[str, Any]) -> None:
    """Write a manifest, the offsets of a shard's blocks on one line."""
    text = json.dumps(manifest, indent=1)
    text = re.sub(r"\[[\d,\s]+\]", lambda numbers: " ".join(numbers[0].split()), text)
    with files.writing(folder / MANIFEST) as file:
        file.write(text + "\n")


def _write_split(
    folder: pathlib.Path, split: str, images: Sequence[File], num_shards: int, seed: int, bad: checking.BadImages
) -> tuple[list[dict[str, Any]], int]:
    """Write the shards of a split; return what the manifest says of each, and how many images became PNG."""
    order = np.random.default_rng(seed).permutation(len(images))
    bounds = [len(images) * i // num_shards for i in range(num_shards + 1)]
    shards, labels, converted = [], set(), 0
    threads = concurrent.futures.ThreadPoolExecutor(checking.num_threads())
    with threads, Progress(f"{split}:", len(images), "images") as progress:
        for k in range(num_shards):
            path = folder / f"{split}-{k:05d}-of-{num_shards:05d}.tfrecord"
            examples, offset, blocks = 0, 0, []
            with files.replacing(path) as written, tf.io.TFRecordWriter(str(written)) as writer:
                for start in range(bounds[k], bounds[k + 1], CHUNK):
                    chunk = [images[i] for i in order[start : min(start + CHUNK, bounds[k + 1])]]
                    # One chunk at a time: `map` submits all it is given, and would hold every image.
                    checked = threads.map(checking.read_for_records, [name for name, _ in chunk])
                    for (name, label), (encoded, is_new, fault) in zip(chunk, checked, strict=True):
                        if fault is not None or encoded is None:
                            bad.add(name, fault or "")
                            continue
                        converted += is_new
                        record = _example(encoded, label, os.path.relpath(name, bad.root))
                        writer.write(record)
                        if examples % BLOCK == 0:
                            blocks.append(offset)
                        examples, offset = examples + 1, offset + len(record) + FRAME
                        labels.add(label)
                    progress.update(len(chunk))
                writer.close()
                facts = {"bytes": buckets.size_of(written), "sha256": sha256(written), "blocks": blocks}
            shards.append({"file": path.name, "examples": examples, **facts})
    checking.check_classes_left(images, [("", label) for label in labels], split)
    return shards, converted


def _example(encoded: bytes, label: int, path: str | os.PathLike[str]) -> bytes:
    feature = {
        "image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[encoded])),
        "image/label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
        "image/path": tf.train.Feature(bytes_list=tf.train.BytesList(value=[os.fsencode(path)])),
    }
    # Maps have no fixed order in bytes unless asked for, and equal folders shall give equal checksums.
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString(deterministic=True)


def _size(path: str | os.PathLike[str]) -> int:  # of a file that may become a record
    size = os.path.getsize(path) if os.path.isfile(path) else 0
    return size if size <= image_limits.MAX_BYTES else 0


def _check_output(output: pathlib.Path, overwrite: bool) -> None:
    """Refuse to write where something is, except that `overwrite` replaces records."""
    if output.exists() and not output.is_dir():
        raise FileExistsError(f"output: {output} is a file; choose another folder.")
    names = sorted(path.name for path in output.iterdir() if path != output) if output.exists() else []
    names = [name for name in names if name != CLAIM]
    if buckets.is_bucket(output) and not any(name != MANIFEST and not name.endswith(".tfrecord") for name in names):
        overwrite |= MANIFEST not in names  # what a killed process left, which no manifest names
    if names and not overwrite:
        raise FileExistsError(f"output: {output} exists; choose another folder, or overwrite to replace records.")
    strange = [name for name in names if name != MANIFEST and not name.endswith(".tfrecord")]
    if names and (strange or (MANIFEST not in names and not buckets.is_bucket(output))):
        raise FileExistsError(
            f"output: {output} holds {(strange or names)[0]!r} and is not a folder of records, so it is not "
            "overwritten; choose another folder."
        )


@contextlib.contextmanager
def _new_folder(output: pathlib.Path, overwrite: bool) -> Iterator[pathlib.Path]:
    """Give a folder beside `output`, locked, that takes its place at the end; after an error it is removed."""
    if buckets.is_bucket(output):
        with _explained(output):
            buckets.make_folder(output)
        with _explained(output), files.lock(output / CLAIM, f"output: another process writes {output}; wait for it."):
            _check_output(output, overwrite)
            before = [path for path in output.iterdir() if path.name.endswith((".tfrecord", MANIFEST))]
            for path in sorted(before, key=lambda path: path.name != MANIFEST):
                path.unlink()
            yield output
        return
    temporary = output.with_name(f".{output.name}.tmp")
    with _explained(output):
        temporary.mkdir(parents=True, exist_ok=True)
        lock = files.lock(temporary, f"output: another process writes {output}; wait, or choose another folder.")
    with _explained(output), lock, files.replacing_folder(output, temporary, MANIFEST) as folder:
        _check_output(output, overwrite)  # again, now that nobody else writes
        yield folder


@contextlib.contextmanager
def _explained(output: pathlib.Path) -> Iterator[None]:
    """Turn what the system says when it cannot write into one sentence."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # a sentence already
            raise
        kind, reason = type(error), error.strerror
    except tf.errors.OpError as error:
        kind, reason = OSError, error.message.rpartition("; ")[2]
    else:
        return
    raise kind(f"output: cannot write {output} ({reason}); nothing was left there, make room or choose another folder.")
