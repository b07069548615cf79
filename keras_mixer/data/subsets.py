"""Some records of a source by their index, all of its labels without decoding an image, and a key of its content."""

import dataclasses
import hashlib
import os
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from keras_mixer.data.source import Record, Rows, Source


def subset(source: Source, indices: Sequence[int] | np.ndarray) -> Source:
    """Return the `Source` of some records, in the order of the source; other images are neither read nor decoded.

    A source that is a stream of shards is still read through, but only these records are kept.

    Raises:
        ValueError: for none, or an index that repeats or that the source has not.

    Example:
        >>> from keras_mixer.data import opening
        >>> digits = opening.open_source("digits", training=False)
        >>> read_labels(subset(digits, [5, 0])).tolist() == read_labels(digits)[[0, 5]].tolist()
        True
    """
    own = sorted(int(i) for i in indices)
    if not own or len(set(own)) != len(own) or own[0] < 0 or own[-1] >= source.num_examples:
        raise ValueError(
            f"indices: must be different numbers from 0 to {source.num_examples - 1}, at least one, got {len(own)} "
            f"numbers{f' from {own[0]} to {own[-1]}' if own else ''}."
        )

    def records(seed: int | None, start: int, rows: Rows | None = None) -> tf.data.Dataset:
        if seed is not None:
            raise ValueError("subset: gives one pass in order, not a shuffled stream; use seed None.")
        wanted = [i for k, i in enumerate(own) if k >= start and (rows is None or k % rows.batch_size in rows.own)]
        if not wanted:
            return source.records(None, 0).take(0)
        return source.records(None, 0, Rows(source.num_examples, tuple(wanted)))

    key = hashlib.sha256(f"{source.fingerprint} {own}".encode()).hexdigest()
    return dataclasses.replace(source, num_examples=len(own), records=records, fingerprint=key)


def read_labels(source: Source) -> np.ndarray:
    """Return the label of every record, in order: (N,) int64. No image is decoded."""
    return np.concatenate([labels.numpy() for labels in source.records(None, 0).map(_label_of(source)).batch(1024)])


def read_paths(source: Source) -> list[str] | None:
    """Return the path of every image of a folder, in order, or None for a source that has no such files."""
    records = source.records(None, 0)
    if not isinstance(records.element_spec, dict) or "path" not in records.element_spec:
        return None
    return [os.fsdecode(path) for record in records.batch(1024) for path in record["path"].numpy()]


def content_key(source: Source) -> str:
    """Return a text that changes with a source's content, as far as can be seen without reading every image.

    It is a sha256 of the name, the counts and class names, the labels where they are known from a folder, and of a
    folder's files also the sizes and times of change; of other sources the first 16 records.
    """
    digest = hashlib.sha256(repr((source.name, source.num_examples, source.class_names, source.fingerprint)).encode())
    paths = read_paths(source)
    if paths is None:
        for record in source.records(None, 0).take(16):
            for value in tf.nest.flatten(record):
                digest.update(value.numpy() if value.dtype == tf.string else value.numpy().tobytes())
    else:
        for path in paths:
            status = os.stat(path)
            digest.update(f"{status.st_size} {status.st_mtime_ns} ".encode())
    return digest.hexdigest()


def _label_of(source: Source) -> Callable[[Record], tf.Tensor]:
    def label(record: Record) -> tf.Tensor:
        if isinstance(record, dict) and "label" in record:
            return tf.cast(record["label"], tf.int64)
        return tf.cast(source.parse(record)[1], tf.int64)

    return label
