"""The paper's way to choose a learning rate: a grid on a development split, then the best on all training images."""

import json
import pathlib
import signal
import statistics
import subprocess
import sys

from absl import flags

import common
from keras_mixer.training import workdir

FLAGS = flags.FLAGS
GRID = (0.003, 0.01, 0.03, 0.06)


def run(task=None):
    """Run --sweep: every run is this command again in a process and a workdir of its own, and so resumes by itself."""
    rates = _numbers("learning_rates", FLAGS.learning_rates or (task.learning_rates if task else GRID), float)
    seeds = _numbers("seeds", FLAGS.seeds, int)
    settings = common.settings({"workdir", "overwrite", "strategy", "num_devices", "tpu", "data_dir", "manual_dir"})
    with workdir.open_workdir(FLAGS.workdir, settings, {"versions": common.versions()}, FLAGS.overwrite) as folder:
        scores = {}
        for rate in rates:
            place = folder / "develop" / f"learning_rate_{rate:g}"
            scores[rate] = _child(place, learning_rate=rate, development=True)["top1"]
        best = max(rates, key=lambda rate: scores[rate])  # the first, and so the lowest written, of equals
        print(
            "development split: " + ", ".join(f"{rate:g} {scores[rate]:.2%}" for rate in rates) + f"; best {best:g}.",
            flush=True,
        )
        finals = {s: _child(folder / "final" / f"seed_{s}", learning_rate=best, seed=s)["top1"] for s in seeds}
        mean, deviation = statistics.mean(finals.values()), statistics.pstdev(finals.values())
        workdir.write_json(
            folder / "result.json",
            {
                "development_top1": {f"{rate:g}": scores[rate] for rate in rates},
                "learning_rate": best,
                "top1": mean,
                "top1_deviation": deviation,
                "top1_by_seed": {str(s): value for s, value in finals.items()},
            },
        )
        print(
            f"top-1 {mean:.2%}, deviation {deviation:.2%} over {len(seeds)} seed{'s' * (len(seeds) > 1)}, learning "
            f"rate {best:g}: {folder / 'result.json'}"
        )


def _numbers(name, values, kind):
    try:
        numbers = [kind(value) for value in values]
    except ValueError:
        numbers = []
    if not numbers or len(set(numbers)) < len(numbers) or min(numbers) < 0 or (kind is float and min(numbers) == 0):
        raise ValueError(f"{name}: must be different numbers separated by commas, got {','.join(map(str, values))!r}.")
    return numbers


def _child(place, **changes):
    """Run this recipe for one setting, or take the result that an earlier start left; return result.json."""
    place.mkdir(parents=True, exist_ok=True)
    left_out = {"sweep", "learning_rates", "seeds", "workdir", "overwrite", "development", *changes}
    given = [
        f"--{flag.name}={','.join(flag.value) if isinstance(flag.value, list) else flag.value}"
        for flag in FLAGS.get_key_flags_for_module(sys.argv[0])
        if flag.name not in left_out and flag.present
    ]
    command = [sys.executable, sys.argv[0], *given, f"--workdir={place}"]
    command += [f"--{name}={value}" for name, value in changes.items()] + ["--overwrite"] * FLAGS.overwrite
    print(f"\n{place.parent.name}/{place.name}", flush=True)
    process = subprocess.Popen(command)
    # Ctrl-C reaches both from the terminal; what is sent to this process alone goes on to the run that does the work.
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    signal.signal(signal.SIGTERM, lambda number, _: process.send_signal(number))
    signal.signal(signal.SIGINT, lambda *_: None)
    try:
        code = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if code:  # it has said why
        sys.exit(code if code > 0 else 128 - code)
    return json.loads((pathlib.Path(place) / "result.json").read_text())
