"""What is left to do to a training batch on the device: bytes to [-1, 1], mixup and CutMix, and labels to vectors.

A batch crosses to the device as bytes, a quarter of its floats. What mixes it is drawn by the host, as a few numbers.
"""

import dataclasses

import tensorflow as tf

from keras_mixer.data import augment
from keras_mixer.data.augment_settings import Augmentation

NUMBERS = 6  # weight of a row's own image and of its label; top, bottom, left and right of what its neighbour covers
NOTHING = (1.0, 1.0, 0.0, 0.0, 0.0, 0.0)


@dataclasses.dataclass(frozen=True)
class Finish:
    """Makes the images and labels that a model trains on, of a batch of bytes.

    Attributes:
        augmentation: an `Augmentation`.
        num_classes: K.

    Example:
        >>> finish = Finish(Augmentation(mixup_alpha=0.5), num_classes=10)
        >>> finish.neighbours
        1
    """

    augmentation: Augmentation
    num_classes: int

    @property
    def neighbours(self) -> int:
        """How many rows of other parts come before the rows of a part: 1 where images are mixed."""
        return int(self.augmentation.mixes_rows)

    @property
    def does_mixup(self) -> bool:
        """Whether this is where images are added; keras_cv does that on the host."""
        return self.augmentation.augmentation != "keras_cv" and bool(self.augmentation.mixup_alpha)

    def draw(self, seed: int, step: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
        """Return what mixes the batch of a step, `NUMBERS` float32; a pure function of the arguments."""
        how, key = self.augmentation, augment.fold_seed(seed, step, 1)
        if not how.mixes_rows:
            return tf.constant(NOTHING)
        by_mixup = lambda: _drawn(augment.draw_mixup(key, how.mixup_alpha))
        by_cutmix = lambda: _drawn_rectangle(*augment.draw_cutmix(key, how.cutmix_alpha, size))
        if self.does_mixup and how.cutmix_alpha:
            return tf.cond(tf.random.stateless_uniform([], augment.fold_seed(seed, step, 2)) < 0.5, by_mixup, by_cutmix)
        return by_mixup() if self.does_mixup else by_cutmix()

    def __call__(self, images: tf.Tensor, labels: tf.Tensor, drawn: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return images (B, H, W, channels) float32 in [-1, 1], and labels (B, K) float32.

        Args:
            images: (neighbours + B, H, W, channels) uint8.
            labels: (neighbours + B,) int64, or (neighbours + B, K) float32 where they are vectors already.
            drawn: (neighbours + B, `NUMBERS`) float32, of each row what `draw` returned.
        """
        images = to_model_range(images)
        if labels.shape.rank == 1:
            labels = tf.one_hot(labels, self.num_classes)
            if self.augmentation.label_smoothing:
                labels = augment.smooth_labels(labels, self.augmentation.label_smoothing)
        if not self.neighbours:
            return images, labels
        drawn = drawn[1:]
        weight, label_weight = drawn[:, 0, None, None, None], drawn[:, 1, None]
        mixed = weight * images[1:] + (1 - weight) * images[:-1] if self.does_mixup else images[1:]
        if self.augmentation.cutmix_alpha:
            mixed = tf.where(_inside(drawn, images.shape[1], images.shape[2]), images[:-1], mixed)
        return mixed, label_weight * labels[1:] + (1 - label_weight) * labels[:-1]


def to_model_range(images: tf.Tensor) -> tf.Tensor:
    """Map uint8 pixels to float32 in [-1, 1]; the same arithmetic as `keras_mixer.preprocess_input`."""
    # By the inverse of a constant TensorFlow multiplies, which changes last bits; not so of this, but for XLA.
    divisor = tf.raw_ops.PlaceholderWithDefault(input=127.5, shape=[])
    return tf.cast(images, tf.float32) / divisor - 1.0


def _drawn(weight: tf.Tensor) -> tf.Tensor:
    return tf.concat([[weight, weight], NOTHING[2:]], axis=0)


def _drawn_rectangle(inside: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    """Return `NUMBERS` of a rectangle, (H, W) booleans, that has this share of the image."""
    sides = []
    for axis in (1, 0):
        line = tf.reduce_any(inside, axis)
        first = tf.argmax(line, output_type=tf.int32)
        sides += [first, first + tf.reduce_sum(tf.cast(line, tf.int32))]
    return tf.concat([[1.0, 1 - share], tf.cast(tf.stack(sides), tf.float32)], axis=0)


def _inside(drawn: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Return where the neighbour covers each row's image, (B, H, W, 1) booleans."""
    top, bottom, left, right = (drawn[:, i, None] for i in range(2, NUMBERS))
    rows, columns = tf.range(float(height))[None], tf.range(float(width))[None]
    rows, columns = (rows >= top) & (rows < bottom), (columns >= left) & (columns < right)
    return (rows[:, :, None] & columns[:, None, :])[..., None]
