"""How the input pipeline scales over cores, and what bounds it; docs/results/input_speed.md.

    python experiments/input_scaling.py

Every number is of a process of its own, bound to so many cores, in turns: photographs in memory to batches of bytes
with RandAugment 15 and mixup 0.5. The last row is what one thread of a pipeline does on any number of cores: it takes
images that are finished, copies them into batches and hands these on. Its rate bounds a pipeline.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

from keras_mixer.benchmark.markdown import spread, table

KINDS = {  # name -> what is measured, and whether with a private pool of threads
    "whole pipeline, TensorFlow's threads": ("whole", False),
    "whole pipeline, a private pool of threads": ("whole", True),
    "finished images copied into batches, and nothing else": ("end", False),
}
BATCH_SIZE = 128


def rate(what: str, cores: int, private: bool, seconds: float) -> float:
    """Return images per second of wall time on some cores."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    from keras_mixer.cli import quiet_tensorflow  # noqa: F401 - first: TensorFlow without its start-up notes

    # isort: split
    import tensorflow as tf

    from keras_mixer.benchmark import input_speed
    from keras_mixer.data import pipeline
    from keras_mixer.data.augment_settings import Augmentation
    from keras_mixer.data.source import Source

    encoded = tf.constant(input_speed.photographs(64))
    images = tf.zeros((64, 224, 224, 3), tf.uint8)
    source = Source(
        name="photographs",
        num_examples=10**6,
        class_names=tuple(map(str, range(1000))),
        photographs=True,
        records=lambda *_: tf.data.Dataset.range(2**40).map(lambda i: encoded[i % 64]),
        parse=lambda file: (file, tf.constant(0, tf.int64)),
    )
    if what == "whole":
        how = Augmentation(randaugment_magnitude=15, mixup_alpha=0.5)
        sizes = dict(batch_size=BATCH_SIZE, image_size=224, seed=0)
        data = pipeline.train_batches(source, **sizes, augmentation=how, as_bytes=True)
    else:
        data = tf.data.Dataset.range(2**40).map(lambda i: images[i % 64], tf.data.AUTOTUNE)
        data = data.batch(BATCH_SIZE, drop_remainder=True).prefetch(2)
    if private:
        options = tf.data.Options()
        options.threading.private_threadpool_size = cores
        data = data.with_options(options)
    iterator = iter(data)
    for _ in range(3):
        next(iterator)
    begin, count = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        next(iterator)
        count += BATCH_SIZE
    return count / (time.perf_counter() - begin)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cores", default="1,2", help="numbers of cores")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="of one measurement")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        what, cores, private, seconds = json.loads(args.one)
        print(rate(what, cores, private, seconds))
        return
    cores = [int(number) for number in args.cores.split(",")]
    found: dict[tuple[str, int], list[float]] = {(name, n): [] for name in KINDS for n in cores}
    for _ in range(args.rounds):
        for (name, n), values in found.items():
            what, private = KINDS[name]
            command = [sys.executable, __file__, "--one", json.dumps([what, n, private, args.seconds])]
            output = subprocess.run(command, capture_output=True, check=True, text=True).stdout
            values.append(float(output.split()[-1]))
    rows = []
    for name in KINDS:
        medians = [statistics.median(found[name, n]) for n in cores]
        rates = [spread(found[name, n], ",.0f") for n in cores]
        rows.append((name, *rates, f"{medians[-1] / medians[0]:.2f}"))
    print(table(("images/s", *(f"{n} core{'s' * (n > 1)}" for n in cores), "ratio"), rows))


if __name__ == "__main__":
    main()
