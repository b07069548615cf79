"""The settings of fine-tuning: what excludes what, and what a task or the checkpoint gives where nothing is given."""

from typing import Any

from keras_mixer.cli import caching
from keras_mixer.cli.flags import changed, setting, settings_class
from keras_mixer.cli.settings import Checkpoint, Training
from keras_mixer.data import crops, tasks
from keras_mixer.data.tasks import Task
from keras_mixer.evaluation import report_files
from keras_mixer.paper import MODELS
from keras_mixer.starting_point import StartingPoint


@settings_class
class Settings(Training, caching.Caching):
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
    model: str = changed(Checkpoint, "model", None)
    weights: str | None = changed(Checkpoint, "weights", None)
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


def check(settings: Settings) -> None:
    """Refuse settings that exclude each other, before anything is opened."""
    crops.check_crop(settings.crop)
    caching.check(settings)
    if settings.pictures:
        report_files.check_matplotlib()
    if settings.linear_probe and settings.lora_rank is not None:
        raise ValueError("lora_rank: cannot be combined with --linear_probe; leave one of them out.")
    chosen = {"learning_rate": settings.learning_rate is not None, "seed": settings.seed != 0}
    given = [name for name, value in (chosen | {"development": settings.development}).items() if value]
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
        if settings.augmentation == "hyper_rule":
            chosen |= task.hyper_rule()
        if settings.epochs is None:
            chosen["total_steps"] = task.steps
            if settings.total_steps is None:  # of another number of steps a tenth is the warm-up, as without a task
                chosen["warmup_steps"] = task.warmup_steps
    return chosen


def same_sizes(sizes: dict[str, int], others: Any) -> bool:
    """Whether two Mixers differ in nothing but the width of their token MLPs, which grows with the image."""
    return all(others[key] == value for key, value in sizes.items() if key != "tokens_mlp_dim")


def default_batch_size(num_examples: int) -> int:
    """The paper's 512; for fewer images the largest power of two that makes at least eight batches, and at least 8."""
    size = 512
    while size > max(num_examples // 8, 8):
        size //= 2
    return min(size, num_examples)


def default_steps(num_examples: int) -> int:
    """500 steps below 20,000 images, 10,000 below 500,000, else 20,000 (the BiT hyper-rule, as the paper says)."""
    return 500 if num_examples < 20_000 else 10_000 if num_examples < 500_000 else 20_000
