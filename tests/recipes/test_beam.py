"""`make_records.py` and `predict.py` with `--runner`: two real processes of Apache Beam, kills, and bad images."""

import json
import os
import signal
import time

import numpy as np
import pytest
import tensorflow as tf
from trained import run_recipe, start_recipe, trained_run

BEAM = ["--runner=DirectRunner", "--beam_options=--direct_num_workers=2"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Two classes of 200 images, one of them no image."""
    root, rng = tmp_path_factory.mktemp("beam") / "photos", np.random.default_rng(0)
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for i in range(200):
            encoded = tf.io.encode_jpeg(rng.integers(0, 256, (24, 20 + i % 9, 3), np.uint8)).numpy()
            (root / name / f"{i:03d}.jpg").write_bytes(encoded)
    (root / "dog" / "007.jpg").write_bytes(b"no image")
    return root


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def kill_after(count, done, recipe, *arguments):
    """Start a recipe, and kill it when that many files are in a folder."""
    process = start_recipe(recipe, *arguments)
    deadline = time.monotonic() + 120
    while len(list(done.glob("*.json"))) < count and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.001)
    assert process.poll() is None, process.communicate()
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_records_are_those_of_one_process_after_a_bad_image_and_a_kill(photos, tmp_path):
    flags = [f"--dataset={photos}", "--num_shards=100", "--max_bad_fraction=0.1"]
    skip = "--on_bad_image=skip"
    run_recipe("make_records", *flags, skip, f"--output={tmp_path / 'local'}")
    output, job = tmp_path / "records", tmp_path / ".records.parts.tmp"
    flags += [f"--output={output}", *BEAM]
    # The first bad image ends the job, in one sentence.
    process = run_recipe("make_records", *flags, check=False)
    assert process.returncode == 2
    assert f"error: dataset: {photos / 'dog' / '007.jpg'}: image cannot be decoded" in process.stderr
    assert process.stderr.strip().endswith("or leave it out with --on_bad_image=skip.")
    assert len(process.stderr.strip().splitlines()) == 1
    assert not output.exists()
    before = {path.name: path.stat().st_mtime_ns for path in (job / "shards").iterdir()}
    # The same command, now without that image, does the rest; and again after a kill.
    kill_after(len(before) + 20, job / "done", "make_records", *flags, skip)
    assert not output.exists()
    finished = run_recipe("make_records", *flags, skip)
    assert f": {photos / 'dog' / '007.jpg'}: image cannot be decoded" in finished.stdout  # skipped from a split
    assert files_of(output) == files_of(tmp_path / "local")
    kept = [name for name, then in before.items() if (output / name).stat().st_mtime_ns == then]
    assert len(kept) == len(before)  # none was written again
    assert sorted(path.name for path in tmp_path.iterdir()) == ["local", "records"]


def test_predictions_are_those_of_one_process_which_a_kill_had_ended(photos, tmp_path_factory, tmp_path):
    run = trained_run(tmp_path_factory)
    flags = [f"--weights={run}", str(photos / "dog"), "--batch_size=4"]
    told = [json.loads(line) for line in run_recipe("predict", *flags, "--json", check=False).stdout.splitlines()]
    output, job = tmp_path / "named", tmp_path / ".named.parts.tmp"
    flags += [f"--output={output}", "--images_per_file=5"]
    kill_after(3, job / "done", "predict", *flags)
    before = {path.name: path.stat().st_mtime_ns for path in output.glob("*.jsonl")}
    assert 3 <= len(before) < 40
    process = run_recipe("predict", *flags, *BEAM, check=False)
    assert process.returncode == 1
    assert process.stderr.strip() == "error: 1 of 200 files could not be read; their lines say why."
    names = [f"predictions-{k:05d}-of-00040.jsonl" for k in range(40)]
    assert sorted(os.listdir(output)) == names
    assert all((output / name).stat().st_mtime_ns == then for name, then in before.items())
    lines = [json.loads(line) for name in names for line in (output / name).read_text().splitlines()]
    assert [line["image"] for line in lines] == [str(photos / "dog" / f"{i:03d}.jpg") for i in range(200)]
    assert lines[7]["fault"].startswith(f"{photos / 'dog' / '007.jpg'}: image cannot be decoded")
    good = [line for line in lines if "fault" not in line]
    assert [line["image"] for line in good] == [line["image"] for line in told]
    for ours, theirs in zip(good, told, strict=True):
        ours, theirs = ({p["class"]: p["probability"] for p in line["predictions"]} for line in (ours, theirs))
        assert ours == pytest.approx(theirs, abs=2e-6)  # written with six digits
    assert os.listdir(tmp_path) == ["named"]
    again = run_recipe("predict", *flags, check=False)
    assert again.returncode == 2
    assert f"output: {output} holds something already" in again.stderr


def test_bad_input_is_one_sentence_before_anything_is_written(photos, tmp_path_factory, tmp_path):
    weights = f"--weights={trained_run(tmp_path_factory)}"
    for recipe, flags, message in (
        ("make_records", ["--output=x", *BEAM, "--beam_options=--direct=2"], "Beam has no option --direct; see"),
        ("predict", [weights, "--output=x.jsonl", str(photos)], "go to a folder of files; leave .jsonl out"),
    ):
        process = run_recipe(recipe, *flags, check=False, cwd=tmp_path)
        assert process.returncode == 2
        assert message in process.stderr
        assert len(process.stderr.strip().splitlines()) == 1
        assert not list(tmp_path.iterdir())
