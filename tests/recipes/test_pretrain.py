"""`recipes/pretrain.py` as users run it: in a process of its own, killed, resumed, interrupted, and given bad input."""

import csv
import functools
import html
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT
from trained import run_fresh, run_recipe, start_recipe

import keras_mixer

# Small enough for a test: 96 images, 12 steps.
SMALL = ["--train_split=train[:96]", "--eval_split=test[:50]", "--batch_size=16", "--total_steps=12", "--log_steps=4"]
SMALL += ["--checkpoint_steps=4", "--eval_steps=8", "--warmup_steps=2", "--dropout_rate=0.1"]


def _command(*flags):
    return [sys.executable, "recipes/pretrain.py", *flags]


def _run(*flags, check=True):
    return run_recipe("pretrain", *flags, check=check)


def _weights(folder):
    return keras.saving.load_model(folder / "model.keras").get_weights()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    return folder, _run(*SMALL, f"--workdir={folder}")


def test_all_promised_files_are_there_and_true(finished):
    folder, result = finished
    assert "python recipes/pretrain.py --help" in result.stdout  # what to try next
    run = json.loads((folder / "run.json").read_text())
    assert run["num_parameters"] == 75_530
    assert run["settings"]["class_names"] == list("0123456789")
    assert run["flags"]["batch_size"] == 16
    assert {"keras", "tensorflow", "keras_mixer"} <= run["versions"].keys()
    summary = json.loads((folder / "result.json").read_text())
    assert (summary["steps"], summary["images_seen"], summary["num_examples"]) == (12, 192, 50)
    assert summary["images_per_second"] > 0
    with open(folder / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["4", "8", "12"]
    assert [bool(row["eval_top1"]) for row in rows] == [False, True, True]
    assert float(rows[-1]["eval_top1"]) == pytest.approx(summary["top1"])
    events = [e for f in (folder / "tensorboard").iterdir() for e in tf.compat.v1.train.summary_iterator(str(f))]
    assert {v.tag for e in events for v in e.summary.value} >= {"train_loss", "learning_rate", "eval_top1"}
    assert {"dropout_rate": 0.1, "batch_size": 16.0}.items() <= _hyper_parameters(events).items()
    assert "compiling the training step ..." in result.stdout
    assert " of 12: about" not in result.stdout  # it is over sooner than it is worth saying


def _hyper_parameters(events):
    """What TensorBoard's plugin reads: name -> number or text."""
    from tensorboard.plugins.hparams import plugin_data_pb2

    value = next(v for e in events for v in e.summary.value if v.tag == "_hparams_/session_start_info")
    data = plugin_data_pb2.HParamsPluginData.FromString(value.metadata.plugin_data.content)
    values = data.session_start_info.hparams
    return {name: getattr(values[name], values[name].WhichOneof("kind")) for name in values}


def test_its_page_has_what_the_run_knows_and_says_what_it_does_not(finished):
    folder, result = finished
    assert f"All of it on one page: {folder / 'report.html'}\n" in result.stdout
    text, summary = (folder / "report.html").read_text(), json.loads((folder / "result.json").read_text())
    for key, form in (("top1", "{:.2%}"), ("top5", "{:.2%}"), ("loss", "{:.4f}"), ("images_seen", "{:,}")):
        assert f'value="{summary[key]}">{form.format(summary[key])}</data>' in text
    kept = json.loads((folder / "report.json").read_text())
    assert (len(kept["batch"]), len(kept["weights"])) == (16, 4)
    assert sum(kept["data"]["parts"]["training"]["per_class"]) == 96
    command = f"evaluate.py --weights={folder} --workdir={folder}_evaluate"
    assert html.escape(command).replace("&#x27;", "&#39;") in text


def test_final_model_has_the_reported_accuracy_by_a_second_count(finished):
    folder, _ = finished
    from keras_mixer.data import opening, pipeline

    model = keras.saving.load_model(folder / "model.keras")
    source = opening.open_source("digits", "test[:50]", training=False)
    images, labels, _ = next(iter(pipeline.eval_batches(source, batch_size=50, image_size=16)))
    predicted = model.predict(images, verbose=0).argmax(-1)
    assert (predicted == labels.numpy()).mean() == pytest.approx(
        json.loads((folder / "result.json").read_text())["top1"]
    )


def test_running_again_does_nothing_and_says_so(finished):
    folder, _ = finished
    before = (folder / "model.keras").stat().st_mtime_ns
    assert "is finished" in _run(*SMALL, f"--workdir={folder}").stdout
    assert (folder / "model.keras").stat().st_mtime_ns == before


@pytest.mark.slow
def test_killed_run_continues_to_the_same_weights(finished, tmp_path):
    process = subprocess.Popen(
        _command(*SMALL, f"--workdir={tmp_path}"), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("checkpoints/step_00000004.npz")) and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "result.json").exists()
    _run(*SMALL, f"--workdir={tmp_path}")
    for ours, theirs in zip(_weights(tmp_path), _weights(finished[0]), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    expected = json.loads((finished[0] / "result.json").read_text())
    resumed = json.loads((tmp_path / "result.json").read_text())
    assert [resumed[k] for k in ("top1", "top5", "loss")] == [expected[k] for k in ("top1", "top5", "loss")]


def test_two_mirrored_devices_give_the_weights_of_one(tmp_path, finished):
    """With dropout and stochastic depth, which draw for the whole batch however many devices share it."""
    _run(*SMALL, "--strategy=mirrored", "--num_devices=2", f"--workdir={tmp_path}")
    difference = max(np.abs(a - b).max() for a, b in zip(_weights(finished[0]), _weights(tmp_path), strict=True))
    print(f"largest difference {difference:.1e}")
    # AdamW turns rounding into steps of the size of the rate where a gradient is nearly zero; measured 2.4e-6.
    assert difference < 1e-4


def test_many_flags_together(tmp_path):
    flags = ["--ema_decay=0.9", "--gradient_accumulation_steps=2", "--steps_per_execution=3", "--optimizer=sgd"]
    flags += ["--schedule=cosine", "--freeze=stem", "--first_moment_dtype=bfloat16"]
    flags += ["--rescale_stochastic_depth", "--clip_norm=0.5", "--keep_checkpoints=1", "--eval_steps=6"]
    result = _run(*SMALL, *flags, f"--workdir={tmp_path}")
    assert "ema top1" in result.stdout

    summary = json.loads((tmp_path / "result.json").read_text())
    assert {"top1", "top5", "loss", "raw_top1", "raw_top5", "raw_loss"} <= summary.keys()
    assert summary["loss"] != summary["raw_loss"]
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step_00000012.npz"]

    with open(tmp_path / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["6", "9", "12"]  # ends of executions at or after multiples of 4 or 6
    assert float(rows[-1]["ema_top1"]) == pytest.approx(summary["top1"])
    assert float(rows[-1]["eval_top1"]) == pytest.approx(summary["raw_top1"])
    assert [bool(row["ema_loss"]) for row in rows] == [True, False, True]
    assert all(float(row["gradient_norm"]) > 0 and float(row["weight_norm"]) > 0 for row in rows)
    assert float(rows[-1]["learning_rate"]) == pytest.approx(3e-3 * 0.5 * (1 + np.cos(0.9 * np.pi)), rel=1e-5)

    events = [e for f in (tmp_path / "tensorboard").iterdir() for e in tf.compat.v1.train.summary_iterator(str(f))]
    tags = {v.tag for e in events for v in e.summary.value}
    assert tags >= {"train_loss", "gradient_norm", "weight_norm", "ema_top1"}
    assert any(tag.startswith("training_images") for tag in tags)

    model = keras.saving.load_model(tmp_path / "model.keras")  # holds the average, and that the stem was frozen
    assert [layer.name for layer in model.layers if not layer.trainable] == ["stem"]
    with np.load(tmp_path / "checkpoints" / "step_00000012.npz") as archive:
        averages = [archive[n] for n in sorted(archive.files) if n.startswith("optimizer/") and "average" in n]
        traces = [archive[n] for n in archive.files if n.startswith("optimizer/") and n.endswith("_trace")]
    for weight, average in zip(model.trainable_variables, averages, strict=True):
        np.testing.assert_array_equal(np.asarray(weight), average)
    assert len(traces) == len(averages)
    assert all((trace.view("uint32") & 0xFFFF == 0).all() for trace in traces)  # bfloat16, widened
    assert any(trace.any() for trace in traces)


def test_bfloat16_sigmoid_and_a_folder(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(20):
            jpeg = tf.io.encode_jpeg(rng.integers(0, 256, (40 + i, 50, 3), np.uint8)).numpy()
            (tmp_path / "images" / name / f"{i}.jpg").write_bytes(jpeg)
    flags = [f"--dataset={tmp_path / 'images'}", "--batch_size=8", "--epochs=1", "--precision=mixed_bfloat16"]
    flags += ["--loss=sigmoid", "--randaugment_magnitude=10", "--image_size=32", f"--workdir={tmp_path / 'run'}"]
    _run(*flags)
    model = keras.saving.load_model(tmp_path / "run" / "model.keras")
    assert model.get_layer("block_0").compute_dtype == "bfloat16"
    assert np.asarray(model.get_layer("head").bias).max() < -6  # started at -6.9
    summary = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (summary["steps"], summary["num_examples"]) == (4, 4)


def test_weights_start_from_a_checkpoint(tmp_path, finished):
    model = keras.saving.load_model(finished[0] / "model.keras")
    keras_mixer.save_checkpoint(model, tmp_path / "start.npz")
    flags = [*SMALL, "--learning_rate=1e-30", "--weight_decay=0", f"--weights={tmp_path / 'start.npz'}"]
    _run(*flags, f"--workdir={tmp_path / 'run'}")
    for ours, theirs in zip(_weights(tmp_path / "run"), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_nan_exits_non_zero_names_the_step_and_keeps_a_good_state(tmp_path):
    result = _run(*SMALL, "--learning_rate=1e30", "--warmup_steps=0", f"--workdir={tmp_path}", check=False)
    assert result.returncode == 3
    assert "at step" in result.stderr or "step " in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    newest = sorted((tmp_path / "checkpoints").iterdir())[-1]
    with np.load(newest) as archive:
        assert all(np.isfinite(archive[n]).all() for n in archive.files if n.startswith("model/"))
    assert not (tmp_path / "result.json").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--image_size=30"], "image_size: the image height 30 is not a positive multiple of the patch size 4"),
        (["--batch_size=0"], "batch_size: must be a positive number of images, got 0"),
        (["--batch_size=5000"], "fewer than a batch of 5000; use a smaller --batch_size"),
        (["--model=b15"], "model: 'b15' is unknown; did you mean b16"),
        (["--dataset=digit"], "'digit' is not digits, a folder or a TFDS name; did you mean digits"),
        (["--learning_rat=1"], "--learning_rat is not a flag of this recipe; did you mean --learning_rate?"),
        (["--batch_size=many"], "batch_size"),
        (["train"], "'train' is not a flag; flags are written --name=value"),
        (["--loss=mse"], "loss: must be 'softmax' or 'sigmoid', got 'mse'"),
        (["--preset=imagenet1k"], "preset: imagenet1k is a recipe for Mixer-B, Mixer-L only, not for tiny"),
        (["--strategy=tpus"], "strategy: must be one of auto, one_device, mirrored, multi_worker, tpu, got 'tpus'"),
        (["--precision=float16"], "precision: must be float32 or mixed_bfloat16, got 'float16'"),
        (["--warmup_steps=99", "--total_steps=9"], "warmup_steps: 99 must be at least 0 and less than total_steps, 9"),
        (["--total_steps=0"], "total_steps: must be a positive number of steps, got 0"),
        (["--checkpoint_steps=0"], "checkpoint_steps: must be a positive number of steps, got 0"),
        (["--mixup_alpha=-1"], "mixup_alpha: must be a number that is not negative, got -1"),
        (["--learning_rate=inf"], "learning_rate: must be a positive number, got inf"),
        (["--weight_decay=nan"], "weight_decay: must be a number that is not negative, got nan"),
        (["--epochs=nan"], "epochs: must be a positive number, got nan"),
        (["--head_bias_init=nan"], "head_bias_init: must be a finite number for a new head, got nan"),
        (["--seed=-1"], "seed: must be at least 0 and below 2**31, got -1"),
        (["--dataset="], "dataset: must be digits, a folder or a TFDS name, got an empty text"),
        (["--train_split=train[:200%]"], "split: 'train[:200%]' reaches beyond the 1,437 images"),
        (["--num_devices=2"], "num_devices: 2 needs --strategy=mirrored, got auto"),
        (["--strategy=mirrored", "--num_devices=3"], "batch_size: 64 cannot be shared evenly by 3 devices"),
        (["--strategy=multi_worker"], "strategy: multi_worker needs the environment variable TF_CONFIG, for example {"),
        (["--tpu=local"], "tpu: 'local' needs --strategy=tpu, got auto"),
        (["--optimizer=adam"], "optimizer: must be 'adamw' or 'sgd', got 'adam'"),
        (["--optimizer=sgd", "--weight_decay=0.1"], "weight_decay: heavy-ball SGD is used without, got 0.1; use 0"),
        (["--schedule=step"], "schedule: must be linear or cosine, got 'step'"),
        (["--clip_norm=-1"], "clip_norm: must be a number that is not negative, got -1.0; use 0 for never"),
        (["--clip_norm=nan"], "clip_norm: must be a number that is not negative, got nan"),
        (["--ema_decay=1"], "ema_decay: must be a fraction in (0, 1), got 1.0; leave it out for no average"),
        (["--ema_decay=nan"], "ema_decay: must be a fraction in (0, 1), got nan"),
        (["--first_moment_dtype=float16"], "first_moment_dtype: must be 'float32' or 'bfloat16', got 'float16'"),
        (["--freeze=sten"], "freeze: no layer with weights is called 'sten'; did you mean stem?"),
        (["--freeze=*"], "freeze: * leaves nothing to train; leave out at least one layer"),
        (["--rematerialize", "--dropout_rate=0.1"], "rematerialize"),
        (["--rescale_stochastic_depth=maybe"], "rescale_stochastic_depth"),
        (["--gradient_accumulation_steps=0"], "gradient_accumulation_steps: must be a positive number of steps, got 0"),
        (["--gradient_accumulation_steps=-2"], "gradient_accumulation_steps: must be a positive number of steps"),
        (["--gradient_accumulation_steps=3"], "the 64 images of a device cannot be divided into 3 equal parts"),
        (["--steps_per_execution=0"], "steps_per_execution: must be a positive number of steps, got 0"),
        (["--keep_checkpoints=0"], "keep_checkpoints: must be a positive number of"),
        (["--log_steps=0"], "log_steps: must be a positive number of steps, got 0"),
        (["--eval_steps=-1"], "eval_steps: must be a positive number of steps, got -1"),
    ],
    ids=lambda v: v[0] if isinstance(v, list) else "",
)
def test_bad_input_is_one_sentence_and_exit_code_2(tmp_path, flags, message):
    workdir = tmp_path / "run"
    result = run_recipe("pretrain", *flags, f"--workdir={workdir}", check=False)
    assert result.returncode == 2, result.stderr
    assert message in result.stderr
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.strip().splitlines()) == 1
    assert not workdir.exists()  # nothing half written


@pytest.mark.parametrize(
    "flags", [["--learning_rat=1"], ["--loss=mse"], ["--train_split=train[:200%]"], ["--freeze=sten"]]
)
def test_a_copied_process_says_what_a_new_one_does(tmp_path, flags):
    """Of each kind of bad input, one, in a process started as users start it."""
    flags = [*flags, f"--workdir={tmp_path / 'run'}"]
    new, copied = run_fresh("pretrain", *flags, cwd=ROOT), _run(*flags, check=False)
    assert (copied.returncode, copied.stdout, copied.stderr) == (new.returncode, new.stdout, new.stderr)


def test_a_new_process_trains_what_a_copied_one_does(finished, tmp_path):
    """The one run of this file that is started as users start it."""
    result = run_fresh("pretrain", *SMALL, f"--workdir={tmp_path}", cwd=ROOT)
    assert result.returncode == 0, result.stderr
    for ours, theirs in zip(_weights(tmp_path), _weights(finished[0]), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_workdir_of_another_configuration_is_refused_and_kept(finished):
    folder, _ = finished
    before = {p.name: p.stat().st_mtime_ns for p in folder.iterdir() if p.name != ".lock"}
    result = _run(*SMALL, "--seed=5", f"--workdir={folder}", check=False)
    assert result.returncode == 2
    assert "holds a run with other settings (seed was 0 and is 5)" in result.stderr
    assert {p.name: p.stat().st_mtime_ns for p in folder.iterdir() if p.name != ".lock"} == before


def test_changed_data_is_another_run(finished):
    folder, _ = finished
    flags = [flag for flag in SMALL if "train_split" not in flag]
    result = _run(*flags, "--train_split=train[:97]", f"--workdir={folder}", check=False)
    assert result.returncode == 2
    assert "train_images was 96 and is 97" in result.stderr


def test_an_interrupted_run_says_so_and_continues_to_the_same_weights(finished, tmp_path):
    process = start_recipe("pretrain", *SMALL, f"--workdir={tmp_path}")
    deadline = time.monotonic() + 120
    while not (tmp_path / "metrics.csv").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    asked, stopped = errors.strip().splitlines()
    assert asked == "SIGINT: saving after this step; once more exits at once."
    found = re.fullmatch(
        r"error: stopped by SIGINT at step (\d+); everything is saved, and the same command continues\.", stopped
    )
    assert found, stopped
    assert (tmp_path / "checkpoints" / f"step_{int(found[1]):08d}.npz").exists()
    assert not (tmp_path / "result.json").exists()
    _run(*SMALL, f"--workdir={tmp_path}")
    assert json.loads((tmp_path / "result.json").read_text())["resumed_at_step"] == int(found[1])
    for ours, theirs in zip(_weights(tmp_path), _weights(finished[0]), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_an_interruption_before_training_is_one_sentence(tmp_path):
    """While it waits for weights from a server that says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(120)
        flags = [f"--weights=http://127.0.0.1:{server.getsockname()[1]}/weights.npz", f"--workdir={tmp_path / 'run'}"]
        environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "KERAS_HOME": str(tmp_path)}
        process = subprocess.Popen(
            _command(*SMALL, *flags),
            cwd=ROOT,
            env=environment,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            # A shell that starts the tests in the background lets them, and so the recipe, ignore it.
            preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        )
        connection, _ = server.accept()
        with connection:
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.strip() == "error: interrupted; the same command starts again, a run from its newest checkpoint."
    assert not (tmp_path / "run").exists()


def test_another_keras_backend_is_one_sentence():
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    result = subprocess.run(_command(), capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("error: KERAS_BACKEND: the recipes train with tensorflow")


def test_workdir_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    result = _run(*SMALL, f"--workdir={tmp_path / 'file' / 'run'}", check=False)
    assert result.returncode == 2
    assert "workdir: cannot write to" in result.stderr


def test_unreadable_image_is_named(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(8):
            png = tf.io.encode_png(np.full((9, 9, 3), i, np.uint8)).numpy()
            (tmp_path / "images" / name / f"{i}.png").write_bytes(png)
    bad = tmp_path / "images" / "b" / "3.png"
    bad.write_bytes(bad.read_bytes()[:30])
    flags = [f"--dataset={tmp_path / 'images'}", "--batch_size=7", "--image_size=16", "--epochs=4"]
    result = _run(*flags, f"--workdir={tmp_path / 'run'}", check=False)
    assert result.returncode == 2
    assert f"{bad} cannot be decoded as an image" in result.stderr
    assert "or start with --overwrite and --on_bad_image=skip." in result.stderr

    flags.append("--on_bad_image=skip")
    result = _run(*flags, f"--workdir={tmp_path / 'too_many'}", check=False)  # 1 of 16 is more than 1 %
    assert result.returncode == 2
    assert "above --max_bad_fraction=0.01" in result.stderr
    result = _run(*flags, "--max_bad_fraction=0.1", f"--workdir={tmp_path / 'skipped'}")
    assert "1 of 14 images cannot be read and are left out" in result.stderr
    assert json.loads((tmp_path / "skipped" / "run.json").read_text())["settings"]["train_images"] == 13


def test_help_explains_every_flag():
    result = _run("--help")
    for flag in ("--preset", "--workdir", "--mixup_alpha", "--strategy", "--[no]overwrite"):
        assert flag in result.stdout
    assert "python recipes/pretrain.py" in result.stdout


FLAGS = """alpha antialias augmentation batch_size channels checkpoint_steps clip_norm crop_area crop_aspect
cutmix_alpha data_dir dataset dropout_rate dry_run ema_decay epochs eval_split eval_steps exact_decoding exif_rotation
first_moment_dtype flip_rate freeze gradient_accumulation_steps head_bias_init image_size keep_checkpoints
label_smoothing learning_rate log_steps loss manual_dir max_bad_fraction mixup_alpha model num_devices on_bad_image
optimizer overwrite permutation permutation_seed precision preset randaugment_magnitude
random_erasing_rate rematerialize rescale_stochastic_depth schedule seed split_seed steps_per_execution
stochastic_depth_rate strategy total_steps tpu train_split warmup_steps weight_decay weights workdir"""


def test_the_flag_set_is_deliberate(finished):
    run = json.loads((finished[0] / "run.json").read_text())
    assert sorted(run["flags"]) == FLAGS.split()


def test_nothing_temporary_is_left(finished):
    assert not [p for p in finished[0].rglob("*") if p.name.endswith(".tmp") or ".tmp." in p.name]
