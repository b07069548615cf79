"""Sharded TFRecords of images with a manifest of counts and checksums; and reading any TFRecord shards in order.

A folder of records has a manifest.json and shards such as train-00000-of-00016.tfrecord. A record is a tf.train.Example
of image/encoded (the bytes of a JPEG or PNG), image/label (int64) and image/path. `record_writing` makes them.
"""

import concurrent.futures
import hashlib
import itertools
import json
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_mixer import buckets
from keras_mixer.data import decode
from keras_mixer.data.progress import Progress
from keras_mixer.data.source import Record, Records, Rows, Source
from keras_mixer.data.splits import default_split, select
from keras_mixer.data.streams import BLOCK, select_blocks, stream_records

MANIFEST = "manifest.json"  # tells a folder of records from one of images
FORMAT, VERSION = "keras_mixer records", 2  # of version 1 there are neither streams nor the places of blocks
SHUFFLE_WINDOW = 4096  # records; TFRecord cannot be read by index
FEATURES = {"image/encoded": tf.io.FixedLenFeature([], tf.string), "image/label": tf.io.FixedLenFeature([], tf.int64)}


class Shard(NamedTuple):
    """The part of a TFRecord file to read: `take` records after the first `skip`."""

    path: str
    skip: int
    take: int


def open_records(path: str | os.PathLike[str], split: str | None = None, training: bool = False) -> Source:
    """Return the `source.Source` of a folder of records; split and training are those of `opening.open_source`.

    Raises:
        ValueError: for a manifest that is damaged or of another format, a shard that is missing or has not the
            promised number of bytes, or an unknown split.

    Example:
        >>> open_records("runs/digits_records", "train[:99%]").num_examples  # doctest: +SKIP
        1423
    """
    path = buckets.path_of(path, "dataset")
    manifest = read_manifest(path)
    splits = {name: value["num_examples"] for name, value in manifest["splits"].items()}
    split = split or default_split(list(splits), training, path)
    base, start, stop = select(split, splits, path)
    chosen, shards, first, num_bytes = manifest["splits"][base], [], 0, 0
    with concurrent.futures.ThreadPoolExecutor(32) as threads:  # of a bucket each size is a request
        list(threads.map(lambda s: _check_size(path / s["file"], s["bytes"]), chosen["shards"]))
    for shard in chosen["shards"]:
        skip, end = max(start - first, 0), min(stop - first, shard["examples"])
        if end > skip:
            shards.append(Shard(str(path / shard["file"]), skip, end - skip))
            num_bytes += shard["bytes"] * (end - skip) // shard["examples"]
        first += shard["examples"]
    records, fingerprint = sequential_records(shards), ""
    if manifest["version"] > 1 and shards:
        paths = [str(path / shard["file"]) for shard in chosen["shards"]]
        blocks = select_blocks(paths, chosen["shards"], chosen["streams"], start, stop)
        records, fingerprint = stream_records(blocks), _fingerprint(chosen)

    def parse(record: Record) -> tuple[tf.Tensor, tf.Tensor]:
        example = tf.io.parse_single_example(record, FEATURES)
        return example["image/encoded"], example["image/label"]

    return Source(
        name=f"{path} {split}",
        num_examples=sum(shard.take for shard in shards),
        class_names=tuple(manifest["class_names"]),
        photographs=manifest["photographs"],
        records=records,
        parse=parse,
        find_unreadable=lambda: find_unreadable(shards, parse),
        fingerprint=fingerprint,
        num_bytes=lambda: num_bytes,
    )


def verify_records(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read every shard of a folder of records and compare it with the manifest, showing the progress.

    Returns:
        The manifest.

    Raises:
        ValueError: naming each shard that is missing, or whose size or sha256 is another.
    """
    path = buckets.path_of(path, "dataset")
    manifest = read_manifest(path)
    shards = [shard for split in manifest["splits"].values() for shard in split["shards"]]
    wrong = []
    with Progress("verified", len(shards), "shards") as progress:
        for shard in shards:
            _check_size(path / shard["file"], shard["bytes"])
            if sha256(path / shard["file"]) != shard["sha256"]:
                wrong.append(shard["file"])
            progress.update()
    if wrong:
        raise ValueError(
            f"dataset: {path} has other bytes than its manifest promises in {', '.join(wrong)} (sha256); copy or make "
            "the records anew."
        )
    return manifest


def read_manifest(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the checked manifest.json of a folder of records, or raise a ValueError naming what is wrong."""
    file = buckets.path_of(path, "dataset") / MANIFEST
    try:
        with buckets.as_os_errors():
            manifest = json.loads(file.read_bytes())
    except FileNotFoundError:
        raise ValueError(f"dataset: {path} is not a folder of records, it has no {MANIFEST}.") from None
    except ValueError:
        raise ValueError(f"dataset: {file} is damaged, it is not JSON; copy or make the records anew.") from None
    if (
        not isinstance(manifest, dict)
        or manifest.get("format") != FORMAT
        or manifest.get("version") not in (1, VERSION)
    ):
        raise ValueError(
            f"dataset: {file} is not the manifest of {FORMAT}, version 1 or {VERSION}; make the records with "
            "recipes/make_records.py, or remove the file from a folder of images."
        )
    try:
        fault = _manifest_fault(manifest)
    except (KeyError, TypeError, AttributeError) as error:
        fault = f"a value is missing or of another kind: {error}"
    if fault:
        raise ValueError(f"dataset: {file} is damaged ({fault}); copy or make the records anew.")
    return manifest


def _manifest_fault(manifest: dict[str, Any]) -> str | None:
    names = manifest["class_names"]
    if not names or not all(isinstance(name, str) for name in names) or not isinstance(manifest["photographs"], bool):
        return "class_names must be names, and photographs true or false"
    for name, split in manifest["splits"].items():
        for shard in split["shards"]:
            if pathlib.PurePath(shard["file"]).name != shard["file"]:
                return f"{shard['file']!r} is not a file of this folder"
            if not all(isinstance(shard[key], int) and shard[key] >= 0 for key in ("examples", "bytes")):
                return f"examples and bytes of {shard['file']} must be counts"
            if not isinstance(shard["sha256"], str):
                return f"{shard['file']} has no sha256"
        if manifest["version"] > 1 and (fault := _blocks_fault(split)):
            return f"split {name}: {fault}"
        total = sum(shard["examples"] for shard in split["shards"])
        if split["num_examples"] != total:
            return f"split {name} promises {split['num_examples']} examples, and its shards {total}"
    return None


def _blocks_fault(split: dict[str, Any]) -> str | None:
    if not isinstance(split["streams"], int) or split["streams"] < 1 or len(split["shards"]) % split["streams"]:
        return f"{len(split['shards'])} shards are not divided into {split['streams']!r} streams"
    for shard in split["shards"]:
        offsets = [*shard["blocks"], shard["bytes"]]
        ascending = all(isinstance(a, int) and a < b for a, b in itertools.pairwise(offsets)) and offsets[0] == 0
        if len(offsets) - 1 != -(-shard["examples"] // BLOCK) or not (ascending or not shard["examples"]):
            return f"blocks of {shard['file']} must be the offset of each {BLOCK}th record"
    return None


def _fingerprint(split: dict[str, Any]) -> str:
    """Return a key of the content of a split and of the order in which it is read."""
    content = [split["streams"], *(shard["sha256"] for shard in split["shards"])]
    return hashlib.sha256(repr(content).encode()).hexdigest()


def _check_size(path: pathlib.Path, expected: int) -> None:
    if not path.is_file():
        raise ValueError(f"dataset: the shard {path} is missing; copy or make the records anew.")
    size = buckets.size_of(path)
    if size != expected:
        what = "truncated" if size < expected else "longer than it should be"
        raise ValueError(
            f"dataset: the shard {path} is {what}, {size:,} bytes where the manifest promises {expected:,}; copy or "
            "make the records anew."
        )


def sequential_records(shards: Sequence[Shard]) -> Records:
    """Return `Source.records` for a list of `Shard`: each pass permutes them and shuffles windows of raw records.

    A start skips raw records, undecoded, and so do `Rows`. A shard with fewer records than promised is an
    error, never a shorter pass.
    """
    names = [str(shard.path) for shard in shards]
    skips, takes = (np.array([shard[i] for shard in shards], np.int64) for i in (1, 2))
    compression = "GZIP" if names and names[0].endswith(".gz") else ""
    num_examples = int(takes.sum())

    def read(i: tf.Tensor) -> tf.data.Dataset:
        data = tf.data.TFRecordDataset(tf.gather(names, i), compression)
        promised = tf.gather(takes, i)
        return data.skip(tf.gather(skips, i)).take(promised).apply(tf.data.experimental.assert_cardinality(promised))

    def one_pass(seed: int, epoch: tf.Tensor) -> tf.data.Dataset:
        key = tf.stack([tf.cast(seed, tf.int64), epoch])
        order = tf.data.Dataset.range(len(names)).map(
            lambda i: tf.random.experimental.index_shuffle(i, key, max(len(names) - 1, 0))
        )
        records = order.interleave(read, cycle_length=16, num_parallel_calls=16, deterministic=True)
        # `Dataset.shuffle` takes no seed that depends on the epoch, so whole windows are shuffled, one read ahead.
        windows = records.batch(min(num_examples, SHUFFLE_WINDOW)).prefetch(1).enumerate()
        return windows.flat_map(lambda i, window: tf.data.Dataset.from_tensor_slices(_shuffled(window, key, i)))

    def records(seed: int | None, start: int, rows: Rows | None = None) -> tf.data.Dataset:
        if seed is None:
            data = tf.data.Dataset.range(len(names)).flat_map(read).skip(start)
        else:
            epochs = tf.data.Dataset.range(start // num_examples, np.iinfo(np.int64).max)
            data = epochs.flat_map(lambda epoch: one_pass(seed, epoch)).skip(start % num_examples)
        return rows.filter(data, start) if rows else data

    return records


def _shuffled(window: tf.Tensor, key: tf.Tensor, i: tf.Tensor) -> tf.Tensor:
    seed = tf.random.experimental.stateless_fold_in(tf.cast(key, tf.int64), i)
    return tf.random.experimental.stateless_shuffle(window, seed)


def find_unreadable(shards: Sequence[Shard], parse: Callable[[Record], tuple[tf.Tensor, tf.Tensor]]) -> str | None:
    """Return "<shard> record <i>", counted from 0, for the first that is missing, damaged or no image, or None."""

    def check(record: Record) -> tf.Tensor:
        image, _ = parse(record)
        return tf.shape(decode.decode_image(image, python=False) if image.dtype == tf.string else image)[0]

    for shard in shards:
        if not tf.io.gfile.exists(shard.path):
            return f"{shard.path} record {shard.skip} (the file is missing)"
        compression = "GZIP" if str(shard.path).endswith(".gz") else ""
        found = 0
        try:
            data = tf.data.TFRecordDataset(str(shard.path), compression).take(shard.skip + shard.take)
            for _ in data.skip(shard.skip).map(check, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True):
                found += 1
        except tf.errors.OpError as error:
            if not isinstance(error, tf.errors.DataLossError) or found:
                return f"{shard.path} record {shard.skip + found}"
            return f"{shard.path} record {_first_damaged(shard, compression)}"  # it may be among those skipped
        if found < shard.take:
            return f"{shard.path} record {shard.skip + found} (the file ends before it)"
    return None


def _first_damaged(shard: Shard, compression: str) -> int:
    readable = 0
    try:
        for _ in tf.data.TFRecordDataset(str(shard.path), compression):
            readable += 1
    except tf.errors.OpError:
        pass
    return readable


def sha256(path: str | os.PathLike[str]) -> str:
    """Return the hexadecimal sha256 of a file."""
    with buckets.open_binary(buckets.path_of(path)) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
