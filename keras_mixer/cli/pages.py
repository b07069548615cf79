"""report.html of a run or an evaluation: which commands it names, and that it never costs the run. No framework."""

import contextlib
import dataclasses
import logging
import pathlib
import shlex
from collections.abc import Iterator
from typing import Any

from keras_mixer import buckets
from keras_mixer.cli.flags import Settings, command
from keras_mixer.report import page, run_files
from keras_mixer.report.run_files import EVALUATION, RunFiles

logger = logging.getLogger("keras_mixer")


def about(name: str, given: Settings, filled: Settings) -> dict[str, Any]:
    """Return what the JSON file of a run says of its settings beside their values: command and defaults.

    Args:
        name: of the command.
        given: the settings as they came from the command line.
        filled: those after a preset, a task or a checkpoint has chosen what was not given.

    Returns:
        command: its name and the flags given by hand; defaults: of each setting with another value, the default.
    """
    usual = {f.name: f.default if f.default is not None else f.metadata["usual"] for f in dataclasses.fields(filled)}
    values, defaults = filled.as_json(), filled.with_values(**usual).as_json()
    differ = {key: defaults[key] for key, value in values.items() if value != defaults[key]}
    return {"command": [name, *given.arguments()], "defaults": differ}


@contextlib.contextmanager
def sparing_the_run(folder: pathlib.Path) -> Iterator[None]:
    """Turn any error into a warning: the run is done and saved, whatever becomes of its page."""
    try:
        yield
    except Exception as error:
        logger.warning(
            "%s could not be written (%s: %s); the run itself is saved. Try again: %s.",
            folder / page.NAME,
            type(error).__name__,
            str(error).rstrip("."),
            _line("report", str(folder)),
        )


def write(place: str) -> pathlib.Path:
    """Write report.html into the folder of a run, from the files that are there; return its path.

    Raises:
        ValueError, OSError: of `run_files.read`, or where the page cannot be written.
    """
    run = run_files.read(place)
    path = run.folder / page.NAME
    page.write(path, page.page_of(run, commands_of(run, place)))
    return path


def write_last(place: str) -> None:
    """Do what `write` does, at the end of a run, and say where the page is; an error is a warning."""
    with sparing_the_run(buckets.path_of(place)):
        print(f"All of it on one page: {write(place)}")


def commands_of(run: RunFiles, place: str) -> page.Commands:
    """Return the commands that repeat a run and go on from it, ready to be typed; `place` is its folder as given."""
    place = place.rstrip("/") or place
    found: dict[str, tuple[str, str]] = {}
    name, *arguments = run.about.get("command") or [run.kind]
    if "command" in run.about:
        going_on = run.kind != EVALUATION and not run.result
        what = "Go on with this run" if going_on else "Repeat this evaluation" if run.kind == EVALUATION else ""
        if not what:
            what = "Repeat this run"
            arguments = [part for part in arguments if part != "--overwrite"] + ["--overwrite"]
        found["repeat"] = (what, _line(name, *arguments))
    weights = [f"--weights={place}"]
    if run.kind == EVALUATION:
        # As it was named then; without a name it was the run that pretrain leaves.
        named = {key: run.settings.get(key) for key in ("weights", "model")}
        weights = [f"--{key}={value}" for key, value in named.items() if value]
    elif run.result:
        line = _line("evaluate", *weights, f"--workdir={place}_evaluate")
        found["evaluate"] = ("Evaluate it again, every image once", line)
    if run.result:
        found["predict"] = ("Name what is in images", _line("predict", *weights, "path/to/images"))
        found["export"] = ("Make a model to serve", _line("export", *weights, f"--output={place}_export"))
        found["visualize"] = ("Draw its weights large", _line("visualize", *weights, f"--output={place}_weights"))
    if run.kind != EVALUATION:
        found["plot"] = ("Draw its curves as a picture", _line("plot", f"--workdirs={place}"))
    return found


def _line(name: str, *arguments: str) -> str:
    return f"{command(name)} {shlex.join(arguments)}".strip()
