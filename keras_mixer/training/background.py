"""Checkpoints that do not stop the step: a thread saves a copy of the state while training goes on, one at a time."""

import concurrent.futures
import logging
import pathlib

from keras_mixer.training import checkpoints

logger = logging.getLogger("keras_mixer")


class Saver:
    """Saves states one after the other in a thread of its own.

    Args:
        folder: the folder of checkpoints.
        keep: how many of them stay.
    """

    def __init__(self, folder: pathlib.Path, keep: int) -> None:
        self.folder, self.keep = folder, keep
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._saving: concurrent.futures.Future[None] | None = None

    def begin(self, arrays: checkpoints.Arrays, step: int) -> None:
        """Start to save the state of a step, once the one before is on disk; the arrays are not to be changed.

        Raises:
            FloatingPointError, files.SaveError: of the save before; see `checkpoints.save_state`.
        """
        self.wait()
        self._saving = self._thread.submit(checkpoints.save_state, self.folder, arrays, step, self.keep)

    def wait(self) -> None:
        """Return when everything is on disk, or raise what kept it from there."""
        saving, self._saving = self._saving, None
        if saving is not None:
            saving.result()

    def close(self) -> None:
        """End the thread after its last save; where that fails, another error has ended the run, and it is logged."""
        try:
            self.wait()
        except (OSError, ArithmeticError) as error:
            logger.warning("%s", error)
        self._thread.shutdown()
