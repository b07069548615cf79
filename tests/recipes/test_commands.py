"""The same commands by `python recipes/X.py`, `keras-mixer X` and `python -m keras_mixer X`; what an import loads."""

import pathlib
import subprocess
import sys

import pytest
from conftest import ROOT

COMMANDS = [
    *("benchmark", "contact_sheet", "evaluate", "export", "fewshot", "figures", "finetune"),
    *("make_records", "plot", "predict", "pretrain", "report", "suite", "visualize"),
]
INSTALLED = pathlib.Path(sys.executable).parent / "keras-mixer"


def run(*arguments, cwd=ROOT):
    return subprocess.run([str(a) for a in arguments], capture_output=True, text=True, cwd=cwd, check=False)


def test_recipes_are_the_commands_and_nothing_else():
    assert [path.stem for path in sorted((ROOT / "recipes").glob("*.py"))] == ["__init__", *COMMANDS]
    listed = run(INSTALLED).stdout.splitlines()
    assert [line.split()[0] for line in listed[1:]] == COMMANDS
    assert all(line.endswith(".") and len(line) < 140 for line in listed[1:])  # with what each is for


@pytest.mark.parametrize(
    "start", [[INSTALLED], [sys.executable, "-m", "keras_mixer"]], ids=["keras-mixer", "python -m"]
)
def test_every_way_runs_the_same_command_wherever_one_is(tmp_path, start):
    script = run(sys.executable, ROOT / "recipes" / "plot.py", "--smoth=1", cwd=tmp_path)
    other = run(*start, "plot", "--smoth=1", cwd=tmp_path)
    assert (other.returncode, other.stderr, other.stdout) == (2, script.stderr, "")
    assert "did you mean --smooth?" in other.stderr
    helped = run(*start, "plot", "--help", cwd=tmp_path)
    assert helped.returncode == 0
    assert "Draw the curves of training runs" in helped.stdout


def test_an_unknown_command_is_one_sentence(tmp_path):
    process = run(INSTALLED, "pretrian", cwd=tmp_path)
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr == f"error: 'pretrian' is no command; use one of {', '.join(COMMANDS)}.\n"


@pytest.mark.parametrize("order", [("keras", "keras_mixer"), ("keras_mixer", "keras")])
def test_a_saved_model_loads_whatever_was_imported_first(tmp_path, order):
    import keras_mixer

    keras_mixer.MLPMixer(4, 1, 4, 4, 4, input_shape=(8, 8, 3), classes=2).save(tmp_path / "model.keras")
    code = f"import {order[0]}, {order[1]}; print(type(keras.saving.load_model('model.keras')).__name__)"
    process = run(sys.executable, "-c", code, cwd=tmp_path)
    assert process.stdout == "MLPMixer\n", process.stderr


@pytest.mark.parametrize(
    "first",
    ["save_checkpoint", "decode_predictions", "list_weights", "MixerBlock", "MLPMixer", "load_run", "export"],
)
def test_any_public_name_may_be_the_first(tmp_path, first):
    code = f"import keras_mixer; keras_mixer.{first}; import keras; print(keras_mixer.MLPMixer.__name__)"
    assert run(sys.executable, "-c", code, cwd=tmp_path).stdout == "MLPMixer\n"


@pytest.mark.parametrize("module", ["weights", "class_names", "layers", "composite", "models", "runs", "data.opening"])
def test_any_module_may_be_the_first(tmp_path, module):
    process = run(sys.executable, "-c", f"import keras_mixer.{module}; print('ok')", cwd=tmp_path)
    assert process.stdout == "ok\n", process.stderr


def test_the_package_alone_imports_no_framework(tmp_path):
    code = "import sys, keras_mixer; print(sorted({'keras', 'tensorflow', 'numpy'} & set(sys.modules)))"
    assert run(sys.executable, "-c", code, cwd=tmp_path).stdout == "[]\n"
