"""requirements-tpu.txt is setup.cfg with TensorFlow's TPU build; it and the extra `gpu` can be installed."""

import configparser
import json
import re
import subprocess
import sys

import pytest
from conftest import ROOT

BUILD = {"tensorflow-tpu", "libtpu"}  # instead of tensorflow


def read_setup():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    groups = {"install_requires": config["options"]["install_requires"], **config["options.extras_require"]}
    return {name: value.split() for name, value in groups.items()}


def read_requirements():
    lines = (ROOT / "requirements-tpu.txt").read_text().splitlines()
    return [line for line in lines if not line.startswith("#")]


def name_of(requirement):
    return re.match(r"[\w-]+", requirement).group()


def test_the_tpu_file_repeats_setup_cfg_but_for_tensorflow():
    ours = {line for line in read_requirements() if name_of(line) not in BUILD}
    theirs = {line for line in read_setup()["install_requires"] if name_of(line) != "tensorflow"}
    assert ours == theirs
    assert {name_of(line) for line in read_requirements()} >= BUILD


def test_the_gpu_extra_has_the_bounds_of_the_plain_tensorflow():
    (plain,) = (line for line in read_setup()["install_requires"] if name_of(line) == "tensorflow")
    assert read_setup()["gpu"] == [plain.replace("tensorflow", "tensorflow[and-cuda]")]


def resolve(tmp_path, *arguments):
    """Return name -> version of what pip would install into a new environment."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "new"], check=True)
    command = [
        tmp_path / "new/bin/pip",
        "install",
        "--dry-run",
        "--quiet",
        f"--report={tmp_path}/report.json",
        *arguments,
    ]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert result.returncode == 0, result.stderr
    packages = (entry["metadata"] for entry in json.loads((tmp_path / "report.json").read_text())["install"])
    return {re.sub(r"[-_.]+", "-", package["name"]).lower(): package["version"] for package in packages}


@pytest.mark.tpu
def test_the_tpu_file_resolves_without_a_second_tensorflow(tmp_path):
    versions = resolve(tmp_path, "-r", "requirements-tpu.txt")
    assert (versions["tensorflow-tpu"], versions["libtpu"]) == ("2.20.0", "0.0.20")
    assert versions["keras"].startswith("3.15.")
    assert "tensorflow" not in versions


@pytest.mark.tpu
def test_the_gpu_extra_resolves(tmp_path):
    setup = read_setup()
    versions = resolve(tmp_path, *setup["install_requires"], *setup["gpu"])
    assert versions["tensorflow"].startswith("2.21.")
    assert {"nvidia-cudnn-cu12", "nvidia-nccl-cu12"} <= versions.keys()
    assert "tensorflow-tpu" not in versions
