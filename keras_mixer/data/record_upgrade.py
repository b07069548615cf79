"""Give records of version 1 what version 2 has beside them: streams, and the places of their blocks. Shards stay."""

import hashlib
import math
import os
import pathlib
import struct
from typing import Any

from keras_mixer import buckets
from keras_mixer.data.progress import Progress
from keras_mixer.data.record_layout import FRAME, check_layout, streams_of
from keras_mixer.data.record_writing import write_manifest
from keras_mixer.data.records import VERSION, read_manifest
from keras_mixer.data.streams import BLOCK


def upgrade_records(path: str | os.PathLike[str], num_streams: int | None = None) -> dict[str, Any]:
    """Read every shard of a folder of records once, compare it with the manifest, and write a new manifest.

    The order in which records are read in training becomes another, so a run that was begun before does not go on with
    them. After an error the former manifest is there.

    Args:
        path: the folder.
        num_streams: a divisor of the number of shards of each split; None takes one of 64, as large as may be, for a
            split of 64,000 images or more, and else 1.

    Returns:
        The manifest; as it is where it was of this version already.

    Raises:
        ValueError: for a damaged shard or manifest, or a number of streams that divides no split.
    """
    path = buckets.path_of(path, "dataset")
    manifest = read_manifest(path)
    if manifest["version"] == VERSION:
        return manifest
    for split in manifest["splits"].values():
        check_layout(len(split["shards"]), num_streams)
        split["streams"] = math.gcd(len(split["shards"]), streams_of(split["num_examples"], num_streams))
    shards = [shard for split in manifest["splits"].values() for shard in split["shards"]]
    with Progress("read", len(shards), "shards") as progress:
        for shard in shards:
            shard["blocks"] = _block_offsets(path / shard["file"], shard)
            progress.update()
    manifest["version"] = VERSION
    write_manifest(path, manifest)
    return manifest


def _block_offsets(path: pathlib.Path, promised: dict[str, Any]) -> list[int]:
    digest, offset, examples, blocks = hashlib.sha256(), 0, 0, []
    try:
        with buckets.open_binary(path) as file:
            while header := file.read(12):  # the length, and its checksum
                rest = file.read(struct.unpack("<Q", header[:8])[0] + FRAME - 12)
                digest.update(header + rest)
                blocks += [offset] if examples % BLOCK == 0 else []
                examples, offset = examples + 1, offset + len(header) + len(rest)
    except (OSError, struct.error, OverflowError, MemoryError):
        examples = -1
    if digest.hexdigest() != promised["sha256"] or examples != promised["examples"]:
        raise ValueError(f"dataset: the shard {path} is missing or damaged (sha256); copy or make the records anew.")
    return blocks
