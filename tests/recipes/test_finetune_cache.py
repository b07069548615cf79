"""`recipes/finetune.py --cache`: a kill, a damaged entry or a cache that is too small changes no weight of a run."""

import json
import signal
import time

import numpy as np
import pytest
import tensorflow as tf
from keras_mixer.recipes import finetune
from trained import run_recipe, start_recipe, trained_run

import keras_mixer
from keras_mixer.cli import caching
from keras_mixer.data import image_cache


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    return trained_run(tmp_path_factory)


@pytest.fixture(scope="module")
def flags(tmp_path_factory, pretrained):
    """24 pictures in two folders, larger than any crop needs, and a short run on them."""
    root, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for name, colour in (("red", (200, 60, 60)), ("blue", (60, 60, 200))):
        (root / name).mkdir()
        for i in range(12):
            pixels = np.clip(rng.normal(colour, 40, (90, 120, 3)), 0, 255).astype(np.uint8)
            (root / name / f"{i:02d}.jpg").write_bytes(tf.io.encode_jpeg(pixels).numpy())
    flags = [f"--weights={pretrained}", f"--dataset={root}", "--crop_area=0.4,1", "--batch_size=8", "--nopictures"]
    return [*flags, "--total_steps=30", "--warmup_steps=2", "--checkpoint_steps=5", "--mixup_alpha=0.2"]


@pytest.fixture(scope="module")
def small(tmp_path_factory, flags):
    """A run whose cache holds a few of its images."""
    workdir = tmp_path_factory.mktemp("small") / "run"
    return workdir, run_recipe("finetune", *flags, "--cache=memory", "--cache_gb=0.00002", f"--workdir={workdir}")


def weights_of(workdir):
    return [variable.numpy() for variable in keras_mixer.load_run(workdir).model.weights]


def test_a_bound_that_does_not_hold_all_images_is_said_once_with_the_way_out(small):
    workdir, process = small
    said = [line for line in process.stdout.splitlines() if line.startswith("cache: ")]
    assert len(said) == 1
    assert "22 images of at most 30 px on the shorter side take about 7.92e-05 GB, and 2e-05 GB hold 25%" in said[0]
    assert "Raise --cache_gb" in said[0]
    assert json.loads((workdir / "run.json").read_text())["settings"]["cached_side"] == 30


def test_a_kill_and_damaged_entries_on_disk_change_no_weight(small, flags, tmp_path):
    workdir = tmp_path / "run"
    process = start_recipe("finetune", *flags, "--cache=disk", f"--workdir={workdir}")
    deadline = time.monotonic() + 200
    while not (workdir / "checkpoints" / "step_00000010.npz").exists() and time.monotonic() < deadline:
        if list((workdir / "checkpoints").glob("step_*10.npz")):
            break
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (workdir / "result.json").exists()
    entries = sorted((workdir / "cache").glob("*.pixels"))
    assert len(entries) == 22
    entries[0].write_bytes(entries[0].read_bytes()[:-1] + b"x")
    output = run_recipe("finetune", *flags, "--cache=disk", f"--workdir={workdir}").stdout
    assert "cache: " not in output
    assert json.loads((workdir / "result.json").read_text())["resumed_at_step"] >= 10
    for killed, whole in zip(weights_of(workdir), weights_of(small[0]), strict=True):
        np.testing.assert_array_equal(killed, whole)
    assert not (workdir / "cache").exists()


def test_a_run_goes_on_with_another_kind_of_cache_and_not_without(small, flags):
    workdir, _ = small
    assert "is finished" in run_recipe("finetune", *flags, "--cache=disk", f"--workdir={workdir}").stdout
    refused = run_recipe("finetune", *flags, f"--workdir={workdir}", check=False)
    assert refused.returncode == 2
    assert "with other settings (cached_side was 30 and is None)" in refused.stderr


def test_the_runs_of_a_sweep_share_a_cache_which_is_removed_at_its_end(pretrained, tmp_path, monkeypatch):
    def runs(settings, given, task):
        assert given.cache_dir == str(tmp_path / "sweep" / "cache")
        image_cache.Folder(given.cache_dir, 10**9, "").folder.joinpath("a.pixels").write_bytes(b"pixels")
        return {"top1": 1.0}

    monkeypatch.setattr(finetune.sweep, "run", runs)
    settings = finetune.Settings(weights=pretrained, cache="disk", sweep=True, workdir=tmp_path / "sweep")
    assert finetune.run(settings) == {"top1": 1.0}
    assert not (tmp_path / "sweep" / "cache").exists()
    left = image_cache.Folder(tmp_path / "sweep" / "cache", 10**9, "").folder / "b.pixels"
    left.write_bytes(b"pixels")  # of a run that was stopped, and went on with its cache in memory
    caching.clear(settings.with_values(cache="memory"))
    assert not left.parent.exists()
    image_cache.Folder(tmp_path / "kept", 10**9, "")
    caching.clear(settings.with_values(cache_dir=str(tmp_path / "kept")))
    assert (tmp_path / "kept").exists()
    with pytest.raises(ValueError, match="cache_dir: gs://bucket/run is in a bucket; give a folder on a disk"):
        caching.folder_of(settings.with_values(workdir="gs://bucket/run"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--cache=memory", "--dataset=digits"], "cache: is for a folder of images, and digits train is none"),
        (["--cache=some"], "cache: must be none, memory or disk, got 'some'"),
        (["--cache_gb=2"], "cache_gb: is the bound of a cache; give --cache=memory or disk"),
        (["--cache=memory", "--cache_gb=0"], "cache_gb: must be a positive number of GB, got 0.0; try 4."),
        (["--cache=memory", "--cache_dir=x"], "cache_dir: is where --cache=disk keeps images"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_bad_flags_are_one_sentence(tmp_path, pretrained, given, message):
    flags = [f"--weights={pretrained}", *given, f"--workdir={tmp_path / 'run'}"]
    result = run_recipe("finetune", *flags, check=False)
    assert result.returncode == 2
    assert message in result.stderr
    assert not (tmp_path / "run").exists()
