"""The paper's way to choose a learning rate: a grid on a development split, then the best on all training images."""

import json
import os
import pathlib
import shlex
import statistics
import sys
from typing import Any

from keras_mixer import files
from keras_mixer.cli import entry, inputs, jobs, training
from keras_mixer.cli.flags import command
from keras_mixer.data.tasks import Task
from keras_mixer.training import workdir

GRID = (0.003, 0.01, 0.03, 0.06)


def run(settings: Any, given: Any, task: Task | None = None) -> dict[str, Any]:
    """Run a sweep: every run is the command finetune in a process and a workdir of its own, and so resumes by itself.

    Args:
        settings: filled `finetune.Settings`.
        given: the same before they were filled, which every run gets.
        task: of the settings, whose grid is the default.

    Returns:
        What result.json holds.

    Raises:
        ValueError: for rates that are not positive, several workers, or where no learning rate gives a finite loss.
    """
    rates = settings.learning_rates or (task.learning_rates if task else GRID)
    seeds = settings.seeds
    if min(rates) <= 0:
        raise ValueError(f"learning_rates: must be positive numbers, got {','.join(f'{r:g}' for r in rates)!r}.")
    if settings.strategy == "multi_worker" or (settings.strategy == "auto" and os.environ.get("TF_CONFIG")):
        raise ValueError("sweep: does not run on several workers; use --strategy=mirrored, or choose the rate by hand.")
    details, overwrite = {"versions": inputs.versions()}, settings.overwrite
    with workdir.open_workdir(settings.workdir, settings.as_json(training.FREE), details, overwrite) as folder:
        scores: dict[float, Any] = {}
        for rate in rates:
            place = folder / "develop" / f"learning_rate_{rate:g}"
            found = _child(given, place, learning_rate=rate, development=True)
            scores[rate] = found["top1"] if found else None
        finite = [rate for rate in rates if scores[rate] is not None]
        if not finite:
            raise ValueError(
                f"learning_rates: none of {', '.join(f'{r:g}' for r in rates)} gave a finite loss; lower them."
            )
        best = max(finite, key=lambda rate: scores[rate])  # the first of equals
        said = ", ".join(f"{r:g} {'diverged' if scores[r] is None else f'{scores[r]:.2%}'}" for r in rates)
        print(f"development split: {said}; best {best:g}.", flush=True)
        runs = {s: _child(given, folder / "final" / f"seed_{s}", learning_rate=best, seed=s) for s in seeds}
        finals = {s: found["top1"] for s, found in runs.items() if found}
        if len(finals) < len(seeds):
            raise ValueError(
                f"learning_rates: {best:g} was the best, and diverges on all training images; leave it out."
            )
        mean, deviation = statistics.mean(finals.values()), statistics.pstdev(finals.values())
        result = {
            "development_top1": {f"{rate:g}": scores[rate] for rate in rates},
            "learning_rate": best,
            "top1": mean,
            "top1_deviation": deviation,
            "top1_by_seed": {str(s): value for s, value in finals.items()},
        }
        files.write_json(folder / "result.json", result)
        print(
            f"top-1 {mean:.2%}, deviation {deviation:.2%} over {len(seeds)} seed{'s' * (len(seeds) > 1)}, learning "
            f"rate {best:g}: {folder / 'result.json'}. Next:\n"
            f"  {command('predict')} --weights={shlex.quote(str(folder / 'final' / f'seed_{seeds[0]}'))} path/to/images"
        )
    return result


def _child(given: Any, place: pathlib.Path, **changes: Any) -> Any:
    """Run finetune for one setting, or take the result that an earlier start left; None for a loss that diverged."""
    place.mkdir(parents=True, exist_ok=True)
    one = given.with_values(sweep=False, learning_rates=None, seeds=None, workdir=str(place), **changes)
    print(f"\n{place.parent.name}/{place.name}", flush=True)
    code, _, signum = jobs.run(jobs.command_line("finetune", one.arguments()))
    if signum:  # perhaps just as the run ended
        sys.exit(128 + signum)
    if code == entry.EXIT_NOT_FINITE:
        return None
    if code:  # it has said why
        sys.exit(code if code > 0 else 128 - code)
    return json.loads((place / "result.json").read_text())
