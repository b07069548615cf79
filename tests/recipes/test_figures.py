"""`recipes/figures.py` as users run it."""

import pytest
from keras_mixer.recipes import figures
from trained import run_recipe

from keras_mixer import paper
from keras_mixer.cli import suite_tables
from keras_mixer.evaluation import tables

PICTURES = ["figure_1_s32", "figure_2_left", "figure_3_left", "figure_3_right", "all_cost", "all_throughput"]


def test_the_figures_of_a_suite_beside_the_published(tmp_path):
    suite = tmp_path / "suite"
    suite.mkdir()
    scores = {"imagenet": {"0": 0.801}}
    published = tables.published_row(tables.TABLES[3], "imagenet21k", "b16", 224)
    speed = {"images_per_second_per_core": 3.5, "machine": "CPU"}
    rows = tables.rows(tables.TABLES[3], "imagenet21k (b16)", 224, scores, speed, published)
    (suite / "tables.csv").write_text(tables.csv_text(rows))
    out = tmp_path / "out"
    process = run_recipe(
        "figures", "--model=s32", "--notable_1", "--format=svg", f"--suites={suite}", f"--output={out}", check=False
    )
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout.splitlines() == [str(out / f"{name}.svg") for name in PICTURES]
    points = suite_tables.measured_points(str(suite))
    about = {"model": "Mixer, imagenet21k (b16)", "pre_trained_on": "", "image_size": 224}
    accuracy = pytest.approx(80.1)
    assert points == {
        "core_days": [{**about, "accuracy": accuracy, "cost": 0.15}],
        "throughput": [{**about, "accuracy": accuracy, "cost": 3.5}],
    }


HEAD = "row,model,image_size,imagenet,core_days,throughput"


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"\xfd\x00", "cannot be read"),
        (b"", "has no measured row of a table"),
        (b"row,model\nmeasured,a\n", "has no measured row of a table"),
        (f"{HEAD}\nmeasured,a,224,abc,1,1\n".encode(), "has another core_days, image_size or imagenet than a number"),
        (f"{HEAD}\nmeasured,a,224,80,0,1\n".encode(), "has another core_days, image_size or imagenet than a number"),
        (f"{HEAD}\nmeasured,a,224,nan,1,1\n".encode(), "has another core_days, image_size or imagenet than a number"),
    ],
)
def test_a_spoiled_table_is_one_sentence_that_names_it(tmp_path, content, fault):
    (tmp_path / "tables.csv").write_bytes(content)
    with pytest.raises(ValueError, match=f"suites: {tmp_path}/tables.csv {fault}; name a folder in which suite.py has"):
        suite_tables.measured_points(str(tmp_path))


def test_a_folder_that_is_no_suite_is_one_sentence(tmp_path):
    process = run_recipe("figures", f"--suites={tmp_path}", f"--output={tmp_path / 'out'}", check=False)
    assert process.returncode == 2
    assert process.stderr == (
        f"error: suites: {tmp_path}/tables.csv cannot be read; name a folder in which suite.py has written.\n"
    )
    assert not (tmp_path / "out").exists()


def test_table_1_is_read_off_the_models(monkeypatch):
    """The small variants; all of them, up to 2 GB, were printed by hand (docs/results/paper.md)."""
    small = {name: paper.VARIANTS[name] for name in ("s32", "s16", "b16")}
    monkeypatch.setattr(paper, "VARIANTS", small)
    head, _, *lines = (line.strip("| ").split(" | ") for line in figures.table_1().splitlines())
    assert head == ["Mixer-S/32", "Mixer-S/16", "Mixer-B/16"]
    rows = {name: values for name, *values in lines}
    assert rows["tokens S"] == ["49", "196", "196"]
    assert rows["D_S"] == ["256", "256", "384"]
    assert [round(float(text)) for text in rows["parameters, millions"]] == [paper.PARAMETERS[name] for name in small]
