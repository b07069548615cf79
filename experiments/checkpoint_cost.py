"""Seconds that a checkpoint takes from training: of a save that stops it, and of one in the background.

    python experiments/checkpoint_cost.py --model=b16 --repeats=5
    python experiments/checkpoint_cost.py --model=b16 --repeats=3 --bucket_delay=3    # which needs pip install .[dev]

The state is that of a variant with AdamW. Products of matrices on all cores stand for steps; the lines above the table
say how much slower they are while a state is written. With --bucket_delay, checkpoints go to a server on loopback,
which speaks the protocol of Google Cloud Storage and answers each request of an upload so many seconds late.
"""

import argparse
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

from keras_mixer.benchmark.markdown import table

ROOT = pathlib.Path(__file__).resolve().parent.parent
STOPPING = "before: a save that stops training"
LOST = "now: lost to a save in the background"
WRITING = "now: that save from its begin to its end"


def steps_per_second(until: Callable[[], bool]) -> float:
    """Do what stands for steps until a condition holds; return how many there were in a second."""
    import tensorflow as tf

    count, begin, matrix = 0, time.perf_counter(), tf.ones((1024, 1024))
    while not until() or not count:
        tf.matmul(matrix, matrix).numpy()
        count += 1
    return count / (time.perf_counter() - begin)


def after(seconds: float) -> Callable[[], bool]:
    """Return the condition that so many seconds have gone by."""
    end = time.perf_counter() + seconds
    return lambda: time.perf_counter() > end


def measure(model: str, folder: str, repeats: int) -> Iterator[tuple[str, list[float]]]:
    """Yield what was measured of each save, its name first; in seconds, but for two numbers of steps per second."""
    import tensorflow as tf

    from keras_mixer import buckets, models
    from keras_mixer.training import background, checkpoints, loop, losses, optimizers, schedules

    strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
    with strategy.scope():
        mixer = models.MLPMixer(**models.VARIANTS[model], input_shape=(224, 224, 3), classifier_activation=None)
        optimizer = optimizers.make_optimizer("adamw", schedules.WarmupDecay(1e-3, 10, 1), mixer, weight_decay=0.1)
    trainer = loop.make_trainer(mixer, optimizer, losses.softmax_cross_entropy, strategy, 1)
    print(f"{sum(array.nbytes for array in trainer.state().values()) / 1e6:.0f} MB", flush=True)
    place = buckets.path_of(folder)
    saving = background.Checkpoint(place, 1, trainer.each_array)
    saving.save(0, wait=True)  # the memory of the copy is new
    assert saving.saver is not None
    stopping, lost, writing, alone, beside = [], [], [], [], []
    for step in range(1, 2 * repeats, 2):  # in turns, since what else the machine does comes and goes
        begin = time.perf_counter()
        checkpoints.save_state(place, trainer.state(), step)
        stopping.append(time.perf_counter() - begin)
        alone.append(steps_per_second(after(2)))
        before, begin = saving.seconds, time.perf_counter()
        saving.save(step + 1, wait=False)
        lost.append(saving.seconds - before)
        beside.append(steps_per_second(saving.saver._saving.done))
        writing.append(time.perf_counter() - begin)
        saving.saver.wait()
    saving.close()
    yield STOPPING, stopping
    yield LOST, lost
    yield WRITING, writing
    yield "steps per second, nothing written", alone
    yield "steps per second meanwhile", beside


def report(measured: dict[str, list[float]], bucket: bool) -> None:
    """Print the table of docs/results/many_devices.md; of a bucket, that of docs/results/records.md."""
    saves = {name: measured.pop(name) for name in (STOPPING, LOST, WRITING)}
    for name, values in measured.items():
        print(f"{name}: {statistics.median(values):.0f}, {min(values):.0f} to {max(values):.0f}")
    if not bucket:
        middle = {
            name: (f"{statistics.median(v):.2f} s", f"{min(v):.2f} to {max(v):.2f} s") for name, v in saves.items()
        }
        print("\n" + table(("", "median", "range"), [(name, *cells) for name, cells in middle.items()]))
        return
    stopping, lost, writing = (f"{statistics.median(values):.2g}" for values in saves.values())
    rows = [("that stops training", stopping, stopping), ("in the background, as runs do it", lost, writing)]
    print("\n" + table(("an upload", "seconds that training loses", "seconds until it ends"), rows))


def main() -> None:
    """Measure, and print medians and ranges."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="b16", help="a variant")
    parser.add_argument("--repeats", type=int, default=5, help="saves of each kind")
    parser.add_argument("--bucket_delay", type=float, help="seconds; to a bucket, where it is given")
    parser.add_argument("--folder", help="where checkpoints go; a temporary folder where it is left out")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        if given.bucket_delay is None:
            report(
                dict(measure(given.model, given.folder or temporary, given.repeats)),
                (given.folder or "").startswith("gs:"),
            )
            return
        sys.path.insert(0, str(ROOT / "tests"))
        import bucket_server

        with bucket_server.serve(pathlib.Path(temporary)) as served:
            served.create("data")
            served.fault("(POST|PUT) .*upload", f"wait {given.bucket_delay}", count=10**6)
            command = [sys.executable, __file__, f"--model={given.model}", f"--repeats={given.repeats}"]
            environment = {**os.environ, **served.environment}
            subprocess.run([*command, "--folder=gs://data/checkpoints"], env=environment, check=True)


if __name__ == "__main__":
    main()
