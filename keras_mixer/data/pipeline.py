"""From a source to batches. The batch of step t is a pure function of (seed, t), whatever runs in parallel."""

import tensorflow as tf

from keras_mixer.data import augment, crops, decode, grey
from keras_mixer.data.pixel_settings import DEFAULT_PIXELS, PixelSettings
from keras_mixer.data.randaugment import randaugment
from keras_mixer.data.source import Source
from keras_mixer.data.streams import Record, part_rows
from keras_mixer.types import Range, Size

LABEL_ERROR = "label outside the range"  # what `training` reports as bad input, not as a crash
BATCHES_AHEAD = 2  # a fixed number, since an automatic one may hold gigabytes of float batches
AUGMENTATIONS = ("paper", "keras_cv", "none")


def train_batches(
    source: Source,
    *,
    batch_size: int,
    image_size: Size,
    seed: int,
    start_step: int = 0,
    pixels: PixelSettings = DEFAULT_PIXELS,
    augmentation: str = "paper",
    crop_area: Range = crops.CROP_AREA,
    crop_aspect: Range = crops.CROP_ASPECT,
    flip_rate: float = 0.5,
    randaugment_magnitude: float = 0,
    mixup_alpha: float = 0.0,
    cutmix_alpha: float = 0.0,
    random_erasing_rate: float = 0.0,
    label_smoothing: float = 0.0,
    part: tuple[int, int] = (0, 1),
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
        pixels: a `PixelSettings`, how files become pixels.
        augmentation: "paper"; "keras_cv" to have RandAugment and mixup from keras-cv, whose draws do not follow the
            seed; or "none" to only resize.
        crop_area: of photographs: smallest and largest fraction of the image that a crop shows.
        crop_aspect: of photographs: smallest and largest width / height of a crop.
        flip_rate: fraction of photographs that are mirrored left to right.
        randaugment_magnitude: the paper's m, 0 for none; always two layers. keras_cv: at most 10.
        mixup_alpha: the paper's p, 0 for none.
        cutmix_alpha: of CutMix, 0 for none; with mixup as well, each batch gets one of the two, by an even draw.
        random_erasing_rate: fraction of images of which a rectangle is replaced by noise.
        label_smoothing: fraction of each label that is spread over all classes.
        part: (index, count), to give only the rows of each batch from index * batch_size / count on, batch_size / count
            of them. keras_cv then augments and mixes within the part.

    Yields:
        images (B, H, W, channels) float32 in [-1, 1]; labels (B, K) float32; B is batch_size / count.

    Raises:
        ValueError: for a size, rate or magnitude outside its range, an unknown augmentation, fewer images than a
            batch, or a batch that cannot be divided into the parts.

    Example:
        >>> from keras_mixer.data import opening
        >>> digits = opening.open_source("digits", training=True)
        >>> half = train_batches(digits, batch_size=64, image_size=32, seed=0, part=(1, 2))
        >>> half.element_spec[0].shape
        TensorShape([32, 32, 32, 3])
    """
    check_train_options(
        source,
        batch_size,
        image_size,
        augmentation,
        mixup_alpha=mixup_alpha,
        cutmix_alpha=cutmix_alpha,
        randaugment_magnitude=randaugment_magnitude,
        random_erasing_rate=random_erasing_rate,
        label_smoothing=label_smoothing,
        crop_area=crop_area,
        crop_aspect=crop_aspect,
        flip_rate=flip_rate,
    )
    height, width = crops.sides_of("image_size", image_size)
    num_classes = len(source.class_names)
    if augmentation == "keras_cv":
        from keras_mixer.data.keras_cv_augment import make_augmenter  # an optional extra, imported only here

        keras_cv_augment = make_augmenter(randaugment_magnitude, mixup_alpha)
        randaugment_magnitude = mixup_alpha = 0
    mixing = bool(mixup_alpha or cutmix_alpha)
    rows, own = part_rows(batch_size, part, with_neighbour=mixing)

    def example(k: tf.Tensor, record: Record) -> tuple[tf.Tensor, tf.Tensor]:
        image, label = source.parse(record)
        key = augment.fold_seed(seed, k)
        image = augmented(image, key)
        if randaugment_magnitude:
            image = randaugment(image, augment.fold_seed(key[0], key[1], 2), randaugment_magnitude)
        if random_erasing_rate:
            image = augment.random_erasing(image, augment.fold_seed(key[0], key[1], 3), random_erasing_rate)
        return image, _one_hot(label, num_classes)

    def augmented(image: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        """Decode, and crop and flip or move, to (height, width, 3) uint8."""
        first, second = (augment.fold_seed(key[0], key[1], i) for i in range(2))
        if augmentation == "none" or not source.photographs:
            image = crops.resize(_decoded(image, source, pixels), (height, width), pixels.antialias)
            return image if augmentation == "none" else augment.small_affine(image, first)
        window = (first, (height, width), crop_area, crop_aspect)
        if image.dtype == tf.string:
            image = crops.decode_and_inception_crop(image, *window, pixels, source.loose_files)
        else:
            image = crops.inception_crop(image, *window, pixels.antialias)
        return augment.random_flip(image, second, flip_rate)

    def batch(step: tf.Tensor, data: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        images, labels = mixed(step, *data)
        return (images, labels) if rows is None else (images[own], labels[own])

    def mixed(step: tf.Tensor, images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        if label_smoothing:
            labels = augment.smooth_labels(labels, label_smoothing)
        if augmentation == "keras_cv":
            images, labels = keras_cv_augment(images, labels)
        images, key = to_model_range(grey.to_channels(images, pixels.channels)), augment.fold_seed(seed, step, 1)
        if mixup_alpha and cutmix_alpha:
            return tf.cond(
                tf.random.stateless_uniform([], augment.fold_seed(seed, step, 2)) < 0.5,
                lambda: augment.mixup(images, labels, key, mixup_alpha),
                lambda: augment.cutmix(images, labels, key, cutmix_alpha),
            )
        images, labels = augment.mixup(images, labels, key, mixup_alpha)
        return augment.cutmix(images, labels, key, cutmix_alpha)

    start = start_step * batch_size
    if rows is None:
        data, size = source.records(seed, start).enumerate(start), batch_size
    else:
        data = tf.data.Dataset.zip((rows.positions(start), source.records(seed, start, rows)))
        size = len(rows.own)
    data = data.map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    data = data.batch(size, drop_remainder=True).enumerate(start_step)
    data = data.map(batch, num_parallel_calls=BATCHES_AHEAD, deterministic=True)
    return data.prefetch(BATCHES_AHEAD)


def check_train_options(
    source: Source,
    batch_size: int,
    image_size: Size,
    augmentation: str,
    mixup_alpha: float,
    cutmix_alpha: float,
    randaugment_magnitude: float,
    random_erasing_rate: float,
    label_smoothing: float,
    crop_area: Range = crops.CROP_AREA,
    crop_aspect: Range = crops.CROP_ASPECT,
    flip_rate: float = 0.5,
) -> None:
    """Raise the ValueError that `train_batches` would, without making anything, which takes seconds."""
    crops.sides_of("image_size", image_size)
    part_rows(batch_size, (0, 1))
    _check_batch(source, batch_size)
    if augmentation not in AUGMENTATIONS:
        raise ValueError(f"augmentation: must be one of {', '.join(AUGMENTATIONS)}, got {augmentation!r}.")
    limits = {"mixup_alpha": mixup_alpha, "cutmix_alpha": cutmix_alpha, "randaugment_magnitude": randaugment_magnitude}
    for name, value in limits.items():
        if not 0 <= value < float("inf"):
            raise ValueError(f"{name}: must be a number that is not negative, got {value}; use 0 for none.")
    for name, value in {"random_erasing_rate": random_erasing_rate, "label_smoothing": label_smoothing}.items():
        if not 0 <= value < 1:
            raise ValueError(f"{name}: must be a fraction in [0, 1), got {value}.")
    crops.check_ranges(crop_area, crop_aspect)
    if not 0 <= flip_rate <= 1:
        raise ValueError(f"flip_rate: must be a fraction in [0, 1], got {flip_rate}; use 0 for no mirror images.")
    if augmentation == "keras_cv":
        from keras_mixer.data.keras_cv_augment import make_augmenter  # an optional extra, imported only here

        make_augmenter(randaugment_magnitude, mixup_alpha)


def eval_batches(
    source: Source,
    *,
    batch_size: int,
    image_size: Size,
    crop: str = "resmall",
    pixels: PixelSettings = DEFAULT_PIXELS,
    part: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """Return one pass over a source in order, every image once, the last batch filled up with zeros.

    Args:
        source: a `source.Source`.
        batch_size: images in the global batch.
        image_size: side in pixels, or (height, width).
        crop: "resmall" (short side to 8/7 of the size, centre crop) or "resize" (both sides to 8/7, centre crop) for
            photographs; drawn signs are only resized.
        pixels: a `PixelSettings`, how files become pixels.
        part: as for `train_batches`. Each part has equally many batches, the last one all filling where need be.

    Yields:
        images (B, H, W, channels) float32 in [-1, 1]; labels (B,) int64; mask (B,) float32, 1 for an image, 0 for
        filling; B is batch_size / count.

    Raises:
        ValueError: for a non-positive size, an unknown crop, or a batch that cannot be divided into the parts.

    Example:
        >>> from keras_mixer.data import opening
        >>> digits = opening.open_source("digits", training=False)
        >>> parts = [eval_batches(digits, batch_size=64, image_size=32, part=(i, 2)) for i in range(2)]
        >>> sum(int(tf.reduce_sum(mask)) for part in parts for _, _, mask in part)
        360
    """
    height, width = crops.sides_of("image_size", image_size)
    rows, _ = part_rows(batch_size, part)
    size = batch_size // part[1]
    check_crop(crop)

    def example(record: Record) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        image, label = source.parse(record)
        image = _decoded(image, source, pixels)
        which = crop if source.photographs else "none"
        image = crops.evaluation_crop(image, which, (height, width), pixels.antialias)
        _one_hot(label, len(source.class_names))
        return image, label, tf.constant(1.0)

    def scaled(images: tf.Tensor, *rest: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return to_model_range(grey.to_channels(images, pixels.channels)), *rest

    records = source.records(None, 0) if rows is None else source.records(None, 0, rows)
    data = records.map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    num_batches, count = -(-source.num_examples // batch_size), source.num_examples
    filling = num_batches * size - (count if rows is None else rows.count(count))
    if filling:
        empty = (
            tf.zeros((filling, height, width, 3), tf.uint8),
            tf.zeros((filling,), tf.int64),
            tf.zeros((filling,), tf.float32),
        )
        data = data.concatenate(tf.data.Dataset.from_tensor_slices(empty))
    data = data.batch(size, drop_remainder=True)
    data = data.map(scaled, num_parallel_calls=BATCHES_AHEAD)
    return data.prefetch(BATCHES_AHEAD)


def to_model_range(images: tf.Tensor) -> tf.Tensor:
    """Map uint8 pixels to float32 in [-1, 1]; the same arithmetic as `keras_mixer.preprocess_input`."""
    return tf.cast(images, tf.float32) / 127.5 - 1.0


def check_crop(crop: str) -> None:
    """Raise a ValueError unless `crop` is one of `eval_batches`."""
    if crop not in ("resmall", "resize"):
        raise ValueError(f"crop: must be 'resmall' or 'resize', got {crop!r}.")


def _decoded(image: tf.Tensor, source: Source, pixels: PixelSettings) -> tf.Tensor:
    """Decode where the source gave bytes; three channels either way."""
    if image.dtype == tf.string:
        return decode.decode_image(image, pixels.alpha, pixels.exif_rotation, source.loose_files)
    return tf.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image


def _check_batch(source: Source, batch_size: int) -> None:
    if source.num_examples < batch_size:
        raise ValueError(
            f"batch_size: {source.name} has {source.num_examples} images, fewer than a batch of {batch_size}; "
            "use a smaller --batch_size."
        )


def _one_hot(label: tf.Tensor, num_classes: int) -> tf.Tensor:
    """`tf.one_hot` turns a bad label into zeros; here it stops the run."""
    check = tf.debugging.Assert(
        (label >= 0) & (label < num_classes), [LABEL_ERROR, "0 to", num_classes - 1, "- the dataset has", label]
    )
    with tf.control_dependencies([check]):
        return tf.one_hot(label, num_classes)
