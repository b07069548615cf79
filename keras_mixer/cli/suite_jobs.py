"""The parts of a suite: what is to be run for a table, why something is not, and the child process that does it."""

import dataclasses
import functools
import json
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import threading
from typing import Any

from absl import flags

from keras_mixer import recipes
from keras_mixer.cli import checkpoint_flags, entry
from keras_mixer.data import tasks

FLAGS: Any = flags.FLAGS
RECIPES = pathlib.Path(recipes.__file__).parent
REAL = "imagenet2012_real"
REAL_MANUAL = "ILSVRC2012_img_val.tar, from image-net.org"
# Flags of finetune.py that every child gets, and those of them that may change when a suite goes on.
PASSED_ON, FREE = ("strategy", "num_devices", "tpu", "precision"), ("strategy", "num_devices", "tpu")
OWN = (  # what the suite sets
    *("weights", "model", "data_dir", "manual_dir", "workdir", "overwrite", "task", "dataset", "train_split"),
    *("eval_split", "crop", "sweep", "development", "seed", "seeds", "learning_rate"),
)


@dataclasses.dataclass
class Job:
    """A child process whose result.json is a part of a table; `why_not` says why it is not run or has failed."""

    place: str  # under --workdir
    recipe: str
    flags: list[str]
    why_not: str = ""
    needs: str | None = None  # the place of a job whose weights it takes
    failed: bool = False

    @property
    def folder(self) -> pathlib.Path:
        return pathlib.Path(FLAGS.workdir).expanduser() / self.place

    def command(self) -> list[str]:
        return [sys.executable, str(RECIPES / f"{self.recipe}.py"), *self.flags, f"--workdir={self.folder}"]

    def result(self) -> Any:
        """What result.json holds, or None before it is there."""
        try:
            return json.loads((self.folder / "result.json").read_text())
        except (OSError, ValueError):
            return None


def parse_flags(text: str) -> dict[str, Any]:
    """Return name -> value of --finetune_flags; refuse what the suite sets itself."""
    given = {}
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ValueError(f"finetune_flags: {text!r} cannot be read ({error}); close the quotes.") from None
    for word in words:
        name, _, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not name:
            raise ValueError(f"finetune_flags: {word!r} is not a flag; write --name=value, separated by spaces.")
        if name in OWN or name.removeprefix("no") in OWN:
            raise ValueError(f"finetune_flags: the suite sets --{name} for each task; leave it out.")
        given[name] = value
    for name in ("image_size", "num_devices"):
        if not given.get(name, "1").isdecimal():
            raise ValueError(f"finetune_flags: --{name} must be a whole number, got {given[name]!r}.")
    return given


def plan(table: Any, keys: Any, seeds: list[str], given: Any) -> list[Job]:
    """Return the `Job`s of a table."""
    base, name = [f"--weights={FLAGS.weights or checkpoint_flags.DEFAULT_WEIGHTS}"], f"table{table.number}"
    base += [f"--model={FLAGS.model}"] if FLAGS.model else []
    data = [f"--{flag}={FLAGS[flag].value}" for flag in ("data_dir", "manual_dir") if FLAGS[flag].value]
    devices = [f"--{flag}={given[flag]}" for flag in PASSED_ON if flag in given]
    extra, crop = shlex.split(FLAGS.finetune_flags), f"--crop={table.crop}"
    jobs = []
    for task in sorted(map(tasks.get_task, table.tasks), key=lambda task: task.steps):
        own = [f"--task={task.key}", "--sweep", f"--seeds={','.join(seeds)}"]
        if task.group == "full":  # the size of a VTAB-1k task is its own
            own += [f"--image_size={table.image_size}", crop]
        splits = {part.split("[")[0] for text in (*task.develop, *task.final) for part in text.split("+")}
        reason = "not in --tasks" if task.key not in keys else missing(task.dataset, tuple(sorted(splits)), task.manual)
        jobs.append(Job(f"{name}/{task.key}", "finetune", [*base, *data, *own, *extra], reason))
    if "imagenet" in keys:
        reason = missing(REAL, ("validation",), REAL_MANUAL)
        tuned = Job(f"{name}/imagenet", "", []).folder / "final"
        for seed in seeds:
            own = [f"--weights={tuned / f'seed_{seed}'}", f"--dataset={REAL}", crop, "--nopictures"]
            place = f"{name}/real/seed_{seed}"
            jobs.append(Job(place, "evaluate", [*own, *data, *devices], reason, f"{name}/imagenet"))
    if FLAGS.fewshot:
        imagenet = tasks.get_task("imagenet")
        reason = missing(imagenet.dataset, ("train", "validation"), imagenet.manual)
        own = ["--dataset=imagenet2012", "--shots=5", f"--seeds={','.join(seeds)}"]
        jobs.append(Job("fewshot", "fewshot", [*base, *own, *data, *devices], reason))
    if FLAGS.throughput:
        own = [f"--measure={full_size(table, given)}"]
        own += [f"--finetune_flags={shlex.join(devices)}"] if devices else []
        jobs.append(Job(f"{name}/throughput", "suite", [*base, *own]))
    return jobs


def full_size(table: Any, given: Any) -> Any:
    """Return the image side of the full tasks: the table's, or that of --finetune_flags."""
    return int(given.get("image_size", table.image_size))


@functools.cache
def missing(dataset: str, splits: Any, manual: Any) -> str:
    """Return why the data of a task cannot be read, "" where they are prepared or will be downloaded."""
    import tensorflow_datasets as tfds  # takes seconds to import

    try:
        builder = tfds.builder(dataset, data_dir=FLAGS.data_dir)
    except Exception as error:  # of the dataset's own code, such as a package that it wants
        return f"TFDS cannot open {dataset} ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
    if builder.info.splits:
        absent = [split for split in splits if split not in builder.info.splits]
        return f"{builder.data_path} has no split {' or '.join(absent)}; prepare it anew" if absent else ""
    where = f"{dataset} is not prepared in {FLAGS.data_dir or 'the data folder of TFDS'}"
    if manual:
        root = pathlib.Path(FLAGS.data_dir or "~/tensorflow_datasets").expanduser()
        folder = pathlib.Path(FLAGS.manual_dir or root / "downloads" / "manual").expanduser()
        if not FLAGS.download or not folder.is_dir() or not any(folder.iterdir()):
            return f"{where}, and needs by hand, in --manual_dir: {manual}; then give --download"
    return "" if FLAGS.download else f"{where}; prepare it there, or give --download"


def run(job: Job) -> None:
    """Run a job to its end, its output going on to ours; a signal goes on to it, and then ends the suite."""
    print(f"\n==== {job.place}", flush=True)
    job.folder.parent.mkdir(parents=True, exist_ok=True)
    signals: list[int] = []
    process: Any = None

    def stop(number: int, _: Any) -> None:
        signals.append(number)
        # Ctrl-C reaches both from the terminal; what is sent to this process alone goes on to the one that works.
        if number == signal.SIGTERM and process:
            process.send_signal(number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    process = subprocess.Popen(job.command(), stderr=subprocess.PIPE)
    if signal.SIGTERM in signals:
        process.send_signal(signal.SIGTERM)
    tail = bytearray()

    def copy() -> None:
        while piece := os.read(process.stderr.fileno(), 65536):
            sys.stderr.buffer.write(piece)
            sys.stderr.flush()
            tail[:] = (tail + piece)[-10_000:]

    reader = threading.Thread(target=copy, daemon=True)
    reader.start()
    try:
        code = process.wait()
        reader.join(timeout=10)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if signals:
        entry.stop("stopped; the same command continues.", 128 + signals[0])
    if code or not job.result():
        lines = tail.decode(errors="replace").replace("\r", "\n").strip().splitlines()
        errors = [line for line in lines if line.startswith("error: ")] or lines or ["no message"]
        job.why_not = errors[-1].removeprefix("error: ")
        # Whether something can be downloaded shows only when it is tried.
        job.failed = "TFDS could not download and prepare" not in job.why_not
        if job.failed:
            job.why_not = f"exit code {code}: {job.why_not}"
