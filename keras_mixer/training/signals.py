"""SIGTERM and SIGINT (Ctrl-C) while training: the first asks for a stop after the present step, a second exits."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interrupted(RuntimeError):
    """A signal stopped the run and its state is saved; `signum` says which, `step` where."""

    def __init__(self, signum: int, step: int) -> None:
        self.signum, self.step, self.exit_code = signum, step, 128 + signum
        super().__init__(
            f"stopped by {signal.Signals(signum).name} at step {step}; everything is saved, and the same command "
            "continues."
        )


@contextlib.contextmanager
def on_signal(ask_to_stop: Callable[[int], None]) -> Iterator[None]:
    """Call `ask_to_stop(signum)` at the first of `SIGNALS`, and exit with 128 + signum at the second.

    Python runs its handlers only between two steps, which may be minutes; a thread that reads what the C handler
    writes reacts at once. Outside the main thread, where signals cannot be handled, nothing happens.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    seen: list[int] = []

    def listen() -> None:
        while byte := os.read(reading, 1):
            signum = byte[0]
            if signum not in SIGNALS:
                continue
            if seen:
                os._exit(128 + signum)
            seen.append(signum)
            print(
                f"{signal.Signals(signum).name}: saving after this step; once more exits at once.",
                file=sys.stderr,
                flush=True,
            )
            ask_to_stop(signum)

    thread = threading.Thread(target=listen, daemon=True)
    handlers = {number: signal.signal(number, lambda *_: None) for number in SIGNALS}
    descriptor = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(descriptor)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.close(writing)  # ends the thread
        thread.join()
        os.close(reading)
