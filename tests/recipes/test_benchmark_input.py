"""`recipes/benchmark.py --input` as users run it, with tiny sizes."""

import json
import subprocess
import sys

import pytest
from conftest import ROOT


def _run(*flags):
    command = [sys.executable, "recipes/benchmark.py", *flags]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


@pytest.mark.slow
def test_it_measures_every_part_beside_the_bare_decoder(tmp_path):
    result = _run(
        "--input", "--image_size=32", "--batch_size=4", "--seconds=0.001", "--rounds=1", f"--output={tmp_path}"
    )
    assert result.returncode == 0, result.stderr
    report = json.loads((tmp_path / "input_speed.json").read_text())
    rates = report["images_per_second"]
    assert {report["limit"], "decode_image", "randaugment", "Equalize", "mixup of a batch", "whole pipeline"} <= set(
        rates
    )
    assert len(rates) == 29
    assert all(rate > 0 for rate in rates.values())
    assert report["flags"]["image_size"] == 32
    assert "peak memory" in result.stdout
    phone = json.loads((tmp_path / "input_phone.json").read_text())
    assert (phone["files"]["width"], phone["files"]["height"], len(phone["rounds"])) == (4000, 3000, 8)
    assert all(rate > 0 for rate in phone["images_per_second"].values())
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".md", ".png"}
