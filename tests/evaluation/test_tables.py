"""`evaluation.tables`: averages only of all their parts, the published figures, tables from results made by hand."""

import csv
import io
import statistics

import pytest

import keras_mixer
from keras_mixer.data import tasks
from keras_mixer.evaluation import tables

SEEDS = ("0", "1", "2")


def _scores(keys, start=0.5):
    """Accuracies that differ in every task and seed."""
    return {key: {seed: start + 0.01 * i + 0.001 * int(seed) for seed in SEEDS} for i, key in enumerate(keys)}


def test_the_columns_are_means_of_the_papers_tasks():
    assert set(tables.PARTS["avg5"]) == {key for key, task in tasks.TASKS.items() if task.group == "full"}
    assert set(tables.PARTS["vtab"]) == {key for key, task in tasks.TASKS.items() if task.group != "full"}
    for group, size in (("natural", 7), ("specialized", 4), ("structured", 8)):
        parts = tables.PARTS[f"vtab_{group}"]
        assert len(parts) == size
        assert {tasks.TASKS[key].group for key in parts} == {group}
    assert tables.TABLES[3].tasks == tables.FULL
    assert set(tables.TABLES[2].tasks) == set(tasks.TASKS)
    assert {number: table.crop for number, table in tables.TABLES.items()} == {2: "resize", 3: "resmall"}


def test_an_average_is_of_every_task_and_deviates_over_seeds():
    scores = _scores(tables.FULL)
    mean, deviation, parts = tables.average(scores, tables.FULL)
    assert mean == pytest.approx(52.1)
    assert deviation == pytest.approx(statistics.pstdev([52.0, 52.1, 52.2]))
    assert parts == "5 of 5"


@pytest.mark.parametrize("missing", tables.FULL)
def test_there_is_no_average_of_fewer_tasks(missing):
    scores = _scores(key for key in tables.FULL if key != missing)
    assert tables.average(scores, tables.FULL) == (None, None, "4 of 5")


def test_one_seed_has_no_deviation():
    assert tables.average({"pets": {"0": 0.25}}, ("pets",)) == (25.0, None, "1 of 1")


def test_a_score_without_seeds_counts_with_each_of_the_others_and_alone_has_no_deviation():
    scores = {"pets": {"0": 0.5, "1": 0.75}, "imagenet": {None: 0.5}}
    assert tables.average(scores, ("imagenet", "pets")) == (56.25, 6.25, "2 of 2")
    assert tables.average(scores, ("imagenet",)) == (50.0, None, "1 of 1")


def test_runs_of_different_seeds_are_not_averaged():
    with pytest.raises(ValueError, match=r"^scores: flowers has the seeds \['1'\] and pets has \['0'\]; average runs"):
        tables.average({"pets": {"0": 0.5}, "flowers": {"1": 0.5}}, ("pets", "flowers"))


@pytest.mark.parametrize(
    ("table", "weights", "model", "side", "imagenet"),
    [
        (3, "imagenet", "b16", 224, 76.44),
        (3, "imagenet1k", "l16", 224, 71.76),
        (3, "imagenet21k", "b16", 224, 80.64),
        (3, "imagenet21k", "l16", 224, 82.89),
        (3, "imagenet21k", "l16", 448, 83.91),
        (2, "imagenet21k", "l16", 448, 84.15),
        (2, "imagenet21k", "b16", 448, None),
        (3, "sam", "b16", 224, None),
        (3, "imagenet21k", "b16", 32, None),
        (3, "runs/pretrain", None, 224, None),
    ],
)
def test_the_published_row_of_a_checkpoint(table, weights, model, side, imagenet):
    row = tables.published_row(tables.TABLES[table], weights, model, side)
    assert imagenet == (row and row["imagenet"])


def test_published_rows_agree_with_the_facts_of_the_released_files():
    compared = 0
    for entry in keras_mixer.list_weights():
        after = dict(entry["after_imagenet_finetuning"])
        if entry["top1"]:  # of ImageNet alone: the file as it is
            after[224] = {"top1": entry["top1"]["paper"], "real": entry["real"]["paper"]}
        for side, figures in after.items():
            row = tables.published_row(tables.TABLES[3], entry["weights"], entry["model"][5:].lower(), side)
            assert (row["imagenet"], row["real"]) == (figures["top1"], figures["real"])
            compared += 1
    assert compared == 5


def test_published_figures_are_in_the_right_columns():
    """ReaL is above ImageNet, Avg 5 above ReaL; Table 2 falls by throughput: a number out of place would show."""
    for number, rows in ((2, 10), (3, 29)):
        table = tables.TABLES[number]
        assert len(table.published) == rows
        for row in table.published:
            assert all(68 < row[key] < 96 for key in tables.PARTS if row.get(key) is not None)
            assert not row["real"] or row["imagenet"] < row["real"] < (row["avg5"] or 100)
    groups = {}
    for row in tables.TABLES[2].published:
        groups.setdefault(row["pre_trained_on"], []).append(row["throughput"] or 99)
    assert all(speeds == sorted(speeds, reverse=True) for speeds in groups.values())


def _cells(text, start):
    line = next(line for line in text.splitlines() if line.startswith(f"| {start}"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_table_3_has_the_measured_row_its_difference_and_the_published_ones():
    table = tables.TABLES[3]
    scores = _scores(tables.FULL, 0.8) | {"real": dict.fromkeys(SEEDS, 0.9)}
    published = tables.published_row(table, "imagenet21k", "b16", 224)
    speed = {"images_per_second_per_core": 7.1234567, "machine": "2 CPU cores"}
    rows = tables.rows(table, "b16 imagenet21k", 224, scores, speed, published)
    assert [row["row"] for row in rows] == ["measured", "difference", *["published"] * 29]
    text = tables.markdown(table, rows)
    about = ["**b16 imagenet21k**, measured", "-", "224", "-"]
    assert _cells(text, "**b16") == [
        *about,
        "80.10 ± 0.08",
        "90.00 ± 0.00",
        "82.10 ± 0.08",
        "7.123 (this machine)",
        "0.15k",  # of its pre-training, as published
    ]
    about = ["**less the paper's Mixer-B/16**", "-", "-", "-"]
    assert _cells(text, "**less") == [*about, "-0.54", "+4.20", "-10.40", "-", "-"]
    about = ["Mixer-B/16", "ImageNet", "224", "300"]
    assert _cells(text, "Mixer-B/16") == [*about, "76.44", "82.36", "88.33", "1,384", "0.01k ‡"]
    assert _cells(text, "BiT-R50x1")[-3:] == ["-", "2,159", "0.08k"]
    widths = {line.count("|") for line in text.splitlines() if line.startswith("|")}
    assert widths == {10}


def test_incomplete_columns_say_how_many_tasks_there_are():
    table = tables.TABLES[2]
    scores = _scores(key for key in tables.PARTS["vtab"] if key != "vtab-dtd") | _scores(["pets"])
    rows = tables.rows(table, "mine", 448, scores)
    cells = _cells(tables.markdown(table, rows), "**mine**")[4:]
    assert cells[:3] == ["not run", "not run", "1 of 5 tasks"]
    assert cells[3:5] == ["18 of 19 tasks", "6 of 7 tasks"]
    assert all("±" in cell for cell in cells[5:7])
    assert cells[7:] == ["-", "-"]


def test_few_shot_accuracy_has_a_column_only_where_it_was_measured():
    table = tables.TABLES[3]
    assert "5-shot" not in tables.markdown(table, tables.rows(table, "mine", 224, {}))
    text = tables.markdown(table, tables.rows(table, "mine", 224, {}, fewshot={"0": 0.5, "1": 0.25}))
    assert "5-shot linear ImageNet" in text
    assert _cells(text, "**mine**")[7] == "37.50 ± 12.50"


def test_csv_has_every_number_and_no_average_of_a_part():
    rows = [row for table in tables.TABLES.values() for row in tables.rows(table, "a,b", 224, _scores(["pets"]))]
    read = list(csv.DictReader(io.StringIO(tables.csv_text(rows))))
    assert len(read) == 2 + 10 + 29
    assert (read[0]["model"], read[0]["avg5"], read[0]["avg5_parts"]) == ("a,b", "", "1 of 5")
    mixer = next(row for row in read if row["table"] == "2" and row["model"] == "Mixer-L/16")
    assert (mixer["vtab"], mixer["vtab_natural"], mixer["machine"]) == ("74.95", "", "TPUv3")


def test_the_marks_of_the_paper_stand_in_the_table_and_are_explained():
    table = tables.TABLES[3]
    text = tables.markdown(table, tables.rows(table, "mine", 224, {}))
    assert _cells(text, "ViT-B/16 ☎ | ImageNet |")[-1] == "0.02k ‡"
    assert _cells(text, "Mixer-B/16 | ImageNet-21k")[-1] == "0.15k ‡"
    assert _cells(text, "Mixer-B/16 | JFT")[-1] == "0.08k"
    assert _cells(text, "ViT-L/16 † | JFT-300M | 512")[-1] == "0.65k"
    for said in ("† fine-tuned with Polyak averaging.", "☎ from the authors of ViT", "‡ core-days extrapolated"):
        assert said in text.splitlines()[-1]
    assert "‡" not in tables.markdown(tables.TABLES[2], tables.rows(tables.TABLES[2], "mine", 448, {}))
