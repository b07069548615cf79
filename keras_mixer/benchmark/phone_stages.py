"""The stages of the input pipeline on photographs of 12 megapixels, as phones make them, for benchmark --input."""

import io
from typing import Any

import numpy as np
import tensorflow as tf

from keras_mixer.benchmark import input_speed
from keras_mixer.data import augment, crops, decode, file_crops, given_images
from keras_mixer.data.pixel_settings import PixelSettings

HEIGHT, WIDTH, QUALITY = 3000, 4000, 85
NOISE = 6  # grey levels, so that a file has the 2.5 MB of a phone's
TURNED, ORIENTATION = 6, 0x0112  # held upright, and the tag that says so
LIMIT = "tf.io.decode_jpeg, the limit"
PILLOW = "Pillow, draft and resize to the evaluation"


def photographs(count: int) -> list[bytes]:
    """Return `count` JPEGs of 3000 x 4000 pixels and about 2.5 MB, every second one turned by its EXIF data.

    They are those of `input_speed.photographs`, enlarged, with the noise of a sensor.

    Example:
        >>> len(photographs(1)[0]) > 1_000_000
        True
    """
    from PIL import Image  # as in `input_speed`

    files = []
    for k, small in enumerate(input_speed.photographs(count)):
        enlarged = np.asarray(Image.open(io.BytesIO(small)).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))
        noise = np.random.default_rng(k).standard_normal((HEIGHT, WIDTH, 1), np.float32) * NOISE
        exif, file = Image.Exif(), io.BytesIO()
        exif[ORIENTATION] = TURNED if k % 2 else 1
        noisy = Image.fromarray(np.clip(enlarged + noise, 0, 255).astype(np.uint8))
        noisy.save(file, "JPEG", quality=QUALITY, exif=exif)
        files.append(file.getvalue())
    return files


def stages(files: list[bytes], size: int) -> dict[str, input_speed.Stage]:
    """Return the stages for `input_speed.measure`; a photograph upright and one turned take turns in each."""
    encoded, exact = tf.constant(files), PixelSettings(exact_decoding=True)
    seed = lambda k: augment.fold_seed(0, k)
    of_bytes = lambda function: lambda file, k: tf.ensure_shape(tf.numpy_function(function, [file], tf.uint8), None)
    load = given_images.loader(size, "resmall", PixelSettings())
    functions: dict[str, Any] = {
        LIMIT: lambda file, k: tf.io.decode_jpeg(file, channels=3),
        "decode_image": lambda file, k: decode.decode_image(file),
        "training crop": lambda file, k: crops.decode_and_inception_crop(file, seed(k), size),
        "training crop, --exact_decoding": lambda file, k: crops.decode_and_inception_crop(
            file, seed(k), size, pixels=exact
        ),
        PILLOW: of_bytes(lambda file: _by_pillow(file, size)),
        "evaluation": lambda file, k: file_crops.decode_and_evaluation_crop(file, "resmall", size),
        "evaluation, --exact_decoding": lambda file, k: file_crops.decode_and_evaluation_crop(
            file, "resmall", size, exact
        ),
        "load_run().predict, before the model": of_bytes(load),
    }
    return {name: input_speed.of_images(function, encoded) for name, function in functions.items()}


def _by_pillow(file: bytes, size: int) -> np.ndarray:
    from PIL import Image, ImageOps  # as in `input_speed`

    short = round(size * 8 / 7)
    opened = Image.open(io.BytesIO(file))
    opened.draft("RGB", (short, short))
    image = ImageOps.exif_transpose(opened.convert("RGB"))
    sides = round(image.width * short / min(image.size)), round(image.height * short / min(image.size))
    left, top = (sides[0] - size) // 2, (sides[1] - size) // 2
    return np.asarray(image.resize(sides).crop((left, top, left + size, top + size)))
