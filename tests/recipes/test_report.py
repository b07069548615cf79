"""`recipes/report.py` as users run it."""

import json
import shutil

import pytest
from synthetic_run import write_run
from trained import run_fresh, run_recipe


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    return [write_run(root / name, with_images=name == "a", learning_rate=0.01 * i) for i, name in enumerate("ab", 1)]


def test_a_page_for_each_run_and_one_for_all(runs, tmp_path):
    for place in runs:
        (place / "report.html").unlink(missing_ok=True)
    output = tmp_path / "new" / "both.html"
    process = run_recipe("report", *runs, f"--output={output}")
    assert process.stdout.splitlines() == [*(str(place / "report.html") for place in runs), str(output)]
    assert "<title>a: pre-training</title>" in (runs[0] / "report.html").read_text()
    assert "<title>2 runs side by side</title>" in output.read_text()


def test_it_needs_no_framework_and_few_moments(runs, tmp_path):
    (tmp_path / "tensorflow.py").write_text("raise SystemExit('TensorFlow was imported')")
    shutil.copy(tmp_path / "tensorflow.py", tmp_path / "keras.py")
    shutil.copy(tmp_path / "tensorflow.py", tmp_path / "matplotlib.py")
    process = run_fresh("report", runs[0], env={"PYTHONPATH": str(tmp_path)})
    assert process.returncode == 0, process.stdout + process.stderr


def test_without_arguments_it_is_the_run_that_pretrain_leaves(runs, tmp_path):
    shutil.copytree(runs[0], tmp_path / "runs" / "pretrain")
    assert run_recipe("report", cwd=tmp_path).stdout == "runs/pretrain/report.html\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "places: runs/pretrain is not there; make it with"),
        (["nowhere"], "places: there is no folder 'nowhere'; give the --workdir of a run"),
        (["empty"], "places: empty is the folder of no run of pretrain, finetune or evaluate"),
        (["sweep"], "give the --workdir of one, such as sweep/final/seed_0"),
        (["damaged"], "places: damaged/run.json is damaged"),
        ([""], "places: must name folders of runs, got an empty text"),
        (["a", "a"], "given twice; give each folder once"),
        (["a", "--output=page.html"], "output: one run's page is report.html in its folder"),
        (["a", "b", "--output=page.pdf"], "output: 'page.pdf' must end in .html"),
        (["a", "b", "--output=folder.html"], "output: folder.html is a folder; name a file in it"),
        (["a", "--outptu=x"], "--outptu is not a flag of this recipe; did you mean --output?"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_bad_input_is_one_sentence_and_exit_code_2(runs, tmp_path, arguments, message):
    for place in runs:
        shutil.copytree(place, tmp_path / place.name)
        (tmp_path / place.name / "report.html").unlink(missing_ok=True)
    (tmp_path / "empty").mkdir()
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "sweep" / "final" / "seed_0").mkdir(parents=True)
    (tmp_path / "sweep" / "result.json").write_text("{}")
    (tmp_path / "sweep" / "final" / "seed_0" / "run.json").write_text(json.dumps({"settings": {}}))
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "run.json").write_text("{")
    process = run_recipe("report", *arguments, cwd=tmp_path, check=False)
    assert (process.returncode, process.stdout) == (2, "")
    assert message in process.stderr
    assert len(process.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.rglob("report.html"))
