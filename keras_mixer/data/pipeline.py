"""From a source to batches. The batch of step t is a pure function of (seed, t), whatever runs in parallel."""

from collections.abc import Callable

import tensorflow as tf

from keras_mixer.data import augment, colours, crops, decode, file_crops
from keras_mixer.data.augment_settings import DEFAULT_AUGMENTATION, Augmentation
from keras_mixer.data.mixing import Finish, to_model_range
from keras_mixer.data.pixel_settings import DEFAULT_PIXELS, PixelSettings
from keras_mixer.data.randaugment import randaugment
from keras_mixer.data.source import Record, Source, part_rows
from keras_mixer.types import Size

LABEL_ERROR = "label outside the range"  # what `training` reports as bad input, not as a crash
BATCHES_AHEAD = 2  # a fixed number, since an automatic one may hold gigabytes of float batches


def train_batches(
    source: Source,
    *,
    batch_size: int,
    image_size: Size,
    seed: int,
    start_step: int = 0,
    augmentation: Augmentation = DEFAULT_AUGMENTATION,
    pixels: PixelSettings = DEFAULT_PIXELS,
    part: tuple[int, int] = (0, 1),
    as_bytes: bool = False,
) -> tf.data.Dataset:
    """Return an endless dataset of augmented training batches, starting with the batch of step `start_step`.

    Photographs get an inception crop and a flip, then RandAugment where asked; drawn signs such as digits get a small
    rotation, shift and zoom instead, since a crop or flip changes their meaning.

    Several machines may each make a part of every batch: it is bit for bit those rows of the whole, and images of other
    parts are not decoded, but for the one that mixup and CutMix mix into the first row.

    Args:
        source: a `source.Source`.
        batch_size: images in the global batch.
        image_size: side in pixels, or (height, width).
        seed: of order, augmentation and mixup.
        start_step: the step to start with, without reading what comes before.
        augmentation: an `Augmentation`.
        pixels: a `PixelSettings`, how files become pixels.
        part: (index, count), to give only the rows of each batch from index * batch_size / count on, batch_size / count
            of them. keras_cv then augments and mixes within the part.
        as_bytes: leave the rest to `mixing.Finish`, on the device: a quarter of the bytes cross to it.

    Yields:
        images (B, H, W, channels) float32 in [-1, 1]; labels (B, K) float32; B is batch_size / count. As bytes: images
        (N + B, H, W, channels) uint8, N being `Finish.neighbours`, the row before the part first; labels (N + B,)
        int64, of keras_cv (N + B, K) float32; of each row what `Finish.draw` returned for the batch.

    Raises:
        ValueError: for a size that is not positive, fewer images than a batch, or a batch that cannot be divided into
            the parts.

    Example:
        >>> from keras_mixer.data import opening
        >>> digits = opening.open_source("digits", training=True)
        >>> half = train_batches(digits, batch_size=64, image_size=32, seed=0, part=(1, 2))
        >>> half.element_spec[0].shape
        TensorShape([32, 32, 32, 3])
    """
    check_sizes(source, batch_size, image_size)
    size = crops.sides_of("image_size", image_size)
    finish = Finish(augmentation, len(source.class_names))
    rows, ahead = part_rows(batch_size, part, with_neighbour=bool(finish.neighbours))

    @tf.autograph.experimental.do_not_convert  # nothing to convert, and looking for it takes seconds
    def example(k: tf.Tensor, record: Record) -> tuple[tf.Tensor, tf.Tensor]:
        image, label = source.parse(record)
        image = _augmented(image, source, size, augmentation, pixels, augment.fold_seed(seed, k))
        return image, _checked(label, len(source.class_names))

    on_host = _batch_augmenter(augmentation, len(source.class_names))

    def batch(step: tf.Tensor, data: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        images, labels = on_host(*data)
        images = colours.to_channels(images, pixels.channels)
        if ahead:  # of the neighbour, which shall be the first
            images, labels = (tf.concat([x[-1:], x[:ahead]], axis=0) for x in (images, labels))
        drawn = finish.draw(seed, step, size)
        return images, labels, tf.repeat(drawn[None], images.shape[0], axis=0)

    start = start_step * batch_size
    data = tf.data.Dataset.zip((rows.positions(start), source.records(seed, start, rows)))
    data = data.map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    data = data.batch(len(rows.own), drop_remainder=True).enumerate(start_step)
    data = data.map(batch, num_parallel_calls=BATCHES_AHEAD, deterministic=True)
    if not as_bytes:
        finished = tf.autograph.experimental.do_not_convert(finish.__call__)
        data = data.map(finished, num_parallel_calls=BATCHES_AHEAD, deterministic=True)
    return data.prefetch(BATCHES_AHEAD)


def check_sizes(source: Source, batch_size: int, image_size: Size) -> None:
    """Raise the ValueError that `train_batches` would, without making anything, which takes seconds."""
    crops.sides_of("image_size", image_size)
    part_rows(batch_size, (0, 1))
    if source.num_examples < batch_size:
        raise ValueError(
            f"batch_size: {source.name} has {source.num_examples} images, fewer than a batch of {batch_size}; "
            "use a smaller --batch_size."
        )


def _augmented(
    image: tf.Tensor, source: Source, size: tuple[int, int], how: Augmentation, pixels: PixelSettings, key: tf.Tensor
) -> tf.Tensor:
    """Decode, crop and flip or move, and augment one image, to (height, width, 3) uint8."""
    own = augment.fold_seed(key[0], key[1])
    seeds = [tf.random.experimental.stateless_fold_in(own, tf.constant(i, tf.int64)) for i in range(4)]
    if how.augmentation == "hyper_rule":  # the caller says what the labels allow, photographs or not
        larger = tuple(round(side / how.crop_area[0] ** 0.5) for side in size)
        image = crops.random_crop(_decoded(image, source, pixels), seeds[0], larger, size, pixels.antialias)
        image = augment.random_flip(image, seeds[1], how.flip_rate)
    elif how.augmentation == "none" or not source.photographs:
        image = _evaluated(image, source, "none", size, pixels)
        if how.augmentation != "none":
            image = augment.small_affine(image, seeds[0])
    else:
        window = (seeds[0], size, how.crop_area, how.crop_aspect)
        if image.dtype == tf.string:
            image = crops.decode_and_inception_crop(image, *window, pixels, source.loose_files)
        else:
            image = crops.inception_crop(image, *window, pixels.antialias)
        image = augment.random_flip(image, seeds[1], how.flip_rate)
    if how.randaugment_magnitude and how.augmentation != "keras_cv":
        image = randaugment(image, seeds[2], how.randaugment_magnitude)
    if how.random_erasing_rate:
        image = augment.random_erasing(image, seeds[3], how.random_erasing_rate)
    return image


def _batch_augmenter(how: Augmentation, num_classes: int) -> Callable[..., tuple[tf.Tensor, tf.Tensor]]:
    """Return what keras_cv does to images (B, H, W, 3) uint8 and labels (B,), which become (B, K); else nothing."""
    if how.augmentation != "keras_cv":
        return lambda images, labels: (images, labels)
    by_keras_cv = augment.make_keras_cv_augmenter(how.randaugment_magnitude, how.mixup_alpha)
    vectors = lambda labels: augment.smooth_labels(tf.one_hot(labels, num_classes), how.label_smoothing)
    return lambda images, labels: by_keras_cv(images, vectors(labels))


def eval_batches(
    source: Source,
    *,
    batch_size: int,
    image_size: Size,
    crop: str = "resmall",
    pixels: PixelSettings = DEFAULT_PIXELS,
    part: tuple[int, int] = (0, 1),
    as_bytes: bool = False,
) -> tf.data.Dataset:
    """Return one pass over a source in order, every image once, the last batch filled up with zeros.

    Args:
        source: a `source.Source`.
        batch_size: images in the global batch.
        image_size: side in pixels, or (height, width).
        crop: "resmall" (short side to 8/7 of the size, centre crop), "resize" (both sides to 8/7, centre crop) or
            "none" for photographs; drawn signs are only resized.
        pixels: a `PixelSettings`, how files become pixels.
        as_bytes: leave images uint8, a quarter of the bytes, for `make_evaluator`, which takes either.
        part: as for `train_batches`. Each part has equally many batches, the last one all filling where need be.

    Yields:
        images (B, H, W, channels) float32 in [-1, 1], or uint8; labels (B,) int64; mask (B,) float32, 1 for an image, 0
        for filling; B is batch_size / count.

    Raises:
        ValueError: for a non-positive size, an unknown crop, or a batch that cannot be divided into the parts.

    Example:
        >>> from keras_mixer.data import opening
        >>> digits = opening.open_source("digits", training=False)
        >>> parts = [eval_batches(digits, batch_size=64, image_size=32, part=(i, 2)) for i in range(2)]
        >>> sum(int(tf.reduce_sum(mask)) for part in parts for _, _, mask in part)
        360
    """
    size = crops.sides_of("image_size", image_size)
    rows, _ = part_rows(batch_size, part)
    crops.check_crop(crop)

    @tf.autograph.experimental.do_not_convert
    def example(record: Record) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        image, label = source.parse(record)
        which = crop if source.photographs else "none"
        image = _evaluated(image, source, which, size, pixels)
        return image, _checked(label, len(source.class_names)), tf.constant(1.0)

    @tf.autograph.experimental.do_not_convert
    def scaled(images: tf.Tensor, *rest: tf.Tensor) -> tuple[tf.Tensor, ...]:
        images = colours.to_channels(images, pixels.channels)
        return images if as_bytes else to_model_range(images), *rest

    count = source.num_examples
    data = source.records(None, 0, rows).map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    filling = -(-count // batch_size) * (batch_size // part[1]) - rows.count(count)
    if filling:
        empty = (tf.zeros((filling, *size, 3), tf.uint8), tf.zeros(filling, tf.int64), tf.zeros(filling))
        data = data.concatenate(tf.data.Dataset.from_tensor_slices(empty))
    data = data.batch(batch_size // part[1], drop_remainder=True)
    return data.map(scaled, num_parallel_calls=BATCHES_AHEAD).prefetch(BATCHES_AHEAD)


def _evaluated(image: tf.Tensor, source: Source, crop: str, size: tuple[int, int], pixels: PixelSettings) -> tf.Tensor:
    """Give one image the crop of an evaluation, decoding it where the source gave bytes."""
    if image.dtype == tf.string:
        return file_crops.decode_and_evaluation_crop(image, crop, size, pixels, source.loose_files)
    return crops.evaluation_crop(_decoded(image, source, pixels), crop, size, pixels.antialias)


def _decoded(image: tf.Tensor, source: Source, pixels: PixelSettings) -> tf.Tensor:
    """Decode where the source gave bytes; three channels either way."""
    if image.dtype == tf.string:
        return decode.decode_image(image, pixels.alpha, pixels.exif_rotation, source.loose_files)
    return tf.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image


def _checked(label: tf.Tensor, num_classes: int) -> tf.Tensor:
    """`tf.one_hot` turns a bad label into zeros; here it stops the run."""
    check = tf.debugging.Assert(
        (label >= 0) & (label < num_classes), [LABEL_ERROR, "0 to", num_classes - 1, "- the dataset has", label]
    )
    with tf.control_dependencies([check]):
        return tf.identity(label)
