"""`recipes/fewshot.py` as users run it."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from trained import ROOT, environment, run_recipe, trained_run

import keras_mixer
from keras_mixer.data import opening, pipeline
from keras_mixer.evaluation import fewshot, predictions
from keras_mixer.paper import VARIANTS
from keras_mixer.weights import layouts


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    run, folder = trained_run(tmp_path_factory), tmp_path_factory.mktemp("fewshot")
    result = run_recipe("fewshot", f"--weights={run}", f"--workdir={folder}", "--shots=1,5", "--batch_size=60")
    return run, folder, result, json.loads((folder / "result.json").read_text())


def test_the_table_and_the_result_are_those_of_the_library(finished):
    run, _, process, result = finished
    model = keras_mixer.MLPMixer(
        4, 4, 64, 32, 128, weights=run / "model.keras", input_shape=(16, 16, 3), include_top=False, pooling="avg"
    )
    data = []
    for training in (True, False):
        source = opening.open_source("digits", training=training)
        data += predictions.extract_features(model, pipeline.eval_batches(source, batch_size=100, image_size=16))
    assert [row["shots"] for row in result["results"]] == [1, 5]
    assert result["num_examples"] == 360
    for row in result["results"]:
        expected = []
        for seed in (0, 1, 2):
            drawn = fewshot.draw_examples(data[1], row["shots"], seed)
            fit = fewshot.fit_least_squares(data[0][drawn], data[1][drawn], 10)
            expected.append(fewshot.accuracy(fit, *data[2:]))
        assert row["top1_by_seed"] == pytest.approx(expected, abs=1e-9)
        assert row["top1"] == pytest.approx(np.mean(expected))
        assert row["top1_deviation"] == pytest.approx(np.std(expected))
        assert f"{row['shots']:5}  {row['top1']:8.2%}  {row['top1_deviation']:9.2%}" in process.stdout
    assert 0.2 < result["results"][0]["top1"] < result["results"][1]["top1"]


def test_features_are_computed_once_and_a_damaged_file_is_replaced(finished):
    run, folder, first, _ = finished
    flags = [f"--weights={run}", f"--workdir={folder}", "--shots=5", "--l2=1"]
    kept = sorted(folder.glob("features_*.npz"))
    assert len(kept) == 2
    assert "are taken from" not in first.stdout
    kept[0].write_bytes(kept[0].read_bytes()[:1000])
    again = run_recipe("fewshot", *flags, check=False).stdout
    assert again.count("are taken from") == 1
    assert f"{kept[0]} is damaged and is replaced" in again
    assert sorted(folder.glob("features_*.npz")) == kept
    with np.load(kept[0]) as archive:
        assert archive["features"].shape == (len(archive["labels"]), 64)
    assert {p.name for p in folder.iterdir()} == {"result.json", *(p.name for p in kept)}  # nothing temporary


def test_two_devices_give_the_same_table(finished, tmp_path):
    flags = ["--shots=1,5", "--batch_size=60", "--strategy=mirrored", "--num_devices=2"]
    process = run_recipe("fewshot", f"--weights={finished[0]}", f"--workdir={tmp_path}", *flags, check=False)
    assert process.returncode == 0, process.stderr
    assert json.loads((tmp_path / "result.json").read_text())["results"] == finished[3]["results"]


def _write_images(folder):
    for name, count in (("cat", 5), ("dog", 3)):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            png = tf.io.encode_png(np.full((9, 9, 3), 20 * i, np.uint8)).numpy()
            (folder / name / f"{i}.png").write_bytes(png)


def test_photographs_are_cropped_as_the_authors_do_for_released_weights_and_as_the_run_does_for_its_own(
    finished, tmp_path
):
    _write_images(tmp_path / "images")
    (tmp_path / "gsam").mkdir()
    shapes = layouts.released_shapes(VARIANTS["s32"], tokens=49, classes=1000)
    arrays = {name: np.full(shape, 0.01, np.float32) for name, shape in shapes.items()}
    np.savez(tmp_path / "gsam" / "Mixer-S_32.npz", **arrays)
    env = environment(KERAS_MIXER_WEIGHTS=str(tmp_path))
    released = ["--weights=gsam", "--model=s32"]
    for weights, crop in (
        (released, "resize"),
        ([*released, "--crop=resmall"], "resmall"),
        ([f"--weights={finished[0]}"], "resmall"),
    ):
        flags = [*weights, f"--dataset={tmp_path / 'images'}", f"--workdir={tmp_path / 'work'}", "--shots=1"]
        process = run_recipe("fewshot", *flags, "--seeds=0", "--batch_size=8", env=env)
        assert json.loads((tmp_path / "work" / "result.json").read_text())["crop"] == crop
        assert f" px, crop {crop}, {tmp_path}" in process.stdout
    assert finished[3]["crop"] == "none"  # digits are drawn signs


def test_shots_that_a_class_cannot_fill_are_skipped(finished, tmp_path):
    """A tenth of each class, at least one image, is held out, so that 'dog' has 2 left."""
    _write_images(tmp_path / "images")
    flags = [f"--weights={finished[0]}", f"--dataset={tmp_path / 'images'}", f"--workdir={tmp_path / 'work'}"]
    result = run_recipe("fewshot", *flags, "--shots=3,4", check=False)
    assert result.returncode == 2
    assert result.stderr == (
        "error: shots: class 'dog' has 2 training images, fewer than 3; use at most 2, or add images.\n"
    )
    assert not (tmp_path / "work").exists()
    result = run_recipe("fewshot", *flags, "--seeds=0")
    assert "skipped shots 5, 10, 25: class 'dog' has 2 training images.\n" in result.stdout
    assert [row["shots"] for row in json.loads((tmp_path / "work" / "result.json").read_text())["results"]] == [1]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--shots=1,many"],
            "whole numbers of at least 1, separated by commas, got '1,many'; write --shots=1,5,10,25",
        ),
        (["--crop=centre"], "crop: must be resmall, resize or none, got 'centre'"),
        (["--batch_size=3", "--strategy=mirrored", "--num_devices=2"], "shared evenly by 2 devices"),
    ],
    ids=lambda v: v[0] if isinstance(v, list) else "",
)
def test_bad_input_is_one_sentence_and_exit_code_2(finished, tmp_path, flags, message):
    result = run_recipe("fewshot", f"--weights={finished[0]}", f"--workdir={tmp_path / 'work'}", *flags, check=False)
    assert result.returncode == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.rglob("*.*"))


def test_without_weights_and_without_a_run_it_names_the_command(tmp_path):
    command = [sys.executable, ROOT / "recipes" / "fewshot.py"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith(
        "error: weights: runs/pretrain is not there or not finished; make it with keras-mixer pretrain"
    )


def test_the_folder_of_a_training_run_is_kept(finished):
    result = run_recipe("fewshot", f"--weights={finished[0]}", f"--workdir={finished[0]}", check=False)
    assert result.returncode == 2
    assert "is the folder of a training run, to keep" in result.stderr
