"""How fast a model runs: processes that hold one configuration each and measure in turn, and their rates and memory.

Nothing but the standard library is needed here: the process that asks need not load what it measures, and a process
that measures may use another framework, even another Python.
"""

import contextlib
import dataclasses
import json
import math
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any, Self

from keras_mixer import cost_model

Repeat = Callable[[int], None]  # computes so many times and returns when the last result is there
Row = dict[str, Any]  # what a report says of one configuration, JSON
Answer = dict[str, float]  # seconds_per_call, calls, peak_mib
MEMORY_ERROR = re.compile("RESOURCE_EXHAUSTED|ResourceExhausted|out of memory|OutOfMemory|MemoryError|bad_alloc", re.I)


class ChildFailed(Exception):
    """A process that measured has ended, or could not: one sentence."""


@dataclasses.dataclass
class Prepared:
    """What a measuring process has made ready.

    Attributes:
        run: what is timed.
        facts: about it, for the report; JSON.
        peak_memory: returns the largest memory so far, MiB, of the device or, on a CPU, of the process.
    """

    run: Repeat
    facts: dict[str, Any]
    peak_memory: Callable[[], float]


def serve(prepare: Callable[[], Prepared]) -> None:
    """In a measuring process: make ready, say so on standard output, and measure as often as standard input asks.

    Each message is a line of JSON. Whatever else prints goes to standard error. The process ends with its input, so
    that it does not outlive the one that asks. A ValueError of `prepare` is taken for bad input.
    """
    sys.stdout.flush()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        prepared = prepare()
        first = _seconds(prepared.run, 1)
        _seconds(prepared.run, 1)  # the second call may still allocate
        per_call = _seconds(prepared.run, 1)
        compile_seconds = max(0.0, first - per_call)
        answer = {**prepared.facts, "compile_seconds": compile_seconds, "peak_mib": prepared.peak_memory()}
        print(json.dumps(answer), file=answers, flush=True)
        for line in sys.stdin:
            calls = max(1, math.ceil(json.loads(line) / per_call))
            per_call = _seconds(prepared.run, calls) / calls
            answer = {"seconds_per_call": per_call, "calls": calls, "peak_mib": prepared.peak_memory()}
            print(json.dumps(answer), file=answers, flush=True)
    except Exception as error:  # whatever it is, who asks must hear of it
        kind = "memory" if MEMORY_ERROR.search(f"{type(error).__name__} {error}") else "failed"
        kind = "input" if isinstance(error, ValueError) and kind == "failed" else kind
        text = str(error).strip()
        sentence = text if kind == "input" else f"{type(error).__name__}: {(text.splitlines() or [''])[0][:300]}"
        print(json.dumps({"error": sentence, "kind": kind}), file=answers, flush=True)


def _seconds(run: Repeat, calls: int) -> float:
    start = time.perf_counter()
    run(calls)
    return max(time.perf_counter() - start, 1e-9)


class Child:
    """A process that calls `serve`, from the side that asks; a context manager that ends it. `env` is added to ours.

    Raises:
        ValueError: with the sentence of a process that refuses its input.
        ChildFailed: if it ends, or runs out of memory.
    """

    def __init__(self, name: str, command: list[str], env: dict[str, str] | None = None) -> None:
        self.name = name
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - close() closes it
        # A Popen[str], whose pipes are never None here; that, its type cannot say.
        self._process: Any = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=os.environ | (env or {}),
        )
        try:
            self.facts = self._receive()
        except BaseException:
            self.close()
            raise

    def measure(self, seconds: float) -> Answer:
        """Let it compute for about so long; return its answer."""
        try:
            self._process.stdin.write(f"{json.dumps(seconds)}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # its end is reported below
        return self._receive()

    def _receive(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            if code == -9:
                raise ChildFailed(f"{self.name}: killed, probably out of memory.")
            raise ChildFailed(f"{self.name}: the process ended with exit code {code}: {self._last_error()}")
        answer = json.loads(line)
        if answer.get("kind") == "input":
            raise ValueError(answer["error"])
        if answer.get("kind") == "memory":
            raise ChildFailed(f"{self.name}: out of memory.")
        if "error" in answer:
            raise ChildFailed(f"{self.name}: {answer['error']}")
        return answer

    def _last_error(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else "no message"

    def close(self) -> None:
        with contextlib.suppress(BrokenPipeError):  # it has died, with a request unread
            self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def interleave(children: Sequence[Child], rounds: int, seconds: float) -> list[list[Answer] | ChildFailed]:
    """Measure each child once per round, for about `seconds`, so that all meet the same disturbances; others wait.

    Returns:
        For each child, in order, its list of answers; or the `ChildFailed` that ended it, while the others go on.

    Raises:
        ValueError: for seconds or rounds that are not positive.
    """
    if not (seconds > 0 and math.isfinite(seconds)) or rounds < 1:
        raise ValueError(f"seconds: a measurement must take some time, got {seconds} s in {rounds} rounds.")
    answers: list[list[Answer] | ChildFailed] = [[] for _ in children]
    for _ in range(rounds):
        for k, child in enumerate(children):
            given = answers[k]
            if not isinstance(given, ChildFailed):
                try:
                    given.append(child.measure(seconds))
                except ChildFailed as error:
                    answers[k] = error
    return answers


def row(child: Child, answers: Sequence[Answer], mode: str, batch_size: int, peak_gflops: float | None = None) -> Row:
    """Return what a report says of one configuration: medians, ranges and every rate.

    Args:
        child: with the fact `gflop_per_image`, of the forward pass; training costs three of them.
        answers: its list from `interleave`.
        mode: inference or training.
        batch_size: images per call.
        peak_gflops: of the matrix product in the same dtype, GFLOP/s.
    """
    rates = [batch_size / answer["seconds_per_call"] for answer in answers]
    median = statistics.median(rates)
    flop = child.facts["gflop_per_image"] * (cost_model.TRAINING_FACTOR if mode == "training" else 1)
    return {
        "name": child.name,
        "mode": mode,
        "batch_size": batch_size,
        "images_per_second": median,
        "range": [min(rates), max(rates)],
        "rounds": rates,
        "gflop_per_image": flop,
        "gflops": flop * median,
        "share_of_peak": flop * median / peak_gflops if peak_gflops else None,
        "peak_mib": answers[-1]["peak_mib"],
        "compile_seconds": child.facts["compile_seconds"],
        "facts": child.facts,
    }


def best_rates(rows: Sequence[Row], mode: str) -> dict[str, float]:
    """Return by name the largest median images/s over the batch sizes, as the paper's Table 3 takes it.

    Example:
        >>> rows = [dict(name="a", mode="inference", images_per_second=rate) for rate in (3.0, 5.0)]
        >>> best_rates(rows, "inference")
        {'a': 5.0}
    """
    best: dict[str, float] = {}
    for one in rows:
        if one["mode"] == mode and one.get("images_per_second"):
            best[one["name"]] = max(best.get(one["name"], 0.0), one["images_per_second"])
    return best


def use_one_core() -> None:
    """Bind this process to its first core, before a library counts them.

    Raises:
        ValueError: where the system cannot do that.
    """
    if not hasattr(os, "sched_setaffinity"):
        raise ValueError("cores: this system cannot bind a process to one core; use --cores=all.")
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def busy_cores(seconds: float = 1.0) -> float | None:
    """Return how many of the machine's cores are busy now, over so many seconds; None where the system does not say."""
    stat = pathlib.Path("/proc/stat")
    if not stat.exists():
        return None
    # user, nice, system, idle, iowait, irq, softirq, steal; what follows is counted in the first two already
    before = [int(number) for number in stat.read_text().split("\n")[0].split()[1:9]]
    time.sleep(seconds)
    after = [int(number) for number in stat.read_text().split("\n")[0].split()[1:9]]
    spent = [b - a for a, b in zip(before, after, strict=True)]
    return (os.cpu_count() or 1) * (1 - (spent[3] + spent[4]) / max(sum(spent), 1))


def cpu_name() -> str:
    """Return the processor's name and the number of cores that this process may use."""
    info = pathlib.Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{found[1].strip() if found else 'CPU'}, {cores} core{'s' * (cores != 1)}"
