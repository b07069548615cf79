"""How files become pixels is chosen once, in training; evaluation, prediction and export follow the run."""

import json
import os

import numpy as np
import pytest
from PIL import Image
from trained import run_recipe

SETTINGS = {"alpha": "black", "exif_rotation": False, "antialias": True, "exact_decoding": True}
FLAGS = ["--alpha=black", "--noexif_rotation", "--antialias", "--exact_decoding"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Large pictures of noise, half transparent, that EXIF calls turned."""
    root, rng = tmp_path_factory.mktemp("pixels") / "photos", np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for i in range(6):
            pixels = rng.integers(0, 256, (50, 90, 4), np.uint8)
            pixels[:25, :, 3] = 0
            picture = Image.fromarray(pixels)
            # Kinds that only Pillow decodes, too.
            if i % 3 == 0:
                picture.save(root / name / f"{i}.webp", lossless=True, exact=True, exif=exif)
            elif i % 3 == 1:
                picture.save(root / name / f"{i}.png", exif=exif)
            else:
                picture.save(root / name / f"{i}.avif", quality=100, exif=exif)
    return root


@pytest.fixture(scope="module")
def run(photos):
    folder = photos.parent / "run"
    flags = ["--total_steps=4", "--batch_size=4", "--warmup_steps=1", "--image_size=16", *FLAGS]
    crops = ["--crop_area=0.5,1", "--crop_aspect=0.9,1.1", "--flip_rate=0"]
    run_recipe("pretrain", f"--dataset={photos}", *flags, *crops, f"--workdir={folder}")
    return folder


def probabilities(weights, photos, *flags):
    flags = ["--crop=resize", "--json", *flags]  # the crop that antialiasing changes
    output = run_recipe("predict", f"--weights={weights}", *flags, photos).stdout
    return [[p["probability"] for p in json.loads(line)["predictions"]] for line in output.splitlines()]


def test_the_run_says_how_its_pixels_were_made(run):
    settings = json.loads((run / "run.json").read_text())["settings"]
    assert {name: settings[name] for name in SETTINGS} == SETTINGS
    chosen = [settings[name] for name in ("crop_area", "crop_aspect", "flip_rate")]
    assert chosen == [["0.5", "1"], ["0.9", "1.1"], 0]


def test_prediction_evaluation_and_export_follow_the_run(run, photos):
    own = probabilities(run, photos)
    assert own == probabilities(run, photos, *FLAGS)
    assert len(own) == 12
    for other in ("--alpha=white", "--exif_rotation", "--noantialias"):
        assert own != probabilities(run, photos, other)
    evaluated = photos.parent / "evaluated"
    run_recipe("evaluate", f"--weights={run}", f"--dataset={photos}", f"--workdir={evaluated}", "--nopictures")
    result = json.loads((evaluated / "result.json").read_text())
    assert {name: result[name] for name in SETTINGS} == SETTINGS
    # Training ends with the same evaluation.
    assert result["loss"] == pytest.approx(json.loads((run / "result.json").read_text())["loss"], abs=1e-6)
    served = photos.parent / "served"
    run_recipe("export", f"--weights={run}", f"--output={served}", "--crop=resize")
    facts = json.loads((served / "1" / "export.json").read_text())
    assert {name: facts[name] for name in SETTINGS} == SETTINGS
    np.testing.assert_allclose(probabilities(served, photos), own, rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--alpha=grey", "alpha: must be white, black or drop, got 'grey'."),
        (
            "--crop_area=5,100",
            "crop_area: must be the smallest and the largest, positive and at most 1, got (5.0, 100.0).",
        ),
        (
            "--crop_area=half",
            "crop_area: must be numbers, separated by commas, got 'half'; write --crop_area=0.05,1.",
        ),
        ("--crop_aspect=1", "crop_aspect: must be the smallest and the largest, positive, got (1.0,)."),
        (
            "--augmentation=none --flip_rate=0",
            "flip_rate: has no effect, since --augmentation=none only resizes; leave it out.",
        ),
        ("--flip_rate=2", "flip_rate: must be a fraction in [0, 1], got 2.0; use 0 for no mirror images."),
    ],
)
def test_values_that_make_no_sense_are_refused_in_one_sentence(photos, tmp_path, flag, message):
    process = run_recipe(
        "pretrain", f"--dataset={photos}", *flag.split(), "--batch_size=4", f"--workdir={tmp_path / 'run'}", check=False
    )
    assert process.returncode == 2
    assert process.stderr.splitlines()[-1] == f"error: {message}"
    assert not (tmp_path / "run").exists()


def test_evaluation_takes_the_crop_of_a_fine_tuned_run(run, photos):
    tuned = photos.parent / "tuned"
    flags = ["--crop=resize", "--total_steps=3", "--batch_size=4", "--image_size=16", "--nopictures"]
    run_recipe("finetune", f"--weights={run}", f"--dataset={photos}", *flags, f"--workdir={tuned}")
    evaluated = photos.parent / "tuned_evaluated"
    run_recipe("evaluate", f"--weights={tuned}", f"--dataset={photos}", f"--workdir={evaluated}", "--nopictures")
    result = json.loads((evaluated / "result.json").read_text())
    assert result["crop"] == "resize"
    assert result["loss"] == pytest.approx(json.loads((tuned / "result.json").read_text())["loss"], abs=1e-6)


def test_odd_files_cost_themselves_alone(run, photos, tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with open(tmp_path / "huge.jpg", "wb") as file:
        file.truncate(2**43)
    (tmp_path / "good.png").write_bytes((photos / "cat" / "1.png").read_bytes())
    names = [tmp_path / name for name in ("pipe.jpg", "huge.jpg", "good.png")]
    process = run_recipe("predict", f"--weights={run}", "--json", *names, check=False)
    assert process.returncode == 1
    assert len(process.stdout.splitlines()) == 1
    errors = [
        f"{names[0]}: is missing or no regular file",
        f"{names[1]}: image cannot be decoded (more than 67108864 bytes)",
    ]
    assert all(f"error: {text}; replace or remove it." in process.stderr for text in errors)
    process = run_recipe("predict", f"--weights={run}", "", check=False)
    assert (process.returncode, process.stdout) == (2, "")
    assert "image: must name a file, a folder or a pattern, got an empty text." in process.stderr


def test_a_damaged_jpeg_is_named_and_libjpeg_says_nothing(run, photos, tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)).save(tmp_path / "whole.jpg")
    whole = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "strange.jpg").write_bytes(whole[:20] + b"\0\0\0" + whole[20:])  # libjpeg skips these, and says so
    (tmp_path / "cut.jpg").write_bytes(whole[:600])
    process = run_recipe("predict", f"--weights={run}", tmp_path, check=False)
    assert process.returncode == 1
    assert len(process.stdout.splitlines()) == 2 * 2  # two classes of two pictures
    lines = process.stderr.splitlines()
    assert [line.partition(": ")[0] for line in lines] == ["INFO", "error", "error"]
    assert f"{tmp_path / 'cut.jpg'}: image cannot be decoded" in lines[1]
