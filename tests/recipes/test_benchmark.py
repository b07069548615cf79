"""`recipes/benchmark.py` as users run it, with a tiny model; tests/recipes/test_benchmark_input.py has --input."""

import json
import os
import subprocess
import sys

import pytest
from conftest import ROOT
from PIL import Image

from keras_mixer import cost_model

TINY = dict(patch_size=4, num_blocks=4, hidden_dim=64, tokens_mlp_dim=32, channels_mlp_dim=128)
QUICK = ("--model=tiny", "--seconds=0.01", "--rounds=1", "--matmul_size=64")


def _run(*flags, **environment):
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)} | environment
    command = [sys.executable, str(ROOT / "recipes" / "benchmark.py"), *flags]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_a_training_step_is_measured_and_reported(tmp_path):
    result = _run(*QUICK, "--batch_sizes=2", "--mode=training", "--cores=1", f"--output={tmp_path}")
    assert result.returncode == 0, result.stderr
    report = json.loads((tmp_path / "speed.json").read_text())
    (row,) = report["rows"]
    flop = sum(cost_model.mixer_flop(16, TINY).values())
    assert row["gflop_per_image"] == pytest.approx(3 * flop / 1e9)
    assert row["facts"]["sizes"] == TINY
    assert row["share_of_peak"] == pytest.approx(row["gflops"] / report["matmul_gflops"]["float32"][0])
    assert row["images_per_second"] > 0 < row["compile_seconds"]
    assert row["peak_mib"] >= row["facts"]["built_mib"] >= row["facts"]["imports_mib"] > 50
    assert row["facts"]["device"].endswith(", 1 core")
    assert (tmp_path / "speed.md").read_text() in result.stdout
    assert "| training | 2 | keras_mixer graph |" in result.stdout
    assert "[1/1] training, batch 2" in result.stderr
    with Image.open(tmp_path / "speed.png") as image:
        assert image.width > 400
    assert {path.name for path in tmp_path.iterdir()} == {"speed.json", "speed.md", "speed.png"}


@pytest.mark.slow
def test_scaling_gives_a_slope(tmp_path):
    result = _run(*QUICK[:3], "--scaling", "--axes=pixels,width", "--sides=32,128", f"--output={tmp_path}")
    assert result.returncode == 0, result.stderr
    report = json.loads((tmp_path / "scaling.json").read_text())
    assert [row["axis"] for row in report["rows"]] == ["pixels"] * 2 + ["width"] * 4
    pixels, width = report["slopes"]
    assert 0.9 < pixels["gflop_per_batch"] < 1.0 < width["gflop_per_batch"] < 2.0


@pytest.mark.slow
def test_start_up_is_measured(tmp_path):
    result = _run("--start_up", "--model=s32", "--rounds=1", f"--output={tmp_path}")
    assert result.returncode == 0, result.stderr
    rows = json.loads((tmp_path / "start_up.json").read_text())["rows"]
    assert [row["name"] for row in rows] == ["import keras", "import keras_mixer", "build s32", "build and load s32"]
    assert rows[3]["added_mib"] > 60  # 76 MB of weights


@pytest.mark.backends
@pytest.mark.parametrize("peer", ["timm", "timm_compiled_bf16", "vit"])
def test_a_peer_is_measured_in_turn(tmp_path, peer):
    pytest.importorskip("timm")
    result = _run(*QUICK, "--batch_sizes=2", f"--compare={peer}", f"--output={tmp_path}")
    assert result.returncode == 0, result.stderr
    ours, theirs = json.loads((tmp_path / "speed.json").read_text())["rows"][:2]
    assert (theirs["name"], theirs["mode"]) == (peer, "inference")
    if peer != "vit":
        assert theirs["gflop_per_image"] == ours["gflop_per_image"]


@pytest.mark.backends
def test_jax_needs_no_tensorflow(tmp_path):
    pytest.importorskip("jax")
    (tmp_path / "tensorflow.py").write_text("raise ImportError('TensorFlow was imported')")
    result = _run(
        *QUICK, "--batch_sizes=2", f"--output={tmp_path}", KERAS_BACKEND="jax", PYTHONPATH=f"{ROOT}:{tmp_path}"
    )
    assert result.returncode == 0, result.stderr
    assert [row["name"] for row in json.loads((tmp_path / "speed.json").read_text())["rows"]] == ["keras_mixer xla"] * 2


@pytest.mark.parametrize(
    ("flag", "sentence"),
    [
        (
            "--batch_sizes=1,0",
            "batch_sizes: must be different whole numbers of at least 1, separated by commas,",
        ),
        ("--batch_sizes=", "batch_sizes: must be different whole numbers of at least 1, separated by commas, got ''"),
        ("--model=b17", "model: 'b17' is unknown; did you mean b16?"),
        ("--mode=test", "mode: must be inference, training or both, got 'test'."),
        ("--compile=fast", "compile: must be graph, xla or both, got 'fast'."),
        ("--precision=float16", "precision: must be float32, mixed_bfloat16 or bfloat16, got 'float16'."),
        ("--cores=2", "cores: must be 1 or all, got '2'."),
        ("--seconds=0", "seconds: must be positive, got 0.0."),
        ("--seconds=nan", "seconds: must be positive, got nan."),
        ("--compare=tim", "compare: 'tim' is unknown; use timm, vit, resnet or keras_vit"),
        ("--image_size=130", "image_size: the 32 px patches of s32 do not divide 130 px; use 128 or 160."),
        ("--axes=pixels", "axes: without --scaling a benchmark does not look at it; leave it out."),
        ("--compare=vit,vit", "compare: names one twice, 'vit,vit'."),
        ("--batches=1", "--batches is not a flag of this recipe; did you mean --batch_sizes? See --help."),
        ("b16", "'b16' is not a flag; flags are written --name=value. See --help."),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(tmp_path, flag, sentence):
    result = _run(flag, f"--output={tmp_path / 'out'}")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: {sentence}")
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--scaling", "--sides=32,130"], "sides: the 16 px patches of s16 do not divide 130 px; use 128 or 144."),
        (
            ["--scaling", "--compile=both"],
            "compile: --scaling measures one at a time, got 'both'; run it once for each.",
        ),
        (["--scaling", "--compare=timm"], "compare: --scaling draws a ViT beside the Mixer, got 'timm'; use vit or"),
        (["--start_up", "--precision=bfloat16"], "precision: --start_up does not look at it; leave it out."),
        (["--start_up", "--output="], "output: must name a folder, got an empty text."),
        (
            ["--output=/proc/no"],
            "output: cannot write to /proc/no (No such file or directory); choose another --output.",
        ),
        (["--input", "--model=b16"], "model: --input does not look at it; leave it out."),
    ],
)
def test_a_part_refuses_what_it_would_not_look_at(flags, sentence):
    result = _run(*flags)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: {sentence}")


def test_modes_exclude_each_other():
    assert (
        _run("--scaling", "--start_up").stderr == "error: start_up: give one of --scaling and --start_up at a time.\n"
    )


def test_graph_mode_is_refused_under_jax():
    result = _run("--compile=graph", KERAS_BACKEND="jax")
    assert (result.returncode, result.stderr) == (
        2,
        "error: compile: graph is TensorFlow's; under KERAS_BACKEND=jax use --compile=xla.\n",
    )


def test_a_missing_peer_names_the_extra(tmp_path):
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.base_exec_prefix}/bin/python3" -I -S "$@"\n')  # without any packages
    python.chmod(0o755)
    result = _run("--compare=timm", f"--peer_python={python}", f"--output={tmp_path}")
    assert result.returncode == 2
    assert "torch and timm not found; install with pip install 'keras_mixer[bench]', or name" in result.stderr
    result = _run("--compare=timm", "--peer_python=/nowhere/python")
    assert result.stderr.startswith("error: peer_python: /nowhere/python does not run (")
    assert result.returncode == 2
