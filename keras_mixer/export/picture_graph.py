"""A classifier of one picture of any size as a graph: what an evaluation makes of pixels, then the Mixer.

ONNX has none of TensorFlow's ways to resize. Here each is a few sums in TensorFlow's own order, so that the level of a
pixel, whose fraction is cut off, is the same bit for bit.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from keras_mixer.data import colours
from keras_mixer.data.pixel_settings import PixelSettings
from keras_mixer.export.single_file import Classifier

Weight = Callable[[tf.Tensor], tf.Tensor]  # of pixels with the indices (n,), float32, in the n results of an axis
Picture = Callable[[tf.Tensor], tf.Tensor]


class Axis(NamedTuple):
    """How an axis is resized and cut.

    Attributes:
        before, after: pixels of the picture, and of the resized one; () float32.
        places: (n,) float32, the whole numbers of those pixels of the resized picture that are kept.
    """

    before: tf.Tensor
    after: tf.Tensor
    places: tf.Tensor

    @property
    def scale(self) -> tf.Tensor:
        return self.before / self.after


def classifier(function: Classifier, size: tuple[int, int], crop: str, pixels: PixelSettings) -> Picture:
    """Return a function of a picture, uint8 (H, W, 4), whose fourth channel it ignores, to probabilities (K,).

    Args:
        function: images (B, height, width, channels), float32 in [0, 255], to their probabilities.
        size: (height, width) of these images.
        crop, pixels: how an evaluation makes them; transparency and orientation are up to who gives the picture.
    """

    def of_picture(image: tf.Tensor) -> dict[str, tf.Tensor]:
        levels = evaluation_crop(image, size, crop, pixels.antialias)
        if pixels.channels == 1:
            levels = _luma(levels)
        probabilities = function(tf.cast(levels, tf.float32)[None])["probabilities"]
        return {"probabilities": tf.reshape(probabilities, [-1])}

    return of_picture


def evaluation_crop(image: tf.Tensor, size: tuple[int, int], crop: str, antialias: bool) -> tf.Tensor:
    """Return (height, width, 3) int32: of uint8 (H, W, 4) the levels that `crops.evaluation_crop` gives of RGB."""
    rows, columns = _axes(tf.cast(tf.shape(image)[:2], tf.float32), size, crop)
    if crop == "resmall":
        total = _summed(_summed(image, columns, _area(columns), 1), rows, _area(rows), 0)
        levels = total * (1.0 / (rows.scale * columns.scale))
    elif antialias:
        levels = _summed(_summed(image, columns, _triangle(columns), 1), rows, _triangle(rows), 0) + 0.5
    else:
        levels = _between(_between(image, columns, 1), rows, 0)
    return tf.cast(tf.floor(tf.clip_by_value(levels[:, :, :3], 0.0, 255.0)), tf.int32)


def _axes(shape: tf.Tensor, size: tuple[int, int], crop: str) -> list[Axis]:
    """The two axes of a picture, whose (H, W) is float32, as `crops.evaluation_crop` resizes and cuts them."""
    if crop == "resmall":
        small = float(round(min(size) * 8 / 7))
        scale = tf.maximum(small / tf.reduce_min(shape), tf.reduce_max(tf.constant(size, tf.float32) / shape))
        after = tf.maximum(tf.round(shape * scale), tf.constant(size, tf.float32))
    else:
        larger = size if crop == "none" else [round(side * 8 / 7) for side in size]
        # At least 1 whatever the picture: of a plain constant an optimiser would multiply by the rounded reciprocal.
        after = tf.maximum(tf.constant(larger, tf.float32), tf.minimum(shape, 1.0))
    first = tf.floor((after - tf.constant(size, tf.float32)) / 2)  # of the pixels in the middle
    return [
        Axis(shape[axis], after[axis], first[axis] + tf.range(side, dtype=tf.float32)) for axis, side in enumerate(size)
    ]


class _Taps(NamedTuple):
    """The pixels that a result is summed of: the first, how many at most, and the weight of each."""

    first: tf.Tensor  # (n,) float32
    count: tf.Tensor  # () int32
    weight: Weight


def _area(axis: Axis) -> _Taps:
    """Of each pixel the part that the result covers, as `tf.image.resize(method="area")`."""
    begin, end = axis.places * axis.scale, (axis.places + 1.0) * axis.scale
    first, last = tf.floor(begin), tf.math.ceil(end)

    def weight(index: tf.Tensor) -> tf.Tensor:
        beyond = index + 1.0 > end
        cut = tf.where(beyond, axis.scale, index + 1.0 - begin)
        whole = tf.where(beyond, end - index, 1.0)
        return tf.where(index < last, tf.where(index < begin, cut, whole), 0.0)

    return _Taps(first, tf.cast(tf.reduce_max(last - first), tf.int32), weight)


def _triangle(axis: Axis) -> _Taps:
    """The weights of `tf.image.resize(antialias=True)`, which are 1 in the sum."""
    reach = tf.maximum(axis.scale, 1.0)
    centres = (axis.places + 0.5) * axis.scale - 0.5
    first, count = tf.floor(centres - reach), tf.cast(2.0 * reach, tf.int32) + 2

    def unscaled(index: tf.Tensor) -> tf.Tensor:
        inside = tf.cast((index >= 0.0) & (index <= axis.before - 1.0), tf.float32)
        return tf.nn.relu(1.0 - tf.abs(index - centres) / reach) * inside

    taps = tf.cast(tf.range(count), tf.float32)[:, None]
    total = tf.reduce_sum(unscaled(first + taps), axis=0)
    return _Taps(first, count, lambda index: unscaled(index) / total)


def _summed(image: tf.Tensor, axis: Axis, taps: _Taps, number: int) -> tf.Tensor:
    """Sum along an axis, one pixel of each result after the other, in float32."""
    shape = [-1, 1, 1] if number == 0 else [1, -1, 1]

    def step(k: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        index = taps.first + tf.cast(k, tf.float32)
        part = tf.cast(_gathered(image, index, axis, number), tf.float32)
        return k + 1, total + part * tf.reshape(taps.weight(index), shape)

    begin = tf.zeros_like(tf.cast(_gathered(image, taps.first, axis, number), tf.float32))
    return tf.while_loop(lambda k, _: k < taps.count, step, (tf.constant(0), begin))[1]


def _between(image: tf.Tensor, axis: Axis, number: int) -> tf.Tensor:
    """Interpolate along an axis between the two nearest pixels, as `tf.image.resize`."""
    place = (axis.places + 0.5) * axis.scale - 0.5
    lower = tf.cast(_gathered(image, tf.floor(place), axis, number), tf.float32)
    upper = tf.cast(_gathered(image, tf.math.ceil(place), axis, number), tf.float32)
    return lower + (upper - lower) * tf.reshape(place - tf.floor(place), [-1, 1, 1] if number == 0 else [1, -1, 1])


def _gathered(image: tf.Tensor, index: tf.Tensor, axis: Axis, number: int) -> tf.Tensor:
    """Pixels along an axis; a pixel beyond the edge is the last one before it."""
    return tf.gather(image, tf.cast(tf.clip_by_value(index, 0.0, axis.before - 1.0), tf.int32), axis=number)


def _luma(levels: tf.Tensor) -> tf.Tensor:
    """What `colours.to_channels` makes of (..., 3) int32 in [0, 255]."""
    return (tf.reduce_sum(levels * tf.constant(colours.LUMA), axis=-1, keepdims=True) + 2**15) // 2**16
