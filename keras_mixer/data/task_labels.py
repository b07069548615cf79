"""Labels that VTAB computes from the annotations of an image: counts, distances and coarse positions.

Each function takes a decoded TFDS example without its image and returns the label, () int64. One outside the range of
its classes, as for a scene without annotations, is for `pipeline` to refuse. The edges are those of the benchmark's own
code (google-research/task_adaptation); a value on an edge belongs to the class below it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

Example = dict[str, Any]  # of TFDS: tensors by name, and dicts of them
Label = str | Callable[[Example], tf.Tensor]  # name of the feature, or what computes it

CLEVR_FEWEST, CLEVR_MOST = 3, 10  # objects in a scene
CLEVR_EDGES = (0.0, 8.0, 8.5, 9.0, 9.5, 10.0, 100.0)
KITTI_EDGES = (-100.0, 8.0, 20.0, 999.0)  # metres
KITTI_NO_VEHICLE = 1000.0  # so that an image without one falls into the last class
KITTI_VEHICLE_TYPES = 3  # the first three types are car, van and truck
DSPRITES_BINS = 16

CLEVR_COUNT_NAMES = tuple(str(count) for count in range(CLEVR_FEWEST, CLEVR_MOST + 1))
CLEVR_DISTANCE_NAMES = ("up to 8", "8 to 8.5", "8.5 to 9", "9 to 9.5", "9.5 to 10", "over 10")
KITTI_NAMES = ("up to 8 m", "8 to 20 m", "over 20 m", "no vehicle")
DSPRITES_NAMES = tuple(str(i) for i in range(DSPRITES_BINS))


def clevr_count(example: Example) -> tf.Tensor:
    """Return the number of objects less 3, 0 to 7 for scenes of 3 to 10 objects.

    Example:
        >>> int(clevr_count({"objects": {"size": [0, 1, 1, 0]}}))
        1
    """
    return tf.size(example["objects"]["size"], out_type=tf.int64) - CLEVR_FEWEST


def clevr_distance(example: Example) -> tf.Tensor:
    """Return which of six ranges the nearest object's depth is in, from its pixel coordinates (x, y, depth).

    Example:
        >>> int(clevr_distance({"objects": {"pixel_coords": [[10.0, 20.0, 9.7], [40.0, 30.0, 8.2]]}}))
        1
    """
    depths = tf.convert_to_tensor(example["objects"]["pixel_coords"], tf.float32)[:, 2]
    return _bin(tf.reduce_min(depths), CLEVR_EDGES)


def kitti_distance(example: Example) -> tf.Tensor:
    """Return which of three ranges the nearest car, van or truck is in, or 3 for an image without any.

    The distance is the third coordinate of its place before the camera, in metres.

    Example:
        >>> int(kitti_distance({"objects": {"type": [3, 0], "location": [[0.0, 1.5, 4.0], [2.0, 1.5, 12.0]]}}))
        1
    """
    vehicles = tf.convert_to_tensor(example["objects"]["type"], tf.int64) < KITTI_VEHICLE_TYPES
    distances = tf.convert_to_tensor(example["objects"]["location"], tf.float32)[:, 2]
    distances = tf.where(vehicles, distances, KITTI_NO_VEHICLE)
    return _bin(tf.reduce_min(tf.concat([distances, [KITTI_NO_VEHICLE]], axis=0)), KITTI_EDGES)


def dsprites_x_position(example: Example) -> tf.Tensor:
    """Return the x position, one of 32, in 16 bins.

    Example:
        >>> int(dsprites_x_position({"label_x_position": 31}))
        15
    """
    return tf.cast(example["label_x_position"], tf.int64) * DSPRITES_BINS // 32


def dsprites_orientation(example: Example) -> tf.Tensor:
    """Return the orientation, one of 40, in 16 bins of two or three.

    Example:
        >>> [int(dsprites_orientation({"label_orientation": i})) for i in range(6)]
        [0, 0, 0, 1, 1, 2]
    """
    return tf.cast(example["label_orientation"], tf.int64) * DSPRITES_BINS // 40


def _bin(value: tf.Tensor, edges: Sequence[float]) -> tf.Tensor:
    """Return i for edges[i] < value <= edges[i + 1]; -1 where no edge is below."""
    return tf.reduce_sum(tf.cast(tf.constant(edges) < value, tf.int64)) - 1
