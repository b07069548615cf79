"""What `export.web` writes and refuses, and that its model makes of a picture what an evaluation makes of it."""

import json
import os
import pathlib
import re
import sys

import keras
import numpy as np
import onnxruntime
import pytest
import tensorflow as tf
import tf2onnx
import tiny
from web_pages import runtime_folder

from keras_mixer.class_names import imagenet_classes
from keras_mixer.data import colours, crops
from keras_mixer.data.pixel_settings import PixelSettings
from keras_mixer.export import ExportError, picture_graph, web_model, web_runtime
from keras_mixer.export.web import web

SHAPES = [(1, 1), (3, 50), (31, 2), (24, 32), (73, 73), (641, 479), (13, 700), (256, 341)]


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    model = tiny.build(classes=3)
    model.get_layer("head").kernel.assign(np.random.default_rng(0).normal(size=(48, 3)))
    return model


@pytest.fixture(scope="module")
def page(model, tmp_path_factory):
    return web(model, tmp_path_factory.mktemp("web") / "page", ["cat", "dog & <i>fox</i>", "elk"])


def session_of(path):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def pictures():
    """Noise, and plain pictures, of which a level that is cut off shows at every pixel."""
    rng = np.random.default_rng(0)
    for shape in SHAPES:
        yield rng.integers(0, 256, (*shape, 4), np.uint8)
        yield np.full((*shape, 4), rng.integers(1, 256), np.uint8)


@pytest.mark.parametrize(
    ("crop", "antialias", "most"),
    # Filtered sums have another order here, so a level may be rounded the other way: measured 1 in 14,000.
    [("resmall", False, 0), ("none", False, 0), ("resize", False, 0), ("none", True, 1e-3), ("resize", True, 1e-3)],
)
def test_a_picture_becomes_what_an_evaluation_makes_of_it(crop, antialias, most):
    size, different, count = (24, 32), 0, 0
    function = tf.function(lambda image: {"levels": picture_graph.evaluation_crop(image, size, crop, antialias)})
    spec = tf.TensorSpec((None, None, 4), tf.uint8, name="image")
    converted, _ = tf2onnx.convert.from_function(function, input_signature=[spec], opset=web_model.OPSET)
    session = session_of(converted.SerializeToString())
    for picture in pictures():
        expected = crops.evaluation_crop(picture[:, :, :3], crop, size, antialias).numpy().astype(int)
        found = session.run(None, {"image": picture})[0]
        assert np.abs(found - expected).max() <= 1
        different += np.count_nonzero(found != expected)
        count += found.size
    assert different <= most * count


def test_grey_models_see_the_luma_of_a_picture(tmp_path):
    model = tiny.build(input_shape=(32, 32, 1), classes=3)
    model.get_layer("head").kernel.assign(np.random.default_rng(0).normal(size=(48, 3)))
    folder = web(model, tmp_path / "page", precision="float32", crop="none")
    picture = np.random.default_rng(1).integers(0, 256, (50, 40, 4), np.uint8)
    levels = colours.to_channels(crops.evaluation_crop(picture[:, :, :3], "none", 32), 1)
    expected = keras.ops.softmax(model(tf.cast(levels, tf.float32)[None] / 127.5 - 1))
    found = session_of(folder / "model.onnx").run(None, {"image": picture})[0]
    assert np.abs(found - expected.numpy()[0]).max() < 1e-5
    assert json.loads((folder / "settings.json").read_text())["channels"] == 1


def test_the_folder_is_whole_and_its_texts_are_escaped(page):
    names = {path.name for path in page.iterdir()}
    assert {"index.html", "page.css", "page.js", "sw.js", "model.onnx", "classes.json", "README.md"} <= names
    assert json.loads((page / "classes.json").read_text("utf-8")) == ["cat", "dog & <i>fox</i>", "elk"]
    html = (page / "index.html").read_text("utf-8")
    assert "cat, dog &amp; &lt;i&gt;fox&lt;/i&gt;, elk" in html
    texts = [path.read_text("utf-8") for path in page.iterdir() if path.suffix != ".onnx"]
    assert not [text for text in texts if "@VERSION@" in text or "@FILES@" in text or "@COUNT@" in text]
    settings = json.loads((page / "settings.json").read_text())
    assert settings["model"]["bytes"] == (page / "model.onnx").stat().st_size
    assert settings["version"] in (page / "sw.js").read_text()
    kept = json.loads((page / "sw.js").read_text().split("FILES = ")[1].split(";")[0])
    assert all((page / name).exists() for name in kept)
    assert names - set(kept) == {"model.onnx", "README.md", "sw.js"}  # the model is kept by the page itself


def test_the_weights_take_the_bytes_of_their_precision(model, page, tmp_path):
    sizes, differences = {}, {}
    for precision in web_model.TOLERANCES:
        folder = page if precision == "float16" else web(model, tmp_path / precision, precision=precision)
        sizes[precision] = (folder / "model.onnx").stat().st_size
        differences[precision] = json.loads((folder / "settings.json").read_text())["largest_difference"]
    print(sizes, differences)
    weights = 4 * sum(w.size for w in (v.numpy() for v in model.variables) if w.size >= web_model.LEAST)
    assert (sizes["float32"] - sizes["float16"]) / (weights / 2) == pytest.approx(1, abs=0.1)
    assert sizes["int8"] < sizes["float32"]  # with this small model, scales take as much as the weights
    assert differences["float32"] < 1e-5 < differences["float16"] < 1e-3 < differences["int8"]


def test_names_of_imagenet_bring_their_notice(tmp_path):
    folder = web(tiny.build(classes=1000), tmp_path / "page", imagenet_classes("imagenet1k"))
    assert "WordNet" in (folder / "WORDNET_NOTICE.txt").read_text("utf-8")
    assert "WORDNET_NOTICE.txt" in (folder / "README.md").read_text("utf-8")
    assert "tench, Tinca tinca" in json.loads((folder / "classes.json").read_text("utf-8"))


def test_an_existing_folder_stays_unless_it_is_a_page_and_overwritten(model, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"output: .*mine exists; choose another --output, or --overwrite"):
        web(model, tmp_path / "mine")
    with pytest.raises(FileExistsError, match="mine is not an exported page, so it is kept; choose another folder"):
        web(model, tmp_path / "mine", overwrite=True)
    folder = web(model, tmp_path / "sites" / "page")
    (folder / "left.txt").write_text("left")
    assert web(model, folder, overwrite=True) == folder
    assert not (folder / "left.txt").exists()
    assert os.listdir(tmp_path / "sites") == ["page"]
    assert (tmp_path / "mine" / "notes.txt").read_text() == "mine"


def test_a_model_that_differs_from_keras_is_not_written(model, page, monkeypatch):
    before = {path: path.read_bytes() for path in page.iterdir()}
    monkeypatch.setitem(web_model.TOLERANCES, "float16", 1e-12)
    with pytest.raises(ExportError, match=r"differ from Keras by .*, more than 1e-12, .*; use precision float32"):
        web(model, page, overwrite=True)
    assert {path: path.read_bytes() for path in page.iterdir()} == before
    assert os.listdir(page.parent) == ["page"]


def test_a_weight_beyond_float16_is_refused(tmp_path):
    model = tiny.build(classes=40)
    model.get_layer("head").kernel.assign(np.full((48, 40), 1e5))
    with pytest.raises(ExportError, match="a weight is beyond float16, so nothing was written; use precision float32"):
        web(model, tmp_path / "page")
    assert os.listdir(tmp_path) == []


def test_a_full_disk_leaves_nothing(model, tmp_path, monkeypatch):
    def write(path, *args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pathlib.Path, "write_bytes", write)
    with pytest.raises(ExportError, match="page cannot be written .No space left on device.; nothing is left of it"):
        web(model, tmp_path / "page")
    assert os.listdir(tmp_path) == []


def test_the_runtime_must_be_the_whole_pinned_one(model, tmp_path):
    fetch = f"run npm pack onnxruntime-web@{web_runtime.VERSION}, unpack it, and give its folder package/dist."
    for folder, fault in ((tmp_path / "no", "is no folder"), (tmp_path, "has no ort.wasm.bundle.min.mjs")):
        with pytest.raises(ValueError, match=rf"runtime: .*{fault}; {fetch}"):
            web(model, tmp_path / "page", runtime=folder)
    for file in (web_runtime.SCRIPT, web_runtime.WASM):
        (tmp_path / file.file).write_bytes((runtime_folder() / file.file).read_bytes())
        assert (tmp_path / file.file).stat().st_size == file.bytes
    assert web_runtime.check_runtime(tmp_path) == tmp_path
    with open(tmp_path / web_runtime.WASM.file, "r+b") as wasm:
        wasm.seek(1000)
        wasm.write(b"damage")
    with pytest.raises(ValueError, match=r"wasm is damaged, or not that of onnxruntime-web"):
        web(model, tmp_path / "page", runtime=tmp_path)
    assert not (tmp_path / "page").exists()


def test_bad_arguments_are_one_sentence(model, tmp_path):
    place = tmp_path / "page"
    for arguments, sentence in (
        (dict(precision="int4"), "web: precision must be float32, float16, int8, got 'int4'."),
        (dict(crop="centre"), "web: crop must be resmall, resize or none, got 'centre'."),
        (dict(class_names=["cat"]), "web: the head has 3 classes, but class_names has 1 names."),
        (dict(overwrite="yes"), "web: overwrite must be True or False, got 'yes'."),
        (
            dict(pixels=PixelSettings(alpha="drop")),
            "alpha: 'drop' shows the colours under transparent pixels, which no browser tells a page; give alpha white",
        ),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(sentence)}"):
            web(model, place, **arguments)
    with pytest.raises(ValueError, match="web: model 'mlp_mixer' has no head"):
        web(tiny.build(include_top=False, name="mlp_mixer"), place)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("package", ["onnx", "onnxruntime", "tf2onnx"])
def test_missing_package_names_the_extra(model, package, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"web: needs the package {package}; .* pip install 'keras_mixer\[onnx\]'"):
        web(model, tmp_path / "page")
    assert os.listdir(tmp_path) == []
