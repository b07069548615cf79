"""The throughput column of the paper's tables: inference of a Mixer on images in memory."""

import os
import pathlib
import platform
import time
from typing import Any

import keras
import tensorflow as tf

import keras_mixer
from keras_mixer import files
from keras_mixer.cli import inputs
from keras_mixer.cli.suite_plan import Settings
from keras_mixer.starting_point import StartingPoint
from keras_mixer.training import strategies
from keras_mixer.weights import resolution

BATCH_SIZES = (8, 16, 32, 64, 128, 256, 512, 1024)  # on each device, until there is no gain or no room
SECONDS = 0.5  # at least, and three batches, for each


def measure_throughput(settings: Settings, start: StartingPoint, side: int, given: Any) -> Any:
    """Write the best images/s/core over batch sizes to result.json: inference of the Mixer on images in memory."""
    number = given.get("num_devices")
    strategy = strategies.make_strategy(
        given.get("strategy", "auto"), int(number) if number else None, given.get("tpu")
    )
    precision = given.get("precision", "float32")
    keras.config.set_dtype_policy(precision)
    patches = side // start.sizes["patch_size"]
    trained = (start.image_size or side) // start.sizes["patch_size"]
    factor = resolution.grid_factor((trained, trained), (patches, patches))
    wider = factor[0] * factor[1] if factor else 1  # the token MLPs, as fine-tuning at this size makes them
    sizes = start.sizes | {"tokens_mlp_dim": start.sizes["tokens_mlp_dim"] * wider}
    with strategy.scope():
        model = keras_mixer.MLPMixer(**sizes, input_shape=(side, side, 3), classes=1000, classifier_activation=None)

    @tf.function
    def logits_sum(images: Any) -> Any:
        one = lambda images: tf.reduce_sum(tf.cast(model(images, training=False), tf.float32))
        return strategy.reduce("SUM", strategy.run(one, (images,)), axis=None)

    accelerators = tf.config.list_logical_devices("TPU") or tf.config.list_logical_devices("GPU")
    replicas = strategy.num_replicas_in_sync
    cores = replicas if accelerators else len(os.sched_getaffinity(0))
    best = (0.0, 0)
    for batch_size in BATCH_SIZES:
        images = tf.random.stateless_uniform((batch_size, side, side, 3), (0, 0), -1, 1)
        try:
            logits_sum(images).numpy()  # traced and compiled
            began, steps = time.perf_counter(), 0
            while steps < 3 or time.perf_counter() - began < SECONDS:
                for _ in range(8 if accelerators else 1):
                    total, steps = logits_sum(images), steps + 1
                total.numpy()  # waits for the device
        except tf.errors.ResourceExhaustedError:
            break
        rate = steps * batch_size * replicas / (time.perf_counter() - began)
        print(f"batch {batch_size}: {rate / cores:.4g} images/s/core", flush=True)
        if rate < 0.9 * best[0]:
            break
        best = max(best, (rate, batch_size))
    kind = f"{replicas} {accelerators[0].device_type}" if accelerators else f"{cores} CPU cores, {platform.machine()}"
    result: dict[str, Any] = {"images_per_second_per_core": best[0] / cores, "batch_size": best[1], "image_size": side}
    folder = pathlib.Path(settings.workdir).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    result |= {"machine": f"{kind}, {precision}", "versions": inputs.versions()}
    files.write_json(folder / "result.json", result)
    print(f"{best[0] / cores:.4g} images/s/core at {side} px, batch {best[1]}: {result['machine']}")
