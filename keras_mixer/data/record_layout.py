"""How records lie in files: the number of shards and streams of a split, and the bytes of one record."""

import math
import os

import tensorflow as tf

SHARD_BYTES = 128 * 2**20  # of a shard where their number is not given
STREAMS = 64  # of a large split: a TPU v3-512 has so many machines
FRAME = 16  # bytes of a record in a file beside its own: its length, and two checksums
MANY = 1000  # images of each stream, so that passes over streams that differ by one image keep together


def check_layout(num_shards: int | None, num_streams: int | None) -> None:
    """Raise a ValueError unless these are positive, and the shards can be divided into the streams."""
    if num_shards is not None and num_shards < 1:
        raise ValueError(f"num_shards: must be a positive number of files, got {num_shards}.")
    if num_streams is not None and num_streams < 1:
        raise ValueError(f"num_streams: must be a positive number, got {num_streams}.")
    if num_shards and num_streams and num_shards % num_streams:
        raise ValueError(
            f"num_shards: {num_shards} shards cannot be divided into {num_streams} streams; use a multiple of "
            f"{num_streams}."
        )


def streams_of(num_images: int, num_streams: int | None = None) -> int:
    """Return the number of streams of a split of so many images where `num_streams` is asked for."""
    streams = num_streams or (STREAMS if num_images >= STREAMS * MANY else 1)
    return streams if num_images >= streams else 1


def layout(num_images: int, num_bytes: int, num_shards: int | None, num_streams: int | None) -> tuple[int, int]:
    """Return the numbers of shards and of streams of a split.

    Args:
        num_images, num_bytes: of the split.
        num_shards, num_streams: as `record_writing.write_records` takes them.

    Example:
        >>> layout(1_281_167, 144 * 10**9, None, None), layout(1_437, 10**6, None, None), layout(50_000, 10**9, 8, 4)
        ((1088, 64), (1, 1), (8, 4))
    """
    streams = streams_of(num_images, num_streams)
    shards = num_shards or streams * max(1, round(num_bytes / SHARD_BYTES / streams))
    shards = min(shards, num_images // streams * streams)
    return shards, math.gcd(shards, streams)


def example_of(encoded: bytes, label: int, path: str | os.PathLike[str]) -> bytes:
    """Return a record: the bytes of its image, its label, and its path below the folder of images."""
    feature = {
        "image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[encoded])),
        "image/label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
        "image/path": tf.train.Feature(bytes_list=tf.train.BytesList(value=[os.fsencode(path)])),
    }
    # Maps have no fixed order in bytes unless asked for, and equal folders shall give equal checksums.
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString(deterministic=True)
