"""Learning-rate schedules of the paper: linear warm-up, then linear or cosine decay."""

import keras
from keras import ops

from keras_mixer.types import Config, Tensor

LINEAR_END_FRACTION = 1e-5  # the authors' linear decay ends here, as a fraction of the peak


@keras.saving.register_keras_serializable(package="keras_mixer")
class WarmupDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Rise linearly from 0 to the peak over the warm-up, then decay until the last step (paper section 3).

    Args:
        peak: the highest learning rate.
        total_steps: steps of the whole run, warm-up included.
        warmup_steps: steps of the warm-up, fewer than `total_steps`; 0 for none.
        decay: "linear" (pre-training, to 1e-5 of the peak) or "cosine" (fine-tuning, to zero).

    Raises:
        ValueError: for a non-positive rate or number of steps, a warm-up as long as the run, or another decay.

    Example:
        >>> schedule = WarmupDecay(1.0, total_steps=10, warmup_steps=2, decay="cosine")
        >>> [float(schedule(step)) for step in (0, 1, 2, 10)]
        [0.0, 0.5, 1.0, 0.0]
    """

    def __init__(self, peak: float, total_steps: int, warmup_steps: int = 0, decay: str = "linear") -> None:
        if not 0 < peak < float("inf"):
            raise ValueError(f"learning_rate: must be a positive number, got {peak}.")
        if total_steps < 1:
            raise ValueError(f"total_steps: must be a positive number of steps, got {total_steps}.")
        if not 0 <= warmup_steps < total_steps:
            raise ValueError(
                f"warmup_steps: {warmup_steps} must be at least 0 and less than total_steps, {total_steps}."
            )
        if decay not in ("linear", "cosine"):
            raise ValueError(f"decay: must be 'linear' or 'cosine', got {decay!r}.")
        self.peak, self.total_steps, self.warmup_steps, self.decay = peak, total_steps, warmup_steps, decay

    def __call__(self, step: int | Tensor) -> Tensor:
        step = ops.cast(step, "float32")
        progress = (step - self.warmup_steps) / (self.total_steps - self.warmup_steps)
        progress = ops.clip(progress, 0.0, 1.0)
        if self.decay == "linear":
            factor = (1 - LINEAR_END_FRACTION) * (1 - progress) + LINEAR_END_FRACTION
        else:
            factor = 0.5 * (1 + ops.cos(progress * 3.141592653589793))
        warmup = step / max(self.warmup_steps, 1)
        return self.peak * ops.where(step < self.warmup_steps, warmup, factor)

    def get_config(self) -> Config:
        return dict(peak=self.peak, total_steps=self.total_steps, warmup_steps=self.warmup_steps, decay=self.decay)
