"""Draw the curves of training runs over each other: loss, top-1, learning rate and speed.

Without flags: of all runs under runs/, finished or in progress.

    python recipes/plot.py
    python recipes/plot.py --workdirs=runs/a,runs/b --output=curves.svg --smooth=0.8 --x=seconds
"""

from keras_mixer.cli import entry
from keras_mixer.cli.flags import Settings as BaseSettings
from keras_mixer.cli.flags import setting, settings_class
from keras_mixer.pictures import curves
from keras_mixer.pictures.figure import new_figure
from keras_mixer.training import metrics


@settings_class
class Settings(BaseSettings):
    """Settings of the curves."""

    workdirs: tuple[str, ...] | None = setting(
        None, "Folders of runs, by commas; default all under runs/.", common=True
    )
    output: str = setting(
        "curves.png", "The picture; its suffix is its format, such as .png, .svg or .pdf.", common=True
    )
    smooth: float = setting(0.0, "At least 0 and below 1: weight of the past in the curves of training.", common=True)
    x: str = setting("step", "step, images or seconds.", common=True)


def run(settings: Settings) -> None:
    """Draw the curves of the runs that the settings name."""
    new_figure(1, 1)  # says at once where matplotlib is missing
    given = settings.workdirs
    if given is not None and not all(given or [""]):
        raise ValueError(f"workdirs: must name folders, got {','.join(given)!r}; leave it out for all in runs/.")
    runs = [metrics.read_run(folder) for folder in given or metrics.find_workdirs("runs")]
    names = curves.write_curves(settings.output, runs, settings.smooth, settings.x)
    for one, name in zip(runs, names, strict=True):
        print(f"{name}: {one.progress()}")
    print(f"{'Its' if len(runs) == 1 else 'Their'} curves are in {settings.output}")


if __name__ == "__main__":
    entry.run(Settings, run)
