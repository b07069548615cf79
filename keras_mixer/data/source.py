"""Labelled images in a reproducible order, whatever they come from; by index, or some rows only of each batch.

Record k of a shuffled stream is a pure function of (seed, k), so a run that restarts at step t sees the very examples
that it would have seen.
"""

import bisect
import dataclasses
import os
from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
import tensorflow as tf

Record: TypeAlias = tf.Tensor | dict[str, tf.Tensor]  # as it is stored: its bytes (), or its values by name
ENDLESS = 2**62  # int64 positions, so that sums and products of them do not overflow


class Rows(NamedTuple):
    """The rows to read of each batch of a stream, so that several machines share the work on one batch.

    Record k of the stream is row k % batch_size of its batch.

    Attributes:
        batch_size: records in the whole batch.
        own: the rows, ascending.
    """

    batch_size: int
    own: tuple[int, ...]

    @classmethod
    def whole(cls, batch_size: int) -> "Rows":
        """Return all rows of a batch."""
        return cls(batch_size, tuple(range(batch_size)))

    @property
    def are_all(self) -> bool:
        """Whether these are all rows of the batch."""
        return len(self.own) == self.batch_size

    @property
    def are_neighbours(self) -> bool:
        """Whether each row follows the one before."""
        return self.own[-1] - self.own[0] == len(self.own) - 1

    def count(self, stop: int) -> int:
        """Return how many of the first `stop` records of the stream are in these rows.

        Example:
            >>> Rows(batch_size=4, own=(2, 3)).count(11)
            5
        """
        batches, rest = divmod(stop, self.batch_size)
        return batches * len(self.own) + bisect.bisect_left(self.own, rest)

    def positions(self, start: int, stop: int | None = None) -> tf.data.Dataset:
        """Return an int64 dataset of the k of these rows, start <= k < stop; endless without a stop."""
        if self.are_all:
            return tf.data.Dataset.range(start, ENDLESS if stop is None else stop)
        own = tf.constant(self.own, tf.int64)
        end = ENDLESS // self.batch_size if stop is None else self.count(stop)
        numbers = tf.data.Dataset.range(self.count(start), end)
        return numbers.map(lambda i: i // len(self.own) * self.batch_size + tf.gather(own, i % len(self.own)))

    def filter(self, records: tf.data.Dataset, start: int) -> tf.data.Dataset:
        """Return those of a dataset's records that are in these rows, the first being record `start`."""
        if self.are_all:
            return records
        wanted = np.isin(np.arange(self.batch_size), self.own)
        records = records.enumerate(start).filter(lambda k, _: tf.gather(wanted, k % self.batch_size))
        return records.map(lambda _, record: record)


class Records(Protocol):
    """A stream of raw records from record `start` on: see `Source`."""

    def __call__(self, seed: int | None, start: int, rows: Rows | None = None) -> tf.data.Dataset: ...


@dataclasses.dataclass(frozen=True)
class Source:
    """Labelled images in a reproducible order.

    Attributes:
        name: as the user gave it, with the split.
        num_examples: in one pass.
        class_names: label i is class_names[i].
        photographs: True where inception crops and horizontal flips keep the meaning of an image.
        records: (seed, start, rows=None) -> tf.data.Dataset of raw records; one pass in order from record `start` for
            seed None, else endless, each pass shuffled anew; only those in `Rows` where given.
        parse: record -> (image, label), the image either encoded bytes () or pixels (H, W, 1 or 3) uint8.
        find_unreadable: names the first file, or shard and record, that cannot be read or decoded, or returns None;
            itself None if the source has no files.
        fingerprint: sha256 of the names and labels of a folder's files; other files are another run.
        loose_files: True where the images are files of a folder: of any kind that Pillow reads, and to be left out one
            by one. Else they are JPEG, PNG or what else TensorFlow decodes without Python.
        num_bytes: returns the bytes of the files that one pass reads; itself None where that is not known.
        left_out: a sentence for each kind of file that a folder has and that is no part of the source, and why.
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
    num_bytes: Callable[[], int] | None = None
    left_out: tuple[str, ...] = ()


def indexed_records(num_examples: int, gather: Callable[[tf.Tensor], Record]) -> Records:
    """Return `Source.records` for data that can be read by index: fully random, and free to start anywhere.

    `gather` makes a record of its int64 index (); it is called for the rows asked for, and for no others.
    """

    def records(seed: int | None, start: int, rows: Rows | None = None) -> tf.data.Dataset:
        stop = num_examples if seed is None else None
        positions = (rows or Rows.whole(1)).positions(start, stop)
        if seed is None:
            return positions.map(gather)

        def shuffled(k: tf.Tensor) -> Record:
            epoch, position = k // num_examples, k % num_examples
            key = tf.stack([tf.cast(seed, tf.int64), epoch])
            return gather(tf.random.experimental.index_shuffle(position, key, num_examples - 1))

        return positions.map(shuffled)

    return records


def part_rows(batch_size: int, part: tuple[int, int], with_neighbour: bool = False) -> tuple[Rows, int]:
    """Return the `Rows` that a part reads of each batch, and how many come before the neighbour, where it is the last.

    The neighbour is the row before the part. That of row 0 is the last one of the batch, which the stream gives last; a
    whole batch has it among its own.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size: must be a positive number of images, got {batch_size}.")
    pair = isinstance(part, tuple | list) and len(part) == 2 and all(isinstance(p, int) for p in part)
    if not pair or not 0 <= part[0] < part[1]:
        raise ValueError(f"part: must be (index, count), whole numbers with 0 <= index < count, got {part!r}.")
    index, count = part
    if batch_size % count:
        raise ValueError(
            f"batch_size: {batch_size} images cannot be shared evenly by a count of {count} parts; use a multiple of "
            f"{count} for --batch_size."
        )
    if count == 1:
        return Rows.whole(batch_size), batch_size if with_neighbour else 0
    first = index * batch_size // count
    own = tuple(range(first, first + batch_size // count))
    if not with_neighbour:
        return Rows(batch_size, own), 0
    if first:
        return Rows(batch_size, (first - 1, *own)), 0
    return Rows(batch_size, (*own, batch_size - 1)), len(own)


def check_paths(**paths: str | os.PathLike[str] | None) -> None:
    """Raise a ValueError where a path holds a null byte, which no file system takes; None is no path."""
    for name, path in paths.items():
        if path is not None and "\0" in os.fspath(path):
            raise ValueError(f"{name}: {os.fspath(path)!r} has a null byte, which no path can have; remove it.")
