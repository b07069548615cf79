"""EXIF orientation in TensorFlow: reading it from the bytes of a JPEG or PNG, and turning an image upright."""

import functools
from collections.abc import Callable

import tensorflow as tf

from keras_mixer.data.image_limits import big_endian, byte_values, little_endian, num_bytes

EXIF = b"Exif\0\0"  # precedes the TIFF structure that holds the orientation
ORIENTATION = 0x0112  # tag
SHORT, LONG = 3, 4  # types of a value
MAX_ENTRIES = 1000  # of a directory; cameras write a few dozen
START, FIRST_SEGMENTS = 4096, 14  # bytes and segments of a JPEG that are looked at before anything else
HEAD = 2**16  # bytes of a JPEG in which "Exif" is looked for
MAX_SEGMENTS = 1000  # before the EXIF block of a JPEG, a byte of garbage counting as one
MAX_CHUNKS = 20_000  # of a PNG
# From where a chunk is, and its first eight bytes, to where the next one is, and whether this one holds EXIF data.
Chunk = Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


def jpeg_orientation(encoded: tf.Tensor) -> tf.Tensor:
    """Return the EXIF orientation of a JPEG, () int32 in 1 ... 8; 1, upright, where it states none."""
    return tf.cond(_states_none(encoded), lambda: tf.constant(1), lambda: _jpeg_orientation(encoded))


def _states_none(encoded: tf.Tensor) -> tf.Tensor:
    """Return whether a JPEG plainly has no EXIF segment, () bool; False also where its first bytes do not tell.

    Looking for "Exif" in all of a file takes a fifth of the time of decoding it. This takes a few small steps, from
    segment to segment, without a loop.
    """
    head = tf.io.decode_raw(tf.strings.substr(encoded, 0, START), tf.uint8, fixed_length=START + 4)  # ends with zeros
    head = tf.ensure_shape(tf.cast(head, tf.int32), [START + 4])
    following = tf.minimum(tf.range(2, START + 3) + 256 * head[2:-1] + head[3:], START)
    places = [tf.constant(2)]
    while len(places) < FIRST_SEGMENTS:
        places.append(tf.gather(following, places[-1]))
    at = tf.stack(places)
    markers = tf.gather(head, at)
    kinds = tf.where(markers == 0xFF, tf.gather(head, at + 1), 0)
    # Of those with a length all but that of EXIF data; others are rare, and left to the walk.
    plain = (kinds >= 0xC0) & (kinds < 0xFF) & (kinds != 0xE1) & ((kinds < 0xD0) | (kinds > 0xD9))
    reached = tf.math.cumprod(tf.cast(plain, tf.int32), exclusive=True)
    return tf.reduce_any((reached == 1) & (kinds == 0xDA))  # pixels follow


def _jpeg_orientation(encoded: tf.Tensor) -> tf.Tensor:
    # Nearly every EXIF block is near the start. Looking for it in megabytes of pixels takes longer than walking there.
    parts = tf.strings.split([tf.strings.substr(encoded, 0, HEAD)], EXIF, maxsplit=1).values
    large = num_bytes(encoded) > HEAD
    return tf.cond(
        (tf.size(parts) > 1) | large,
        lambda: _orientation_of_segments(encoded, parts[0], tf.size(parts) > 1),
        lambda: tf.constant(1),
    )


def png_orientation(encoded: tf.Tensor) -> tf.Tensor:
    """Return the EXIF orientation of a PNG, () int32 in 1 ... 8; 1, upright, where it states none."""
    named = tf.strings.regex_full_match(encoded, rb"(?s)\C*eXIf\C*")  # perhaps only quoted

    def chunk(at: tf.Tensor, head: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:  # length, name
        end = tf.reduce_all(head[4:] == list(b"IEND"))
        following = tf.where(end, num_bytes(encoded), at + 12 + big_endian(head[:4]))
        return following, tf.reduce_all(head[4:] == list(b"eXIf"))

    walk = lambda: chunk_orientation(encoded, 8, chunk, MAX_CHUNKS)
    return tf.cond(named, walk, lambda: tf.constant(1))


def chunk_orientation(encoded: tf.Tensor, start: int, chunk: Chunk, most: int) -> tf.Tensor:
    """Return the orientation in the EXIF chunk of a file of chunks, the first at byte `start`, looking at `most`."""

    def step(at: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        following, found = chunk(at, byte_values(encoded, at, 8))
        return tf.where(found, at + 8, following), found

    going = lambda at, found: ~found & (at < num_bytes(encoded))
    at, found = tf.while_loop(going, step, (tf.constant(start, tf.int64), tf.constant(False)), maximum_iterations=most)
    return tf.cond(found, lambda: block_orientation(encoded, at), lambda: tf.constant(1))


def block_orientation(encoded: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
    """Return the orientation in an EXIF block that may begin as one of a JPEG does, with "Exif"."""
    prefixed = tf.reduce_all(byte_values(encoded, start, len(EXIF)) == list(EXIF))
    return tiff_orientation(encoded, start + tf.cast(prefixed, tf.int64) * len(EXIF))


def tiff_orientation(encoded: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
    """Return the orientation in the TIFF structure at byte `start`, () int32; 1 where it has none or is damaged."""
    head = byte_values(encoded, start, 8)
    little = head[0] == ord("I")
    valid = tf.reduce_all(head[:4] == tf.where(little, tf.constant(list(b"II*\0"), tf.int64), list(b"MM\0*")))

    def number(values: tf.Tensor) -> tf.Tensor:  # (..., length) int64 bytes
        return tf.where(little, little_endian(values), big_endian(values))

    directory = start + number(head[4:8])
    count = tf.minimum(number(byte_values(encoded, directory, 2)), MAX_ENTRIES)
    first = tf.clip_by_value(directory + 2, 0, num_bytes(encoded))
    entries = tf.io.decode_raw(tf.strings.substr(encoded, first, 12 * count), tf.uint8)
    # Each has a tag, a type, a length and a value, or where it is.
    entries = tf.reshape(tf.cast(entries[: 12 * (tf.size(entries) // 12)], tf.int64), [-1, 12])
    long = number(entries[:, 2:4]) == LONG
    value = tf.where(long, number(entries[:, 8:12]), number(entries[:, 8:10]))
    stated = (number(entries[:, :2]) == ORIENTATION) & (long | (number(entries[:, 2:4]) == SHORT))
    orientation = tf.reduce_max(tf.concat([tf.where(stated, value, 0), [0]], axis=0))
    return tf.cast(tf.where(valid & (orientation >= 1) & (orientation <= 8), orientation, 1), tf.int32)


def upright(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turn and mirror an image (H, W, 3) as an orientation, () int32 in 1 ... 8, asks for."""
    turned = lambda: tf.transpose(image, [1, 0, 2])
    mirrors = [1], [0, 1], [0]
    # `tf.reverse` is many times faster than a slice with a negative stride.
    views = [lambda: tf.identity(image), *(functools.partial(tf.reverse, image, axes) for axes in mirrors)]
    views += [turned, *(lambda axes=axes: tf.reverse(turned(), axes) for axes in mirrors)]
    return tf.switch_case(orientation - 1, views)  # EXIF counts from 1


def _orientation_of_segments(encoded: tf.Tensor, before: tf.Tensor, near: tf.Tensor) -> tf.Tensor:
    """Return the orientation of a JPEG; `before` precedes the first bytes "Exif" where they are `near`, () bool."""
    # In nearly every file they are those of the first segment, or of the second, after that of JFIF.
    jfif = byte_values(encoded, 2, 4)
    second = 4 + big_endian(jfif[2:]) + 4
    start = num_bytes(before)
    marked = tf.reduce_all(byte_values(before, start - 4, 2) == [0xFF, 0xE1])
    plain = near & marked & ((start == 6) | (tf.reduce_all(jfif[:2] == [0xFF, 0xE0]) & (start == second)))
    found = tf.cond(plain, lambda: start, lambda: _walk(encoded))
    return tf.cond(found > 0, lambda: tiff_orientation(encoded, found + len(EXIF)), lambda: tf.constant(1))


def _walk(encoded: tf.Tensor) -> tf.Tensor:
    """Return where in a JPEG the content of its EXIF segment begins, () int64; 0 where there is none."""

    def step(at: tf.Tensor, found: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        head = byte_values(encoded, at, 4 + len(EXIF))  # 0xFF, marker, two bytes of length, content
        is_marker = (head[0] == 0xFF) & (head[1] != 0xFF)  # else filling, or garbage, which libjpeg passes over
        is_exif = is_marker & (head[1] == 0xE1) & tf.reduce_all(head[4:] == list(EXIF))
        bare = (head[1] == 0x01) | ((head[1] >= 0xD0) & (head[1] <= 0xD8))  # without a length
        following = at + tf.where(is_marker, 2 + tf.where(bare, tf.zeros_like(at), big_endian(head[2:4])), 1)
        is_end = is_marker & (head[1] == 0xDA)  # pixels follow
        return tf.where(is_exif | is_end, tf.zeros_like(at), following), tf.where(is_exif, at + 4, 0)

    start = tf.constant(2, tf.int64), tf.constant(0, tf.int64)
    return tf.while_loop(lambda at, _: at > 0, step, start, maximum_iterations=MAX_SEGMENTS)[1]
