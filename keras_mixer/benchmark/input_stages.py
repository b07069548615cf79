"""The stages of the input pipeline, for the command benchmark --input."""

from keras_mixer.cli import quiet_tensorflow  # noqa: F401 - first: TensorFlow without its start-up notes

# isort: split
import statistics
from typing import Any

import tensorflow as tf

from keras_mixer import files
from keras_mixer.benchmark import input_speed, peers, phone_stages, timm_input
from keras_mixer.benchmark.memory import peak_mib
from keras_mixer.benchmark.settings import Settings
from keras_mixer.cli import inputs
from keras_mixer.data import augment, crops, decode, pipeline, randaugment
from keras_mixer.data.augment_settings import Augmentation
from keras_mixer.data.source import Source
from keras_mixer.pictures.figure import new_figure

NUM_FILES, NUM_PHONES, CLASSES = 64, 4, 1000
MAGNITUDE, MIXUP_ALPHA = 15, 0.5  # of the paper's ImageNet models
LIMIT, WHOLE = "tf.io.decode_jpeg, the limit", "whole pipeline"
SENT = "whole pipeline of the recipes, bytes to the device"


def run(settings: Settings) -> None:
    """From the bytes of photographs in memory, of 500 x 375 and of 12 megapixels, to batches in [-1, 1]."""
    if settings.compare not in ((), ("timm",)):
        raise ValueError(f"compare: with --input must be timm or left out, got {','.join(settings.compare)!r}.")
    new_figure(1, 1)  # says at once where matplotlib is missing
    if settings.compare:
        peers.check_python(settings.peer_python)
    files.open_folder(settings.output)
    size = settings.image_size or 224
    settings = settings.with_values(image_size=size)
    input_speed.use_one_core()
    photos, phones = input_speed.photographs(NUM_FILES), phone_stages.photographs(NUM_PHONES)
    stages = input_stages(photos, size, settings.batch_size)
    if settings.compare:
        with timm_input.stage(settings.peer_python, photos, size, settings.batch_size) as (name, stage):
            compared = {kept: stages[kept] for kept in (LIMIT, WHOLE)} | {name: stage}
            rates = _report(settings, "input_timm", compared, LIMIT, photos)
        ratio = statistics.median(rates[WHOLE]) / statistics.median(rates[name])
        print(f"{WHOLE}, over {name}: {ratio:.2f}\n")
    _report(settings, "input_speed", stages, LIMIT, photos)
    _report(settings, "input_phone", phone_stages.stages(phones, size), phone_stages.LIMIT, phones)


def _report(settings: Settings, name: str, stages: Any, limit: str, photos: list[bytes]) -> input_speed.Rates:
    """Measure the stages, print the table and write it."""
    rates = input_speed.measure(stages, settings.seconds, settings.rounds)
    kilobytes = sum(map(len, photos)) / len(photos) / 1000
    memory = peak_mib()
    height, width = tf.image.extract_jpeg_shape(photos[0]).numpy()[:2].tolist()
    details = {
        "flags": settings.as_json(),
        "files": {"count": len(photos), "height": height, "width": width, "mean_kilobytes": round(kilobytes, 1)},
        "peak_memory_mib": round(memory),
        "versions": inputs.versions(),
    }
    paths = input_speed.write_report(settings.output, rates, limit, details, name)
    print(input_speed.table(rates, limit, name))
    print(f"{len(photos)} JPEGs of {width} x {height}, {kilobytes:.0f} kB each; peak memory {memory:.0f} MiB")
    print(f"Written: {', '.join(str(path) for path in paths)}")
    return rates


def input_stages(photos: Any, size: Any, batch_size: int) -> Any:
    """Return the stages for `input_speed.measure`."""
    encoded = tf.constant(photos)
    cropped = tf.stack([crops.decode_and_inception_crop(file, [0, k], size) for k, file in enumerate(photos)])
    seed = lambda k: augment.fold_seed(0, k)
    fused = lambda file, k: crops.decode_and_inception_crop(file, seed(k), size)
    small = round(size * 8 / 7)
    stages = {
        LIMIT: (lambda file, k: tf.io.decode_jpeg(file, channels=3), encoded),
        "decode_image": (lambda file, k: decode.decode_image(file), encoded),
        "decode_and_inception_crop": (fused, encoded),
        "inception_crop(decode_image)": (
            lambda file, k: crops.inception_crop(decode.decode_image(file), seed(k), size),
            encoded,
        ),
        "resmall_crop(decode_image)": (
            lambda file, k: crops.resmall_crop(decode.decode_image(file), small, size),
            encoded,
        ),
        "resize_crop(decode_image)": (
            lambda file, k: crops.resize_crop(decode.decode_image(file), small, size),
            encoded,
        ),
        "nothing, the floor of what follows": (lambda image, k: image, cropped),
        "random_flip": (lambda image, k: augment.random_flip(image, seed(k)), cropped),
        "randaugment": (lambda image, k: randaugment.randaugment(image, seed(k), MAGNITUDE), cropped),
    }
    for name in randaugment.OP_NAMES:
        apply: Any = lambda image, k, name=name: randaugment.apply_operation(image, name, MAGNITUDE)
        stages[name] = (apply, cropped)
    datasets = {name: input_speed.of_images(function, images) for name, (function, images) in stages.items()}

    batch = tf.stack([cropped[k % NUM_FILES] for k in range(batch_size)])
    labels = tf.one_hot(tf.range(batch_size), CLASSES)
    floats = tf.cast(batch, tf.float32)
    mixed = lambda k: augment.mixup(floats, labels, seed(k), MIXUP_ALPHA)[0][0, 0, 0, 0]
    scaled = lambda k: pipeline.to_model_range(tf.bitwise.bitwise_xor(batch, tf.cast(k % 2, tf.uint8)))[0, 0, 0, 0]
    endless = tf.data.Dataset.range(2**62)
    stages_of_batches = {"to [-1, 1]": endless.map(scaled).take, "mixup of a batch": endless.map(mixed).take}
    whole = dict(batch_size=batch_size, image_size=size, seed=0)

    def train_batches(elements: Any, as_bytes: bool = False, **more: Any) -> Any:
        source = Source(
            name="photographs",
            num_examples=batch_size,
            class_names=tuple(map(str, range(CLASSES))),
            photographs=True,
            records=lambda *_: tf.data.Dataset.range(elements * batch_size).map(lambda i: encoded[i % NUM_FILES]),
            parse=lambda file: (file, tf.constant(0, tf.int64)),
        )
        how = Augmentation(mixup_alpha=MIXUP_ALPHA, **more)
        return pipeline.train_batches(source, **whole, augmentation=how, as_bytes=as_bytes)

    stages_of_batches["whole pipeline, without RandAugment"] = train_batches
    stages_of_batches[WHOLE] = lambda n: train_batches(n, randaugment_magnitude=MAGNITUDE)
    stages_of_batches[SENT] = lambda n: train_batches(n, as_bytes=True, randaugment_magnitude=MAGNITUDE)
    return datasets | {name: (make, batch_size) for name, make in stages_of_batches.items()}
