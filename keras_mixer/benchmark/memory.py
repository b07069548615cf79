"""The largest memory of a process. `start_up` runs this text in a child, so it imports the standard library only."""

import contextlib
import re
import sys


def peak_mib() -> float:
    """Return the largest resident memory of this process so far, or since `forget_peak`, MiB."""
    try:
        with open("/proc/self/status") as file:  # what getrusage says would include the process that started this one
            return int(re.findall(r"VmHWM:\s+(\d+)", file.read())[0]) / 2**10
    except OSError:
        import resource  # not on Windows

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def forget_peak() -> None:
    """Have `peak_mib` begin anew, where the system can."""
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
        file.write("5")
