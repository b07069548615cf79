"""Seconds and memory to load a large checkpoint, beside a bare np.load of all its arrays.

    python experiments/load_time.py --model=l16 --classes=21843 --repeats=3

Each number is of a fresh process (import time excluded), the file being in the page cache; the median is printed.
"""

import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np


def write_checkpoint(path, model, classes):
    """Write random weights of a variant in the released layout, without building the model."""
    from keras_mixer import models
    from keras_mixer.weights import layouts, npz

    config = models.VARIANTS[model]
    shapes = layouts.released_shapes(config, tokens=(224 // config["patch_size"]) ** 2, classes=classes)
    rng = np.random.default_rng(0)
    npz.write_npz(path, {name: lambda s=s: 0.02 * rng.standard_normal(s, "float32") for name, s in shapes.items()})


def measure(what, path, model, classes):
    """Run one of the measurements in this process; return seconds and the peak of memory above the imports, in MB."""
    if what == "np.load":
        _peak()
        before, start = _peak(), time.perf_counter()
        with np.load(path) as archive:
            arrays = {name: archive[name] for name in archive.files}
        total = sum(array.nbytes for array in arrays.values())
    else:
        from keras_mixer import models

        build = getattr(models, f"Mixer{model.upper()}")
        build_args = {"weights": path} if what == "build and load" else {"classes": classes}
        models.MLPMixer(4, 1, 4, 4, 4, input_shape=(4, 4, 3))  # the backend's own start
        _peak()
        before, start = _peak(), time.perf_counter()
        total = 4 * build(**build_args).count_params()
    return {"seconds": time.perf_counter() - start, "peak_mb": (_peak() - before) / 1e6, "arrays_mb": total / 1e6}


def _peak():
    """Return this process's largest resident size since the last call, in bytes (Linux)."""
    status = pathlib.Path("/proc/self/status").read_text()
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    return 1024 * int(re.search(r"VmHWM:\s+(\d+)", status)[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="l16")
    parser.add_argument("--classes", type=int, default=21843)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure[0], args.measure[1], args.model, args.classes)))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "checkpoint.npz")
        write_checkpoint(path, args.model, args.classes)
        print(f"{args.model}, {args.classes} classes, {pathlib.Path(path).stat().st_size:,} bytes")
        for what in ("np.load", "build", "build and load"):  # "build" starts at random, as a new model does
            command = [
                sys.executable,
                __file__,
                "--model",
                args.model,
                "--classes",
                str(args.classes),
                "--measure",
                what,
                path,
            ]
            runs = [json.loads(subprocess.check_output(command)) for _ in range(args.repeats)]
            seconds = sorted(run["seconds"] for run in runs)
            print(
                f"{what:15} {statistics.median(seconds):6.2f} s ({seconds[0]:.2f} to {seconds[-1]:.2f}), peak memory "
                f"{max(run['peak_mb'] for run in runs):,.0f} MB for {runs[0]['arrays_mb']:,.0f} MB of arrays"
            )


if __name__ == "__main__":
    main()
