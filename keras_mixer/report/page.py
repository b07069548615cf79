"""The page of one run, and the page of several side by side, from templates that escape whatever they are given."""

import os
import pathlib
import urllib.parse
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import jinja2

from keras_mixer import buckets, files
from keras_mixer._version import __version__
from keras_mixer.report import charts, sections
from keras_mixer.report.run_files import RunFiles

NAME = "report.html"
KINDS = {"pretrain": "pre-training", "finetune": "fine-tuning", "evaluate": "evaluation"}
Commands = Mapping[str, tuple[str, str]]  # key -> what it is for, the line to type


def page_of(run: RunFiles, commands: Commands) -> str:
    """Return the page of a run as HTML that needs no other file.

    Args:
        run: from `run_files.read`.
        commands: to repeat the run, and to go on from it. Where a part of the page is missing, "evaluate" fills it in.
    """
    evidence = run.evidence
    calibration = evidence.get("calibration")
    return _render(
        "report.html.jinja",
        run=run,
        title=f"{run.folder.name or run.folder.resolve().name}: {KINDS.get(run.kind, run.kind)}",
        headline=sections.headline(run),
        facts=sections.facts(run),
        curves=sections.curves([run.metrics], [""]) if run.metrics else [],
        confusion=sections.confusion(run),
        classes=sections.classes(run),
        data=sections.data(run),
        calibration=calibration and {**calibration, "chart": charts.reliability(calibration["bins"])},
        settings=sections.settings(run),
        machine=sections.machine(run),
        commands=commands,
        training_page=_training_page(run),
    )


def side_by_side(runs: Sequence[RunFiles], names: Sequence[str]) -> str:
    """Return one page of several runs: their numbers, the settings that differ, and their curves over each other.

    Args:
        runs: from `run_files.read`.
        names: of the runs, such as from `training.metrics.run_names`.
    """
    numbers = [{row["name"]: row for row in (*sections.headline(run), *sections.facts(run))} for run in runs]
    with_curves = [(run.metrics, name) for run, name in zip(runs, names, strict=True) if run.metrics]
    return _render(
        "reports.html.jinja",
        runs=runs,
        names=names,
        title=f"{len(runs)} runs side by side",
        numbers=[(key, [of.get(key) for of in numbers]) for key in dict.fromkeys(k for of in numbers for k in of)],
        differing=sections.differing(runs),
        curves=sections.curves([run for run, _ in with_curves], [name for _, name in with_curves])
        if with_curves
        else [],
        without_curves=[name for run, name in zip(runs, names, strict=True) if not run.metrics],
    )


def write(path: pathlib.Path, text: str) -> None:
    """Write a page whole or not at all; raise a `files.SaveError` where that cannot be done."""
    files.write_text(path, text)


def _render(template: str, **values: Any) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: (_assets() / name).read_text("utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["version"] = __version__
    return environment.get_template(template).render(**values)


def _assets() -> Any:
    return resources.files("keras_mixer") / "assets"


def _training_page(run: RunFiles) -> str | None:
    """Return the way from an evaluation's page to that of the training run, where it has one."""
    text = str(run.settings.get("weights") or "runs/pretrain")
    page = pathlib.Path(text).expanduser() / NAME
    remote = "://" in text or buckets.is_bucket(run.folder)
    if run.kind != "evaluate" or remote or not page.is_file():
        return None
    return urllib.parse.quote(os.path.relpath(page.resolve(), run.folder.resolve()))
