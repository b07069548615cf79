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
import pathlib
from typing import Any

import keras
import tensorflow as tf

from keras_mixer import starting_point
from keras_mixer.cli import entry, inputs, sweep, trained, training
from keras_mixer.cli.flags import changed, command, setting, settings_class
from keras_mixer.cli.settings import DEFAULT_WEIGHTS, Training
from keras_mixer.data import pipeline, tasks
from keras_mixer.data.pixel_settings import PixelSettings
from keras_mixer.data.source import Source
from keras_mixer.data.tasks import Task
from keras_mixer.evaluation import report_files, reports
from keras_mixer.paper import MODELS
from keras_mixer.starting_point import StartingPoint
from keras_mixer.training import loop, lora, losses, strategies


@settings_class
class Settings(Training):
    """Settings of a fine-tuning run."""

    task: str | None = setting(
        None, f"A task of the paper, which sets data, size and steps: {', '.join(tasks.TASKS)}.", common=True
    )
    crop: str = setting("resmall", "Of the evaluation: resmall (paper's Table 3) or resize (Table 2).")
    keep_head: bool = setting(False, "Start from the checkpoint's head, whose classes must be the dataset's.")
    linear_probe: bool = setting(False, "Train the head only.")
    lora_rank: int | None = setting(None, "Train the head and low-rank adapters of this rank in place of the MLPs.")
    development: bool = setting(False, "Hold part of the training images out, and evaluate on it: to choose flags.")
    development_fraction: float = setting(0.1, "The part that --development and --sweep hold out; a task has its own.")
    pictures: bool = setting(True, "Draw confusion.png and mistakes.png, which need matplotlib.")
    sweep: bool = setting(
        False, "Try --learning_rates on a development split, then train the best on everything.", common=True
    )
    learning_rates: tuple[float, ...] | None = setting(
        None, "Of --sweep; default the task's, or .003,.01,.03,.06.", distinct=True
    )
    seeds: tuple[int, ...] | None = setting(
        None, "Of the final runs of --sweep; mean and deviation are reported.", usual=(0,), least=0, distinct=True
    )
    # What fine-tuning does otherwise than pre-training.
    model: str = changed(Training, "model", None, help=f"Variant, which a released name needs: {', '.join(MODELS)}.")
    dataset: str = changed(Training, "dataset", None, usual="digits")
    image_size: int = changed(
        Training, "image_size", None, help="Image side in pixels; default the one that the weights were trained at."
    )
    batch_size: int = changed(
        Training, "batch_size", None, usual=None, help="Images in a global batch; default 512, fewer of few images."
    )
    epochs: float | None = changed(Training, "epochs", None, usual=None)
    total_steps: int | None = changed(
        Training, "total_steps", None, help="Steps of the run; default 500 to 20,000, by the number of images."
    )
    optimizer: str = changed(Training, "optimizer", "sgd")
    schedule: str = changed(Training, "schedule", "cosine")
    learning_rate: float = changed(Training, "learning_rate", None, usual=0.01)
    weight_decay: float = changed(Training, "weight_decay", None, usual=0.0)
    mixup_alpha: float = changed(Training, "mixup_alpha", None, usual=0.0)
    stochastic_depth_rate: float = changed(Training, "stochastic_depth_rate", None, usual=0.0)
    workdir: str = changed(Training, "workdir", "runs/finetune")


def run(settings: Settings) -> dict[str, Any] | None:
    """Fine-tune as the settings say, and return what result.json holds, or None where the run was finished before."""
    # ---- Settings: by hand, then of the task, then of the checkpoint ----
    check(settings)
    # A sweep's runs are processes of their own; a strategy comes before anything else of TensorFlow.
    strategy: Any = None if settings.sweep else inputs.make_strategy(settings)
    start = starting_point.find(weights_of(settings), settings.model)
    check_permutation(settings, start)
    task = tasks.get_task(settings.task) if settings.task else None
    given, settings = settings, settings.filled(**chosen_by(settings, task, start))
    if settings.sweep:
        return sweep.run(settings, given, task)
    losses.get_loss(settings.loss)
    inputs.set_precision_and_seed(settings)

    # ---- Data ----
    train_source, eval_source, settings = open_sources(settings, task)
    settings = settings.filled(batch_size=default_batch_size(train_source.num_examples))
    if settings.epochs is None:
        settings = settings.filled(total_steps=default_steps(train_source.num_examples))
    loop.check_batch(settings.batch_size, strategy, settings.gradient_accumulation_steps)
    inputs.check_train_batches(settings, train_source, given)
    steps = training.steps_of_run(settings, train_source.num_examples)

    # ---- Model: the checkpoint's body, a new head of zeros ----
    with strategy.scope():
        model = build(settings, start, train_source)
    if settings.linear_probe:
        body = tuple(layer.name for layer in model.layers if layer.weights and layer.name != "head")
        settings = settings.with_values(freeze=body)
    trainer = training.make_trainer(settings, model, strategy, steps)

    # ---- Train, evaluate every image once, save ----
    started_from = {"started_from": start.name}
    result = training.train_and_evaluate(
        settings, trainer, train_source, eval_source, steps, crop=settings.crop, started_from=started_from
    )
    folder = pathlib.Path(settings.workdir)
    if strategies.is_chief(strategy) and (result or not (folder / "classes.csv").exists()):
        if not result:  # it was stopped after its result and before its report
            model = keras.saving.load_model(folder / "model.keras")
        report(settings, model, eval_source, settings.batch_size // strategy.num_replicas_in_sync)
    return result


def check(settings: Settings) -> None:
    """Refuse settings that exclude each other, before anything is opened."""
    pipeline.check_crop(settings.crop)
    if settings.pictures:
        report_files.check_matplotlib()
    if settings.linear_probe and settings.lora_rank is not None:
        raise ValueError("lora_rank: cannot be combined with --linear_probe; leave one of them out.")
    chosen = {"learning_rate": settings.learning_rate, "seed": settings.seed, "development": settings.development}
    given = [name for name, value in chosen.items() if value]
    if settings.sweep and given:
        raise ValueError(f"{given[0]}: --sweep chooses it; use --learning_rates and --seeds.")
    lists = {"learning_rates": settings.learning_rates, "seeds": settings.seeds}
    given = [name for name, value in lists.items() if value is not None]
    if given and not settings.sweep:
        raise ValueError(f"{given[0]}: needs --sweep; without it use --{given[0].rstrip('s')}.")
    if not 0 < settings.development_fraction < 1:
        raise ValueError(f"development_fraction: must be in (0, 1), got {settings.development_fraction}.")
    if settings.task and any((settings.dataset, settings.train_split, settings.eval_split)):
        raise ValueError(f"task: {settings.task} sets --dataset and its splits; leave those out, or --task.")


def weights_of(settings: Settings) -> str:
    """Return --weights, by default the run that pretrain.py leaves."""
    if settings.weights is not None:
        return settings.weights
    if not (pathlib.Path(DEFAULT_WEIGHTS) / "model.keras").exists():
        raise ValueError(
            f"weights: give a released name, a file or a workdir; or make {DEFAULT_WEIGHTS}, which is the default, by "
            f"{command('pretrain')}."
        )
    return DEFAULT_WEIGHTS


def check_permutation(settings: Settings, start: StartingPoint) -> None:
    """Refuse to go on silently with plain images where the checkpoint knows permuted ones."""
    kind = start.settings.get("permutation", "none")
    if kind != "none" and settings.permutation is None:
        raise ValueError(
            f"permutation: {start.name} was trained with --permutation={kind} --permutation_seed="
            f"{start.settings['permutation_seed']} at {start.image_size} px; give these, or --permutation=none for "
            "plain images."
        )


def chosen_by(settings: Settings, task: Task | None, start: StartingPoint) -> dict[str, Any]:
    """Return the values that the task chooses, or the checkpoint, where none is given by hand."""
    variant = next((name for name, sizes in MODELS.items() if same_sizes(sizes, start.sizes)), None)
    chosen: dict[str, Any] = {"image_size": start.image_size or 224, "channels": start.channels, "model": variant}
    if settings.weights is None and settings.dataset is None and task is None:
        chosen["image_size"] = 2 * (start.image_size or 16)  # something to see without flags
    if task is not None:
        chosen |= {"dataset": task.key, "image_size": task.image_size, "augmentation": task.augmentation}
        chosen |= {"batch_size": 512}
        if settings.epochs is None:
            chosen["total_steps"] = task.steps
            if settings.total_steps is None:  # of another number of steps a tenth is the warm-up, as without a task
                chosen["warmup_steps"] = task.warmup_steps
    return chosen


def same_sizes(sizes: dict[str, int], others: Any) -> bool:
    """Whether two Mixers differ in nothing but the width of their token MLPs, which grows with the image."""
    return all(others[key] == value for key, value in sizes.items() if key != "tokens_mlp_dim")


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


def default_batch_size(num_examples: int) -> int:
    """The paper's 512; for fewer images the largest power of two that makes at least eight batches, and at least 8."""
    size = 512
    while size > max(num_examples // 8, 8):
        size //= 2
    return min(size, num_examples)


def default_steps(num_examples: int) -> int:
    """500 steps below 20,000 images, 10,000 below 500,000, else 20,000 (the BiT hyper-rule, as the paper says)."""
    return 500 if num_examples < 20_000 else 10_000 if num_examples < 500_000 else 20_000


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
        trained.check_classes(start, source, "leave --keep_head out for a new head")
    else:  # also where the checkpoint's happens to have as many classes
        head = model.get_layer("head")
        for variable in (head.kernel, head.bias):
            variable.assign(keras.ops.zeros(variable.shape))
    if settings.lora_rank is not None:
        lora.enable_lora(model, settings.lora_rank)
    return model


def report(settings: Settings, model: keras.Model, eval_source: Source, batch_size: int) -> None:
    """Write and name the pictures of what the model gets wrong, and say what to do next."""
    shown: dict[str, Any] = dict(
        image_size=settings.image_size, crop=settings.crop, pixels=PixelSettings(**settings.pixels())
    )
    batches = pipeline.eval_batches(eval_source, batch_size=batch_size, **shown)
    batches = inputs.permuted(settings, batches, settings.image_size, model.get_layer("stem").patch_size)
    probabilities = {"softmax": tf.nn.softmax, "sigmoid": tf.nn.sigmoid}[settings.loss]
    predictions = reports.predict_images(model, batches, losses.get_loss(settings.loss), probabilities)
    folder = pathlib.Path(settings.workdir)
    written = report_files.write(folder, predictions, eval_source, shown, settings.dataset, settings.pictures)
    print(
        "\n".join(f"  {path}" for path in written)
        + f"\nNext:\n  {command('predict')} --weights={settings.workdir} path/to/images\n"
        f"  {command('plot')} --workdirs={settings.workdir}"
    )


if __name__ == "__main__":
    entry.run(Settings, run)
