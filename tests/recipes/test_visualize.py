"""`recipes/visualize.py` as users run it, and the flag --permutation through the recipes."""

import json
import re
import shutil

import keras
import numpy as np
import pytest
from PIL import Image
from trained import run_recipe

import keras_mixer
from keras_mixer.data import opening, permutations, pipeline


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A short run on digits whose pixels are permuted."""
    folder = tmp_path_factory.mktemp("permuted") / "run"
    flags = ["--total_steps=30", "--warmup_steps=2", "--learning_rate=0.01", "--mixup_alpha=0"]
    run_recipe("pretrain", *flags, "--permutation=global", "--permutation_seed=3", f"--workdir={folder}")
    return folder


def _files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_by_default_the_first_three_blocks_and_the_stem(run, tmp_path):
    out = tmp_path / "new" / "pictures"
    process = run_recipe("visualize", f"--weights={run}", f"--output={out}", check=False)
    assert process.stderr == ""
    assert process.stdout.splitlines() == [
        *(f"{out}/block_{i}.png: 32 hidden units, one weight for each of 4 x 4 patches." for i in range(3)),
        f"{out}/side_by_side.png: 32 hidden units of each of the blocks 0, 1, 2, from left to right, each beside the "
        "one closest to its inverse.",
        f"{out}/stem.png: 64 units, each a patch of 4 x 4 pixels in red, green and blue.",
    ]
    assert _files(out) == ["block_0.png", "block_1.png", "block_2.png", "side_by_side.png", "stem.png"]
    for path in out.iterdir():
        with Image.open(path) as image:
            assert min(image.size) > 300


def test_any_file_and_blocks_give_the_same_pictures(run, tmp_path):
    npz = tmp_path / "mixer.npz"
    keras_mixer.save_checkpoint(keras.saving.load_model(run / "model.keras"), npz)
    copy = shutil.copy(run / "model.keras", tmp_path / "copy.keras")
    seen = []
    for i, weights in enumerate((npz, copy)):
        out = tmp_path / str(i)
        process = run_recipe(
            "visualize", f"--weights={weights}", "--blocks=3,1,1", "--units=10", f"--output={out}", check=False
        )
        assert process.returncode == 0, process.stderr
        assert "block_1.png: 10 of 32 hidden units" in process.stdout
        assert _files(out) == ["block_1.png", "block_3.png", "side_by_side.png", "stem.png"]
        with Image.open(out / "block_3.png") as image:
            seen.append(np.asarray(image)[100:])  # below the name in the caption
    np.testing.assert_array_equal(*seen)


def test_a_rectangle_is_known_from_the_file_or_given(tmp_path):
    sizes = dict(patch_size=4, num_blocks=1, hidden_dim=8, tokens_mlp_dim=6, channels_mlp_dim=8)
    model = keras_mixer.MLPMixer(**sizes, input_shape=(8, 12, 3), classes=2)
    keras_mixer.save_checkpoint(model, tmp_path / "noted.npz")
    with np.load(tmp_path / "noted.npz") as arrays:
        np.savez(tmp_path / "plain.npz", **arrays)
    out = tmp_path / "out"
    process = run_recipe("visualize", f"--weights={tmp_path}/noted.npz", f"--output={out}", check=False)
    assert "block_0.png: 6 hidden units, one weight for each of 2 x 3 patches." in process.stdout, process.stderr
    process = run_recipe(
        "visualize", f"--weights={tmp_path}/plain.npz", f"--output={out}", "--blocks=all", "--grid=3,2", check=False
    )
    assert "block_0.png: 6 hidden units, one weight for each of 3 x 2 patches." in process.stdout, process.stderr
    process = run_recipe(
        "visualize", f"--weights={tmp_path}/noted.npz", f"--output={tmp_path / 'no'}", "--grid=3,2", check=False
    )
    assert "noted.npz says that its patches are 2 x 3, got 3 x 2; leave --grid out." in process.stderr
    assert process.returncode == 2
    for grid, message in (([], "6 patches, which form no square, and does not say"), (["--grid=2,2"], "has 4 patches")):
        process = run_recipe(
            "visualize", f"--weights={tmp_path}/plain.npz", f"--output={tmp_path / 'no'}", *grid, check=False
        )
        assert (process.returncode, process.stderr.count("\n")) == (2, 1)
        assert message in process.stderr
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--blocks=0,4"], r"blocks: must be numbers from 0 to 3, the blocks of .*run, or all, got '0,4'\."),
        (["--blocks="], r"blocks: must be numbers from 0 to 3, .*, got ''\."),
        (["--units=0"], r"units: must be a positive number, got 0\."),
        (["--grid=4"], r"grid: must be rows,columns of patches, two positive numbers, got '4'; write --grid=7,14\."),
        (["--output="], r"output: must name a folder, got an empty text\."),
        (["--output=/proc"], r"output: cannot write to /proc \(.*\); choose another --output\."),
        (["--output={file}"], r"output: cannot write to .*file \(File exists\); choose another --output\."),
        (["--weights=none.npz"], r"weights: there is no file 'none\.npz'\."),
        (["--weights=imagenet21k"], r"model: weights imagenet21k need one; give --model, one of b16, .*"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(run, tmp_path, flags, message):
    (tmp_path / "file").touch()
    flags = [flag.format(file=tmp_path / "file") for flag in flags]
    process = run_recipe("visualize", f"--weights={run}", f"--output={tmp_path / 'out'}", *flags, check=False)
    assert process.returncode == 2
    assert re.fullmatch(f"error: {message}\n", process.stderr), process.stderr
    assert _files(tmp_path) == ["file"]


# ---- --permutation ----


def _result(folder):
    return json.loads((folder / "result.json").read_text())


def test_a_run_notes_its_permutation_and_evaluates_with_it(run):
    settings = json.loads((run / "run.json").read_text())["settings"]
    assert (settings["permutation"], settings["permutation_seed"]) == ("global", 3)
    model = keras.saving.load_model(run / "model.keras")
    source = opening.open_source("digits", training=False)
    images, labels, _ = next(iter(pipeline.eval_batches(source, batch_size=360, image_size=16)))
    order = permutations.draw_order("global", 16, 4, 3)
    top1 = [
        float(np.mean(model.predict(x, verbose=0).argmax(-1) == labels))
        for x in (permutations.permute(images.numpy(), order), images.numpy())
    ]
    assert top1[0] == pytest.approx(_result(run)["top1"], abs=1e-6)
    assert top1[0] > top1[1] + 0.2  # measured 0.82 and 0.10


def test_recipes_of_trained_weights_permute_as_their_run_did(run, tmp_path):
    run_recipe("evaluate", f"--weights={run}", f"--workdir={tmp_path}", "--nopictures")
    assert _result(tmp_path)["top1"] == _result(run)["top1"]
    process = run_recipe("predict", f"--weights={run}", "--json", check=False)
    assert process.returncode == 0, process.stderr
    lines = [json.loads(line) for line in process.stdout.splitlines()]
    model = keras.saving.load_model(run / "model.keras")
    source = opening.open_source("digits", "test[:10]", training=False)
    images, _, _ = next(iter(pipeline.eval_batches(source, batch_size=10, image_size=16)))
    logits = model.predict(permutations.permute(images, permutations.draw_order("global", 16, 4, 3)), verbose=0)
    assert [line["predictions"][0]["class"] for line in lines] == logits.argmax(-1).tolist()


def test_what_would_show_plain_images_to_permuted_weights_is_refused(run, tmp_path):
    finetune = run_recipe("finetune", f"--weights={run}", f"--workdir={tmp_path}/x", check=False)
    file = f"{run}/model.keras is of a run on permuted images; give the folder {run}, which says how.\n"
    for process, message in [
        (
            finetune,
            "was trained with --permutation=global --permutation_seed=3 at 16 px; give these, or --permutation=no",
        ),
        (
            run_recipe("predict", f"--weights={run}", "--image_size=32", check=False),
            "permuted, and knows no other; leave out --image_size 32.\n",
        ),
        (run_recipe("predict", f"--weights={run}/model.keras", check=False), file),
        (run_recipe("visualize", f"--weights={run}/model.keras", f"--output={tmp_path}/x", check=False), file),
    ]:
        assert (process.returncode, process.stderr.count("\n")) == (2, 1), process.stderr
        assert message in process.stderr
    assert not (tmp_path / "x").exists()
