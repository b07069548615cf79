"""`recipes/plot.py` as users run it."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT
from PIL import Image

HEADER = "step,learning_rate,train_loss,train_top1,eval_loss,eval_top1,eval_top5,images_per_second\r\n"
RECIPE = str(ROOT / "recipes" / "plot.py")


def _run(folder, *flags, start=(RECIPE,)):
    """Run it in `folder`, whose runs/ it then looks at."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, *start, *flags]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, check=False)


@pytest.fixture
def runs(tmp_path):
    for name, loss in (("b", 1.5), ("a", 2.0)):
        (tmp_path / "runs" / name).mkdir(parents=True)
        rows = f"10,0.1,{loss},0.25,,,,90.0\r\n20,0.0,1.0,0.5,1.25,0.75,1.0,100.0\r\n"
        (tmp_path / "runs" / name / "metrics.csv").write_text(HEADER + rows, newline="")
    return tmp_path


def test_without_flags_it_draws_all_runs(runs):
    result = _run(runs)
    assert result.returncode == 0, result.stderr
    last = "step 20, eval top-1 75.00% at step 20"
    assert result.stdout == f"a: {last}\nb: {last}\nTheir curves are in curves.png\n"
    with Image.open(runs / "curves.png") as image:
        assert image.width > image.height > 500
    assert {path.name for path in runs.iterdir()} == {"runs", "curves.png"}


def test_runs_and_format_can_be_chosen(runs):
    result = _run(runs, "--workdirs=runs/b", "--output=new/b.pdf", "--smooth=0.9")
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith("Its curves are in new/b.pdf\n")
    assert (runs / "new" / "b.pdf").read_bytes().startswith(b"%PDF")


# What `python recipes/plot.py` does before the recipe, whose folder it adds to the path.
AS_A_SCRIPT = "import pathlib, runpy, sys; sys.path.insert(0, str(pathlib.Path(sys.argv[1]).parent));"


def test_it_imports_neither_keras_nor_tensorflow(runs):
    code = (
        f"{AS_A_SCRIPT} sys.argv[0] = 'plot.py'; runpy.run_path(sys.argv.pop(1), run_name='__main__'); "
        "print(sorted({'keras', 'tensorflow', 'matplotlib'} & set(sys.modules)))"
    )
    result = _run(runs, RECIPE, start=("-c", code))
    assert result.stdout.splitlines()[-1] == "['matplotlib']", result.stderr


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--workdirs=runs/a,runs/c"], "workdirs: runs/c is not a folder; give the --workdir of a training run."),
        (["--workdirs=runs"], "workdirs: runs has no metrics.csv; give the --workdir of a training run."),
        (["--workdirs="], "workdirs: must name folders, got ''; leave it out for all in runs/."),
        (["--smooth=1"], "smooth: must be at least 0 and below 1, got 1.0; use 0 for none."),
        (["--smoth=1"], "--smoth is not a flag of this recipe; did you mean --smooth? See --help."),
        (["runs/a"], "'runs/a' is not a flag; flags are written --name=value. See --help."),
        (["--x=epoch"], "x: must be one of step, images, seconds, got 'epoch'."),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(runs, flags, message):
    result = _run(runs, *flags)
    assert (result.returncode, result.stderr) == (2, f"error: {message}\n")
    assert [path.name for path in runs.iterdir()] == ["runs"]


def test_no_runs_is_one_sentence(tmp_path):
    result = _run(tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith("error: workdirs: no folder under runs has a metrics.csv; train first")


def test_help_shows_its_flags(tmp_path):
    result = _run(tmp_path, "--help")
    assert result.returncode == 0
    assert all(f"--{name}" in result.stdout for name in ("workdirs", "output", "smooth", "x"))


def test_without_matplotlib_the_error_names_the_extra(runs):
    code = (
        f"{AS_A_SCRIPT} sys.modules['matplotlib.figure'] = None; sys.argv[0] = 'plot.py'; "
        "runpy.run_path(sys.argv.pop(1), run_name='__main__')"
    )
    result = _run(runs, RECIPE, start=("-c", code))
    assert (result.returncode, "pip install matplotlib" in result.stderr) == (2, True)
    assert result.stderr.count("\n") == 1
