"""Write a picture of one training batch, exactly as `pretrain.py` sees it with the same flags.

Under each image stand its classes, with their weights where mixup or CutMix mixed it.

    python recipes/contact_sheet.py
    python recipes/contact_sheet.py --dataset=path/to/folder --image_size=224 --randaugment_magnitude=15 --step=1000
"""

from keras_mixer.cli import quiet_tensorflow  # noqa: F401 - first: TensorFlow without its start-up notes

# isort: split
import pathlib

from keras_mixer.cli import entry, inputs
from keras_mixer.cli.flags import changed, setting, settings_class
from keras_mixer.cli.settings import Batches, Results
from keras_mixer.paper import usual_size
from keras_mixer.pictures import grids
from keras_mixer.pictures.figure import new_figure


@settings_class
class Settings(Batches, Results):
    """Settings of a contact sheet."""

    step: int = setting(0, "The training step whose batch to show.", least=0, common=True)
    workdir: str = changed(Results, "workdir", "runs/contact_sheet", help="Folder of the pictures.")


def run(settings: Settings) -> None:
    """Write the picture of a batch."""
    new_figure(1, 1)  # says at once where matplotlib is missing
    settings = settings.filled(image_size=usual_size(settings.model))
    source = inputs.open_source(settings, training=True)
    with inputs.naming_unreadable_files(source):
        images, labels = next(iter(inputs.train_batches(settings, source, settings.step)))
    path = pathlib.Path(settings.workdir).expanduser() / f"step_{settings.step:08d}.png"
    title = f"{source.name}: step {settings.step}, seed {settings.seed}, {settings.image_size} px"
    grids.write_contact_sheet(path, images, labels, source.class_names, title)
    print(f"{len(images)} images of {source.name} are in {path}")


if __name__ == "__main__":
    entry.run(Settings, run)
