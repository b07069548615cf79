"""What Apache Beam costs beside one process, and what a second process of it brings (docs/results/records.md).

The same records, and the same predictions, are made in turns: by the local path and by Beam's DirectRunner, on one core
with one process and on two cores with two. Each is a command in a process of its own, from its start to its end, so the
seconds hold the imports too. CPU seconds are of the command and of all processes that it started.

    python experiments/beam.py --rounds=3 --images=6000
"""

import argparse
import json
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import time

import numpy as np
from PIL import Image

from keras_mixer.benchmark.markdown import spread, table

WAYS = {
    "one core, local": (1, ()),
    "one core, Beam, 1 process": (1, ("--runner=DirectRunner", "--beam_options=--direct_num_workers=1")),
    "two cores, local": (2, ()),
    "two cores, Beam, 2 processes": (2, ("--runner=DirectRunner", "--beam_options=--direct_num_workers=2")),
}
ROOT = pathlib.Path(__file__).resolve().parent.parent


def write_images(folder: pathlib.Path, count: int) -> None:
    """Write JPEGs of 256 x 256 pixels in two classes: smooth noise, so that they have the bytes of a photograph."""
    rng = np.random.default_rng(0)
    for i in range(count):
        path = folder / "ab"[i % 2] / f"{i:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        small = Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8))
        small.resize((256, 256), Image.Resampling.BICUBIC).save(path, quality=90)


def timed(cores: int, command: list[str]) -> tuple[float, float]:
    """Return the seconds and the CPU seconds of a command on the first cores."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(
        [sys.executable, *command],
        check=True,
        cwd=ROOT,
        env=env,
        stdout=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, range(cores)),
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.monotonic() - began, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", nargs="+", default=["records", "predictions"])
    parser.add_argument("--images", type=int, default=6000)
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("runs/beam"))
    given = parser.parse_args()
    photos, run = given.output / "photos", given.output / "run"
    if not photos.exists():
        write_images(photos, given.images)
    if not run.exists():
        pretrain = ["--dataset=digits", "--image_size=64", "--total_steps=3", "--warmup_steps=1", "--log_steps=1"]
        timed(2, ["recipes/pretrain.py", *pretrain, f"--workdir={run}"])
    records = ["recipes/make_records.py", f"--dataset={photos}", "--num_shards=8"]
    predict = ["recipes/predict.py", f"--weights={run}", str(photos), f"--images_per_file={-(-given.images // 16)}"]
    measured: dict[str, dict[str, list[tuple[float, float]]]] = {what: {way: [] for way in WAYS} for what in given.work}
    for _ in range(given.rounds):
        for what, command in ((w, {"records": records, "predictions": predict}[w]) for w in given.work):
            for way, (cores, flags) in WAYS.items():
                target = given.output / "out"
                shutil.rmtree(target, ignore_errors=True)
                seconds = timed(cores, [*command, *flags, f"--output={target}"])
                measured[what][way].append(seconds)
                print(
                    f"{what}, {way}: {seconds[0]:.1f} s, CPU {seconds[1]:.1f} s; load {os.getloadavg()[0]:.1f}",
                    flush=True,
                )
    titles = {
        "records": f"records of {given.images:,} images, 8 shards",
        "predictions": f"predictions for {given.images:,} images, 16 files",
    }
    for what, ways in measured.items():
        rows = [(way, *(spread(values) for values in zip(*pairs, strict=True))) for way, pairs in ways.items()]
        print("\n" + table((titles[what], "seconds", "CPU seconds"), rows))
    (given.output / "measured.json").write_text(json.dumps(measured))


if __name__ == "__main__":
    main()
