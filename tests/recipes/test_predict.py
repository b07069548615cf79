"""`recipes/predict.py` as users run it."""

import json
import os

import keras
import numpy as np
import pytest
import tensorflow as tf
from trained import run_recipe, trained_run

import keras_mixer
from keras_mixer.data import opening, pipeline


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return trained_run(tmp_path_factory)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Two class folders of nine images of several sizes, so that a folder source reads them too."""
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for i in range(9):
        path = root / "test" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tf.io.encode_png(rng.integers(0, 256, (20 + i, 33, 3), np.uint8)).numpy())
    (root / "train").symlink_to(root / "test")
    return root / "test"


def _lines(process):
    assert process.returncode == 0, process.stderr
    return [json.loads(line) for line in process.stdout.splitlines()]


@pytest.mark.parametrize("crop", ["resmall", "resize"])
def test_probabilities_are_those_of_the_evaluation(run, photos, crop):
    flags = ["--json", f"--crop={crop}", "--top=10", "--batch_size=4"]
    lines = {
        line["image"]: line["predictions"]
        for line in _lines(run_recipe("predict", f"--weights={run}", *flags, str(photos), check=False))
    }
    source = opening.open_source(str(photos.parent), training=False)
    paths = [record["path"].numpy().decode() for record in source.records(None, 0)]
    images, _, _ = next(iter(pipeline.eval_batches(source, batch_size=9, image_size=16, crop=crop)))
    logits = keras.saving.load_model(run / "model.keras").predict(images, verbose=0)
    expected = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    assert sorted(lines) == sorted(paths)
    for path, row in zip(paths, expected, strict=True):
        assert [found["class"] for found in lines[path]] == np.argsort(-row, kind="stable").tolist()
        ours = [found["probability"] for found in lines[path]]
        np.testing.assert_allclose(ours, np.sort(row)[::-1], atol=2e-6)  # written with six digits


def test_digits_are_only_resized_and_found(run):
    """Without any image, and as a user runs it: nothing but the table on standard output."""
    process = run_recipe("predict", f"--weights={run}", "--top=2")
    lines = process.stdout.splitlines()
    assert len(lines) == 20
    model = keras.saving.load_model(run / "model.keras")
    source = opening.open_source("digits", "test[:10]", training=False)
    images, labels, _ = next(iter(pipeline.eval_batches(source, batch_size=10, image_size=16)))
    predicted = model.predict(images, verbose=0).argmax(-1)
    for i in range(10):
        assert lines[2 * i].startswith(f"test digit {i}, a {labels[i]}  ")
        assert lines[2 * i].split()[-1] == str(predicted[i])
    assert len({line.index("%") for line in lines}) == 1  # aligned


def test_files_folders_and_patterns_in_their_order_each_once(run, photos):
    arguments = [str(photos / "b" / "3.png"), "--json", str(photos / "a"), str(photos / "*" / "[35].png")]
    images = [line["image"] for line in _lines(run_recipe("predict", f"--weights={run}", *arguments, check=False))]
    assert images == [str(photos / name) for name in ("b/3.png", *(f"a/{i}.png" for i in (0, 2, 4, 6, 8)), "b/5.png")]


def test_unreadable_files_are_named_and_the_others_go_on(run, photos, tmp_path):
    (tmp_path / "1.png").write_bytes(b"no image")
    (tmp_path / "2.png").write_bytes((photos / "a" / "0.png").read_bytes())
    (tmp_path / "3.png").symlink_to("nowhere")
    strange = os.fsencode(tmp_path) + b"/\xff.png"
    with open(strange, "wb") as file:
        file.write((photos / "a" / "0.png").read_bytes()[:60])
    process = run_recipe(
        "predict", f"--weights={run}", str(tmp_path), str(tmp_path / "3.png"), "--json", "--batch_size=1", check=False
    )
    assert process.returncode == 1
    assert [json.loads(line)["image"] for line in process.stdout.splitlines()] == [str(tmp_path / "2.png")]
    errors = [line for line in process.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 4
    assert errors[0].startswith(f"error: {tmp_path}/1.png: image cannot be decoded")
    assert errors[1].startswith(f"error: {tmp_path}/3.png: is missing or no regular file; replace or remove it.")
    assert errors[2].startswith(f"error: {tmp_path}/\\udcff.png: image cannot be decoded")
    assert errors[3] == "error: 3 of 4 files could not be read."


@pytest.mark.parametrize(("classes", "name"), [(1000, "tench, Tinca tinca"), (7, "0")])
def test_names_of_a_file_are_imagenets_or_numbers(photos, tmp_path, classes, name):
    model = keras_mixer.MLPMixer(4, 1, 16, 8, 16, input_shape=(16, 16, 3), classes=classes)
    model.get_layer("head").bias.assign(np.eye(classes)[0] * 9)
    keras_mixer.save_checkpoint(model, tmp_path / "model.npz")
    process = run_recipe("predict", f"--weights={tmp_path / 'model.npz'}", str(photos / "a" / "0.png"), check=False)
    assert process.returncode == 0, process.stderr
    assert process.stdout.splitlines()[0].split("%")[1].strip() == name
    assert len(process.stdout.splitlines()) == 5


def test_a_body_is_refused(run, photos, tmp_path):
    model = keras_mixer.MLPMixer(4, 1, 16, 8, 16, input_shape=(16, 16, 3), include_top=False)
    keras_mixer.save_checkpoint(model, tmp_path / "body.npz")
    process = run_recipe("predict", f"--weights={tmp_path / 'body.npz'}", str(photos), check=False)
    assert process.returncode == 2
    assert "body.npz has no head, so it names no class" in process.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing/*.png"], "image: no file matches 'nothing/*.png'; give files, folders or patterns"),
        (["nothing.png"], "image: no file is called 'nothing.png'"),
        (["recipes"], "image: the folder 'recipes' has no images; give files"),
        (["--top=0"], "top: must be a positive number, got 0"),
        (["--crop=centre", "photo"], "crop: must be resmall, resize or none, got 'centre'"),
        (["--precision=float16"], "precision: must be float32 or mixed_bfloat16, got 'float16'"),
        (["--jsn"], "--jsn is not a flag of this recipe; did you mean --json?"),
    ],
    ids=lambda v: v[0] if isinstance(v, list) else "",
)
def test_bad_input_is_one_sentence_and_exit_code_2(run, photos, arguments, message):
    arguments = [str(photos) if argument == "photo" else argument for argument in arguments]
    process = run_recipe("predict", f"--weights={run}", *arguments, check=False)
    assert process.returncode == 2
    assert message in process.stderr
    assert len(process.stderr.strip().splitlines()) == 1
    assert process.stdout == ""
