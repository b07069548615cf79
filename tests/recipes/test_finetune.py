"""`recipes/finetune.py` as users run it: their own folder, another size, probes and adapters, the sweep, bad input."""

import csv
import json
import shlex
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tiny import write_checkpoint
from trained import ROOT, run_recipe, trained_run

import keras_mixer


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    return trained_run(tmp_path_factory)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """200 real pictures in 5 class folders: the digits 5 to 9 of other writers than the pretrained model saw."""
    from sklearn.datasets import load_digits

    root = tmp_path_factory.mktemp("pictures")
    data = load_digits()
    for digit in range(5, 10):
        (root / f"digit_{digit}").mkdir()
        for i, row in enumerate(np.flatnonzero(data.target == digit)[:40]):
            image = np.repeat(np.round(data.images[row] * 255 / 16).astype(np.uint8)[:, :, None], 3, axis=-1)
            (root / f"digit_{digit}" / f"{i:02d}.png").write_bytes(tf.io.encode_png(image).numpy())
    return root


@pytest.fixture(scope="module")
def finished(tmp_path_factory, pretrained, folder):
    workdir = tmp_path_factory.mktemp("finetuned") / "run"
    flags = [f"--weights={pretrained}", f"--dataset={folder}", "--total_steps=60", f"--workdir={workdir}"]
    return workdir, run_recipe("finetune", *flags)


def test_one_short_command_makes_a_classifier_of_a_folder(finished):
    workdir, process = finished
    result = json.loads((workdir / "result.json").read_text())
    assert result["num_examples"] == 20  # a tenth of each class
    assert result["top1"] >= 0.6  # chance is 0.2
    assert json.loads((workdir / "run.json").read_text())["settings"]["class_names"] == [
        f"digit_{i}" for i in range(5, 10)
    ]
    for name in ("confusion.png", "mistakes.csv", "classes.csv", "model.keras"):
        assert (workdir / name).stat().st_size, name
        assert name == "model.keras" or name in process.stdout
    assert "compiling the training step ..." in process.stdout
    with Image.open(workdir / "curves.png") as picture:
        assert picture.width > 500
    events = [e for f in (workdir / "tensorboard").iterdir() for e in tf.compat.v1.train.summary_iterator(str(f))]
    tags = {v.tag for e in events for v in e.summary.value}
    assert tags >= {"confusion", "mistakes", "train_loss", "_hparams_/session_start_info"}


def test_what_it_says_to_do_next_runs(finished, tmp_path):
    workdir, process = finished
    lines = process.stdout.split("Next:\n")[1].splitlines()
    assert [line.split()[0] for line in lines] == ["python", "python", "python", "python", "tensorboard"]
    assert (workdir / "curves.png").exists()
    predict, evaluate, export, plot = (shlex.split(line, comments=True)[1:] for line in lines[:4])
    assert export == ["recipes/export.py", f"--weights={workdir}", "--formats=saved_model,web"]
    run_recipe("export", *export[1:], f"--output={tmp_path / 'served'}")
    assert (tmp_path / "served" / "web" / "index.html").exists()
    run_recipe("plot", *plot[1:], f"--output={tmp_path / 'curves.png'}")
    assert predict[0] == "recipes/predict.py"
    assert "digit_" in run_recipe("predict", *predict[1:]).stdout  # one of the pictures of the folder
    assert evaluate[0] == "recipes/evaluate.py"
    run_recipe("evaluate", *evaluate[1:], f"--workdir={tmp_path}", "--nopictures")
    results = [json.loads((folder / "result.json").read_text()) for folder in (workdir, tmp_path)]
    assert results[0]["top1"] == results[1]["top1"]


def test_its_page_is_of_this_run(finished, folder):
    workdir, process = finished
    assert f"{workdir / 'report.html'}" in process.stdout
    assert "could not be written" not in process.stderr
    text, result = (workdir / "report.html").read_text(), json.loads((workdir / "result.json").read_text())
    assert f'value="{result["top1"]}">{result["top1"]:.2%}</data>' in text
    about = json.loads((workdir / "run.json").read_text())
    assert about["command"][0] == "finetune"
    assert "--total_steps=60" in about["command"]
    assert about["defaults"]["dataset"] == "digits"
    kept = json.loads((workdir / "report.json").read_text())
    assert kept["data"]["parts"]["training"]["per_class"] == [36] * 5
    assert len(kept["batch"]) == 16
    assert {one["file"].split("/")[0] for one in kept["hits"]} <= {f"digit_{i}" for i in range(5, 10)}
    for title in ("top-1", "loss", "learning rate", "gradient norm"):
        assert f"<figcaption>{title}</figcaption>" in text
    assert f"recipes/evaluate.py --weights={workdir} --workdir={workdir}_evaluate" in text
    assert 'class="missing"' not in text


@pytest.mark.slow
def test_two_devices_learn_what_one_does(tmp_path, finished, pretrained, folder):
    flags = [f"--weights={pretrained}", f"--dataset={folder}", "--total_steps=60", f"--workdir={tmp_path / 'run'}"]
    run_recipe("finetune", *flags, "--strategy=mirrored", "--num_devices=2")
    one, two = (keras.saving.load_model(run / "model.keras").weights for run in (finished[0], tmp_path / "run"))
    difference = max(np.abs(a.numpy() - b.numpy()).max() for a, b in zip(one, two, strict=True))
    assert difference <= 1e-5, difference


def test_the_head_starts_at_zero_and_the_body_is_the_checkpoint(tmp_path, pretrained):
    """Also where the checkpoint's head has as many classes."""
    flags = [f"--weights={pretrained}", "--dataset=digits", "--train_split=train[:64]", "--total_steps=1"]
    run_recipe("finetune", *flags, "--learning_rate=1e-30", f"--workdir={tmp_path / 'run'}")
    before = keras.saving.load_model(pretrained / "model.keras")
    after = keras.saving.load_model(tmp_path / "run" / "model.keras")
    for old, new in zip(before.weights, after.weights, strict=True):
        if old.path.startswith("head"):
            assert np.abs(new.numpy()).max() < 1e-20 < np.abs(old.numpy()).max()
        else:
            np.testing.assert_array_equal(new.numpy(), old.numpy())


def test_twice_the_size_starts_from_the_papers_token_mlps(tmp_path, pretrained):
    flags = [f"--weights={pretrained}", "--dataset=digits", "--train_split=train[:64]", "--total_steps=1"]
    run_recipe("finetune", *flags, "--learning_rate=1e-30", "--image_size=32", f"--workdir={tmp_path / 'run'}")
    after = keras.saving.load_model(tmp_path / "run" / "model.keras")
    sizes = dict(patch_size=4, num_blocks=4, hidden_dim=64, tokens_mlp_dim=32, channels_mlp_dim=128)
    expected = keras_mixer.MLPMixer(**sizes, weights=pretrained / "model.keras", input_shape=(32, 32, 3))
    for old, new in zip(expected.weights, after.weights, strict=True):
        if not old.path.startswith("head"):
            np.testing.assert_array_equal(new.numpy(), old.numpy())


@pytest.mark.parametrize("flag", ["--linear_probe", "--lora_rank=2"])
def test_probes_and_adapters_leave_the_rest_alone(tmp_path, pretrained, folder, flag):
    flags = [f"--weights={pretrained}", f"--dataset={folder}", "--total_steps=4", f"--workdir={tmp_path / 'run'}"]
    run_recipe("finetune", *flags, "--learning_rate=0.5", "--ema_decay=0.5", "--mixup_alpha=0.2", flag)
    before = keras.saving.load_model(pretrained / "model.keras")
    after = keras.saving.load_model(tmp_path / "run" / "model.keras")
    changed = {
        old.path
        for old, new in zip(before.weights, after.weights, strict=True)
        if not old.path.startswith("head") and (old.numpy() != new.numpy()).any()
    }
    if flag == "--linear_probe":
        assert not changed
    else:
        assert changed == {v.path for v in before.weights if "_mixing/" in v.path and v.path.endswith("kernel")}
    assert np.abs(after.get_layer("head").kernel.numpy()).max() > 0


@pytest.mark.slow
def test_the_sweep_is_resumed_where_it_was_killed(tmp_path, pretrained, folder):
    flags = [f"--weights={pretrained}", f"--dataset={folder}", "--total_steps=8", f"--workdir={tmp_path / 'sweep'}"]
    flags += ["--sweep", "--learning_rates=0.0001,0.05", "--seeds=0,1"]
    command = [sys.executable, "recipes/finetune.py", *flags]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    first = tmp_path / "sweep" / "develop" / "learning_rate_0.0001" / "result.json"
    deadline = time.monotonic() + 200
    while not first.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=100) in (143, 128 + 15)
    kept = first.stat().st_mtime_ns
    output = run_recipe("finetune", *flags).stdout
    assert first.stat().st_mtime_ns == kept
    result = json.loads((tmp_path / "sweep" / "result.json").read_text())
    assert result["development_top1"].keys() == {"0.0001", "0.05"}
    scores = {float(rate): score for rate, score in result["development_top1"].items()}
    assert result["learning_rate"] == max(scores, key=scores.get)
    scores = list(result["top1_by_seed"].values())
    assert len(scores) == 2
    assert result["top1"] == pytest.approx(np.mean(scores))
    assert result["top1_deviation"] == pytest.approx(np.std(scores))
    assert f"best {result['learning_rate']:g}" in output
    develop = json.loads((first.parent / "run.json").read_text())["settings"]
    assert develop["train_images"] + develop["eval_images"] == 180
    final = json.loads((tmp_path / "sweep" / "final" / "seed_1" / "run.json").read_text())["settings"]
    assert (final["train_images"], final["eval_images"], final["seed"]) == (180, 20, 1)


def test_the_authors_trajectory_through_the_recipe(golden, tmp_path):
    """Their fine-tuning run of 24 steps on eight images, as a TFDS dataset, by the recipe's own flags."""
    import tensorflow_datasets as tfds

    examples = [{"image": image, "label": int(k)} for image, k in zip(golden["images"], golden["labels"], strict=True)]
    data = tf.data.Dataset.from_generator(
        lambda: examples,
        output_signature={"image": tf.TensorSpec((32, 32, 3), tf.uint8), "label": tf.TensorSpec((), tf.int64)},
    )
    tfds.dataset_builders.store_as_tfds_dataset(
        name="eight_images",
        version="1.0.0",
        features=tfds.features.FeaturesDict(
            {"image": tfds.features.Image(shape=(32, 32, 3)), "label": tfds.features.ClassLabel(num_classes=10)}
        ),
        split_datasets={"train": data, "test": data},
        data_dir=tmp_path / "tfds",
    )
    write_checkpoint(golden, tmp_path / "start.npz")
    flags = [f"--weights={tmp_path / 'start.npz'}", "--keep_head", "--dataset=eight_images", "--augmentation=none"]
    flags += ["--batch_size=8", "--total_steps=24", "--warmup_steps=6", "--learning_rate=0.03", "--log_steps=1"]
    run_recipe("finetune", *flags, f"--data_dir={tmp_path / 'tfds'}", f"--workdir={tmp_path / 'run'}")

    with open(tmp_path / "run" / "metrics.csv", newline="") as file:
        loss = np.array([float(row["train_loss"]) for row in csv.DictReader(file)])
    loss_difference = np.abs(loss - golden["train/finetune_softmax/loss"]).max()
    keras_mixer.save_checkpoint(keras.saving.load_model(tmp_path / "run" / "model.keras"), tmp_path / "final.npz")
    with np.load(tmp_path / "final.npz") as final:
        weight_difference = max(
            np.abs(final[name] - golden[f"train/finetune_softmax/final/{name}"]).max() for name in final.files
        )
    print(f"loss {loss_difference:.1e}, weights {weight_difference:.1e}")
    assert loss_difference < 1e-6
    assert weight_difference < 1e-6


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--weights=nowhere.npz"], "weights: there is no file 'nowhere.npz'"),
        (["--weights=imagenet21k"], "model: weights imagenet21k need one; give --model, one of b16"),
        (["--model=b16"], "is not of the model b16 but of"),
        (["--task=pet"], "task"),
        (["--task=pets", "--dataset=digits"], "task: pets sets --dataset and its splits"),
        (["--total_steps=0"], "total_steps: must be a positive number of steps, got 0"),
        (["--linear_probe", "--lora_rank=2"], "lora_rank: cannot be combined with --linear_probe"),
        (["--lora_rank=0"], "lora_rank: must be a positive number, got 0"),
        (["--image_size=30"], "input_shape: the image height 30"),
        (["--development", "--train_split=train[:50%]"], "train_split: --development divides a whole split"),
        (["--sweep", "--learning_rate=0.1"], "learning_rate: --sweep chooses it"),
        (["--seeds=0,1"], "seeds: needs --sweep; without it use --seed"),
        (["--development_fraction=1.5", "--development"], "development_fraction: must be in (0, 1), got 1.5"),
        (["--sweep", "--learning_rates=0.1,fast"], "learning_rates: must be different numbers"),
        (
            ["--sweep", "--seeds=1,1"],
            "seeds: must be different whole numbers of at least 0, separated by commas, got '1,1'",
        ),
        (["--crop=middle"], "crop: must be resmall, resize or none, got 'middle'"),
    ],
    ids=lambda v: v[0] if isinstance(v, list) else "",
)
def test_bad_input_is_one_sentence_and_exit_code_2(tmp_path, pretrained, flags, message):
    given = [] if any(flag.startswith("--weights") for flag in flags) else [f"--weights={pretrained}"]
    result = run_recipe("finetune", *given, *flags, f"--workdir={tmp_path / 'run'}", check=False)
    assert result.returncode == 2, result.stderr
    assert message in result.stderr
    assert len([line for line in result.stderr.strip().splitlines() if not line.startswith("INFO")]) == 1
    assert not (tmp_path / "run" / "run.json").exists()


def test_a_development_split_that_leaves_classes_out_is_refused(tmp_path, pretrained, folder):
    flags = [f"--weights={pretrained}", f"--dataset={folder}", "--development", "--development_fraction=0.99"]
    result = run_recipe("finetune", *flags, f"--workdir={tmp_path / 'run'}", check=False)
    assert result.returncode == 2
    assert "train[:1%] has no image of" in result.stderr
