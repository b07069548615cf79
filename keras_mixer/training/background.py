"""Checkpoints that do not stop the step: a thread writes a copy of the state while training goes on, one at a time."""

import concurrent.futures
import contextlib
import pathlib
import signal
import time
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from keras_mixer.training import checkpoints, signals, strategies
from keras_mixer.training.callbacks import NonFiniteLoss, StepCallback
from keras_mixer.training.step import STATISTICS

State = Callable[[], Iterable[tuple[str, np.ndarray]]]  # gives names and arrays, which may change after they were given


class Saver:
    """Saves states one after the other in a thread of its own.

    A save that fails is told once: by whichever method is called next. The state is copied into memory that is kept
    for the next one, which takes as much as the state, and half the time of new memory.

    Args:
        folder: the folder of checkpoints.
        keep: how many of them stay.
    """

    def __init__(self, folder: pathlib.Path, keep: int) -> None:
        self.folder, self.keep = folder, keep
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._saving: concurrent.futures.Future[None] | None = None
        self._copy: checkpoints.Arrays = {}

    def begin(self, state: State, step: int) -> None:
        """Start to save the state of a step as it is now, once the save before has ended.

        Raises:
            FloatingPointError, files.SaveError: of the save before; see `checkpoints.save_state`.
        """
        self.wait()  # first, since its copy is written over
        self._copy = {name: _copied(array, self._copy.get(name)) for name, array in state()}
        self._saving = self._thread.submit(checkpoints.save_state, self.folder, self._copy, step, self.keep)

    def check(self) -> None:
        """Raise what `begin` does, if the save has failed already; do not wait for it."""
        if self._saving is not None and self._saving.done():
            self.wait()

    def wait(self) -> None:
        """Return when the save has ended, or raise what `begin` does."""
        saving = self._saving
        if saving is not None:
            concurrent.futures.wait([saving])
            self._saving = None  # only now: what interrupts the wait does not make the save forgotten
            saving.result()

    def close(self) -> None:
        """Do what `wait` does, and end the thread."""
        try:
            self.wait()
        finally:
            self._thread.shutdown()


def _copied(array: np.ndarray, into: np.ndarray | None) -> np.ndarray:
    if into is None or (into.shape, into.dtype) != (array.shape, array.dtype):
        return np.array(array)
    np.copyto(into, array)
    return into


class Checkpoint(StepCallback):
    """Save the whole state every so many steps, at the end and before a stop. Put it last: it saves what others did.

    A copy of the state is written while training goes on. A step that is to be saved waits for the save before it; the
    end and a stop wait for all. A save that fails ends the run at the next step, or at what ends it before that.

    Args:
        folder: the folder of checkpoints, or None for a worker that does not write.
        checkpoint_steps: steps between two.
        state: gives what to save.
        keep: how many checkpoints stay.

    Attributes:
        seconds: that training lost to saves: the time of copying, and of waiting for a save to end.
    """

    def __init__(
        self,
        folder: pathlib.Path | None,
        checkpoint_steps: int,
        state: State,
        keep: int = checkpoints.KEEP,
    ) -> None:
        super().__init__()
        self.folder, self.checkpoint_steps, self.state = folder, checkpoint_steps, state
        self.saver = None if folder is None else Saver(folder, keep)
        self.signum: int | None = None  # of the signal that asked for a stop
        self.seconds = 0.0

    def ask_to_stop(self, signum: int) -> None:
        """Have every worker stop after the same execution."""
        self.signum = signum
        self.model.stop = 1

    def on_step(self, step: int) -> None:
        # Several workers must stop after the same step: the sum over them, made in the step, says so to all.
        stopping = self.model.rows[-1, STATISTICS.index("stop")] > 0
        if not strategies.has_workers(self.model.strategy):
            stopping = self.signum is not None
        if self.due(step, self.checkpoint_steps) or stopping:
            self.save(step, wait=stopping or step == self.total_steps)
        elif self.saver is not None:
            with self._losing_time():
                self.saver.check()
        if stopping:
            # None goes before the chief has saved. Once it has, it need not hear from one that went a moment earlier.
            with contextlib.suppress(*strategies.LOST if self.folder else ()):
                strategies.check_same_step(self.model.strategy, step)
            raise signals.Interrupted(self.signum or signal.SIGTERM, step)  # or another worker's

    def save(self, step: int, wait: bool) -> None:
        """Save the state of `step` as it is now, and `wait` until it is on disk or go on meanwhile."""
        if self.saver is not None:
            with self._losing_time():
                self.saver.begin(self.state, step)
                if wait:
                    self.saver.wait()

    def close(self) -> None:
        """Wait for the save in flight; to be called however training ends.

        If that save fails, its error takes the place of one that ended training meanwhile: without it training would
        not have come so far, and the same command will meet the other one again.
        """
        if self.saver is not None:
            with self._losing_time():
                self.saver.close()

    @contextlib.contextmanager
    def _losing_time(self) -> Iterator[None]:
        """Add to `seconds`, and turn the error of weights that are not finite into that of training."""
        begin = time.perf_counter()
        try:
            yield
        except FloatingPointError as error:
            raise NonFiniteLoss(f"{error} Lower --learning_rate; the state before it is kept.") from None
        finally:
            self.seconds += time.perf_counter() - begin
