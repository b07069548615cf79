"""Progress of long work: a bar on a terminal, plain lines in a log."""

import sys
import time
from typing import Self

SILENT = 10.0  # seconds without a line, or a tenth of the time so far, whichever is longer


class Progress:
    """A bar on a terminal; elsewhere a plain line at the start and for every tenth of the work, more of slow work.

    Example:
        >>> with Progress("verified", 2, "shards") as progress:
        ...     progress.update()
        ...     progress.update()
        verified 0 of 2 shards
        verified 1 of 2 shards
        verified 2 of 2 shards
    """

    def __init__(self, label: str, total: int, unit: str, quiet: bool = False) -> None:
        from tqdm import tqdm

        self.quiet = quiet  # such as for all workers but the first
        self.label, self.total, self.unit, self.done, self.bar = label, total, unit, 0, None
        self.began = self.said = time.monotonic()
        if sys.stderr.isatty() and not quiet:
            self.bar = tqdm(total=total, desc=label, unit=f" {unit}")

    def __enter__(self) -> Self:
        if self.bar is None:
            self._say()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def update(self, count: int = 1) -> None:
        """Add finished work."""
        before, self.done = self.done, self.done + count
        if self.bar is not None:
            self.bar.update(count)
            return
        tenth = self.done * 10 // self.total > before * 10 // self.total
        now = time.monotonic()
        if tenth or now - self.said > max(SILENT, (now - self.began) / 10):
            self._say()

    def _say(self) -> None:
        self.said = time.monotonic()
        if not self.quiet:
            print(f"{self.label} {self.done:,} of {self.total:,} {self.unit}", flush=True)
