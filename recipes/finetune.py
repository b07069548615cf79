"""Fine-tune a pretrained Mixer on other images, the way the paper does (section 3 and Appendix C).

Heavy-ball SGD, global clip 1, cosine decay after a warm-up, no weight decay, a new head that starts at zero. Another
image size than the checkpoint's, such as 448 for 224, resizes the token MLPs the paper's way. Without flags: what
`python recipes/pretrain.py` left in runs/pretrain, on the same digits at twice the size.

    python recipes/finetune.py --weights=imagenet21k --model=b16 --dataset=path/to/folder
    python recipes/finetune.py --weights=imagenet21k --model=b16 --task=pets --image_size=448
    python recipes/finetune.py --weights=imagenet21k --model=l16 --task=vtab-clevr_count --sweep --strategy=tpu
"""

from keras_mixer.cli import quiet_tensorflow  # noqa: F401 - first: TensorFlow without its start-up notes

# isort: split
from typing import Any

import keras
import tensorflow as tf

from keras_mixer import buckets, run_data
from keras_mixer.cli import caching, closing, entry, inputs, page_evidence, pages, sweep, trained, training, transfer
from keras_mixer.cli.page_evidence import Asked
from keras_mixer.cli.transfer import Settings
from keras_mixer.data import pipeline, tasks
from keras_mixer.data.pixel_settings import PixelSettings
from keras_mixer.data.progress import Progress
from keras_mixer.data.source import Source
from keras_mixer.data.tasks import Task
from keras_mixer.evaluation.predictions import Predictor
from keras_mixer.report import kept
from keras_mixer.starting_point import StartingPoint
from keras_mixer.training import loop, lora, losses, strategies
from keras_mixer.weights.bucket import fetched


@inputs.restoring_precision
def run(settings: Settings) -> dict[str, Any] | None:
    """Fine-tune as the settings say, and return what result.json holds, or None where the run was finished before."""
    # ---- Settings: by hand, then of the task, then of the checkpoint ----
    transfer.check(settings)
    # A sweep's runs are processes of their own; a strategy comes before anything else of TensorFlow.
    strategy: Any = None if settings.sweep else inputs.make_strategy(settings)
    start = trained.find(settings)
    transfer.check_permutation(settings, start)
    task = tasks.get_task(settings.task) if settings.task else None
    given, settings = settings, settings.filled(**transfer.chosen_by(settings, task, start))
    if settings.sweep:
        if settings.cache == "disk":  # one for all of its runs
            given = given.with_values(cache_dir=caching.folder_of(settings))
        swept = sweep.run(settings, given, task)
        caching.clear(settings)
        return swept
    losses.get_loss(settings.loss)
    inputs.set_precision_and_seed(settings)

    # ---- Data ----
    train_source, eval_source, settings = open_sources(settings, task)
    settings = settings.filled(batch_size=transfer.default_batch_size(train_source.num_examples))
    if settings.epochs is None:
        settings = settings.filled(total_steps=transfer.default_steps(train_source.num_examples))
    loop.check_batch(settings.batch_size, strategy, settings.gradient_accumulation_steps)
    inputs.check_train_batches(settings, train_source, given)
    steps = training.steps_of_run(settings, train_source.num_examples)
    train_source, cached = caching.cached(settings, train_source)

    # ---- Model: the checkpoint's body, a new head of zeros ----
    with strategy.scope():
        model = build(settings, start, train_source)
    if settings.linear_probe:
        body = tuple(layer.name for layer in model.layers if layer.weights and layer.name != "head")
        settings = settings.with_values(freeze=body)
    trainer = training.trainer_of(settings, model, strategy, steps)

    # ---- Train, evaluate every image once, save ----
    origin = training.Origin(pages.about("finetune", given, settings), {"started_from": start.name, **cached})
    result = training.train_and_evaluate(
        settings, trainer, train_source, eval_source, steps, crop=settings.crop, origin=origin
    )
    folder = buckets.path_of(settings.workdir)
    if result or not (folder / "classes.csv").exists():
        if not result:  # it was stopped after its result and before its report
            with strategy.scope():
                model = keras.saving.load_model(fetched(folder / "model.keras"))
        report(settings, model, eval_source, strategy)
    if strategies.is_chief(strategy):
        caching.clear(settings)
    return result


def open_sources(settings: Settings, task: Task | None) -> tuple[Source, Source, Settings]:
    """Open the images to train on and to evaluate on, parts of the training images where --development is given.

    The settings come back, with the splits that were chosen.
    """
    if task is not None:
        phase = "develop" if settings.development else "final"
        opened = tasks.open_task(task, phase, data_dir=settings.data_dir, manual_dir=settings.manual_dir)
        return *opened, settings
    if settings.development:
        split = settings.train_split or "train"
        if "[" in split:
            raise ValueError(
                f"train_split: --development divides a whole split, got {split!r}; use {split.split('[')[0]}."
            )
        percent = round(100 * settings.development_fraction) or 1
        settings = settings.with_values(
            train_split=f"{split}[:{100 - percent}%]", eval_split=f"{split}[{100 - percent}%:]"
        )
        train_source, eval_source = inputs.open_sources(settings)
        tasks.check_every_class(train_source)
        return train_source, eval_source, settings
    return *inputs.open_sources(settings), settings


def build(settings: Settings, start: StartingPoint, source: Source) -> keras.Model:
    """Return the checkpoint's body with a head of zeros, or with --keep_head its own; and its adapters."""
    model = start.build(
        settings.image_size,
        channels=settings.channels,
        classes=len(source.class_names),
        classifier_activation=None,
        dropout_rate=settings.dropout_rate,
        stochastic_depth_rate=settings.stochastic_depth_rate,
        rescale_stochastic_depth=settings.rescale_stochastic_depth,
        rematerialize=settings.rematerialize,
        name="mixer",
    )
    if settings.keep_head:
        run_data.check_classes(start, source, "leave `keep_head` out for a new head")
    else:  # also where the checkpoint's happens to have as many classes
        head = model.get_layer("head")
        for variable in (head.kernel, head.bias):
            variable.assign(keras.ops.zeros(variable.shape))
    if settings.lora_rank is not None:
        lora.enable_lora(model, settings.lora_rank)
    return model


def report(settings: Settings, model: keras.Model, eval_source: Source, strategy: tf.distribute.Strategy) -> None:
    """Write and name tables and pictures of what the model gets wrong, then the page of the run; say what is next."""
    shown: dict[str, Any] = dict(
        image_size=settings.image_size, crop=settings.crop, pixels=PixelSettings(**settings.pixels())
    )

    def permute(batches: tf.data.Dataset) -> tf.data.Dataset:
        return inputs.permuted(settings, batches, settings.image_size, model.get_layer("stem").patch_size)

    def of_part(part: tuple[int, int]) -> tf.data.Dataset:
        return permute(pipeline.eval_batches(eval_source, batch_size=settings.batch_size, part=part, **shown))

    batches = strategies.distribute(strategy, of_part, settings.batch_size)
    predictor = Predictor(model, losses.get_loss(settings.loss), losses.get_probabilities(settings.loss), strategy)
    other = not strategies.is_chief(strategy)
    with Progress("predicted", eval_source.num_examples, "images", quiet=other) as progress:
        predictions = predictor.predict(batches, progress.update)
    if other:
        return
    folder = buckets.path_of(settings.workdir)
    asked = Asked(model, predictor, predictions, eval_source, shown, strategy, settings.batch_size, permute)
    written, seen = page_evidence.write_files(folder, asked, settings.dataset, settings.pictures)
    closing.show_in_tensorboard(folder, written, settings.total_steps or 0)
    with pages.sparing_the_run(folder):
        kept.keep(folder, page_evidence.of_images(asked, seen, settings.pictures))
        written.append(pages.write(settings.workdir))
    print("\n".join([*(f"  {path}" for path in written), closing.next_lines(settings, eval_source)]))


if __name__ == "__main__":
    entry.run(Settings, run)
