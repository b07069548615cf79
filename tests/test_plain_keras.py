"""docs/guides/plain_keras.md runs as it stands, but for sizes that suit a test."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from keras_mixer.paper import VARIANTS
from keras_mixer.weights import layouts

SETTINGS = "SIZE, BATCH_SIZE, EPOCHS = 224, 32, 10"
COUNTS = {"blue": 12, "green": 6, "red": 9}  # of pictures


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with pictures of three colours, and a random file in the place of the released one."""
    folder = tmp_path_factory.mktemp("plain")
    rng = np.random.default_rng(0)
    for split, share in (("train", 1), ("test", 2)):
        for channel, (name, count) in zip((2, 1, 0), COUNTS.items(), strict=True):
            (folder / "photos" / split / name).mkdir(parents=True)
            for i in range(count // share):
                pixels = rng.integers(0, 100, (40, 50, 3), np.uint8)
                pixels[:, :, channel] += 150
                Image.fromarray(pixels).save(folder / "photos" / split / name / f"{i}.jpg")
    (folder / "weights" / "gsam").mkdir(parents=True)
    shapes = layouts.released_shapes(VARIANTS["s16"], tokens=196, classes=1000)
    arrays = {
        name: np.ones(shape, np.float32)
        if name.endswith("scale")
        else (rng.standard_normal(shape) / np.sqrt(np.prod(shape[:-1]))).astype(np.float32)
        for name, shape in shapes.items()
    }
    np.savez(folder / "weights" / "gsam" / "Mixer-S_16.npz", **arrays)
    return folder


def program(sizes="SIZE, BATCH_SIZE, EPOCHS = 32, 8, 1"):
    text = (ROOT / "docs" / "guides" / "plain_keras.md").read_text("utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    assert code.count(SETTINGS) == 1
    return code.replace(SETTINGS, sizes)


def run(place, code, **environment):
    env = os.environ | {"KERAS_MIXER_WEIGHTS": str(place / "weights")} | environment
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=place, env=env, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_the_page_runs_from_pictures_to_a_quantised_model(place):
    printed = run(place, program())
    assert re.search(r"\d% of 13 pictures; rows are the truth", printed)
    assert "32 px, 3 classes, crop none" in printed
    assert (place / "served" / "1" / "saved_model.pb").exists()
    assert (place / "int8.keras").exists()


@pytest.mark.backends
def test_the_page_runs_on_jax(place):
    """What the last section says of JAX: all but the export, with its own line for the scale."""
    code = program().replace("keras_mixer.preprocess_input(images)", "images / 127.5 - 1")
    code = re.sub(r"\nkeras_mixer\.export.*?\nprint\(run.*?\n", "\n", code, flags=re.DOTALL)
    assert "pictures; rows are the truth" in run(place, code, KERAS_BACKEND="jax")
