"""How many pictures are decoded at a fraction of their size, and how far their pixels are from those of the whole.

    python experiments/reduced_decoding.py

The sizes are drawn from a mixture that imitates ImageNet's: the long side is 500 in most pictures, smaller in others,
and up to several thousand pixels in a few. Its mean is near the 469 x 387 that is published for ImageNet. The
differences are those of photographs of 12 megapixels that the benchmark makes.
"""

import numpy as np
import tensorflow as tf

from keras_mixer.benchmark import phone_stages
from keras_mixer.benchmark.markdown import table
from keras_mixer.data import crops, decode, file_crops, jpeg_parts
from keras_mixer.data.pixel_settings import PixelSettings

SIZE, PICTURES, WINDOWS, PHOTOGRAPHS = 224, 4000, 10, 4
ASPECTS = (4 / 3, 3 / 2, 1.0, 1.2, 1.6)


def imagenet_sizes(count: int) -> np.ndarray:
    """Return (count, 2) int32, height and width of pictures."""
    rng = np.random.default_rng(0)
    kind = rng.choice(3, count, p=(0.71, 0.25, 0.04))
    small, large = rng.lognormal(np.log(300), 0.4, count), rng.lognormal(np.log(1100), 0.5, count)
    longer = np.choose(kind, [np.full(count, 500), np.clip(small, 60, 500), np.clip(large, 600, 5000)])
    shorter = longer / rng.choice(ASPECTS, count, p=(0.55, 0.2, 0.1, 0.1, 0.05))
    upright = rng.random(count) < 0.25
    return np.where(upright[:, None], np.stack([longer, shorter], 1), np.stack([shorter, longer], 1)).astype(np.int32)


@tf.function
def ratio_of_evaluation(shape: tf.Tensor) -> tf.Tensor:
    """Return the index of the ratio that an evaluation decodes a picture of (H, W) at."""
    return jpeg_parts.ratio_index(shape, shape, crops.resized_sides("resmall", shape, (SIZE, SIZE)))


@tf.function
def ratio_of_window(shape: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Return the index of the ratio that a training crop decodes at."""
    _, extent = crops.inception_window(shape, seed, crops.CROP_AREA, crops.CROP_ASPECT)
    return jpeg_parts.ratio_index(shape, extent[:2], (SIZE, SIZE))


def levels(one: tf.Tensor, other: tf.Tensor) -> float:
    """Return the mean absolute difference in grey levels."""
    return float(np.abs(one.numpy().astype(float) - other.numpy().astype(float)).mean())


def main() -> None:
    """Print both."""
    sizes = imagenet_sizes(PICTURES)
    evaluated = [int(ratio_of_evaluation(shape)) > 0 for shape in sizes]
    cropped = [int(ratio_of_window(s, tf.constant([k, i]))) > 0 for i, s in enumerate(sizes) for k in range(WINDOWS)]
    height, width = sizes.mean(axis=0)
    print(f"{PICTURES} sizes, mean {width:.0f} x {height:.0f}, largest side {sizes.max()}:")
    print(f"decoded at a fraction in an evaluation at {SIZE} px: {np.mean(evaluated):.2%} of the pictures")
    print(f"decoded at a fraction in training at {SIZE} px: {np.mean(cropped):.2%} of the crops\n")
    exact, files = PixelSettings(exact_decoding=True), phone_stages.photographs(PHOTOGRAPHS)
    lines = []
    for crop in crops.EVALUATION_CROPS:
        rows = []
        for file in files:
            reduced = file_crops.decode_and_evaluation_crop(file, crop, SIZE)
            whole = file_crops.decode_and_evaluation_crop(file, crop, SIZE, exact)
            image = decode.decode_image(file)
            average = tf.image.resize(
                image, crops.resized_sides(crop, tf.shape(image)[:2], (SIZE, SIZE)), method="area"
            )
            average = tf.round(tf.image.resize_with_crop_or_pad(average, SIZE, SIZE))
            rows.append((levels(reduced, whole), levels(reduced, average), levels(whole, average)))
        lines.append((f"`{crop}`", *shown(rows)))
    lines.append(("training crop", *of_training(files, exact)))
    print(
        table(
            ("crop", "from the exact pixels", "from the average by area", "the exact pixels from that average"), lines
        )
    )


def shown(rows: list[tuple[float, ...]]) -> list[str]:
    """Return the means of some measurements."""
    return [f"{value:.1f}" for value in np.mean(rows, axis=0)]


def of_training(files: list[bytes], exact: PixelSettings) -> list[str]:
    """Return the means of training crops."""
    rows = []
    for k, file in enumerate(files):
        image = decode.decode_image(file)
        for seed in range(WINDOWS):
            reduced = crops.decode_and_inception_crop(file, [seed, k], SIZE)
            whole = crops.decode_and_inception_crop(file, [seed, k], SIZE, pixels=exact)
            window = crops.inception_window(tf.shape(image)[:2], [seed, k], crops.CROP_AREA, crops.CROP_ASPECT)
            average = tf.round(tf.image.resize(tf.slice(image, *window), (SIZE, SIZE), method="area"))
            rows.append((levels(reduced, whole), levels(reduced, average), levels(whole, average)))
    return shown(rows)


if __name__ == "__main__":
    main()
