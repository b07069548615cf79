"""Commands called from Python: the same run as from the command line, and a process that stays as it was."""

import json

import keras
import numpy as np
import pytest
from keras_mixer.recipes import evaluate, finetune, pretrain
from trained import run_recipe

SMALL = dict(train_split="train[:64]", eval_split="test[:40]", batch_size=16, total_steps=4, warmup_steps=1)
FLAGS = [f"--{name}={value}" for name, value in SMALL.items()]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("from_python") / "run"
    return folder, pretrain.run(pretrain.Settings(**SMALL, workdir=folder))


def test_a_run_returns_what_its_result_json_holds(run):
    folder, result = run
    assert result == json.loads((folder / "result.json").read_text())
    assert result["steps"] == 4


def test_the_command_line_finds_the_same_run_and_makes_the_same_weights(run, tmp_path):
    folder, _ = run
    assert f"{folder} is finished" in run_recipe("pretrain", *FLAGS, f"--workdir={folder}").stdout
    run_recipe("pretrain", *FLAGS, f"--workdir={tmp_path / 'run'}")
    ours, theirs = (keras.saving.load_model(at / "model.keras").get_weights() for at in (folder, tmp_path / "run"))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_run_goes_on_to_finetune_and_evaluate_and_leaves_the_dtype_policy_as_it_was(run, tmp_path):
    small = {name: value for name, value in SMALL.items() if name != "total_steps"}
    tuned = finetune.run(
        finetune.Settings(
            weights=run[0],
            dataset="digits",
            **small,
            total_steps=2,
            precision="mixed_bfloat16",
            pictures=False,
            workdir=tmp_path / "tuned",
        )
    )
    assert tuned["num_examples"] == 40
    assert keras.config.dtype_policy().name == "float32"
    settings = evaluate.Settings(
        weights=tmp_path / "tuned", eval_split="test[:40]", pictures=False, workdir=tmp_path / "evaluated"
    )
    evaluated = evaluate.run(settings)
    assert evaluated["top1"] == pytest.approx(tuned["top1"], abs=0.06)  # float32 in place of bfloat16
    assert evaluated["flags"]["weights"] == str(tmp_path / "tuned")
