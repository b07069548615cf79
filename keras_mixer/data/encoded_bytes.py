"""Reading numbers out of the bytes of a file, () string, in TensorFlow."""

import tensorflow as tf


def num_bytes(encoded: tf.Tensor) -> tf.Tensor:
    """Return the length of a string in bytes, () int64."""
    return tf.cast(tf.strings.length(encoded), tf.int64)


def byte_values(encoded: tf.Tensor, start: int | tf.Tensor, count: int) -> tf.Tensor:
    """Return `count` bytes of a string from `start` on, (count,) int64, zeros beyond its end."""
    start = tf.clip_by_value(tf.cast(start, tf.int64), 0, num_bytes(encoded))  # `substr` refuses others
    some = tf.strings.substr(encoded, start, tf.constant(count, tf.int64))
    return tf.ensure_shape(tf.cast(tf.io.decode_raw(some, tf.uint8, fixed_length=count), tf.int64), [count])


def little_endian(values: tf.Tensor) -> tf.Tensor:
    """Return the number in (..., length) int64 bytes, of which the first weighs least."""
    return tf.reduce_sum(values * [256**i for i in range(values.shape[-1])], axis=-1)


def big_endian(values: tf.Tensor) -> tf.Tensor:
    """Return the number in (..., length) int64 bytes, of which the last weighs least."""
    return little_endian(values[..., ::-1])
