"""The paper's way to choose a learning rate: a grid on a development split, then the best on all training images."""

import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from absl import flags

from keras_mixer import files
from keras_mixer.cli import entry, training
from keras_mixer.cli.command_line import command
from keras_mixer.data.tasks import Task
from keras_mixer.training import workdir

FLAGS: Any = flags.FLAGS
GRID = (0.003, 0.01, 0.03, 0.06)


def run(task: Task | None = None) -> None:
    """Run --sweep: every run is this command again in a process and a workdir of its own, and so resumes by itself.

    Raises:
        ValueError: for bad lists of numbers, several workers, or where no learning rate gives a finite loss.
    """
    rates = _numbers("learning_rates", FLAGS.learning_rates or (task.learning_rates if task else GRID), float)
    seeds = _numbers("seeds", FLAGS.seeds, int)
    if FLAGS.strategy == "multi_worker" or (FLAGS.strategy == "auto" and os.environ.get("TF_CONFIG")):
        raise ValueError("sweep: does not run on several workers; use --strategy=mirrored, or choose the rate by hand.")
    settings = entry.settings(training.FREE_FLAGS)
    with workdir.open_workdir(FLAGS.workdir, settings, {"versions": entry.versions()}, FLAGS.overwrite) as folder:
        scores: dict[float, Any] = {}
        for rate in rates:
            found = _child(folder / "develop" / f"learning_rate_{rate:g}", learning_rate=rate, development=True)
            scores[rate] = found["top1"] if found else None
        finite = [rate for rate in rates if scores[rate] is not None]
        if not finite:
            raise ValueError(
                f"learning_rates: none of {', '.join(f'{r:g}' for r in rates)} gave a finite loss; lower them."
            )
        best = max(finite, key=lambda rate: scores[rate])  # the first of equals
        said = ", ".join(f"{r:g} {'diverged' if scores[r] is None else f'{scores[r]:.2%}'}" for r in rates)
        print(f"development split: {said}; best {best:g}.", flush=True)
        runs = {s: _child(folder / "final" / f"seed_{s}", learning_rate=best, seed=s) for s in seeds}
        finals = {s: found["top1"] for s, found in runs.items() if found}
        if len(finals) < len(seeds):
            raise ValueError(
                f"learning_rates: {best:g} was the best, and diverges on all training images; leave it out."
            )
        mean, deviation = statistics.mean(finals.values()), statistics.pstdev(finals.values())
        files.write_json(
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
            f"rate {best:g}: {folder / 'result.json'}. Next:\n"
            f"  {command('predict')} --weights={folder / 'final' / f'seed_{seeds[0]}'} path/to/images"
        )


def _numbers(name: str, values: Any, kind: Callable[[str], Any]) -> list[Any]:
    try:
        numbers = [kind(value) for value in values]
    except ValueError:
        numbers = []
    if not numbers or len(set(numbers)) < len(numbers) or min(numbers) < 0 or (kind is float and min(numbers) == 0):
        raise ValueError(f"{name}: must be different numbers separated by commas, got {','.join(map(str, values))!r}.")
    return numbers


def _child(place: pathlib.Path, **changes: Any) -> Any:
    """Run this recipe for one setting, or take the result that an earlier start left.

    Returns:
        What result.json holds, or None where the loss was not finite.
    """
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
    process = subprocess.Popen(command, stderr=sys.stderr)  # which may be a terminal
    received = []

    def forward(number: int, _: Any) -> None:
        received.append(number)
        if number == signal.SIGTERM:  # Ctrl-C reaches both from the terminal
            process.send_signal(number)

    before = {number: signal.signal(number, forward) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        code = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if received:  # perhaps just as the run ended
        sys.exit(128 + received[0])
    if code == entry.EXIT_NOT_FINITE:
        return None
    if code:  # it has said why
        sys.exit(code if code > 0 else 128 - code)
    return json.loads((pathlib.Path(place) / "result.json").read_text())
