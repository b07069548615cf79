"""Keep from standard error what libjpeg and libtiff write of a damaged picture, since they name no file.

And what the processes of Apache Beam say when they start, which is nothing about the work.

They write to file descriptor 2 from C, where no Python filter sees it. So another small process reads what is written
there and passes on all the rest; it ends after this one, so that nothing is lost when this one crashes. What Python
writes to sys.stderr goes past it.
"""

import os
import subprocess
import sys
from typing import Any

import absl.logging

# How the lines begin. A file that cannot be decoded is named in a sentence of ours.
NOTES = (
    *("Corrupt JPEG data", "Invalid JPEG file", "Premature end of JPEG", "Improper call to JPEG", "Unsupported JPEG"),
    *("Bogus ", "Inconsistent progression", "Huffman table 0x", "Quantization table 0x", "Invalid SOS parameters"),
    *("Unsupported marker type", "Input file read error", "Not a JPEG file", "More samples per pixel", "tempfile.tif"),
    *("WARNING:root:apitools not found", "INFO:__main__:Logging handler created", "I0000 00:00:"),
    "WARNING: All log messages before absl::InitializeLog",
)
FILTER = """
import sys
for line in sys.stdin.buffer:
    if not line.startswith({notes}):
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()
"""


def start() -> None:
    """Begin to filter."""
    real = os.dup(2)
    code = FILTER.format(notes=tuple(note.encode() for note in NOTES))
    # In a session of its own, so that Ctrl-C does not end it before it has passed on what the recipe says of it.
    reader: Any = subprocess.Popen(
        [sys.executable, "-ISc", code], stdin=subprocess.PIPE, stdout=real, start_new_session=True
    )
    sys.stderr.flush()
    os.dup2(reader.stdin.fileno(), 2)
    reader.stdin.close()
    sys.stderr = os.fdopen(real, "w", buffering=1, errors="backslashreplace")
    absl.logging.get_absl_handler().python_handler.setStream(sys.stderr)
