"""Reading records that lie in streams: a machine reads the files of its share, from any step on, in a seeded order.

The shards of a split are divided, in their order, into streams of about equally many records; a stream is cut into
blocks of `BLOCK` records whose places in the files are known. In training the rows of a batch are divided among the
streams in the same way, whatever the number of machines: a machine that makes some rows opens the files of their
streams, and no others. A pass over a stream permutes its blocks and shuffles the records of a few of them at a time.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import tensorflow as tf

from keras_mixer.data.source import ENDLESS, Records, Rows

BLOCK = 16  # records that are read together; a start in the middle reads at most so many that it does not use
SHUFFLED = 4096  # records of all streams that are held to be shuffled, at least 4 blocks of each
READS = 16  # blocks of a stream that are read at the same time
ReadBlocks: TypeAlias = Callable[[tf.data.Dataset, int], tf.data.Dataset]


class Blocks(NamedTuple):
    """Consecutive records of shards, and which streams they are in; each array has one entry for each block.

    Attributes:
        paths: of the shards.
        shard: place in `paths`.
        offset: bytes in the shard before the block.
        size: bytes of the block.
        skip: records of the block before the first that is wanted.
        take: records that are wanted, at least 1.
        first: blocks before each stream, and at the end all of them: (streams + 1,).
    """

    paths: tuple[str, ...]
    shard: np.ndarray
    offset: np.ndarray
    size: np.ndarray
    skip: np.ndarray
    take: np.ndarray
    first: np.ndarray


def sizes_before(sizes: np.ndarray, num: int) -> np.ndarray:
    """Return how many of each stream's records are among the first `num`, when one is taken from each in turn.

    Example:
        >>> sizes_before(np.array([4, 1, 3]), 6).tolist()
        [3, 1, 2]
    """
    low, high = 0, int(sizes.max(initial=0))
    while low < high:  # the largest number of whole turns
        middle = (low + high + 1) // 2
        low, high = (middle, high) if np.minimum(sizes, middle).sum() <= num else (low, middle - 1)
    taken = np.minimum(sizes, low)
    more = np.flatnonzero(sizes > low)[: num - int(taken.sum())]
    taken[more] += 1
    return taken


def select_blocks(
    paths: Sequence[str], shards: Sequence[dict[str, Any]], num_streams: int, start: int, stop: int
) -> Blocks:
    """Return the blocks of the records from `start` to `stop` of a split, counted as `sizes_before` does.

    Args:
        paths: of the shards.
        shards: what the manifest says of them: `examples`, `bytes` and `blocks`, the offset of each block.
        num_streams: into which the shards are divided.
        start, stop: the records wanted. So train[:99%] leaves out a hundredth of each stream.
    """
    per_stream = len(shards) // num_streams
    numbers = [len(shard["blocks"]) for shard in shards]
    shard = np.repeat(np.arange(len(shards)), numbers)
    offset = np.concatenate([np.array(s["blocks"], np.int64) for s in shards])
    ends = [np.array([*s["blocks"][1:], s["bytes"]][: len(s["blocks"])], np.int64) for s in shards]
    counts = [np.minimum(BLOCK, s["examples"] - BLOCK * np.arange(n)) for s, n in zip(shards, numbers, strict=True)]
    size, count = np.concatenate(ends) - offset, np.concatenate(counts)
    # Of each block: its stream, and the records of the stream before it.
    stream = shard // per_stream
    sizes = np.bincount(stream, count, num_streams).astype(np.int64)
    before = np.cumsum(count) - count - (np.cumsum(sizes) - sizes)[stream]
    low, high = sizes_before(sizes, start)[stream], sizes_before(sizes, stop)[stream]
    skip = np.clip(low - before, 0, count)
    count = np.clip(high - before, 0, count) - skip
    kept = count > 0
    first = np.searchsorted(stream[kept], np.arange(num_streams + 1))
    if (np.diff(first) == 0).any():  # so few records that some streams have none
        first = first[[0, -1]]
    return Blocks(tuple(paths), shard[kept], offset[kept], size[kept], skip[kept], count[kept], first)


def stream_records(blocks: Blocks) -> Records:
    """Return `Source.records` of some blocks.

    A pass in order follows the files, and the rows of a part are read where they lie. In a shuffled one the k-th record
    depends on the seed and the batch size; without rows it is that of a batch of one record from each stream. A shard
    with fewer records than promised is an error, never a shorter pass.
    """
    read = _block_reader(blocks)

    def records(seed: int | None, start: int, rows: Rows | None = None) -> tf.data.Dataset:
        if seed is None:
            return _in_order(blocks, read, start, rows)
        return _shuffled(blocks, read, seed, start, rows or Rows.whole(len(blocks.first) - 1))

    return records


def _block_reader(blocks: Blocks) -> ReadBlocks:
    """Return a function that reads blocks by their numbers, one after the other, several of them ahead."""
    paths = tf.constant(blocks.paths)
    shard, offset, size, skip, take = (tf.constant(array, tf.int64) for array in blocks[1:6])

    def read(block: tf.Tensor) -> tf.data.Dataset:
        raw = tf.raw_ops.TFRecordDatasetV2(
            filenames=[tf.gather(paths, tf.gather(shard, block))],
            compression_type="",
            buffer_size=tf.gather(size, block),  # so that nothing behind the block is read
            byte_offsets=[tf.gather(offset, block)],
        )
        data = tf.data.experimental.from_variant(raw, tf.TensorSpec([], tf.string))
        wanted = tf.gather(take, block)
        data = data.skip(tf.gather(skip, block)).take(wanted)
        return data.apply(tf.data.experimental.assert_cardinality(wanted))

    # A block is at most as long as what is taken from it in turn, so blocks come whole and in order.
    return lambda numbers, ahead: numbers.interleave(read, ahead, BLOCK, num_parallel_calls=ahead, deterministic=True)


def _in_order(blocks: Blocks, read: ReadBlocks, start: int, rows: Rows | None) -> tf.data.Dataset:
    num_examples = int(blocks.take.sum())
    bounds = tf.constant(np.concatenate([[0], np.cumsum(blocks.take)]), tf.int64)  # of the blocks

    def between(first: tf.Tensor, number: tf.Tensor) -> tf.data.Dataset:
        """Read `number` records from record `first` on."""
        ends = tf.stack([first, first + number - 1])
        block, last = tf.unstack(tf.searchsorted(bounds, ends, side="right", out_type=tf.int64) - 1)
        data = read(tf.data.Dataset.range(block, last + 1), READS)
        return data.skip(first - tf.gather(bounds, block)).take(number)

    if start >= num_examples:
        return read(tf.data.Dataset.range(0), READS)
    if rows is None or rows.are_all:
        return between(tf.constant(start, tf.int64), tf.constant(num_examples - start, tf.int64))
    if not rows.are_neighbours:
        return rows.filter(_in_order(blocks, read, start, None), start)
    number, stop = tf.constant(len(rows.own), tf.int64), tf.constant(num_examples, tf.int64)
    batches = tf.data.Dataset.range(start // rows.batch_size, -(-num_examples // rows.batch_size))
    firsts = batches.map(lambda batch: batch * rows.batch_size + rows.own[0]).filter(lambda first: first < stop)
    data = firsts.flat_map(lambda first: between(first, tf.minimum(number, stop - first)))
    return data.skip(rows.count(start % rows.batch_size))


def _shuffled(blocks: Blocks, read: ReadBlocks, seed: int, start: int, rows: Rows) -> tf.data.Dataset:
    num_streams = len(blocks.first) - 1
    num_groups = math.gcd(rows.batch_size, num_streams)  # of neighbouring rows, and of the streams that they come from
    num_rows, per_group = rows.batch_size // num_groups, num_streams // num_groups
    step, rest = divmod(start, rows.batch_size)
    before = step * num_rows  # records that each group has given; its streams give them in turn
    groups = sorted({row // num_rows for row in rows.own})
    turns = [(before + i) % per_group for i in range(per_group)]
    streams = [[group * per_group + turn for turn in turns] for group in groups]
    given = [(before - turn + per_group - 1) // per_group for turn in turns]  # by each stream of a group
    begins = [[_find(blocks, seed, *of) for of in zip(group, given, strict=True)] for group in streams]
    read_stream = _stream_reader(blocks, read, seed)

    def read_group(streams: tf.Tensor, begins: tf.Tensor) -> tf.data.Dataset:
        return tf.data.Dataset.from_tensor_slices((streams, begins)).interleave(read_stream, per_group, 1)

    data = tf.data.Dataset.from_tensor_slices((np.array(streams, np.int64), np.array(begins, np.int64)))
    data = data.interleave(read_group, len(groups), num_rows)
    made = [group * num_rows + i for group in groups for i in range(num_rows)]  # rows that the groups give
    wanted = Rows(len(made), tuple(np.flatnonzero(np.isin(made, rows.own)).tolist()))
    return wanted.filter(data, 0).skip(rows.count(rest))


def _stream_reader(blocks: Blocks, read: ReadBlocks, seed: int) -> Callable[[tf.Tensor, tf.Tensor], tf.data.Dataset]:
    """Return a function of a stream and of what `_find` returned for it, which reads it on without end."""
    at_once, firsts, numbers = _window(blocks), tf.constant(blocks.first[:-1]), tf.constant(np.diff(blocks.first))

    @tf.autograph.experimental.do_not_convert  # nothing to convert, and looking for it takes seconds
    def read_stream(stream: tf.Tensor, begin: tf.Tensor) -> tf.data.Dataset:
        first, number = tf.gather(firsts, stream), tf.gather(numbers, stream)

        def read_pass(epoch: tf.Tensor) -> tf.data.Dataset:
            key = _pass_key(seed, epoch, stream)

            def read_window(i: tf.Tensor) -> tf.data.Dataset:
                places = tf.data.Dataset.range(i * at_once, tf.minimum((i + 1) * at_once, number))
                data = read(places.map(lambda place: first + _permuted(place, key, number)), min(at_once, READS))
                again = tf.random.experimental.stateless_fold_in(key, i)
                shuffle = lambda window: tf.random.experimental.stateless_shuffle(window, again)
                return data.batch(at_once * BLOCK).map(shuffle)

            start = tf.where(epoch == begin[0], begin[1], 0)
            return tf.data.Dataset.range(start, -(-number // at_once)).flat_map(read_window)

        windows = tf.data.Dataset.range(begin[0], ENDLESS).flat_map(read_pass).prefetch(1)
        return windows.flat_map(tf.data.Dataset.from_tensor_slices).skip(begin[2])

    return read_stream


def _find(blocks: Blocks, seed: int, stream: int, position: int) -> tuple[int, int, int]:
    """Return the pass, the window in it, and the records to skip there, of a record of a stream."""
    take, at_once = blocks.take[blocks.first[stream] : blocks.first[stream + 1]], _window(blocks)
    epoch, position = divmod(position, int(take.sum()))
    order = _order_of_pass(*(tf.constant(number, tf.int64) for number in (seed, epoch, stream, len(take))))
    ends = np.cumsum(np.add.reduceat(take[order], np.arange(0, len(take), at_once)))
    window = int(np.searchsorted(ends, position, side="right"))
    return epoch, window, position - (int(ends[window - 1]) if window else 0)


@tf.function(autograph=False)  # by itself each operation may run on a host of a TPU, which does not tell shapes in time
def _order_of_pass(seed: tf.Tensor, epoch: tf.Tensor, stream: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
    return _permuted(tf.range(number), _pass_key(seed, epoch, stream), number)


def _window(blocks: Blocks) -> int:
    """Return how many blocks of a stream are shuffled together."""
    return max(4, SHUFFLED // BLOCK // (len(blocks.first) - 1))


def _pass_key(seed: int | tf.Tensor, epoch: tf.Tensor, stream: tf.Tensor) -> tf.Tensor:
    return tf.random.experimental.stateless_fold_in(tf.stack([tf.cast(seed, tf.int64), epoch]), stream)


def _permuted(places: tf.Tensor, key: tf.Tensor, number: tf.Tensor) -> tf.Tensor:
    """Return which of a stream's blocks are at these places of a pass."""
    return tf.random.experimental.index_shuffle(places, key, number - 1)
