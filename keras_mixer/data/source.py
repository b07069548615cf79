"""Labelled images in a reproducible order, whatever they come from.

Record k of a shuffled stream is a pure function of (seed, k), so a run that restarts at step t sees the very examples
that it would have seen.
"""

import dataclasses
import os
from collections.abc import Callable

import tensorflow as tf

from keras_mixer.data.streams import Record, Records


@dataclasses.dataclass(frozen=True)
class Source:
    """Labelled images in a reproducible order.

    Attributes:
        name: as the user gave it, with the split.
        num_examples: in one pass.
        class_names: label i is class_names[i].
        photographs: True where inception crops and horizontal flips keep the meaning of an image.
        records: (seed, start, rows=None) -> tf.data.Dataset of raw records; one pass in order from record `start` for
            seed None, else endless, each pass shuffled anew; only those in `streams.Rows` where given.
        parse: record -> (image, label), the image either encoded bytes () or pixels (H, W, 1 or 3) uint8.
        find_unreadable: names the first file, or shard and record, that cannot be read or decoded, or returns None;
            itself None if the source has no files.
        fingerprint: sha256 of the names and labels of a folder's files; other files are another run.
        loose_files: True where the images are files of a folder: of any kind that Pillow reads, and to be left out one
            by one. Else they are JPEG, PNG or what else TensorFlow decodes without Python.
    """

    name: str
    num_examples: int
    class_names: tuple[str, ...]
    photographs: bool
    records: Records
    parse: Callable[[Record], tuple[tf.Tensor, tf.Tensor]]
    find_unreadable: Callable[[], str | None] | None = None
    fingerprint: str = ""
    loose_files: bool = False


def check_paths(**paths: str | os.PathLike[str] | None) -> None:
    """Raise a ValueError where a path holds a null byte, which no file system takes; None is no path."""
    for name, path in paths.items():
        if path is not None and "\0" in os.fspath(path):
            raise ValueError(f"{name}: {os.fspath(path)!r} has a null byte, which no path can have; remove it.")
