"""`recipes/evaluate.py` as users run it."""

import csv
import json
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from trained import ROOT, run_recipe, trained_run

import keras_mixer
from keras_mixer.data import opening, pipeline

FILES = {
    *("result.json", "classes.csv", "confusion.csv", "confusion.png", "mistakes.csv", "mistakes.png"),
    *("report.json", "report.html"),
}
SIGNATURE = {
    "image": tf.TensorSpec((16, 16, 3), tf.uint8),
    "original_label": tf.TensorSpec((), tf.int64),
    "real_label": tf.TensorSpec((None,), tf.int64),
    "file_name": tf.TensorSpec((), tf.string),
}
TOTALS = ("top1", "top5", "loss", "num_examples", "expected_calibration_error")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return trained_run(tmp_path_factory)


@pytest.fixture(scope="module")
def finished(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluate")
    return folder, run_recipe("evaluate", f"--weights={run}", f"--workdir={folder}")


def _result(folder):
    return json.loads((folder / "result.json").read_text())


def _rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_it_finds_what_the_training_run_found(run, finished):
    folder, process = finished
    ours, theirs = _result(folder), _result(run)
    for key in ("top1", "top5", "num_examples"):
        assert ours[key] == theirs[key]
    assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-6)  # measured 5e-8
    assert f"top-1              {ours['top1']:8.2%}  of 360 images" in process.stdout
    assert 0.2 < ours["top1"] < 1
    assert ours["images_per_second"] > 0
    assert ours["published"] == {}
    assert {path.name for path in folder.iterdir()} == FILES | {"tensorboard"}  # nothing temporary
    events = [e for f in (folder / "tensorboard").iterdir() for e in tf.compat.v1.train.summary_iterator(str(f))]
    assert {v.tag for e in events for v in e.summary.value} == {"confusion", "mistakes"}


def test_its_page_has_the_numbers_and_the_pictures(run, finished):
    folder, _ = finished
    text, result = (folder / "report.html").read_text(), _result(folder)
    for key, form in (("top1", "{:.2%}"), ("top5", "{:.2%}"), ("loss", "{:.4f}"), (TOTALS[-1], "{:.4f}")):
        assert f'value="{result[key]}">{form.format(result[key])}</data>' in text
    assert result["command"][0] == "evaluate"
    assert f"--weights={run}" in result["command"]
    assert result["defaults"]["weights"] is None
    kept = json.loads((folder / "report.json").read_text())
    assert len(kept["mistakes"]) == 24
    assert [one["correct"] for one in kept["occlusion"]["examples"]] == [False] * 4 + [True] * 4
    assert kept["occlusion"]["rows"] == kept["occlusion"]["columns"] == 4
    assert len(kept["weights"]) == 4
    assert sum(row["images"] for row in kept["calibration"]["bins"]) == 360
    assert text.count("data:image/png;base64") == 24 + 12 + 8 + 4


def test_tables_and_pictures_are_of_the_same_images(run, finished):
    folder, _ = finished
    model = keras.saving.load_model(run / "model.keras")
    source = opening.open_source("digits", training=False)
    images, labels, _ = next(iter(pipeline.eval_batches(source, batch_size=360, image_size=16)))
    logits = model.predict(images, batch_size=360, verbose=0)
    predicted, labels = logits.argmax(-1), labels.numpy()
    matrix = [[int(row[str(k)]) for k in range(10)] for row in _rows(folder / "confusion.csv")]
    expected = np.zeros((10, 10), int)
    np.add.at(expected, (labels, predicted), 1)
    np.testing.assert_array_equal(matrix, expected)
    classes = _rows(folder / "classes.csv")
    assert [float(row["top1"]) for row in classes] == pytest.approx(np.diagonal(expected) / expected.sum(1))
    confidence = np.exp(logits - logits.max(-1, keepdims=True))
    confidence = (confidence / confidence.sum(-1, keepdims=True)).max(-1)
    worst = np.argsort(-np.where(predicted == labels, 0, confidence), kind="stable")[:24]
    mistakes = _rows(folder / "mistakes.csv")
    assert [int(row["image"]) for row in mistakes] == worst.tolist()
    assert [row["true"] for row in mistakes] == [str(labels[i]) for i in worst]
    for name in ("confusion.png", "mistakes.png"):
        with Image.open(folder / name) as image:
            assert min(image.size) > 300


def test_published_accuracy_is_of_this_checkpoint_and_this_dataset():
    code = (
        "import json; from keras_mixer.recipes import evaluate\n"
        "def p(weights, model, dataset, split, real):\n"
        "    settings = evaluate.Settings(weights=weights, model=model, dataset=dataset, eval_split=split)\n"
        "    return evaluate.published_accuracy(settings, real)\n"
        "print(json.dumps([p('imagenet', 'b16', 'imagenet2012', None, False),"
        " p('imagenet1k', 'l16', 'imagenet2012_real', 'validation', True),"
        " p('imagenet1k', 'b16', 'imagenet2012', 'train[:1%]', False), p('gsam', 'b16', 'imagenet2012', None, False),"
        " p('imagenet1k', 'b16', 'imagenet_v2', None, False), p(None, None, 'digits', None, False)]))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    b16, l16, *others = json.loads(result.stdout)
    assert b16["top1"]["paper"] == pytest.approx(0.7644)
    assert l16["real_top1"]["timm"] == pytest.approx(0.77306)
    assert "real_top1" not in b16
    assert others == [{}] * 4


@pytest.fixture(scope="module")
def folder_of_digits(tmp_path_factory):
    """Ten class folders of the first 60 test digits, as PNG files."""
    root = tmp_path_factory.mktemp("data") / "images"
    source = opening.open_source("digits", "test[:60]", training=False)
    for split in ("train", "test"):
        for i, record in enumerate(source.records(None, 0)):
            image, label = source.parse(record)
            path = root / split / str(label.numpy()) / f"{i:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(tf.io.encode_png(image).numpy())
    return root


def _run_on(run, place, **settings):
    """Copy a run, which then says that it was trained with other settings."""
    shutil.copytree(run, place)
    told = json.loads((place / "run.json").read_text())
    told["settings"].update(settings)
    (place / "run.json").write_text(json.dumps(told))
    return place


def test_mistakes_of_a_folder_name_the_file(run, folder_of_digits, tmp_path):
    """The dataset, its split and its crop are those of the run."""
    trained = _run_on(
        run, tmp_path / "run", dataset=str(folder_of_digits), eval_split="test", crop="resize", on_bad_image="skip"
    )
    process = run_recipe("evaluate", f"--weights={trained}", f"--workdir={tmp_path}", check=False)
    assert process.returncode == 0, process.stderr
    assert _result(tmp_path)["dataset"] == f"{folder_of_digits} test"
    found = keras_mixer.load_run(trained).evaluate()
    assert found == {name: _result(tmp_path)[name] for name in found}
    mistakes = _rows(tmp_path / "mistakes.csv")
    result = _result(tmp_path)
    assert len(mistakes) == min(24, round((1 - result["top1"]) * 60))
    for row in mistakes:
        assert row["file"].split("/")[:2] == ["test", row["true"]]
        assert (folder_of_digits / row["file"]).is_file()
    assert result["crop"] == "resize"


def test_other_class_names_are_refused_with_the_first_differences(run, folder_of_digits, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(folder_of_digits, other)
    for split in ("train", "test"):
        (other / split / "3").rename(other / split / "three")
    process = run_recipe(
        "evaluate", f"--weights={run}", f"--dataset={other}", f"--workdir={tmp_path / 'work'}", check=False
    )
    assert process.returncode == 2
    assert process.stderr.startswith("error: weights:")
    assert "in another order: class 3 is '3' there and '4' here; class 4 is '4' there and '5' here" in process.stderr
    assert "; and 4 more; use the dataset of its training" in process.stderr
    assert not (tmp_path / "work").exists()


def test_a_checkpoint_without_a_head_is_refused(run, tmp_path):
    model = keras_mixer.MLPMixer(
        4, 4, 64, 32, 128, weights=run / "model.keras", input_shape=(16, 16, 3), include_top=False, pooling="avg"
    )
    keras_mixer.save_checkpoint(model, tmp_path / "body.npz")
    process = run_recipe(
        "evaluate", f"--weights={tmp_path / 'body.npz'}", f"--workdir={tmp_path / 'work'}", check=False
    )
    assert process.returncode == 2
    assert f"error: weights: {tmp_path / 'body.npz'} has no head, so it names no class" in process.stderr


def test_a_folder_without_labels_is_refused(run, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1.png").write_bytes(tf.io.encode_png(np.zeros((9, 9, 3), np.uint8)).numpy())
    process = run_recipe(
        "evaluate",
        f"--weights={run}",
        f"--dataset={tmp_path / 'images'}",
        f"--workdir={tmp_path / 'work'}",
        check=False,
    )
    assert process.returncode == 2
    assert "has no class folders" in process.stderr


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--crop=centre"], "crop: must be resmall, resize or none, got 'centre'"),
        (["--loss=mse"], "loss: must be 'softmax' or 'sigmoid', got 'mse'"),
        (["--image_size=18"], "image_size: the image height 18 is not a positive multiple of the patch size 4"),
        (["--real_labels=nowhere.json"], "real_labels: cannot read nowhere.json (No such file or directory)"),
        (["--model=b16"], "is not of the model b16"),
        (["--weights=imagenet1k", "--model=b16"], "dataset: b16 imagenet1k does not say what it was trained on; give"),
        (["--eval_split=val"], "split: digits has no split 'val'; it has train, test"),
        (["digits"], "'digits' is not a flag"),
    ],
    ids=lambda v: v[0] if isinstance(v, list) else "",
)
def test_bad_input_is_one_sentence_and_exit_code_2(run, tmp_path, flags, message):
    process = run_recipe("evaluate", f"--weights={run}", f"--workdir={tmp_path / 'work'}", *flags, check=False)
    assert process.returncode == 2
    assert message in process.stderr
    assert len(process.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "work").exists()


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """A prepared TFDS dataset with the features of imagenet2012_real, and a model of 1,000 classes."""
    import tensorflow_datasets as tfds

    root = tmp_path_factory.mktemp("real")
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(encoding_format="png"),
            "original_label": tfds.features.ClassLabel(num_classes=1000),
            "real_label": tfds.features.Sequence(tfds.features.ClassLabel(num_classes=1000)),
            "file_name": tfds.features.Text(),
        }
    )
    model = keras_mixer.MLPMixer(4, 1, 16, 8, 16, input_shape=(16, 16, 3), classes=1000, classifier_activation=None)
    rng = np.random.default_rng(0)
    model.get_layer("head").kernel.assign(rng.normal(size=(16, 1000)))
    keras_mixer.save_checkpoint(model, root / "model.npz")
    images = rng.integers(0, 256, (7, 16, 16, 3), np.uint8)
    inputs = tf.stack([tf.cast(pipeline.crops.resmall_crop(i, 18, 16), tf.float32) / 127.5 - 1 for i in images])
    predicted = model.predict(inputs, verbose=0).argmax(-1)
    hit = predicted.tolist()
    sets = [[hit[0]], [5, hit[1], 7], [], [(hit[3] + 1) % 1000], [hit[4]], [], [(hit[6] + 1) % 1000, 3, hit[6]]]
    order = rng.permutation(7)
    examples = [
        {
            "image": images[i],
            "original_label": (hit[i] + (i != 0)) % 1000,
            "real_label": sets[i],
            "file_name": f"ILSVRC2012_val_{i + 1:08}.png",
        }
        for i in order
    ]
    data = tf.data.Dataset.from_generator(lambda: iter(examples), output_signature=SIGNATURE)
    tfds.dataset_builders.store_as_tfds_dataset(
        "imagenet2012_real", "1.0.0", features, {"validation": data}, data_dir=root, disable_shuffling=True
    )
    return root, next(root.glob("imagenet2012_real/**/1.0.0")), sets


def test_real_counts_any_valid_label_and_skips_images_without(real, tmp_path):
    root, data, sets = real
    flags = [f"--weights={root / 'model.npz'}", "--dataset=imagenet2012_real", f"--data_dir={data}", "--nopictures"]
    process = run_recipe("evaluate", *flags, f"--workdir={tmp_path / 'a'}", check=False)
    assert process.returncode == 0, process.stderr
    result = _result(tmp_path / "a")
    assert (result["num_examples"], result["top1"]) == (7, 1 / 7)
    assert (result["real_num_examples"], result["real_skipped"]) == (5, 2)
    assert result["real_top1"] == 4 / 5
    assert "ReaL top-1           80.00%  of 5 images, 2 without a label skipped" in process.stdout

    # The original file, in the order of the files' numbers, wins over the dataset's own labels.
    (tmp_path / "real.json").write_text(json.dumps([*sets[:6], [1]]))
    process = run_recipe(
        "evaluate", *flags, f"--workdir={tmp_path / 'b'}", f"--real_labels={tmp_path / 'real.json'}", check=False
    )
    assert process.returncode == 0, process.stderr
    assert _result(tmp_path / "b")["real_top1"] == 3 / 5

    (tmp_path / "real.json").write_text(json.dumps(sets[:5]))
    process = run_recipe(
        "evaluate", *flags, f"--workdir={tmp_path / 'c'}", f"--real_labels={tmp_path / 'real.json'}", check=False
    )
    assert process.returncode == 2
    assert "has 5 entries, but there are 7 images and ImageNet's validation set has 50,000" in process.stderr
