"""The rows of the paper's Tables 2 and 3 for a checkpoint: every task fine-tuned and evaluated, beside the published.

Each task is a run of finetune.py --sweep in a folder of its own; the same command again goes on where it stopped. A
task whose data are not there is skipped and named. Without flags: runs/pretrain, on what TFDS has prepared.

    python recipes/suite.py --weights=imagenet21k --model=b16 --data_dir=path/to/tfds --dry_run
    python recipes/suite.py --weights=imagenet21k --model=b16 --data_dir=path/to/tfds --tables=3 --tasks=pets,flowers
    python recipes/suite.py --weights=imagenet21k --model=l16 --data_dir=gs://bucket/tfds --seeds=0,1,2 \\
        --finetune_flags="--strategy=tpu --precision=mixed_bfloat16"
"""

from keras_mixer.cli import quiet_tensorflow  # noqa: F401 - first: TensorFlow without its start-up notes

# isort: split
import contextlib
import pathlib
import shlex
from collections.abc import Iterator
from typing import Any

from keras_mixer.cli import entry, inputs, suite_plan, suite_tables, suite_throughput, trained
from keras_mixer.cli.suite_plan import Settings
from keras_mixer.data import tasks
from keras_mixer.evaluation import tables as paper_tables
from keras_mixer.training import workdir


def run(settings: Settings) -> None:
    """Run what the settings name and is not there yet, and write the tables."""
    # ---- Settings ----
    given = suite_plan.parse_flags(settings.finetune_flags)
    start = trained.find(settings)
    if settings.measure is not None:
        suite_throughput.measure_throughput(settings, start, settings.measure, given)
        return
    tables = [paper_tables.TABLES[number] for number in settings.tables]
    keys, seeds = chosen_tasks(settings, tables), list(map(str, settings.seeds))
    if settings.data_dir and (pathlib.Path(settings.data_dir) / "dataset_info.json").exists():
        raise ValueError(
            f"data_dir: {settings.data_dir} holds one dataset; give the folder in which TFDS keeps them all."
        )

    # ---- Plan: short tasks first, since they show early what is wrong ----
    itself = {table.number: suite_plan.is_row(start, table, given) for table in tables}
    planned = [suite_plan.plan(settings, table, keys, given, itself[table.number]) for table in tables]
    jobs = {job.place: job for of_table in planned for job in of_table}
    for number in filter(itself.get, itself):
        print(f"Table {number}, {suite_plan.ITSELF}.")
    for job in jobs.values():
        if job.result():
            job.why_not = ""  # whatever has become of its data
        elif job.needs and jobs[job.needs].why_not:
            job.why_not = job.why_not or f"needs {job.needs}, which is skipped"
    if settings.dry_run:
        for job in jobs.values():
            if job.why_not:
                print(f"skip {job.place}: {job.why_not}")
            else:
                print(f"{'done' if job.result() else 'run '} {job.place}: {shlex.join(job.command())}")
        return

    # ---- Run what is not there yet; write the tables anew after each ----
    more = {name: value for name, value in given.items() if name not in suite_plan.FREE}
    fixed = {"recipe": "suite", "weights": start.name, "seeds": seeds, "finetune_flags": more}
    todo = [job for job in jobs.values() if not job.why_not and not job.result()]
    with open_folder(settings, fixed) as folder:

        def write() -> str:
            return suite_tables.write_tables(settings, folder, tables, jobs, start, given)

        print(f"{write()}\n\n{len(todo)} parts to run; {folder / 'tables.md'} is written anew after each.", flush=True)
        for number, job in enumerate(todo, start=1):
            if job.needs and not jobs[job.needs].result():
                job.why_not = f"needs {job.needs}, which is not finished"
                continue
            suite_plan.run(job, number, len(todo))
            write()
        if todo:
            print(f"\n{write()}\n")
    for job in jobs.values():
        if job.why_not:
            print(f"{'FAILED' if job.failed else 'skipped'} {job.place}: {job.why_not}")
    finished = sum(job.result() is not None for job in jobs.values())
    print(f"{finished} of {len(jobs)} parts are finished: {folder / 'tables.md'}, tables.csv and tasks.csv")
    failed = [job.place for job in jobs.values() if job.failed]
    if failed:
        entry.stop(f"{', '.join(failed)} failed; the same command tries again.", entry.EXIT_FAILED)


def chosen_tasks(settings: Settings, tables: Any) -> Any:
    """Return the keys of --tasks, by default of all tasks that the tables need."""
    needed = dict.fromkeys(key for table in tables for key in table.tasks)
    if settings.tasks is None:
        return list(needed)
    for key in settings.tasks:
        tasks.get_task(key)  # refuses an unknown one, with near names
        if key not in needed:
            raise ValueError(
                f"tasks: {key} is not part of Table {' or '.join(map(str, settings.tables))}; add another to --tables."
            )
    return settings.tasks


@contextlib.contextmanager
def open_folder(settings: Settings, fixed: dict[str, Any]) -> Iterator[pathlib.Path]:
    """`workdir.open_workdir` of the suite, which has no --overwrite."""
    details = {"flags": settings.as_json(), "versions": inputs.versions()}
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(workdir.open_workdir(settings.workdir, fixed, details))
        except ValueError as error:
            raise ValueError(str(error).replace(", or --overwrite to start anew", "")) from None
        yield folder


if __name__ == "__main__":
    entry.run(Settings, run)
