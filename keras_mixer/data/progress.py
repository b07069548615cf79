"""Progress of long work: a bar on a terminal, plain lines in a log."""

import sys
from typing import Self


class Progress:
    """A bar on a terminal; elsewhere a plain line for every tenth of the work.

    Example:
        >>> with Progress("verified", 2, "shards") as progress:
        ...     progress.update()
        ...     progress.update()
        verified 1 of 2 shards
        verified 2 of 2 shards
    """

    def __init__(self, label: str, total: int, unit: str) -> None:
        from tqdm import tqdm

        self.label, self.total, self.unit, self.done, self.bar = label, total, unit, 0, None
        if sys.stderr.isatty():
            self.bar = tqdm(total=total, desc=label, unit=f" {unit}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def update(self, count: int = 1) -> None:
        """Add finished work."""
        before, self.done = self.done, self.done + count
        if self.bar is not None:
            self.bar.update(count)
        elif self.done * 10 // self.total > before * 10 // self.total:
            print(f"{self.label} {self.done:,} of {self.total:,} {self.unit}", flush=True)
