"""How long the rest of a run will take, told from its first steps."""

import dataclasses

ENOUGH_STEPS, ENOUGH_SECONDS = 3, 5.0  # timed executions, or seconds of them
LEAST_SECONDS = 2.0  # the first batches were made while the step was compiled, and so come faster than the others
WORTH_SAYING = 30.0  # seconds; of a shorter rest nothing is said
TRAINING_FACTOR = 3  # a training step costs three forward passes, and an evaluation one


def duration(seconds: float) -> str:
    """Return a duration in words, as exact as an estimate can be.

    Example:
        >>> [duration(s) for s in (42, 95, 1500, 7800, 300_000)]
        ['42 s', '2 min', '25 min', '2 h 10 min', '3 days 11 h']
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    minutes = 5 * round(minutes / 5)
    if minutes < 24 * 60:
        hours, minutes = divmod(minutes, 60)
        return f"{hours} h{f' {minutes} min' if minutes else ''}"
    days, hours = divmod(round(minutes / 60), 24)
    return f"{days} day{'s' * (days > 1)}{f' {hours} h' if hours else ''}"


@dataclasses.dataclass
class Remaining:
    """Times the first executions of a run, and then tells once how long the rest will take.

    Args:
        total_steps: of the run.
        batch_size: images in a global batch.
        eval_steps: steps between two evaluations.
        eval_images: images of an evaluation, 0 for none, twice as many where an average of weights is evaluated too.
    """

    total_steps: int
    batch_size: int
    eval_steps: int
    eval_images: int = 0
    images_per_second: float = 0.0  # once it is known
    _executions: int = -1  # timed ones
    _step: int = 0  # and time, after the first execution, which compiles
    _time: float = 0.0

    def executed(self, step: int, now: float) -> float | None:
        """Take the end of an execution; return the seconds that are left, once: as soon as they are known."""
        if self.images_per_second:
            return None
        self._executions += 1
        if self._executions == 0:
            self._step, self._time = step, now
            return None
        seconds = now - self._time
        if seconds < (LEAST_SECONDS if self._executions >= ENOUGH_STEPS else ENOUGH_SECONDS):
            return None
        self.images_per_second = (step - self._step) * self.batch_size / seconds
        evaluations = -(-self.total_steps // self.eval_steps) - step // self.eval_steps
        training = (self.total_steps - step) * self.batch_size / self.images_per_second
        return training + evaluations * self.evaluation_seconds()

    def paused(self, seconds: float) -> None:
        """Leave out what was spent on something else, such as an evaluation."""
        self._time += seconds

    def evaluation_seconds(self) -> float:
        """Return about how long an evaluation takes, 0 while nothing is known."""
        return self.eval_images / (TRAINING_FACTOR * self.images_per_second) if self.images_per_second else 0.0

    def sentence(self, step: int, seconds: float) -> str:
        """Return what the log says of the seconds that are left after a step."""
        speed = f"{self.images_per_second:.{0 if self.images_per_second >= 10 else 1}f}"
        return f"step {step:,} of {self.total_steps:,}: about {duration(seconds)} here ({speed} images/s)"
