"""Which parts of an image a prediction rests on: each is covered in turn, and the probability asked again."""

import numpy as np
import tensorflow as tf

MOST_CELLS = 8  # along a side, so that a picture costs at most 65 passes


def boxes(image_size: tuple[int, int], patch_size: int) -> np.ndarray:
    """Return (M, 4) int64, top, bottom, left and right of the parts to cover, row by row: patches, or blocks of them.

    Example:
        >>> boxes((8, 8), 4).tolist()
        [[0, 4, 0, 4], [0, 4, 4, 8], [4, 8, 0, 4], [4, 8, 4, 8]]
        >>> len(boxes((224, 224), 16))
        49
    """

    def edges(side: int) -> list[tuple[int, int]]:
        step = -(-(side // patch_size) // MOST_CELLS) * patch_size
        return [(start, min(start + step, side)) for start in range(0, side, step)]

    return np.array([(*rows, *columns) for rows in edges(image_size[0]) for columns in edges(image_size[1])], np.int64)


def covered_batches(images: np.ndarray, classes: np.ndarray, places: np.ndarray, batch_size: int) -> tf.data.Dataset:
    """Return batches of each image as it is, then with each part covered by the image's mean colour.

    Args:
        images: (N, H, W, channels) float32 in [-1, 1].
        classes: (N,) int64, the class whose probability is asked.
        places: (M, 4), from `boxes`.
        batch_size: images in a batch; the last one is filled up.

    Yields:
        images (B, H, W, channels), classes (B,) and a mask (B,), 0 for filling; in all N (M + 1) images.

    Example:
        >>> data = covered_batches(np.ones((2, 8, 8, 3), np.float32), np.array([0, 1]), boxes((8, 8), 4), 6)
        >>> [int(tf.reduce_sum(mask)) for _, _, mask in data]
        [6, 4]
    """
    count, each = len(images) * (len(places) + 1), len(places) + 1
    size, corners = images.shape[1:], np.concatenate([np.zeros((1, 4), np.int64), places])  # first of all nothing
    rows, columns = np.arange(size[0])[:, None, None], np.arange(size[1])[None, :, None]

    @tf.autograph.experimental.do_not_convert
    def example(k: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        image = tf.gather(tf.constant(images, tf.float32), k // each)
        top, bottom, left, right = tf.unstack(tf.gather(corners, k % each))
        inside = (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
        colour = tf.reduce_mean(image, (0, 1), keepdims=True)
        label = tf.gather(tf.cast(classes, tf.int64), k // each)
        return tf.where(inside, colour, image), label, tf.constant(1.0)

    data = tf.data.Dataset.range(count).map(example)
    filling = -count % batch_size
    if filling:
        empty = (tf.zeros((filling, *size)), tf.zeros(filling, tf.int64), tf.zeros(filling))
        data = data.concatenate(tf.data.Dataset.from_tensor_slices(empty))
    return data.batch(batch_size, drop_remainder=True)


def drops(probabilities: np.ndarray, count: int) -> np.ndarray:
    """Return (N, M), by how much the probability falls where a part is covered, of the (N (M + 1),) in that order.

    Example:
        >>> drops(np.array([0.75, 0.5, 1.0]), count=1).tolist()
        [[0.25, -0.25]]
    """
    each = np.asarray(probabilities, np.float64).reshape(count, -1)
    return each[:, :1] - each[:, 1:]
