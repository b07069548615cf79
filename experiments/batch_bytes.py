"""What it costs to send batches to the device as bytes, and as floats mixed on the host; docs/results/input_speed.md.

    python experiments/batch_bytes.py
    python experiments/batch_bytes.py --model=b16 --batch_size=256 --precision=mixed_bfloat16    # on a GPU

Host time is CPU time of one thread, of the whole pipeline (RandAugment 15, mixup 0.5). Both kinds are measured
in turns. The last rates are those of training: from JPEGs in memory to the optimizer, on all cores and the first GPU.
"""

import argparse
import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

from keras_mixer.cli import quiet_tensorflow  # noqa: F401 - first: TensorFlow without its start-up notes

# isort: split
import keras
import tensorflow as tf

from keras_mixer import models
from keras_mixer.benchmark import input_speed
from keras_mixer.benchmark.markdown import spread, table
from keras_mixer.data import pipeline
from keras_mixer.data.augment_settings import Augmentation
from keras_mixer.data.mixing import Finish
from keras_mixer.data.source import Source
from keras_mixer.training import loop, losses, optimizers, schedules
from keras_mixer.training.step import Execution, Ready

CLASSES = 1000
HOW = Augmentation(randaugment_magnitude=15, mixup_alpha=0.5)
KINDS: dict[str, tuple[Callable[..., Any], Any]] = {
    "floats": (pipeline.train_batches, Ready()),
    "bytes": (functools.partial(pipeline.train_batches, as_bytes=True), Finish(HOW, CLASSES)),
}


def source_of(num_batches: int, batch_size: int) -> Source:
    """Return so many batches of photographs of 500 x 375 pixels, in memory."""
    encoded = tf.constant(input_speed.photographs(64))
    return Source(
        name="photographs",
        num_examples=batch_size,
        class_names=tuple(map(str, range(CLASSES))),
        photographs=True,
        records=lambda *_: tf.data.Dataset.range(num_batches * batch_size).map(lambda i: encoded[i % 64]),
        parse=lambda file: (file, tf.constant(0, tf.int64)),
    )


def host_rates(batch_size: int, seconds: float, rounds: int) -> dict[str, list[float]]:
    """Return images per second of CPU time of each kind, a value for each round."""
    stage = lambda make: (
        lambda n: make(source_of(n, batch_size), batch_size=batch_size, image_size=224, seed=0, augmentation=HOW)
    )
    return input_speed.measure({kind: (stage(make), batch_size) for kind, (make, _) in KINDS.items()}, seconds, rounds)


def step_times(name: str, batch_size: int, rounds: int, steps_each: int, from_jpegs: bool) -> dict[str, list[float]]:
    """Return seconds of a training step of each kind, a value for each round of so many steps.

    Without `from_jpegs` the batch is on the device already; with it the pipeline makes each one meanwhile.
    """
    steps, strategy = {}, tf.distribute.get_strategy()
    for kind, (make, prepare) in KINDS.items():
        model = models.MLPMixer(**models.VARIANTS[name], classifier_activation=None)
        optimizer = optimizers.make_optimizer("adamw", schedules.WarmupDecay(1e-3, 10, 1), model, weight_decay=0.1)
        given = model, optimizer, losses.softmax_cross_entropy, strategy, batch_size, Execution(), prepare
        run = loop.make_trainer(*given).make_train_function()
        source = source_of(2**20, batch_size)
        data = make(source, batch_size=batch_size, image_size=224, seed=0, augmentation=HOW)
        steps[kind] = (run, iter(data if from_jpegs else data.take(1).cache().repeat()))
    times: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for i in range(rounds + 1):
        for kind, (run, batches) in steps.items():
            begin = time.perf_counter()
            run(batches, tf.constant(steps_each), tf.constant(0.0))["rows"].numpy()
            if i:  # the first one compiles
                times[kind].append((time.perf_counter() - begin) / steps_each)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="s16", help="of the steps")
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=1, help="of a round; on a GPU some 20")
    parser.add_argument("--precision", choices=("float32", "mixed_bfloat16"), default="float32")
    args = parser.parse_args()
    keras.config.set_dtype_policy(args.precision)
    sizes = []
    for make, _ in KINDS.values():
        spec = make(source_of(1, 4096), batch_size=4096, image_size=224, seed=0, augmentation=HOW).element_spec
        size = sum(tensor.shape.num_elements() * tensor.dtype.size for tensor in spec)
        sizes.append(f"{size / 1e6:,.0f} MB")
    settings = args.model, args.batch_size, args.rounds, args.steps
    steps = step_times(*settings, from_jpegs=False)
    for kind, values in step_times(*settings, from_jpegs=True).items():
        rates = [args.batch_size / value for value in values]
        print(
            f"{kind:7} training takes {statistics.median(rates):.1f} images/s from JPEGs ({min(rates):.1f} to "
            f"{max(rates):.1f})"
        )
    hosts = host_rates(args.batch_size, 3.0, args.rounds)
    millis = [" ms (".join(spread([1000 / v for v in hosts[kind]], ".3f").split(" (")) for kind in KINDS]
    device = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    rows = [
        ("a batch of 4,096 images at 224 px", *sizes),
        ("CPU time of the host for an image", *millis),
        (
            f"a training step on the {device}, fastest of {args.rounds}",
            *(f"{min(steps[kind]):.3f} s" for kind in KINDS),
        ),
    ]
    print("\n" + table(("", "floats, mixed on the host", "bytes"), rows))


if __name__ == "__main__":
    main()
