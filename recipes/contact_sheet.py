"""Write a picture of one training batch, exactly as `pretrain.py` sees it with the same flags.

Under each image stand its classes, with their weights where mixup or CutMix mixed it.

    python recipes/contact_sheet.py
    python recipes/contact_sheet.py --dataset=path/to/folder --image_size=224 --randaugment_magnitude=15 --step=1000
"""

from keras_mixer.cli import entry  # first: it imports TensorFlow without its start-up notes

# isort: split
import pathlib
from typing import Any

from absl import flags

from keras_mixer.cli import shared_flags
from keras_mixer.pictures import grids
from keras_mixer.pictures.figure import new_figure

FLAGS: Any = flags.FLAGS
shared_flags.define_common_flags(default_workdir="runs/contact_sheet")
shared_flags.define_data_flags()
flags.DEFINE_integer("step", 0, "The training step whose batch to show.", lower_bound=0)
flags.adopt_module_key_flags(shared_flags)  # so that --help shows them


def main(_: list[str]) -> None:
    new_figure(1, 1)  # says at once where matplotlib is missing
    source = shared_flags.open_source(training=True)
    with entry.naming_unreadable_files(source):
        images, labels = next(iter(shared_flags.train_batches(source, FLAGS.step)))
    path = pathlib.Path(FLAGS.workdir) / f"step_{FLAGS.step:08d}.png"
    title = f"{source.name}: step {FLAGS.step}, seed {FLAGS.seed}, {shared_flags.image_size()} px"
    grids.write_contact_sheet(path, images, labels, source.class_names, title)
    print(f"{len(images)} images of {source.name} are in {path}")


if __name__ == "__main__":
    entry.run(main)
