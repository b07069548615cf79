"""What a training run tells beside its numbers, and the line of its log."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf

LONG_EVALUATION = 10.0  # seconds; an evaluation that takes more is announced


@dataclasses.dataclass(frozen=True)
class Telling:
    """What a run tells beside its numbers.

    Args:
        preview: gives images (N, H, W, 3) in [-1, 1] that TensorBoard shows as an example of a training batch.
        settings: name -> value, TensorBoard's hyper-parameters of the run.
        eval_images: of an evaluation, to foresee how long the run takes.
        advice: remaining seconds -> lines that say what would be faster, none where that is no question.
    """

    preview: Callable[[], tf.Tensor] | None = None
    settings: Mapping[str, bool | int | float | str] = dataclasses.field(default_factory=dict)
    eval_images: int = 0
    advice: Callable[[float], Sequence[str]] | None = None


def line(row: Mapping[str, float], total_steps: int) -> str:
    """Return the line of a row of metrics.csv."""
    parts = [f"step {row['step']}/{total_steps}", f"lr {row['learning_rate']:.2e}", f"loss {row['train_loss']:.4f}"]
    if "eval_top1" in row:
        parts += [f"eval loss {row['eval_loss']:.4f}", f"eval top1 {row['eval_top1']:.2%}"]
    if "ema_top1" in row:
        parts += [f"ema top1 {row['ema_top1']:.2%}"]
    return "  ".join([*parts, f"{row['images_per_second']:.0f} images/s"])
