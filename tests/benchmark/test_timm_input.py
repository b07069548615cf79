"""timm's transforms beside ours: the process that runs them, and what is said where it cannot."""

import io
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_mixer.benchmark import input_speed, input_stages, peers, phone_stages, timm_input
from keras_mixer.benchmark.settings import Settings

CHILD = """
import json, sys
told = json.loads(sys.stdin.readline())
print("of a test", told["batch_size"], flush=True)
for line in sys.stdin:
    print(0.01 * int(line), flush=True)
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """A process that answers as that of timm does, 10 ms of CPU time a batch."""
    (tmp_path / "child.py").write_text(CHILD)
    monkeypatch.setattr(timm_input, "__file__", str(tmp_path / "child.py"))


def test_another_process_takes_its_turn_and_tells_its_own_time(stand_in):
    with timm_input.stage(sys.executable, [b"a", b"b"], 16, 4) as (name, stage):
        assert name == "timm of a test 4, rand-m15-n2 and mixup"
        ours = (tf.data.Dataset.range(2**62).take, 1)
        rates = input_speed.measure({"ours": ours, name: stage}, seconds=0.05, rounds=3)
    np.testing.assert_allclose(rates[name], [4 / 0.01] * 3)


def test_a_process_that_ends_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "child.py").write_text("")
    monkeypatch.setattr(timm_input, "__file__", str(tmp_path / "child.py"))
    with (
        pytest.raises(ValueError, match="compare: the process of timm ended; .* Give another --peer_python."),
        timm_input.stage(sys.executable, [b"a"], 16, 4),
    ):
        pass


def test_what_cannot_be_compared_is_refused_before_anything_is_measured(tmp_path):
    settings = Settings(input=True, compare=("vit",), output=str(tmp_path))
    with pytest.raises(ValueError, match="compare: with --input must be timm or left out, got 'vit'."):
        input_stages.run(settings)
    with pytest.raises(ValueError, match=r"install with pip install 'keras_mixer\[bench\]'"):
        peers.check_python(_without_packages(tmp_path))


def _without_packages(folder):
    """A Python that finds no installed package."""
    program = folder / "python"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    program.chmod(0o755)
    return str(program)


@pytest.mark.slow
def test_phone_photographs_are_of_12_megapixels_and_every_second_is_turned():
    files = phone_stages.photographs(2)
    assert files == phone_stages.photographs(2)
    for file, orientation in zip(files, (1, 6), strict=True):
        with Image.open(io.BytesIO(file)) as image:
            assert (image.format, image.size) == ("JPEG", (4000, 3000))
            assert image.getexif()[0x0112] == orientation
        assert 1_500_000 < len(file) < 3_500_000
