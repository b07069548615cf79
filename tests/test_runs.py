"""`load_run`: a run, a file, an export and a release as an object, with the numbers of the recipes."""

import json
import shutil

import keras
import numpy as np
import pytest
from conftest import AVX512
from PIL import Image
from trained import run_recipe, trained_run

import keras_mixer
from keras_mixer.data import colours


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return trained_run(tmp_path_factory)


@pytest.fixture(scope="module")
def run(folder):
    return keras_mixer.load_run(folder)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    place = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for i in range(5):
        Image.fromarray(rng.integers(0, 256, (20 + i, 31, 3), np.uint8)).save(place / f"{i}.png")
    return place


def test_it_knows_what_the_run_knows(run, folder):
    assert run.class_names == [str(k) for k in range(10)]
    assert (run.image_size, run.crop) == (16, "none")
    assert run.settings == json.loads((folder / "run.json").read_text())["settings"]
    assert run.result == json.loads((folder / "result.json").read_text())
    assert (
        repr(run) == f"Run({str(folder)!r}: 16 px, 10 classes, crop none, top-1 {run.result['top1']:.1%} of 360 images)"
    )


def test_it_evaluates_on_what_it_was_evaluated_on(run):
    found = run.evaluate()
    assert {name: found[name] for name in ("top1", "top5", "loss", "num_examples")} == {
        name: run.result[name] for name in ("top1", "top5", "loss", "num_examples")
    }
    assert run.evaluate("digits", "test[:50]", batch_size=10)["num_examples"] == 50
    with pytest.raises(ValueError, match="batch_size: must be a positive number"):
        run.evaluate(batch_size=0)


def test_the_numbers_are_those_of_the_recipe(run, folder, photos):
    lines = run_recipe("predict", f"--weights={folder}", "--json", photos).stdout.splitlines()
    found = run.predict(photos)
    assert [best.image for best in found] == [json.loads(line)["image"] for line in lines]
    for line, best in zip(lines, found, strict=True):
        told = json.loads(line)["predictions"]
        assert [[p["class"], p["name"], p["probability"]] for p in told] == [[k, n, round(p, 6)] for k, n, p in best]
        assert (best.name, best.probability, best[0].class_id) == (best[0].name, best[0].probability, best[0][0])


def test_every_kind_of_image_gives_what_its_file_gives(run, photos):
    path = photos / "1.png"
    picture = Image.open(path)
    array = np.asarray(picture)
    of_file = run.predict(str(path))
    assert run.predict([path, path.read_bytes(), array, picture, picture.convert("RGBA")]) == 5 * of_file
    assert run.predict(np.stack([array, array]), batch_size=1) == 2 * of_file
    level = array[:, :, 0]
    assert run.predict(level) == run.predict(level[:, :, None]) == run.predict(Image.fromarray(level))


def test_a_picture_of_pillow_keeps_its_rotation_and_transparency(run, photos, tmp_path):
    picture = Image.open(photos / "0.png").convert("RGBA")
    picture.putalpha(100)
    picture.save(tmp_path / "a.png")
    exif = Image.Exif()
    exif[274] = 6
    Image.open(photos / "0.png").save(tmp_path / "b.png", exif=exif)
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    assert run.predict([Image.open(path) for path in paths]) == run.predict(paths)


def test_a_bad_image_costs_itself_alone(run, photos, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    images = [photos / "0.png", tmp_path / "bad.png", np.zeros((3, 3), np.float32), photos / "1.png"]
    with pytest.warns(UserWarning, match="image") as caught:
        found = run.predict(images, batch_size=2)
    assert [bool(best) for best in found] == [True, False, False, True]
    assert "bad.png: image cannot be decoded" in str(caught[0].message)
    assert "image: must be a path, the bytes of a file, a uint8 array" in str(caught[1].message)
    alone = run.predict(photos / "1.png")[0]
    assert [best.name for best in found[3]] == [best.name for best in alone]
    # Measured 0 with AVX-512, and 4e-7 without.
    np.testing.assert_allclose([p for *_, p in found[3]], [p for *_, p in alone], rtol=0 if AVX512 else 2e-6)
    with pytest.raises(ValueError, match=r"bad\.png: has no prediction, since it could not be read"):
        _ = found[1].name


def test_the_model_gives_probabilities_and_its_logits_are_in_reach(run, photos):
    images = np.stack([np.asarray(Image.open(photos / "0.png").resize((16, 16)))])
    probabilities = run.model.predict(keras_mixer.preprocess_input(images), verbose=0)
    logits = keras.Model(run.model.input, run.model.get_layer("head").output).predict(
        keras_mixer.preprocess_input(images), verbose=0
    )
    np.testing.assert_allclose(probabilities, keras.activations.softmax(logits), atol=1e-7)
    (best,) = keras_mixer.decode_predictions(probabilities, top=1, classes=run.class_names)
    assert best[0][:2] == run.predict(images, top=1)[0][0][:2]
    with pytest.raises(ValueError, match=r"keras_mixer\.load_run"):
        keras_mixer.decode_predictions(logits, classes=run.class_names)


def test_an_export_gives_the_same(run, photos, tmp_path):
    place = keras_mixer.export.saved_model(
        run.model, tmp_path / "served", class_names=run.class_names, crop=run.crop, pixels=run.pixels
    )
    exported = keras_mixer.load_run(place.parent)
    assert (exported.class_names, exported.image_size, exported.crop) == (run.class_names, run.image_size, run.crop)
    for ours, theirs in zip(exported.predict(photos), run.predict(photos), strict=True):
        assert [p.name for p in ours] == [p.name for p in theirs]
        np.testing.assert_allclose([p.probability for p in ours], [p.probability for p in theirs], atol=1e-6)
    with pytest.raises(ValueError, match=r"dataset: .* does not say what it was trained on; give dataset"):
        exported.evaluate()
    found, ours = exported.evaluate("digits"), run.evaluate()
    assert found["top1"] == ours["top1"]
    assert found["loss"] == pytest.approx(ours["loss"], rel=1e-5)  # measured 1e-7: logarithms of its probabilities
    images = keras_mixer.preprocess_input(np.zeros((1, 16, 16, 3), np.uint8))
    np.testing.assert_allclose(
        exported.model.predict(images, verbose=0), run.model.predict(images, verbose=0), atol=1e-6
    )


@pytest.mark.parametrize(
    ("place", "kwargs", "message"),
    [
        ("imagenet1k", {}, "model: weights imagenet1k need one; give model, one of b16"),
        ("imagenet1k", {"model": "b17"}, "model: 'b17' is unknown"),
        ("run", {"crop": "centre"}, "crop: must be resmall, resize or none, got 'centre'"),
        ("nothing", {}, "weights: there is no folder 'nothing'; give the workdir of a run, the path or URL of a file"),
        ("empty", {}, "empty is a folder but not the workdir of a run"),
    ],
)
def test_bad_places_are_one_sentence(folder, tmp_path, place, kwargs, message):
    (tmp_path / "empty").mkdir()
    place = {"run": folder, "empty": tmp_path / "empty"}.get(place, place)
    with pytest.raises((ValueError, OSError), match=message):
        keras_mixer.load_run(place, **kwargs)


def test_grey_keeps_grey_and_is_pillows():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (50, 60, 3), np.uint8)
    np.testing.assert_array_equal(
        colours.to_channels(pixels, 1)[..., 0], np.asarray(Image.fromarray(pixels).convert("L"))
    )
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    np.testing.assert_array_equal(colours.to_channels(np.repeat(levels, 3, axis=2), 1), levels)
    floats = colours.to_channels(np.repeat(levels, 3, axis=2).astype("float32"), 1)
    np.testing.assert_allclose(floats, levels, rtol=1e-6)


def test_one_channel_from_training_to_serving(photos, folder, tmp_path):
    """The recipes train, evaluate and export with one channel, each following the run; from RGB weights too."""
    quick = ["--total_steps=4", "--batch_size=32", "--warmup_steps=1"]
    run_recipe("pretrain", *quick, "--channels=1", f"--workdir={tmp_path / 'grey'}")
    run = keras_mixer.load_run(tmp_path / "grey")
    assert run.model.input_shape == (None, 16, 16, 1)
    result = tmp_path / "evaluation"
    run_recipe("evaluate", f"--weights={tmp_path / 'grey'}", f"--workdir={result}")
    assert json.loads((result / "result.json").read_text())["top1"] == run.result["top1"]
    run_recipe(
        "export", f"--weights={tmp_path / 'grey'}", f"--output={tmp_path / 'served'}", "--formats=saved_model,onnx"
    )
    exported = keras_mixer.load_run(tmp_path / "served")
    for ours, theirs in zip(exported.predict(photos), run.predict(photos), strict=True):
        assert [p.name for p in ours] == [p.name for p in theirs]
        np.testing.assert_allclose([p.probability for p in ours], [p.probability for p in theirs], atol=1e-6)
    # A run on RGB images goes on with grey ones, and one on grey images with grey ones, unless told otherwise.
    tuned = ["--image_size=16", f"--workdir={tmp_path / 'tuned'}", "--nopictures", *quick]
    run_recipe("finetune", f"--weights={folder}", "--channels=1", *tuned)
    assert keras_mixer.load_run(tmp_path / "tuned").model.input_shape[-1] == 1
    shutil.rmtree(tmp_path / "tuned")
    run_recipe("finetune", f"--weights={tmp_path / 'grey'}", *tuned)
    assert keras_mixer.load_run(tmp_path / "tuned").model.input_shape[-1] == 1
    assert "channels: must be 3, or 1" in run_recipe("pretrain", "--channels=2", check=False).stderr
