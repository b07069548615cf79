"""Draw the curves of training runs over each other: loss, top-1, learning rate and speed.

Without flags: of all runs under runs/, finished or in progress.

    python recipes/plot.py
    python recipes/plot.py --workdirs=runs/a,runs/b --output=curves.svg --smooth=0.8 --x=seconds
"""

import sys
from typing import Any

from absl import flags

from keras_mixer.cli import command_line
from keras_mixer.pictures import curves
from keras_mixer.pictures.figure import new_figure
from keras_mixer.training import metrics

FLAGS: Any = flags.FLAGS
flags.DEFINE_list("workdirs", None, "Folders of runs, by commas; default all under runs/.")
flags.DEFINE_string("output", "curves.png", "The picture; its suffix is its format, such as .png, .svg or .pdf.")
flags.DEFINE_float("smooth", 0.0, "At least 0 and below 1: weight of the past in the curves of training.")
flags.DEFINE_string("x", "step", "step, images or seconds.")


def main() -> None:
    new_figure(1, 1)  # says at once where matplotlib is missing
    if FLAGS.workdirs is not None and not all(FLAGS.workdirs or [""]):
        raise ValueError(
            f"workdirs: must name folders, got {','.join(FLAGS.workdirs)!r}; leave it out for all in runs/."
        )
    runs = [metrics.read_run(folder) for folder in FLAGS.workdirs or metrics.find_workdirs("runs")]
    names = curves.write_curves(FLAGS.output, runs, FLAGS.smooth, FLAGS.x)
    for run, name in zip(runs, names, strict=True):
        print(f"{name}: {run.progress()}")
    print(f"{'Its' if len(runs) == 1 else 'Their'} curves are in {FLAGS.output}")


if __name__ == "__main__":
    try:
        command_line.parse_flags(sys.argv)
        main()
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
