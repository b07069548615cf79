"""The rows of the paper's Tables 2 and 3 for a checkpoint: every task fine-tuned and evaluated, beside the published.

Each task is a run of finetune.py --sweep in a folder of its own; the same command again goes on where it stopped. A
task whose data are not there is skipped and named. Without flags: runs/pretrain, on what TFDS has prepared.

    python recipes/suite.py --weights=imagenet21k --model=b16 --data_dir=path/to/tfds --dry_run
    python recipes/suite.py --weights=imagenet21k --model=b16 --data_dir=path/to/tfds --tables=3 --tasks=pets,flowers
    python recipes/suite.py --weights=imagenet21k --model=l16 --data_dir=gs://bucket/tfds --seeds=0,1,2 \\
        --finetune_flags="--strategy=tpu --precision=mixed_bfloat16"
"""

from keras_mixer.cli import entry  # first: it imports TensorFlow without its start-up notes

# isort: split
import contextlib
import os
import pathlib
import platform
import shlex
import time
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf
from absl import flags

import keras_mixer
from keras_mixer import files
from keras_mixer.cli import checkpoint_flags, suite_jobs
from keras_mixer.data import tasks
from keras_mixer.evaluation import tables as paper_tables
from keras_mixer.starting_point import StartingPoint
from keras_mixer.training import strategies, workdir
from keras_mixer.weights import resolution

FLAGS: Any = flags.FLAGS
BATCH_SIZES = (8, 16, 32, 64, 128, 256, 512, 1024)  # on each device, until there is no gain or no room
SECONDS = 0.5  # at least, and three batches, for each
checkpoint_flags.define_weights()
flags.adopt_module_key_flags(checkpoint_flags)  # so that --help shows them
flags.DEFINE_string("data_dir", None, "Where TFDS keeps its data.")
flags.DEFINE_string("manual_dir", None, "Where archives lie that TFDS cannot download itself, such as ImageNet's.")
flags.DEFINE_list("tables", ["2", "3"], "The paper's: 2 (448 px and VTAB-1k), 3 (224 px).")
flags.DEFINE_list("tasks", None, f"Default all that the tables need, of {', '.join(tasks.TASKS)}.")
flags.DEFINE_list("seeds", ["0", "1", "2"], "Of the final runs of each task.")
flags.DEFINE_string("workdir", "runs/suite", "Folder of the suite; the same flags again continue it.")
flags.DEFINE_boolean("download", False, "Let TFDS download and prepare what is not in --data_dir.")
flags.DEFINE_string("finetune_flags", "", "More flags of finetune.py, as one text; devices and precision go to all.")
flags.DEFINE_boolean("throughput", True, "Measure images/s/core of the model at each table's size.")
flags.DEFINE_boolean("fewshot", False, "Also 5-shot linear ImageNet, by fewshot.py; the tables have no figure of it.")
flags.DEFINE_boolean("dry_run", False, "Print what would be run and what would be skipped, and run nothing.")
flags.DEFINE_integer("measure", None, "Only measure throughput, at this image side, into --workdir.")


def main(_: list[str]) -> None:
    # ---- Settings ----
    given = suite_jobs.parse_flags(FLAGS.finetune_flags)
    start = checkpoint_flags.find()
    if FLAGS.measure is not None:
        measure_throughput(start, FLAGS.measure, given)
        return
    tables = [paper_tables.TABLES[int(number)] for number in listed("tables", list(map(str, paper_tables.TABLES)))]
    keys = chosen_tasks(tables)
    seeds = listed("seeds")
    if FLAGS.data_dir and (pathlib.Path(FLAGS.data_dir) / "dataset_info.json").exists():
        raise ValueError(f"data_dir: {FLAGS.data_dir} holds one dataset; give the folder in which TFDS keeps them all.")

    # ---- Plan: short tasks first, since they show early what is wrong ----
    jobs = {job.place: job for table in tables for job in suite_jobs.plan(table, keys, seeds, given)}
    for job in jobs.values():
        if job.result():
            job.why_not = ""  # whatever has become of its data
        elif job.needs and jobs[job.needs].why_not:
            job.why_not = job.why_not or f"needs {job.needs}, which is skipped"
    if FLAGS.dry_run:
        for job in jobs.values():
            if job.why_not:
                print(f"skip {job.place}: {job.why_not}")
            else:
                print(f"{'done' if job.result() else 'run '} {job.place}: {shlex.join(job.command())}")
        return

    # ---- Run what is not there yet; write the tables anew after each ----
    fixed = {name: value for name, value in given.items() if name not in suite_jobs.FREE}
    settings = {"recipe": "suite", "weights": start.name, "seeds": seeds, "finetune_flags": fixed}
    with open_folder(settings) as folder:
        for job in jobs.values():
            if job.why_not or job.result():
                continue
            if job.needs and not jobs[job.needs].result():
                job.why_not = f"needs {job.needs}, which is not finished"
                continue
            suite_jobs.run(job)
            write_tables(folder, tables, jobs, start, given, seeds)
        write_tables(folder, tables, jobs, start, given, seeds)
    for job in jobs.values():
        if job.why_not:
            print(f"{'FAILED' if job.failed else 'skipped'} {job.place}: {job.why_not}")
    finished = sum(job.result() is not None for job in jobs.values())
    print(f"{finished} of {len(jobs)} parts are finished: {folder / 'tables.md'}, tables.csv and tasks.csv")
    failed = [job.place for job in jobs.values() if job.failed]
    if failed:
        entry.stop(f"{', '.join(failed)} failed; the same command tries again.", entry.EXIT_FAILED)


def listed(name: str, allowed: Any = None) -> Any:
    """Return the different values that a flag lists; whole numbers where `allowed` names none."""
    values = [value.strip() for value in FLAGS[name].value or []]
    right = all(value in allowed if allowed else value.isdecimal() for value in values)
    if not values or not right or len(set(map(int, values))) < len(values):
        which = f"of {', '.join(allowed)}" if allowed else "whole numbers"
        raise ValueError(f"{name}: must be different {which}, separated by commas, got {','.join(values)!r}.")
    return values if allowed else [str(int(value)) for value in values]


def chosen_tasks(tables: Any) -> Any:
    """Return the keys of --tasks, by default of all tasks that the tables need."""
    needed = dict.fromkeys(key for table in tables for key in table.tasks)
    if FLAGS.tasks is None:
        return list(needed)
    for key in FLAGS.tasks:
        tasks.get_task(key)  # refuses an unknown one, with near names
        if key not in needed:
            raise ValueError(f"tasks: {key} is not part of Table {' or '.join(FLAGS.tables)}; add another to --tables.")
    return FLAGS.tasks


@contextlib.contextmanager
def open_folder(settings: Any) -> Iterator[pathlib.Path]:
    """`workdir.open_workdir` of the suite, which has no --overwrite."""
    details = {"flags": entry.settings(), "versions": entry.versions()}
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(workdir.open_workdir(FLAGS.workdir, settings, details))
        except ValueError as error:
            raise ValueError(str(error).replace(", or --overwrite to start anew", "")) from None
        yield folder


def write_tables(
    folder: pathlib.Path,
    tables: Any,
    jobs: dict[str, suite_jobs.Job],
    start: StartingPoint,
    given: Any,
    seeds: list[str],
) -> None:
    """Write tables.md, tables.csv and tasks.csv from the results that are there."""
    text, all_rows, parts = [f"# {start.name}, beside the figures of the paper\n"], [], []
    protocol = f"Mean of seeds {', '.join(seeds)} (± population deviation); rate from each task's grid."
    changed = [f"--{name}={value}" for name, value in given.items() if name not in suite_jobs.PASSED_ON]
    text.append(protocol + (f" **Not the paper's fine-tuning: {' '.join(changed)}.**" if changed else "") + "\n")
    shots = jobs["fewshot"].result() if "fewshot" in jobs else None
    for table in tables:
        name, scores = f"table{table.number}", {}
        for key in table.tasks:
            result = jobs[f"{name}/{key}"].result()
            if result:
                scores[key] = {seed: result["top1_by_seed"][seed] for seed in seeds}
            row = {"table": table.number, "task": key, "title": tasks.get_task(key).title}
            row |= {name: (result or {}).get(name) for name in ("top1", "top1_deviation", "learning_rate")}
            parts.append(row | {"why_not": jobs[f"{name}/{key}"].why_not or None})
        real = {seed: jobs[f"{name}/real/seed_{seed}"].result() for seed in seeds if f"{name}/real/seed_{seed}" in jobs}
        if real and all(real.values()):
            scores["real"] = {seed: result["real_top1"] for seed, result in real.items()}
        speed = jobs[f"{name}/throughput"].result() if f"{name}/throughput" in jobs else None
        side = suite_jobs.full_size(table, given)
        published = paper_tables.published_row(table, FLAGS.weights, FLAGS.model, side)
        fewshot = None
        if shots:
            fewshot = dict(zip(map(str, shots["seeds"]), shots["results"][0]["top1_by_seed"], strict=True))
        rows = paper_tables.rows(table, start.name, side, scores, speed, published, fewshot)
        text.append(paper_tables.markdown(table, rows))
        if speed:
            text.append(f"This machine: {speed['machine']}, batch {speed['batch_size']}.\n")
        all_rows += rows
    text += ["## Tasks\n", "| table | task | top-1 | learning rate |", "| --- | --- | --- | --- |"]
    for row in parts:
        score = f"{row['top1']:.2%} ± {row['top1_deviation']:.2%}" if row["top1"] is not None else row["why_not"]
        cells = (row["table"], f"{row['title']} (`{row['task']}`)", score or "-", row["learning_rate"] or "-")
        text.append(f"| {' | '.join(map(str, cells))} |")
    others = [job for job in jobs.values() if job.recipe != "finetune" and job.why_not]
    text += ["", *(f"- {job.place}: {job.why_not}" for job in others)]
    contents = {"tables.md": "\n".join(text).rstrip() + "\n"}
    contents |= {"tables.csv": paper_tables.csv_text(all_rows), "tasks.csv": paper_tables.csv_text(parts)}
    for file_name, content in contents.items():
        files.write_text(folder / file_name, content)


def measure_throughput(start: StartingPoint, side: int, given: Any) -> Any:
    """Write the best images/s/core over batch sizes to result.json: inference of the Mixer on images in memory."""
    number = given.get("num_devices")
    strategy = strategies.make_strategy(
        given.get("strategy", "auto"), int(number) if number else None, given.get("tpu")
    )
    precision = given.get("precision", "float32")
    keras.config.set_dtype_policy(precision)
    patches = side // start.sizes["patch_size"]
    trained = (start.image_size or side) // start.sizes["patch_size"]
    factor = resolution.grid_factor((trained, trained), (patches, patches))
    wider = factor[0] * factor[1] if factor else 1  # the token MLPs, as fine-tuning at this size makes them
    sizes = start.sizes | {"tokens_mlp_dim": start.sizes["tokens_mlp_dim"] * wider}
    with strategy.scope():
        model = keras_mixer.MLPMixer(**sizes, input_shape=(side, side, 3), classes=1000, classifier_activation=None)

    @tf.function
    def logits_sum(images: Any) -> Any:
        one = lambda images: tf.reduce_sum(tf.cast(model(images, training=False), tf.float32))
        return strategy.reduce("SUM", strategy.run(one, (images,)), axis=None)

    accelerators = tf.config.list_logical_devices("TPU") or tf.config.list_logical_devices("GPU")
    replicas = strategy.num_replicas_in_sync
    cores = replicas if accelerators else len(os.sched_getaffinity(0))
    best = (0.0, 0)
    for batch_size in BATCH_SIZES:
        images = tf.random.stateless_uniform((batch_size, side, side, 3), (0, 0), -1, 1)
        try:
            logits_sum(images).numpy()  # traced and compiled
            began, steps = time.perf_counter(), 0
            while steps < 3 or time.perf_counter() - began < SECONDS:
                for _ in range(8 if accelerators else 1):
                    total, steps = logits_sum(images), steps + 1
                total.numpy()  # waits for the device
        except tf.errors.ResourceExhaustedError:
            break
        rate = steps * batch_size * replicas / (time.perf_counter() - began)
        if rate < 0.9 * best[0]:
            break
        best = max(best, (rate, batch_size))
    kind = f"{replicas} {accelerators[0].device_type}" if accelerators else f"{cores} CPU cores, {platform.machine()}"
    result: dict[str, Any] = {"images_per_second_per_core": best[0] / cores, "batch_size": best[1], "image_size": side}
    folder = pathlib.Path(FLAGS.workdir).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    result |= {"machine": f"{kind}, {precision}", "versions": entry.versions()}
    files.write_json(folder / "result.json", result)
    print(f"{best[0] / cores:.4g} images/s/core at {side} px, batch {best[1]}: {result['machine']}")


if __name__ == "__main__":
    entry.run(main)
