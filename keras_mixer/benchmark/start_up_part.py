"""The part of benchmark.py that measures imports, and building and loading the variants, in fresh processes."""

import os
import tempfile
from typing import Any

from absl import flags

from keras_mixer import files
from keras_mixer.benchmark import measuring as shared
from keras_mixer.benchmark import speed_report
from keras_mixer.benchmark import start_up as start_up_times
from keras_mixer.pictures.figure import new_figure

FLAGS: Any = flags.FLAGS


def main() -> None:
    """Seconds and memory of the imports, and of building and loading each variant, in fresh processes."""
    new_figure(1, 1)  # says at once where matplotlib is missing
    known = {name: f"Mixer{name.upper()}" for name in shared.MODELS if name != "tiny"}
    if FLAGS.model is not None and FLAGS.model not in known:
        raise ValueError(f"model: {FLAGS.model!r} is unknown; with --start_up use one of {', '.join(known)}, or none.")
    chosen = {FLAGS.model: known[FLAGS.model]} if FLAGS.model else known
    files.open_folder(FLAGS.output)
    # The backend's own start is not the model's.
    ready = "import keras_mixer; keras_mixer.MLPMixer(4, 1, 4, 4, 4, input_shape=(4, 4, 3))"
    pieces = {"import keras": ("", "import keras"), "import keras_mixer": ("", "import keras_mixer")}
    with tempfile.TemporaryDirectory() as folder:
        for name, function in chosen.items():
            path = os.path.join(folder, f"{name}.npz")
            shared.progress(f"writing a checkpoint of {name}")
            start_up_times.run_once("", f"{ready}; keras_mixer.save_checkpoint(keras_mixer.{function}(), {path!r})")
            pieces[f"build {name}"] = (ready, f"keras_mixer.{function}()")
            pieces[f"build and load {name}"] = (ready, f"keras_mixer.{function}(weights={path!r})")
        result = shared.new_result("start_up", FLAGS.model or "all")
        result["rows"] = start_up_times.measure(pieces, FLAGS.rounds, shared.progress)
    text = f"{result['title']}\n\n{start_up_times.table(result['rows'])}"
    figure = speed_report.start_up_figure(result["rows"])
    shared.finish(text, speed_report.write(FLAGS.output, "start_up", result, text, figure), [])
