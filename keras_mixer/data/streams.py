"""Records in a reproducible order that can be read by index, and some rows only of each batch of a stream."""

import bisect
from typing import NamedTuple

import numpy as np
import tensorflow as tf

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

    def count(self, stop):
        """Return how many of the first `stop` records of the stream are in these rows.

        Example:
            >>> Rows(batch_size=4, own=(2, 3)).count(11)
            5
        """
        batches, rest = divmod(stop, self.batch_size)
        return batches * len(self.own) + bisect.bisect_left(self.own, rest)

    def positions(self, start, stop=None):
        """Return an int64 dataset of the k of these rows, start <= k < stop; endless without a stop."""
        own = tf.constant(self.own, tf.int64)
        end = ENDLESS // self.batch_size if stop is None else self.count(stop)
        numbers = tf.data.Dataset.range(self.count(start), end)
        return numbers.map(lambda i: i // len(self.own) * self.batch_size + tf.gather(own, i % len(self.own)))

    def filter(self, records, start):
        """Return those of a dataset's records that are in these rows, the first being record `start`."""
        wanted = np.isin(np.arange(self.batch_size), self.own)
        records = records.enumerate(start).filter(lambda k, _: tf.gather(wanted, k % self.batch_size))
        return records.map(lambda _, record: record)


def indexed_records(num_examples, gather):
    """Return `Source.records` for data that can be read by index: fully random, and free to start anywhere.

    Args:
        num_examples: in one pass.
        gather: int64 index () -> record; called for the rows asked for, and for no others.
    """

    def records(seed, start, rows=None):
        stop = num_examples if seed is None else None
        if rows is None:
            positions = tf.data.Dataset.range(start, np.iinfo(np.int64).max if stop is None else stop)
        else:
            positions = rows.positions(start, stop)
        if seed is None:
            return positions.map(gather)

        def shuffled(k):
            epoch, position = k // num_examples, k % num_examples
            key = tf.stack([tf.cast(seed, tf.int64), epoch])
            return gather(tf.random.experimental.index_shuffle(position, key, num_examples - 1))

        return positions.map(shuffled)

    return records
