"""`recipes/make_records.py` as users run it: the digits, a folder, a kill, verification, and bad input."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT
from trained import run_recipe, start_recipe

from keras_mixer.data import opening


def run(*flags, check=True):
    return run_recipe("make_records", *flags, check=check)


def refused(result, message):
    assert result.returncode == 2
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]
    assert "Traceback" not in result.stderr


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits") / "records"
    return folder, run(f"--output={folder}")


@pytest.fixture
def images(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(10):
            png = tf.io.encode_png(np.full((9, 9, 3), i, np.uint8)).numpy()
            (tmp_path / "images" / name / f"{i}.png").write_bytes(png)
    return tmp_path / "images"


def pixels_and_labels(source):
    pairs = (source.parse(record) for record in source.records(None, 0))
    decoded = ((tf.io.decode_png(x) if x.dtype == tf.string else x, label) for x, label in pairs)
    return sorted((image.numpy().tobytes(), int(label)) for image, label in decoded)


def test_without_flags_the_digits_become_records_of_the_same_pixels(digits):
    folder, result = digits
    assert "train 1,437 images in 1 shard" in result.stdout
    assert "train: 1,437 of 1,437 images" in result.stdout  # progress, as plain lines
    for training in (True, False):
        made = opening.open_source(str(folder), training=training)
        embedded = opening.open_source("digits", training=training)
        assert pixels_and_labels(made) == pixels_and_labels(embedded)
        assert (made.photographs, made.class_names) == (False, embedded.class_names)


def test_the_printed_next_command_trains_from_the_records(digits):
    folder, result = digits
    line = next(line for line in result.stdout.splitlines() if "pretrain.py" in line).partition("#")[0]
    flags = [*line.split()[1:], "--total_steps=3", "--warmup_steps=1", "--eval_split=test[:20]"]
    subprocess.run([sys.executable, *flags], check=True, capture_output=True, cwd=ROOT)
    assert json.loads((folder.parent / "records_run" / "result.json").read_text())["steps"] == 3


def test_verify_finds_a_flipped_bit(digits, tmp_path):
    folder, _ = digits
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    shard = copy / "test-00000-of-00001.tfrecord"
    data = bytearray(shard.read_bytes())
    data[50] ^= 4
    shard.write_bytes(data)
    refused(run(f"--output={copy}", "--verify", check=False), "in test-00000-of-00001.tfrecord (sha256)")


def test_a_folder_with_bad_files_stops_or_skips_and_says_so(images, tmp_path):
    bad = images / "dog" / "11.jpg"
    bad.write_text("<html></html>")
    flags = [f"--dataset={images}", f"--output={tmp_path / 'records'}"]
    refused(run(*flags, check=False), f"dataset: {bad}: image cannot be decoded (it is no JPEG, PNG, GIF")
    assert [p.name for p in tmp_path.iterdir()] == ["images"]
    flags += ["--on_bad_image=skip", "--max_bad_fraction=0.5", "--num_shards=2"]
    result = run(*flags)
    assert f"{bad}: image cannot be decoded" in result.stdout
    assert "1 skipped" in result.stdout


def test_a_kill_leaves_nothing_that_opens_and_the_next_run_succeeds(tmp_path):
    output, temporary = tmp_path / "records", tmp_path / ".records.tmp"
    flags = [f"--output={output}", "--num_shards=300"]  # a file each, which takes a moment
    process = start_recipe("make_records", *flags)
    deadline = time.monotonic() + 120
    while not list(temporary.glob("*00020-of*.tfrecord")) and time.monotonic() < deadline:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not output.exists()
    assert temporary.is_dir()
    with pytest.raises(ValueError, match="has no class folders"):
        opening.open_source(str(temporary), training=True)
    run(*flags)
    assert [p.name for p in tmp_path.iterdir()] == ["records"]
    assert opening.open_source(str(output), training=True).num_examples == 1437


def test_photographs_are_shrunk_once_and_verified(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i, width in enumerate((40, 300, 400)):
            pixels = np.random.default_rng(i).integers(0, 256, (30, width, 3), np.uint8)
            jpeg = tf.io.encode_jpeg(pixels).numpy()
            (tmp_path / "images" / name / f"{i}.jpg").write_bytes(jpeg)
    folder = tmp_path / "records"
    result = run(f"--dataset={tmp_path / 'images'}", f"--output={folder}", "--max_side=100", "--quality=90")
    shrunk = sum(split["shrunk"] for split in json.loads((folder / "manifest.json").read_text())["splits"].values())
    assert shrunk == 4
    assert " shrunk" in result.stdout
    assert "is what its manifest promises" in run("--verify", f"--output={folder}").stdout
    for training in (True, False):
        source = opening.open_source(str(folder), training=training)
        for record in source.records(None, 0):
            assert max(tf.io.decode_jpeg(source.parse(record)[0]).shape) in (40, 100)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--max_side=0"], "max_side: must be from 1 to 65,500 pixels, got 0; try 512."),
        (["--max_side=512", "--quality=0"], "quality: must be from 1 to 100, got 0; try 95."),
        (["--quality=90"], "quality: is of images that are shrunk; give --max_side, such as 512, or leave it out."),
    ],
)
def test_bad_sides_and_qualities_are_refused(images, tmp_path, flags, message):
    refused(run(f"--dataset={images}", f"--output={tmp_path / 'records'}", *flags, check=False), message)
    assert not (tmp_path / "records").exists()


def test_a_folder_needs_an_output(images):
    refused(run(f"--dataset={images}", check=False), "output: give the folder of records to make")


def test_help_explains_these_flags_and_no_others():
    text = run("--help").stdout
    assert "python recipes/make_records.py --verify" in text
    assert "--max_bad_fraction" in text
    assert "--model:" not in text
