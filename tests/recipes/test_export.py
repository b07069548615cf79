"""`recipes/export.py` as users run it, and `recipes/predict.py` on what it wrote."""

import json
import resource
import signal
import time

import numpy as np
import pytest
import tensorflow as tf
from trained import run_recipe, server, start_recipe, trained_run

from keras_mixer import starting_point
from keras_mixer.cli import exporting


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return trained_run(tmp_path_factory)


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    """The folder of the versions, and what was printed when version 1 and model.tflite were written."""
    folder = tmp_path_factory.mktemp("export") / "served"
    formats = ["--formats=saved_model,litert", "--litert_quantization=int8"]
    process = run_recipe("export", f"--weights={run}", f"--output={folder}", *formats, check=False)
    assert process.returncode == 0, process.stderr
    return folder, process.stdout


def test_it_prints_what_it_wrote_its_check_and_how_to_serve_it(exported, run):
    folder, printed = exported
    assert sorted(p.name for p in folder.iterdir()) == ["1", "model.tflite"]
    size = sum(p.stat().st_size for p in (folder / "1").rglob("*") if p.is_file())
    lines = printed.splitlines()
    assert lines[0] == f"{run}: 75,530 parameters, 16 px, 10 classes, crop none"
    assert lines[1] == "writing and checking saved_model, litert ..."
    assert lines[2].startswith(f"  {folder}/1/  {size:,} bytes, reloaded: at most ")
    assert lines[3].startswith(f"  {folder}/model.tflite  ")
    assert lines[-1].endswith(f"-v {folder}:/models/mixer -e MODEL_NAME=mixer tensorflow/serving")


def test_the_card_tells_the_accuracy_that_the_run_measured(exported, run):
    result = json.loads((run / "result.json").read_text())
    card = (exported[0] / "1" / "model_card.md").read_text()
    assert f"top-1 {result['top1']:.2%}, measured on 360 held-out images of digits" in card
    assert "| Trained on | digits |" in card
    assert "`mixer_tiny`, 75,530 parameters" in card


@pytest.mark.parametrize(
    ("name", "settings", "card"),
    [
        ("b16 imagenet", {}, "docs/model_cards/imagenet1k.md of keras_mixer"),
        ("runs/photos", {"started_from": "s32 gsam"}, "docs/model_cards/gsam.md of keras_mixer"),
        ("runs/my sam", {"started_from": "runs/more sam"}, None),
    ],
)
def test_the_card_names_that_of_the_released_weights_behind_a_model(name, settings, card):
    start = starting_point.StartingPoint("x", {}, 224, 3, 10, None, settings, name)
    assert exporting.card(start).get("Model card of the released weights") == card


def test_a_page_is_written_and_the_last_lines_say_how_to_try_it(run, tmp_path):
    flags = ["--formats=web", "--web_precision=float32", f"--output={tmp_path / 'out'}"]
    lines = run_recipe("export", f"--weights={run}", *flags).stdout.splitlines()
    folder = tmp_path / "out" / "web"
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    assert lines[2].startswith(f"  {folder}/  {size:,} bytes, float32: at most ")
    assert lines[2].endswith("e-07 from the Keras model")
    assert lines[-1] == f"  python -m http.server --directory {folder}    # and open http://localhost:8000"
    assert json.loads((folder / "classes.json").read_text()) == [str(k) for k in range(10)]
    settings = json.loads((folder / "settings.json").read_text())
    assert (settings["image_size"], settings["crop"]) == ([16, 16], "none")
    process = run_recipe("export", f"--weights={run}", *flags, check=False)
    assert process.returncode == 2
    assert f"output: {folder} exists; choose another --output, or --overwrite to replace it." in process.stderr


def test_predictions_of_the_folder_are_those_of_the_run(exported, run, tmp_path):
    rng = np.random.default_rng(0)
    for i in range(3):
        image = rng.integers(0, 256, (20 + i, 33, 3), np.uint8)
        (tmp_path / f"{i}.png").write_bytes(tf.io.encode_png(image).numpy())
    flags = ["--json", "--batch_size=4", "--crop=resmall", str(tmp_path)]
    lines = []
    for weights in (run, exported[0]):
        process = run_recipe("predict", f"--weights={weights}", *flags, check=False)
        assert process.returncode == 0, process.stderr
        lines.append([json.loads(line) for line in process.stdout.splitlines()])
    for ours, theirs in zip(*lines, strict=True):
        assert ours["image"] == theirs["image"]
        for a, b in zip(ours["predictions"], theirs["predictions"], strict=True):
            assert (a["class"], a["name"]) == (b["class"], b["name"])
            assert abs(a["probability"] - b["probability"]) <= 2e-6  # written with six digits


def test_a_version_without_images_reads_the_test_digits(exported):
    process = run_recipe("predict", f"--weights={exported[0] / '1'}", "--top=1", check=False)
    assert process.returncode == 0, process.stderr
    assert [line.split(",")[0] for line in process.stdout.splitlines()] == [f"test digit {i}" for i in range(10)]


def test_a_base_folder_means_its_newest_version(exported, tmp_path):
    for name in ("9", "10", "notes"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "saved_model.pb").touch()
    process = run_recipe("predict", f"--weights={tmp_path}", check=False)
    assert process.returncode == 2
    assert f"weights: {tmp_path}/10 is a SavedModel, but not one of recipes/export.py" in process.stderr
    process = run_recipe("predict", f"--weights={exported[0]}", "--image_size=32", check=False)
    assert process.returncode == 2
    assert "1 was exported for 16 x 16 pixels, got 32; leave --image_size out" in process.stderr


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--formats=saved_model,tfjs"],
            "formats: must be different of saved_model, litert, onnx, web, separated by",
        ),
        (["--litert_quantization=int4"], "litert_quantization: must be none, float16 or int8, got 'int4'"),
        (["--top=0"], "top: must be a positive number, got 0"),
        (["--version=-1"], "version: must be a whole number of at least 0, got -1"),
        (["--crop=centre", "--version=2"], "crop: must be resmall, resize or none, got 'centre'"),
        (["--formats=web", "--web_precision=int4"], "web_precision: must be float32, float16 or int8, got 'int4'"),
        (
            ["--formats=web", "--web_runtime=nowhere"],
            "web_runtime: 'nowhere' is no folder; run npm pack onnxruntime-web@",
        ),
        (
            ["--formats=web", "--web_runtime=recipes"],
            "web_runtime: recipes has no ort.wasm.bundle.min.mjs; run npm pack",
        ),
        (["--formats=web", "--alpha=drop"], "which no browser tells a page; give --alpha white or black."),
        (["--storage=int8", "--version=2"], "storage must be float32, bfloat16 or float16, got 'int8'"),
        (["--weights=nowhere.npz", "--version=2"], "nowhere.npz"),
        (["--formats=litert"], "model.tflite exists; choose another --output, or --overwrite"),
        (
            ["--formats=litert", "--overwrite", "--litert_quantization=int8", "--calibration_images=recipes"],
            "calibration_images: recipes has no images",
        ),
        ([], "served/1 exists; the next free version is 2, and overwrite (--overwrite) replaces this one"),
    ],
    ids=lambda v: v[0] if isinstance(v, list) and v else "",
)
def test_bad_input_is_one_sentence_and_exit_code_2(exported, run, flags, message):
    process = run_recipe("export", f"--weights={run}", f"--output={exported[0]}", *flags, check=False)
    assert process.returncode == 2
    errors = [line for line in process.stderr.splitlines() if not line.startswith("INFO")]
    assert len(errors) == 1
    assert message in errors[0]
    assert sorted(p.name for p in exported[0].iterdir()) == ["1", "model.tflite"]


def test_a_full_disk_is_one_sentence_and_exit_code_1(run, tmp_path):
    pid, (soft, hard) = server().process.pid, resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        process = run_recipe("export", f"--weights={run}", f"--output={tmp_path / 'served'}", check=False)
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))
    assert process.returncode == 1
    assert "served/1 cannot be written (" in process.stderr
    assert list(tmp_path.iterdir()) == []


def test_kill_9_while_it_writes_keeps_the_old_version(exported, run):
    folder = exported[0]
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    flags = [f"--weights={run}", f"--output={folder}", "--overwrite"]
    process = start_recipe("export", *flags)
    deadline = time.monotonic() + 120
    while not list(folder.glob(".1.*.tmp/variables")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert {p: p.read_bytes() for p in before} == before
    assert sorted(p.name for p in folder.iterdir() if not p.name.startswith(".")) == ["1", "model.tflite"]
    assert len(list(folder.glob(".1.*.tmp"))) == 1
