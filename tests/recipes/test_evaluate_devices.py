"""`recipes/evaluate.py` on several devices and by several workers: the numbers of one device, image by image."""

import json

import pytest
from cluster import cluster
from trained import environment, run_recipe, start_recipe, trained_run

FLAGS = ["--batch_size=50", "--nopictures"]  # 360 images: the last batch is filled up with 40
FILES = {"result.json", "classes.csv", "confusion.csv", "mistakes.csv", "report.json", "report.html"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return trained_run(tmp_path_factory)


@pytest.fixture(scope="module")
def two_devices(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("devices")
    run_recipe("evaluate", *FLAGS, f"--weights={run}", f"--workdir={folder}", "--strategy=mirrored", "--num_devices=2")
    return folder


def _check(folder, run):
    found, expected = (json.loads((path / "result.json").read_text()) for path in (folder, run))
    for key in ("top1", "top5", "num_examples"):
        assert found[key] == expected[key]
    assert found["loss"] == pytest.approx(expected["loss"], abs=1e-6)  # measured 4e-10
    assert {path.name for path in folder.iterdir()} == FILES


def test_two_devices_find_what_the_training_run_found_on_one(run, two_devices):
    _check(two_devices, run)


def test_two_workers_find_it_too_and_name_the_same_images(run, two_devices, tmp_path):
    flags = [*FLAGS, f"--weights={run}", f"--workdir={tmp_path}", "--strategy=multi_worker"]
    workers = [start_recipe("evaluate", *flags, env=environment(TF_CONFIG=config)) for config in cluster()]
    errors = [worker.communicate(timeout=240)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], errors
    _check(tmp_path, run)
    for name in ("mistakes.csv", "confusion.csv"):  # the order of the images is that of the dataset
        assert (tmp_path / name).read_text() == (two_devices / name).read_text()
