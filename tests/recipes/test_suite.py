"""`recipes/suite.py` as users run it: tables from real runs on tiny data that TFDS wrote, gaps named, kill and resume.

ImageNet and ReaL are TFDS's own builders given a few made-up pictures, so features, versions and files are the real
ones. What the tables say is checked in tests/evaluation/test_tables.py.
"""

import csv
import json
import re
import signal
import time

import numpy as np
import pytest
import tiny
from tiny import write_checkpoint
from trained import run_recipe, start_recipe

from keras_mixer import paper
from keras_mixer.cli import suite_plan
from keras_mixer.evaluation import tables as paper_tables
from keras_mixer.starting_point import StartingPoint

TINY = "--image_size=32 --total_steps=2 --batch_size=8 --learning_rates=0.05 --log_steps=1 --warmup_steps=0"
SIZES = {"imagenet2012:5.*.*": {"train": 104, "validation": 9}, "imagenet2012_real": {"validation": 9}}
SIZES["cifar10:3.*.*"] = {"train": 1, "test": 1}


def _example(dataset, split, i):
    """Training images are all of class 3, and so is what two steps predict: 6 of 9 are right, of ReaL's 5 of 7."""
    picture = np.random.default_rng(i).integers(0, 256, (18, 22, 3), dtype=np.uint8)
    example = {"image": picture, "file_name": f"{i}.jpg"}
    if dataset.startswith("cifar10:"):
        return {"image": np.zeros((32, 32, 3), np.uint8), "label": 0, "id": str(i)}
    label = 3 if split == "train" or i < 6 else i
    if dataset.startswith("imagenet2012:"):
        return example | {"label": label}
    return example | {"original_label": label, "real_label": [] if i < 2 else [3, i] if i < 7 else [i]}


def _prepare(dataset, root):
    """Have TFDS write made-up examples where it would write those of the archives."""
    import tensorflow_datasets as tfds

    def examples(split, count):
        return ((i, _example(dataset, split, i)) for i in range(count))

    builder = tfds.builder(dataset, data_dir=root)
    builder._split_generators = lambda dl_manager: {split: examples(split, n) for split, n in SIZES[dataset].items()}
    config = tfds.download.DownloadConfig(manual_dir=root, try_download_gcs=False)
    builder.download_and_prepare(download_config=config)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    root = tmp_path_factory.mktemp("tensorflow_datasets")
    for dataset in SIZES:
        _prepare(dataset, root)
    return root


@pytest.fixture
def weights(tmp_path, golden):
    return write_checkpoint(golden, tmp_path / "start.npz")


def _times(folder):
    """Name -> time of change of the files that jobs write."""
    return {path: path.stat().st_mtime_ns for path in folder.glob("table3/**/*") if path.is_file()}


def test_a_suite_is_killed_goes_on_past_a_failure_and_then_has_nothing_left_to_do(tmp_path, data_dir, weights):
    folder = tmp_path / "suite"
    flags = [f"--weights={weights}", f"--data_dir={data_dir}", "--tables=3", "--seeds=0"]
    flags += [f"--finetune_flags={TINY}", f"--workdir={folder}"]

    # ---- Killed while the development run of ImageNet works ----
    process = start_recipe("suite", *flags, "--tasks=imagenet")
    begun = folder / "table3" / "imagenet" / "develop" / "learning_rate_0.05" / "run.json"
    deadline = time.monotonic() + 200
    while not begun.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    errors = process.communicate(timeout=100)[1]
    assert process.returncode == 128 + signal.SIGTERM, errors
    assert "error: stopped; the same command continues." in errors
    assert "| not run | not run | 0 of 5 tasks |" in (folder / "tables.md").read_text()  # it is there from the start
    assert not (folder / "table3" / "imagenet" / "result.json").exists()

    # ---- The rest: one task fails, three have no data, and ImageNet is finished ----
    (folder / "table3" / "cifar10").mkdir(parents=True)
    (folder / "table3" / "cifar10" / "model.keras").touch()  # someone else's
    result = run_recipe("suite", *flags, check=False)
    assert result.returncode == 1, result.stderr
    assert (
        "model.keras is not of a run of this package" in result.stdout.split("FAILED table3/cifar10: exit code 2: ")[1]
    )
    assert result.stderr.strip().splitlines()[-1] == "error: table3/cifar10 failed; the same command tries again."
    before, *_ = result.stdout.split("[1 of 4] ")
    assert "| not run | not run | 0 of 5 tasks |" in before  # the tables at once, and the published rows in them
    assert "4 parts to run; " in before
    assert result.stdout.split("[4 of 4] ")[-1].count("| 66.67 | 71.43 | 1 of 5 tasks |") == 1  # and in the end
    lines = result.stdout.splitlines()
    for number, place, found in (
        (1, "cifar10", "failed"),
        (2, "imagenet", "top-1 66.7%"),
        (3, "real/seed_0", "ReaL top-1 71.4%"),
        (4, "throughput", " images/s/core"),
    ):
        start, end = [line for line in lines if line.startswith(f"[{number} of 4] table3/{place}: ")]
        assert start.endswith(" ...")
        assert found in end
        assert re.search(r", \d+ (s|min)$", end)
    for name in ("oxford_flowers102:2.*.*", "oxford_iiit_pet:4.*.*", "cifar100:3.*.*"):
        reason = f"{name} is not prepared in {data_dir}; prepare it there, or give --download"
        assert reason in result.stdout
        assert reason in (folder / "tables.md").read_text()
    with open(folder / "tables.csv", newline="") as file:
        measured, *published = csv.DictReader(file)
    assert (measured["row"], measured["image_size"]) == ("measured", "32")
    assert float(measured["imagenet"]) == pytest.approx(100 * 6 / 9)
    assert float(measured["real"]) == pytest.approx(100 * 5 / 7)
    assert (measured["avg5"], measured["avg5_parts"]) == ("", "1 of 5")
    assert float(measured["throughput"]) > 0
    assert "float32" in measured["machine"]
    assert {row["row"] for row in published} == {"published"}
    text = (folder / "tables.md").read_text()
    assert "| 66.67 | 71.43 | 1 of 5 tasks |" in text
    assert f"Not the paper's fine-tuning: {TINY}." in text
    with open(folder / "tasks.csv", newline="") as file:
        parts = {row["task"]: row for row in csv.DictReader(file)}
    assert parts["imagenet"]["learning_rate"] == "0.05"
    assert parts["cifar10"]["why_not"].startswith("exit code 2: workdir:")

    # ---- Nothing is left to do for ImageNet ----
    before = _times(folder)
    result = run_recipe("suite", *flags, "--tasks=imagenet", check=False)
    assert result.returncode == 0, result.stderr
    assert "0 parts to run; " in result.stdout
    assert "[1 of" not in result.stdout
    assert _times(folder) == before
    assert "| 66.67 | 71.43 | 1 of 5 tasks |" in (folder / "tables.md").read_text()


def test_a_dry_run_shows_commands_and_reasons_and_writes_nothing(tmp_path, data_dir, weights):
    flags = [f"--weights={weights}", f"--data_dir={data_dir}", f"--workdir={tmp_path / 'suite'}", "--download"]
    flags += ["--finetune_flags=--strategy=one_device --checkpoint_steps=9", "--tasks=imagenet,pets,vtab-resisc45"]
    result = run_recipe("suite", *flags, "--dry_run", check=False)
    assert result.returncode == 0, result.stderr
    lines = {line.split(":")[0]: line for line in result.stdout.splitlines()}
    assert len(lines) == (5 + 19) + 5 + 2 * (3 + 1)
    for table, size, crop in ((2, 448, "resize"), (3, 224, "resmall")):
        line = lines[f"run  table{table}/pets"]  # would be downloaded
        assert f"--task=pets --sweep --seeds=0,1,2 --image_size={size} --crop={crop} --strategy=one_device" in line
        line = lines[f"run  table{table}/real/seed_2"]
        assert f"table{table}/imagenet/final/seed_2 --dataset=imagenet2012_real --crop={crop}" in line
        assert "--strategy=one_device" in line
        assert "--checkpoint_steps" not in line
        assert f"--measure={size}" in lines[f"run  table{table}/throughput"]
    assert "needs by hand, in --manual_dir: the folder NWPU-RESISC45" in lines["skip table2/vtab-resisc45"]
    assert lines["skip table2/vtab-dtd"].endswith("not in --tasks")
    assert not (tmp_path / "suite").exists()


def test_what_needs_a_skipped_task_is_skipped_with_it(tmp_path, weights):
    flags = [f"--weights={weights}", f"--data_dir={tmp_path / 'empty'}", "--tables=3", "--fewshot", "--nothroughput"]
    result = run_recipe("suite", *flags, f"--workdir={tmp_path / 'suite'}", check=False)
    assert result.returncode == 0, result.stderr
    skipped = [line for line in result.stdout.splitlines() if line.startswith("skipped ")]
    assert len(skipped) == 5 + 3 + 1
    assert any(line.startswith("skipped fewshot: imagenet2012:5.*.* is not prepared") for line in skipped)
    assert "| not run | not run | 0 of 5 tasks |" in (tmp_path / "suite" / "tables.md").read_text()
    assert "- table3/real/seed_1: " in (tmp_path / "suite" / "tables.md").read_text()

    again = run_recipe("suite", *flags, f"--workdir={tmp_path / 'suite'}", "--seeds=4", check=False)
    assert again.returncode == 2
    assert "holds a run with other settings (seeds was ['0', '1', '2'] and is ['4']); choose another" in again.stderr
    assert "overwrite" not in again.stderr


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--weights=nowhere.npz"], "weights: there is no file 'nowhere.npz'"),
        (["--weights=imagenet21k"], "model: weights imagenet21k need one; give --model, one of b16"),
        (["--tables=3,4"], "tables: must be different of 2, 3, separated by commas, got '3,4'"),
        (["--tables="], "tables: must be different of 2, 3"),
        (["--tasks=pet"], "task: 'pet' is not a task of the paper; did you mean pets"),
        (["--tasks=vtab-dtd", "--tables=3"], "tasks: vtab-dtd is not part of Table 3; add another to --tables"),
        (["--seeds=1,01"], "seeds: must be different whole numbers of at least 0, separated by commas, got '1,1'"),
        (["--finetune_flags=--strategy tpu"], "finetune_flags: 'tpu' is not a flag; write --name=value"),
        (["--finetune_flags=--nosweep"], "finetune_flags: the suite sets --nosweep for each task"),
        (["--finetune_flags=--crop=resize"], "finetune_flags: the suite sets --crop for each task"),
        (["--finetune_flags=--freeze='stem"], "cannot be read (No closing quotation)"),
        (["--finetune_flags=--image_size=big"], "finetune_flags: --image_size must be a whole number, got 'big'"),
        (["--workdir=recipes/suite.py/x"], "workdir: cannot write to recipes/suite.py/x (Not a directory)"),
    ],
    ids=lambda v: v[0] if isinstance(v, list) else "",
)
def test_bad_input_is_one_sentence_and_exit_code_2(tmp_path, weights, flags, message):
    given = [] if flags[0].startswith("--weights") else [f"--weights={weights}"]
    given += [] if flags[0].startswith("--workdir") else [f"--workdir={tmp_path / 'suite'}"]
    result = run_recipe("suite", *given, f"--data_dir={tmp_path / 'empty'}", *flags, check=False)
    assert result.returncode == 2, result.stderr
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "suite").exists()


def test_the_folder_of_one_dataset_is_no_data_dir(tmp_path, data_dir, weights):
    one = next(data_dir.glob("imagenet2012/*"))
    result = run_recipe(
        "suite", f"--weights={weights}", f"--data_dir={one}", f"--workdir={tmp_path / 'suite'}", check=False
    )
    assert result.returncode == 2
    assert "holds one dataset; give the folder in which TFDS keeps them all" in result.stderr


def _run_on_imagenet(weights, folder, **settings):
    """Make a checkpoint the workdir of a finished run on ImageNet, whose head always says class 3."""
    from keras_mixer.class_names import imagenet_classes

    model = tiny.build(classes=1000, weights=weights, name="mixer")
    head = model.get_layer("head")
    head.kernel.assign(np.zeros(head.kernel.shape))
    head.bias.assign(np.eye(1000)[3])
    folder.mkdir()
    model.save(folder / "model.keras")
    names = [wordnet_id for wordnet_id, _ in imagenet_classes("imagenet1k")]
    (folder / "run.json").write_text(json.dumps({"settings": {"class_names": names, **settings}}))
    return folder


def test_a_checkpoint_with_the_head_of_imagenet_is_its_own_row_of_table_3(tmp_path, data_dir, weights):
    run = _run_on_imagenet(
        weights, tmp_path / "run", task="imagenet", dataset="imagenet", started_from="b16 imagenet21k"
    )
    flags = [f"--weights={run}", f"--data_dir={data_dir}", "--tables=3", "--seeds=0,1", "--nothroughput"]
    flags += [f"--workdir={tmp_path / 'suite'}", "--tasks=imagenet,pets"]
    said = "ImageNet and ReaL: the checkpoint itself, not fine-tuned"

    dry = run_recipe("suite", *flags, "--dry_run").stdout
    assert said not in dry  # the table is of 224 px and the checkpoint of 32: another size is fine-tuned
    assert "run  table3/imagenet: " in dry
    flags.append(f"--finetune_flags={TINY}")
    dry = run_recipe("suite", *flags, "--dry_run").stdout
    assert f"Table 3, {said}.\n" in dry
    lines = {line.split(":")[0]: line for line in dry.splitlines()}
    line = lines["run  table3/checkpoint/imagenet"]
    assert f" evaluate --weights={run} --dataset=imagenet2012 --crop=resmall" in line
    assert "run  table3/checkpoint/real" in lines
    assert not any("table3/imagenet" in line or "seed_" in line for line in lines)

    result = run_recipe("suite", *flags)
    assert f"Table 3, {said}.\n" in result.stdout
    text = (tmp_path / "suite" / "tables.md").read_text()
    assert f"**{run}**, measured | b16 imagenet21k | 32 | - | 66.67 | 71.43 | 1 of 5 tasks |" in text
    assert f"\n{said}.\n" in text
    assert "| 3 | ImageNet (`imagenet`) | 66.67% | - |" in text
    with open(tmp_path / "suite" / "tables.csv", newline="") as file:
        measured = next(csv.DictReader(file))
    assert (measured["imagenet_deviation"], measured["real_deviation"]) == ("", "")

    # The folder of the run alone says which images: those of its task.
    told = [f"--weights={run}", f"--data_dir={data_dir}", "--nopictures", f"--workdir={tmp_path / 'alone'}"]
    run_recipe("evaluate", *told)
    assert json.loads((tmp_path / "alone" / "result.json").read_text())["top1"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("weights", "side", "classes", "settings", "expected"),
    [
        ("imagenet1k", 224, 1000, {}, (True, "ImageNet")),
        ("gsam", 224, 1000, {}, (True, "ImageNet")),
        ("imagenet21k", 224, 21843, {}, (False, "ImageNet-21k")),
        ("runs/x", 224, 1000, {"dataset": "imagenet2012:5.*.*"}, (True, "ImageNet")),
        ("runs/x", 192, 1000, {"dataset": "imagenet2012"}, (False, "ImageNet")),
        ("runs/x", 224, 1000, {"dataset": "imagenet2012_subset/10pct"}, (False, None)),
        ("runs/x", 224, 1000, {"task": "imagenet", "started_from": "b16 imagenet21k"}, (True, "b16 imagenet21k")),
        ("runs/x", 224, 37, {"task": "pets", "started_from": "b16 imagenet1k"}, (False, "b16 imagenet1k")),
        ("mixer_b16.npz", 224, 1000, {}, (False, None)),
    ],
)
def test_which_checkpoints_are_rows_themselves(weights, side, classes, settings, expected):
    start = StartingPoint(weights, paper.VARIANTS["b16"], side, 3, classes, None, settings, weights)
    three, two = (suite_plan.is_row(start, paper_tables.TABLES[number], {}) for number in (3, 2))
    assert (three, suite_plan.pre_training(start)) == expected
    assert not two
