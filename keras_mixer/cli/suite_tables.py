"""The tables of a suite, written from the results that are there, and read again for pictures."""

import csv
import math
import pathlib
from typing import Any

from keras_mixer import cost_model, files
from keras_mixer.cli import suite_plan
from keras_mixer.cli.suite_plan import Job, Settings
from keras_mixer.data import tasks
from keras_mixer.evaluation import tables as paper_tables
from keras_mixer.starting_point import StartingPoint

COSTS = ("core_days", "throughput")


def write_tables(
    settings: Settings,
    folder: pathlib.Path,
    tables: Any,
    jobs: dict[str, Job],
    start: StartingPoint,
    given: Any,
) -> str:
    """Write tables.md, tables.csv and tasks.csv from the results that are there; return the tables of tables.md."""
    seeds, drawn = list(map(str, settings.seeds)), []
    text, all_rows, parts = [f"# {start.name}, beside the figures of the paper\n"], [], []
    protocol = f"Mean of seeds {', '.join(seeds)} (± population deviation); rate from each task's grid."
    changed = [f"--{name}={value}" for name, value in given.items() if name not in suite_plan.PASSED_ON]
    text.append(protocol + (f" **Not the paper's fine-tuning: {' '.join(changed)}.**" if changed else "") + "\n")
    shots = jobs["fewshot"].result() if "fewshot" in jobs else None
    for table in tables:
        name = f"table{table.number}"
        scores: dict[str, Any] = {}
        itself = f"{name}/checkpoint/imagenet" in jobs
        for key in table.tasks:
            job = jobs[f"{name}/checkpoint/imagenet" if itself and key == "imagenet" else f"{name}/{key}"]
            result = job.result()
            if result:
                by_seed = result.get("top1_by_seed")
                scores[key] = {seed: by_seed[seed] for seed in seeds} if by_seed else {None: result["top1"]}
            row = {"table": table.number, "task": key, "title": tasks.get_task(key).title}
            row |= {name: (result or {}).get(name) for name in ("top1", "top1_deviation", "learning_rate")}
            parts.append(row | {"why_not": job.why_not or None})
        places = {None: f"{name}/checkpoint/real"} if itself else {seed: f"{name}/real/seed_{seed}" for seed in seeds}
        real = {seed: jobs[place].result() for seed, place in places.items() if place in jobs}
        if real and all(real.values()):
            scores["real"] = {seed: result["real_top1"] for seed, result in real.items()}
        speed = jobs[f"{name}/throughput"].result() if f"{name}/throughput" in jobs else None
        side = suite_plan.full_size(table, given)
        published = paper_tables.published_row(table, settings.weights, settings.model, side)
        fewshot = None
        if shots:
            fewshot = dict(zip(map(str, shots["seeds"]), shots["results"][0]["top1_by_seed"], strict=True))
        rows = paper_tables.rows(table, start.name, side, scores, speed, published, fewshot)
        rows[0] |= {
            "pre_trained_on": suite_plan.pre_training(start),
            "core_days": rows[0]["core_days"] or _core_days(start),
        }
        drawn.append(paper_tables.markdown(table, rows))
        text += [drawn[-1], *([f"{suite_plan.ITSELF}.\n"] if itself else [])]
        if speed:
            text.append(f"This machine: {speed['machine']}, batch {speed['batch_size']}.\n")
        all_rows += rows
    text += ["## Tasks\n", "| table | task | top-1 | learning rate |", "| --- | --- | --- | --- |"]
    for row in parts:
        cells = (row["table"], f"{row['title']} (`{row['task']}`)", _score(row), row["learning_rate"] or "-")
        text.append(f"| {' | '.join(map(str, cells))} |")
    others = [job for job in jobs.values() if job.recipe != "finetune" and job.why_not]
    text += ["", *(f"- {job.place}: {job.why_not}" for job in others)]
    contents = {"tables.md": "\n".join(text).rstrip() + "\n"}
    contents |= {"tables.csv": paper_tables.csv_text(all_rows), "tasks.csv": paper_tables.csv_text(parts)}
    for file_name, content in contents.items():
        files.write_text(folder / file_name, content)
    return "\n".join(drawn).rstrip()


def _core_days(start: StartingPoint) -> float | None:
    """Return what a pre-training run would take on a TPU v3, in thousands of core-days, from its operations."""
    done = start.settings
    if not done.get("total_steps") or done.get("weights") or done.get("started_from"):
        return None  # no run, or one that began with weights of unknown cost
    seen, classes = done["total_steps"] * done["batch_size"], start.num_classes or 0
    flop = cost_model.training_flop(seen, done["image_size"], start.sizes, classes, start.channels)
    return cost_model.core_days(flop) / 1000


def _score(row: dict[str, Any]) -> str:
    """Return the accuracy of a task with its deviation, where it has one, or why there is none."""
    if row["top1"] is None:
        return row["why_not"] or "-"
    return f"{row['top1']:.2%}" + ("" if row["top1_deviation"] is None else f" ± {row['top1_deviation']:.2%}")


def measured_points(folder: str) -> dict[str, list[dict[str, Any]]]:
    """Return the measured points of a suite's tables.csv, by cost: "core_days" and "throughput".

    Raises:
        ValueError: for a file that cannot be read, or is not what suite.py writes.
    """
    path = pathlib.Path(folder).expanduser() / "tables.csv"
    fault = f"suites: {path} {{}}; name a folder in which suite.py has written."
    try:
        lines = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    except (OSError, ValueError, csv.Error):
        raise ValueError(fault.format("cannot be read")) from None
    rows, points = [row for row in lines if row.get("row") == "measured"], {}
    if not rows or not {"model", "image_size", "imagenet", *COSTS} <= set(rows[0]):
        raise ValueError(fault.format("has no measured row of a table"))
    for cost in COSTS:
        try:
            points[cost] = [_point(row, cost) for row in rows if row["imagenet"] and row[cost]]
        except ValueError:
            raise ValueError(fault.format(f"has another {cost}, image_size or imagenet than a number")) from None
    if not any(points.values()):
        print(f"suites: {path} has no accuracy on ImageNet yet; nothing of it is drawn.")
    return points


def _point(row: dict[str, str], cost: str) -> dict[str, Any]:
    """Return the point of a row."""
    accuracy, value, side = float(row["imagenet"]), float(row[cost]), int(row["image_size"])
    if not (0 <= accuracy <= 100 and 0 < value < math.inf):
        raise ValueError
    trained_on = row.get("pre_trained_on", "")
    return dict(
        model=f"Mixer, {row['model']}", pre_trained_on=trained_on, image_size=side, accuracy=accuracy, cost=value
    )
