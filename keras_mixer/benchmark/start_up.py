"""Time and memory until something can be used, each measurement in a fresh Python process."""

import inspect
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from keras_mixer import files
from keras_mixer.benchmark import markdown, measuring, memory, speed_report
from keras_mixer.benchmark.settings import Settings
from keras_mixer.paper import VARIANTS
from keras_mixer.pictures.figure import new_figure

# argv: what runs before the clock, and what is measured. The peak before is forgotten, where the system can.
PROGRAM = f"""
{inspect.getsource(memory)}
import json, time
space = {{}}
exec(sys.argv[1], space)
forget_peak()
before = peak_mib()
forget_peak()
start = time.perf_counter()
exec(sys.argv[2], space)
seconds = time.perf_counter() - start
after = peak_mib()
print(json.dumps({{"seconds": seconds, "peak_mib": after, "added_mib": after - before}}))
"""


def run_once(before: str, code: str, python: str = sys.executable) -> dict[str, float]:
    """Run `before`, then time `code`, both Python source, in a fresh process.

    Returns:
        By name: seconds of `code`, peak_mib of the process while it ran, added_mib, that above what was in use before.

    Raises:
        ValueError: if the process fails, with the last line it wrote.

    Example:
        >>> sorted(run_once("", "import json"))
        ['added_mib', 'peak_mib', 'seconds']
    """
    result = subprocess.run([python, "-c", PROGRAM, before, code], capture_output=True, text=True, check=False)
    if result.returncode:
        lines = result.stderr.strip().splitlines() or [f"exit code {result.returncode}"]
        raise ValueError(f"start_up: {code.strip()!r} failed: {lines[-1]}")
    return json.loads(result.stdout.splitlines()[-1])


def measure(
    pieces: Mapping[str, tuple[str, str]], rounds: int, progress: Callable[[str], None] = lambda line: None
) -> list[dict[str, Any]]:
    """Measure each piece of code once per round, in turn.

    Args:
        pieces: name -> (source that runs before the clock, source to measure).
        rounds: processes for each.
        progress: called with a line after each measurement.

    Returns:
        Rows with name; seconds, peak_mib and added_mib, medians; rounds, every measurement.
    """
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in pieces}
    for k in range(rounds):
        for name, (before, code) in pieces.items():
            runs[name].append(run_once(before, code))
            progress(f"round {k + 1} of {rounds}: {name} {runs[name][-1]['seconds']:.2f} s")
    keys = ("seconds", "peak_mib", "added_mib")
    return [
        {"name": name, **{key: statistics.median(run[key] for run in many) for key in keys}, "rounds": many}
        for name, many in runs.items()
    ]


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return a Markdown table of medians and ranges; memory is what the process grew by."""
    lines = []
    for row in rows:
        seconds = [run["seconds"] for run in row["rounds"]]
        times = f"{row['seconds']:.2f}, {min(seconds):.2f} to {max(seconds):.2f}"
        lines.append([row["name"], times, f"{row['added_mib']:,.0f}"])
    return markdown.table(["", "seconds, range", "added memory, MiB"], lines)


def run(settings: Settings) -> None:
    """Seconds and memory of the imports, and of building and loading each variant, in fresh processes."""
    new_figure(1, 1)  # says at once where matplotlib is missing
    known = {name: f"Mixer{name.upper()}" for name in VARIANTS}
    if settings.model == "tiny":
        raise ValueError(f"model: with --start_up use one of {', '.join(known)}, or none, got 'tiny'.")
    chosen = {settings.model: known[settings.model]} if settings.model else known
    files.open_folder(settings.output)
    # The backend's own start is not the model's.
    ready = "import keras_mixer; keras_mixer.MLPMixer(4, 1, 4, 4, 4, input_shape=(4, 4, 3))"
    pieces = {"import keras": ("", "import keras"), "import keras_mixer": ("", "import keras_mixer")}
    with tempfile.TemporaryDirectory() as folder:
        for name, function in chosen.items():
            path = os.path.join(folder, f"{name}.npz")
            measuring.progress(f"writing a checkpoint of {name}")
            run_once("", f"{ready}; keras_mixer.save_checkpoint(keras_mixer.{function}(), {path!r})")
            pieces[f"build {name}"] = (ready, f"keras_mixer.{function}()")
            pieces[f"build and load {name}"] = (ready, f"keras_mixer.{function}(weights={path!r})")
        result = measuring.new_result(settings, "start_up", settings.model or "all")
        result["rows"] = measure(pieces, settings.rounds, measuring.progress)
    text = f"{result['title']}\n\n{table(result['rows'])}"
    figure = speed_report.start_up_figure(result["rows"])
    measuring.finish(text, speed_report.write(settings.output, "start_up", result, text, figure), [])
