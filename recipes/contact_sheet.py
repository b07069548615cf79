"""Write a picture of one training batch, exactly as `pretrain.py` sees it with the same flags.

Under each image stand its classes, with their weights where mixup or CutMix mixed it. With --weights=runs/mine, a
finished run, it is a batch of that run: what is not given by hand is the run's own.

    python recipes/contact_sheet.py
    python recipes/contact_sheet.py --weights=runs/mine --step=1000
    python recipes/contact_sheet.py --dataset=path/to/folder --image_size=224 --randaugment_magnitude=15 --step=1000
"""

from keras_mixer.cli import quiet_tensorflow  # noqa: F401 - first: TensorFlow without its start-up notes

# isort: split
import dataclasses

from keras_mixer import buckets, run_data, starting_point
from keras_mixer.cli import entry, inputs
from keras_mixer.cli.flags import changed, setting, settings_class
from keras_mixer.cli.settings import Batches, Results, TrainingData, by_hand, left_to_run
from keras_mixer.data.mixing import Finish
from keras_mixer.data.source import Source
from keras_mixer.paper import usual_size
from keras_mixer.pictures import grids
from keras_mixer.pictures.figure import new_figure


@settings_class
@left_to_run(Batches)
class Settings(Batches, Results):
    """Settings of a contact sheet."""

    weights: str | None = changed(Batches, "weights", None, help="The folder of a run: its batches, its settings.")
    step: int = setting(0, "The training step whose batch to show.", least=0, common=True)
    workdir: str = changed(Results, "workdir", "runs/contact_sheet", help="Folder of the pictures.")


def run(settings: Settings) -> None:
    """Write the picture of a batch."""
    new_figure(1, 1)  # says at once where matplotlib is missing
    source, settings, patch_size = open_run(settings) if settings.weights else open_dataset(settings)
    with inputs.naming_unreadable_files(source):
        batch = next(iter(inputs.byte_batches(settings, source, settings.step, patch_size=patch_size)))
    images, labels = Finish(inputs.augmentation(settings), len(source.class_names))(*batch)
    path = buckets.path_of(settings.workdir, "workdir") / f"step_{settings.step:08d}.png"
    title = f"{source.name}: step {settings.step}, seed {settings.seed}, {settings.image_size} px"
    grids.write_contact_sheet(path, images, labels, source.class_names, title)
    print(f"{len(images)} images of {source.name} are in {path}")


def open_dataset(settings: Settings) -> tuple[Source, Settings, None]:
    """Return the images to train on, and the settings filled with what is usual."""
    usual = settings.filled()
    source = inputs.open_source(usual, training=True)
    size = usual_size(usual.model if settings.model or not source.photographs else "b16")
    return source, settings.filled(image_size=size, batch_size=min(usual.batch_size, source.num_examples)), None


def open_run(settings: Settings) -> tuple[Source, Settings, int]:
    """Return the images that a run trained on, the settings filled with the run's, and the side of its patches."""
    start = starting_point.find(settings.weights or "", settings.model)
    if not start.settings:
        raise ValueError(f"weights: {start.name} is no run, and tells of no training batches; leave --weights out.")
    fields = {field.name for field in dataclasses.fields(Batches)}
    if settings.dataset is not None:  # of other images the run's splits and folders say nothing
        fields -= run_data.settings_of(start).keys()
    of_run = {name: value for name, value in (start.data_folders | start.settings).items() if name in fields}
    filled = settings.filled(**{n: tuple(map(float, v)) if isinstance(v, list) else v for n, v in of_run.items()})
    if settings.dataset is not None:
        return inputs.open_source(filled, training=True), filled, start.sizes["patch_size"]
    source = run_data.open_of_run(start, by_hand(settings, TrainingData), training=True)
    return source, filled, start.sizes["patch_size"]


if __name__ == "__main__":
    entry.run(Settings, run)
