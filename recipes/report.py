"""Write report.html of runs: numbers, curves, mistakes, classes, settings and commands on one page without network.

pretrain, finetune and evaluate write it at their end; this writes it anew, also of a run in progress. Without
arguments: of the run in runs/pretrain. Of several runs, one page more lays them side by side.

    python recipes/report.py
    python recipes/report.py runs/small runs/large --output=runs/sizes.html
"""

import pathlib

from keras_mixer import files
from keras_mixer.cli import entry, pages
from keras_mixer.cli.flags import Settings as BaseSettings
from keras_mixer.cli.flags import command, setting, settings_class
from keras_mixer.report import page, run_files
from keras_mixer.training import metrics

DEFAULT = "runs/pretrain"


@settings_class
class Settings(BaseSettings):
    """Settings of the pages."""

    places: tuple[str, ...] = setting((), "Folders of runs or evaluations; default runs/pretrain.", positional=True)
    output: str | None = setting(
        None, "Of several runs: the page that lays them side by side; default reports.html.", common=True
    )


def run(settings: Settings) -> list[pathlib.Path]:
    """Write the pages that the settings name; return their paths."""
    places = settings.places or (DEFAULT,)
    if not all(places):
        raise ValueError("places: must name folders of runs, got an empty text.")
    if not settings.places and not pathlib.Path(DEFAULT).is_dir():
        raise ValueError(f"places: {DEFAULT} is not there; make it with {command('pretrain')}, or name a run's folder.")
    if settings.output is not None and len(places) == 1:
        raise ValueError(
            f"output: one run's page is {page.NAME} in its folder; name several runs, or leave --output out."
        )
    names = metrics.run_names(places) if len(places) > 1 else []
    runs = [run_files.read(place) for place in places]  # all of them first, so that a wrong one leaves nothing written
    together = output_of(settings) if len(places) > 1 else None
    written = [pages.write(place) for place in places]
    if together is not None:
        page.write(together, page.side_by_side(runs, names))
        written.append(together)
    for path in written:
        print(path)
    return written


def output_of(settings: Settings) -> pathlib.Path:
    """Return --output as the path of a page, once it can be written."""
    path = pathlib.Path(settings.output or "reports.html").expanduser()
    if path.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"output: {str(path)!r} must end in .html.")
    if path.is_dir():
        raise ValueError(f"output: {path} is a folder; name a file in it.")
    files.open_folder(path.parent)
    return path


if __name__ == "__main__":
    entry.run(Settings, run)
