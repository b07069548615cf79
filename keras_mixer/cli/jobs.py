"""Commands as child processes: a signal to the parent goes on to the one that works, and then ends both."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any


def command_line(recipe: str, arguments: Sequence[str]) -> list[str]:
    """Return the command that runs a recipe with this Python; -P keeps out modules of the folder one is in."""
    return [sys.executable, "-P", "-m", "keras_mixer", recipe, *arguments]


def run(command: Sequence[str], keep_errors: bool = False) -> tuple[int, str, int | None]:
    """Run a command to its end, its output going on to ours.

    Args:
        command: the program and its arguments.
        keep_errors: whether to keep the end of what it writes to standard error, which then is no terminal for it.

    Returns:
        Its exit code, the end of its standard error, and the signal that this process was sent, if any.
    """
    signals: list[int] = []
    process: Any = None

    def forward(number: int, _: Any) -> None:
        signals.append(number)
        # Ctrl-C reaches both from the terminal; what is sent to this process alone goes on to the one that works.
        if number == signal.SIGTERM and process:
            process.send_signal(number)

    before = {number: signal.signal(number, forward) for number in (signal.SIGTERM, signal.SIGINT)}
    tail = bytearray()

    def copy() -> None:
        while piece := os.read(process.stderr.fileno(), 65536):
            sys.stderr.buffer.write(piece)
            sys.stderr.flush()
            tail[:] = (tail + piece)[-10_000:]

    try:
        process = subprocess.Popen(command, stderr=subprocess.PIPE if keep_errors else sys.stderr)
        if signal.SIGTERM in signals:
            process.send_signal(signal.SIGTERM)
        reader = threading.Thread(target=copy, daemon=True) if keep_errors else None
        if reader:
            reader.start()
        code = process.wait()
        if reader:
            reader.join(timeout=10)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return code, tail.decode(errors="replace").replace("\r", "\n").strip(), signals[0] if signals else None
