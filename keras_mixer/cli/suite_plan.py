"""The parts of a suite: what is to be run for a table, why something is not, and running it."""

import dataclasses
import functools
import json
import pathlib
import shlex
import time
from collections.abc import Sequence
from typing import Any

from keras_mixer import paper
from keras_mixer.cli import entry, jobs
from keras_mixer.cli.flags import setting, settings_class
from keras_mixer.cli.settings import DEFAULT_WEIGHTS, Checkpoint
from keras_mixer.data import tasks
from keras_mixer.starting_point import StartingPoint
from keras_mixer.training.remaining import duration

ITSELF = "ImageNet and ReaL: the checkpoint itself, not fine-tuned"
REAL = "imagenet2012_real"
REAL_MANUAL = "ILSVRC2012_img_val.tar, from image-net.org"
# Flags of finetune.py that every child gets, and those of them that may change when a suite goes on.
PASSED_ON, FREE = ("strategy", "num_devices", "tpu", "precision"), ("strategy", "num_devices", "tpu")
OWN = (  # what the suite sets
    *("weights", "model", "data_dir", "manual_dir", "workdir", "overwrite", "task", "dataset", "train_split"),
    *("eval_split", "crop", "sweep", "development", "seed", "seeds", "learning_rate"),
)


@settings_class
class Settings(Checkpoint):
    """Settings of a suite."""

    data_dir: str | None = setting(None, "Where TFDS keeps its data.", common=True)
    manual_dir: str | None = setting(None, "Where archives lie that TFDS cannot download itself, such as ImageNet's.")
    tables: tuple[int, ...] = setting(
        (2, 3), "The paper's: 2 (448 px and VTAB-1k), 3 (224 px).", choices=(2, 3), distinct=True, common=True
    )
    tasks: tuple[str, ...] | None = setting(
        None, f"Default all that the tables need, of {', '.join(tasks.TASKS)}.", common=True
    )
    seeds: tuple[int, ...] = setting((0, 1, 2), "Of the final runs of each task.", least=0, distinct=True)
    workdir: str = setting("runs/suite", "Folder of the suite; the same flags again continue it.", common=True)
    download: bool = setting(False, "Let TFDS download and prepare what is not in --data_dir.")
    finetune_flags: str = setting("", "More flags of finetune.py, as one text; devices and precision go to all.")
    throughput: bool = setting(True, "Measure images/s/core of the model at each table's size.")
    fewshot: bool = setting(False, "Also 5-shot linear ImageNet, by fewshot.py; the tables have no figure of it.")
    dry_run: bool = setting(False, "Print what would be run and what would be skipped, and run nothing.", common=True)
    measure: int | None = setting(None, "Only measure throughput, at this image side, into --workdir.")


@dataclasses.dataclass
class Job:
    """A child process whose result.json is a part of a table; `why_not` says why it is not run or has failed."""

    workdir: pathlib.Path  # of the suite
    place: str  # in it
    recipe: str
    flags: list[str]
    why_not: str = ""
    needs: str | None = None  # the place of a job whose weights it takes
    failed: bool = False

    @property
    def folder(self) -> pathlib.Path:
        return self.workdir / self.place

    def command(self) -> list[str]:
        return jobs.command_line(self.recipe, [*self.flags, f"--workdir={self.folder}"])

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


def pre_training(start: StartingPoint) -> str | None:
    """Return what a checkpoint was pre-trained on, of a run the checkpoint that it began with; None if not known."""
    if start.is_released:
        return paper.I21K if start.weights == "imagenet21k" else paper.I1K
    began_with = start.settings.get("started_from") or start.settings.get("weights")
    return began_with or (paper.I1K if _of_imagenet(start) else None)


def is_row(start: StartingPoint, table: Any, given: dict[str, Any]) -> bool:
    """Whether a table has the ImageNet figures of the checkpoint itself: Table 3 where its head is ImageNet's.

    At another size than that of its training it is fine-tuned, as any other.
    """
    return table.number == 3 and _of_imagenet(start) and start.image_size == full_size(table, given)


def _of_imagenet(start: StartingPoint) -> bool:
    trained_on_it = start.is_released or start.settings.get("task") == "imagenet"
    trained_on_it |= paper.is_imagenet(start.settings.get("dataset") or "")
    return trained_on_it and start.num_classes == 1000


def plan(settings: Settings, table: Any, keys: Sequence[str], given: dict[str, Any], itself: bool) -> list[Job]:
    """Return the `Job`s of a table; `itself` where its ImageNet figures are those of the checkpoint itself."""
    place, seeds = pathlib.Path(settings.workdir).expanduser(), f"--seeds={','.join(map(str, settings.seeds))}"
    base, name = [f"--weights={settings.weights or DEFAULT_WEIGHTS}"], f"table{table.number}"
    base += [f"--model={settings.model}"] if settings.model else []
    places = {"data_dir": settings.data_dir, "manual_dir": settings.manual_dir}
    data = [f"--{flag}={value}" for flag, value in places.items() if value]
    devices = [f"--{flag}={given[flag]}" for flag in PASSED_ON if flag in given]
    extra, crop = shlex.split(settings.finetune_flags), f"--crop={table.crop}"
    planned = []

    def evaluation(where: str, weights: list[str], dataset: str, reason: str, needs: str | None = None) -> None:
        own = [*weights, f"--dataset={dataset}", crop, "--nopictures", *data, *devices]
        planned.append(Job(place, f"{name}/{where}", "evaluate", own, reason, needs))

    for task in sorted(map(tasks.get_task, table.tasks), key=lambda task: task.steps):
        own = [f"--task={task.key}", "--sweep", seeds]
        if task.group == "full":  # the size of a VTAB-1k task is its own
            own += [f"--image_size={table.image_size}", crop]
        splits = {part.split("[")[0] for text in (*task.develop, *task.final) for part in text.split("+")}
        as_it_is = itself and task.key == "imagenet"
        if as_it_is:
            splits = {task.final[1]}
        reason = "not in --tasks"
        if task.key in keys:
            reason = missing(settings, task.dataset, tuple(sorted(splits)), task.manual)
        if as_it_is:
            evaluation("checkpoint/imagenet", base, paper.IMAGENET, reason)
        else:
            planned.append(Job(place, f"{name}/{task.key}", "finetune", [*base, *data, *own, *extra], reason))
    if "imagenet" in keys:
        reason = missing(settings, REAL, ("validation",), REAL_MANUAL)
        if itself:
            evaluation("checkpoint/real", base, REAL, reason)
        else:
            for seed in settings.seeds:
                tuned = place / name / "imagenet" / "final" / f"seed_{seed}"
                evaluation(f"real/seed_{seed}", [f"--weights={tuned}"], REAL, reason, f"{name}/imagenet")
    if settings.fewshot:
        imagenet = tasks.get_task("imagenet")
        reason = missing(settings, imagenet.dataset, ("train", "validation"), imagenet.manual)
        own = ["--dataset=imagenet2012", "--shots=5", seeds]
        planned.append(Job(place, "fewshot", "fewshot", [*base, *own, *data, *devices], reason))
    if settings.throughput:
        own = [f"--measure={full_size(table, given)}"]
        own += [f"--finetune_flags={shlex.join(devices)}"] if devices else []
        planned.append(Job(place, f"{name}/throughput", "suite", [*base, *own]))
    return planned


def full_size(table: Any, given: dict[str, Any]) -> Any:
    """Return the image side of the full tasks: the table's, or that of --finetune_flags."""
    return int(given.get("image_size", table.image_size))


@functools.cache
def missing(settings: Settings, dataset: str, splits: Any, manual: Any) -> str:
    """Return why the data of a task cannot be read, "" where they are prepared or will be downloaded."""
    import tensorflow_datasets as tfds  # takes seconds to import

    try:
        builder = tfds.builder(dataset, data_dir=settings.data_dir)
    except Exception as error:  # of the dataset's own code, such as a package that it wants
        return f"TFDS cannot open {dataset} ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
    if builder.info.splits:
        absent = [split for split in splits if split not in builder.info.splits]
        return f"{builder.data_path} has no split {' or '.join(absent)}; prepare it anew" if absent else ""
    where = f"{dataset} is not prepared in {settings.data_dir or 'the data folder of TFDS'}"
    if manual:
        root = pathlib.Path(settings.data_dir or "~/tensorflow_datasets").expanduser()
        folder = pathlib.Path(settings.manual_dir or root / "downloads" / "manual").expanduser()
        if not settings.download or not folder.is_dir() or not any(folder.iterdir()):
            return f"{where}, and needs by hand, in --manual_dir: {manual}; then give --download"
    return "" if settings.download else f"{where}; prepare it there, or give --download"


def run(job: Job, number: int, of: int) -> None:
    """Run a job to its end, with a line when it starts and when it ends; a signal ends the suite with it."""
    name = f"[{number} of {of}] {job.place}"
    print(f"\n{name}: {job.recipe} ...", flush=True)
    job.folder.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    code, errors, signum = jobs.run(job.command(), keep_errors=True)
    if signum:
        entry.stop("stopped; the same command continues.", 128 + signum)
    if code or not job.result():
        lines = errors.splitlines()
        told = [line for line in lines if line.startswith("error: ")] or lines or ["no message"]
        job.why_not = told[-1].removeprefix("error: ")
        # Whether something can be downloaded shows only when it is tried.
        job.failed = "TFDS could not download and prepare" not in job.why_not
        if job.failed:
            job.why_not = f"exit code {code}: {job.why_not}"
    print(f"{name}: {outcome(job)}, {duration(time.monotonic() - began)}", flush=True)


def outcome(job: Job) -> str:
    """Return in a few words what a job that has ended has found."""
    result = job.result()
    if job.why_not or not result:
        return "failed" if job.failed else "skipped"
    if job.recipe == "fewshot":
        return ", ".join(f"{row['shots']} shots {row['top1']:.1%}" for row in result["results"])
    if job.recipe == "suite":
        return f"{result['images_per_second_per_core']:.3g} images/s/core"
    names = {"real_top1": "ReaL top-1", "top1": "top-1"}
    return ", ".join(f"{name} {result[key]:.1%}" for key, name in names.items() if key in result)
