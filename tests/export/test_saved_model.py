"""What lies in an exported folder, and that it is there whole or not at all."""

import json
import resource
import shutil
import subprocess
import sys

import numpy as np
import pytest
import served
import tensorflow as tf
from conftest import ROOT
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2

import keras_mixer
from keras_mixer import export
from keras_mixer.class_names import imagenet_classes
from keras_mixer.export import version_folder
from keras_mixer.export.serving_folder import check_class_names


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return served.exported(tmp_path_factory)[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return served.exported(tmp_path_factory)[1]


def _files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# ---- What is in it ----


def test_the_folder_has_the_files_of_a_version_and_nothing_else(folder):
    assert folder.name == "3"
    assert [p.name for p in folder.parent.iterdir()] == ["3"]
    assert sorted(_files(folder)) == [
        "assets.extra/tf_serving_warmup_requests",
        "assets/class_names.txt",
        "export.json",
        "fingerprint.pb",
        "model_card.md",
        "saved_model.pb",
        "variables/variables.data-00000-of-00001",
        "variables/variables.index",
    ]
    assert (folder / "assets" / "class_names.txt").read_text("utf-8").splitlines() == served.NAMES


def test_weights_are_variables_that_all_signatures_share(folder, model):
    meta_graph = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes()).meta_graphs[0]
    nodes = [*meta_graph.graph_def.node, *(n for f in meta_graph.graph_def.library.function for n in f.node_def)]
    constants = [np.prod([d.size for d in n.attr["value"].tensor.tensor_shape.dim]) for n in nodes if n.op == "Const"]
    assert max(constants) <= served.SIDE**2 * 3  # the black image that stands for those that are none
    variables = {node.attr["shared_name"].s.decode() for node in nodes if node.op == "VarHandleOp"}
    assert variables - {"Variable"} == {weight.path for weight in model.weights}  # that one is the path of the names
    stored = tf.train.list_variables(str(folder / "variables" / "variables"))
    assert sum(np.prod(shape) for name, shape in stored if name.startswith("weights")) == model.count_params()


def test_warmup_requests_are_prediction_logs_that_the_signatures_answer(folder):
    loaded = tf.saved_model.load(str(folder)).signatures
    asked = []
    for record in tf.data.TFRecordDataset(str(folder / "assets.extra/tf_serving_warmup_requests")):
        request = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
        assert list(request.inputs) == ["images"]
        images = tf.constant(tf.make_ndarray(request.inputs["images"]))
        name = request.model_spec.signature_name
        answer = loaded[name](images=images)
        assert np.isfinite(answer["probabilities"]).all()
        assert "status" not in answer or set(answer["status"].numpy()) == {b"ok"}
        asked.append((name, images.shape[0]))
    assert sorted(asked) == sorted((f"serving_{kind}", n) for kind in ("default", "float", "bytes") for n in (1, 8))


def test_json_and_card_say_what_it_is(folder, model):
    facts = json.loads((folder / "export.json").read_text("utf-8"))
    assert facts["class_names"] == served.NAMES
    assert facts["class_ids"] == [str(k) for k in range(7)]
    told = {key: facts[key] for key in ("image_size", "crop", "activation", "top", "storage", "parameters", "compute")}
    assert told == {
        "image_size": [16, 16],
        "crop": "resmall",
        "activation": "softmax",
        "top": 5,
        "storage": "float32",
        "parameters": model.count_params(),
        "compute": "float32",
    }
    assert facts["largest_difference"] <= 1e-6
    assert len(facts["weights_sha256"]) == 64
    card = (folder / "model_card.md").read_text("utf-8")
    for text in ("cat, dog", "uint8 (B, 16, 16, 3)", "| Trained on | nothing |", facts["weights_sha256"], "docker run"):
        assert text in card


def test_tensorflow_alone_shows_and_runs_it(folder, tmp_path, model):
    """In a process in which neither keras_mixer nor Keras can be imported."""
    images = served.random_images(2)
    np.save(tmp_path / "images.npy", images)
    code = f"""
import sys
sys.modules["keras"] = sys.modules["keras_mixer"] = None
import numpy as np, tensorflow as tf
from tensorflow.python.tools import saved_model_cli
loaded = tf.saved_model.load({str(folder)!r}).signatures["serving_default"]
answer = loaded(images=tf.constant(np.load({str(tmp_path / "images.npy")!r})))
np.save({str(tmp_path / "answer.npy")!r}, answer["probabilities"].numpy())
sys.argv = ["saved_model_cli", "show", "--dir", {str(folder)!r}, "--tag_set", "serve"]
sys.argv += ["--signature_def", "serving_bytes"]
saved_model_cli.main()
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    for text in ("inputs['images'] tensor_info:", "dtype: DT_STRING", "shape: (-1, 7)", "outputs['status']"):
        assert text in result.stdout
    answer = np.load(tmp_path / "answer.npy")
    np.testing.assert_allclose(answer, served.by_keras(model, images), rtol=0, atol=1e-6)  # measured: 2.4e-7


def test_bfloat16_storage_sigmoid_and_xla_in_a_rectangle_overwrite_another_export(folder, tmp_path):
    model = keras_mixer.MLPMixer(
        4, 1, 16, 8, 16, input_shape=(8, 12, 3), classes=3, classifier_activation="sigmoid", name="small"
    )
    model.get_layer("head").kernel.assign(np.random.default_rng(0).normal(size=(16, 3)))
    shutil.copytree(folder, tmp_path / "1")
    (tmp_path / "1" / "left.txt").touch()
    options = dict(crop="none", storage="bfloat16", jit_compile=True, overwrite=True)
    assert export.saved_model(model, tmp_path, **options) == tmp_path / "1"
    assert [p.name for p in tmp_path.iterdir()] == ["1"]
    assert sorted(_files(tmp_path / "1")) == sorted(_files(folder))
    loaded = tf.saved_model.load(str(tmp_path / "1"))
    assert {variable.dtype for variable in loaded.weights.values()} == {tf.bfloat16}
    loaded = loaded.signatures
    images = np.random.default_rng(1).integers(0, 256, (2, 8, 12, 3), np.uint8)
    answer = loaded["serving_default"](images=tf.constant(images))
    expected = served.by_keras(model, images)
    # Rounded weights: measured 1.4e-3, far from the 1e-6 of float32 and from the other activation.
    np.testing.assert_allclose(answer["probabilities"], expected, rtol=0, atol=5e-3)
    assert answer["classes"].shape == (2, 3)
    status = loaded["serving_bytes"](images=tf.constant([b"no image"]))["status"]
    assert status.numpy().tolist() == [b"neither a JPEG, PNG, still GIF or WebP, nor a plain BMP"]


def test_pairs_as_of_imagenet_are_ids_and_names():
    ids, names = check_class_names(imagenet_classes("imagenet1k"), 1000)
    assert (ids[1], names[1]) == ("n01443537", "goldfish, Carassius auratus")
    assert check_class_names(None, 2) == (("0", "1"), ("0", "1"))


# ---- Whole or not at all ----


def test_an_existing_version_is_refused(folder, model):
    before = _files(folder)
    with pytest.raises(FileExistsError, match=r"3 exists; the next free version is 4, and overwrite"):
        export.saved_model(model, folder.parent, version=3)
    assert _files(folder) == before


def test_a_full_disk_leaves_the_old_version_and_no_other_file(folder, model, tmp_path):
    before = _files(folder)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # In the weights of a new version and of an old one, and in the graph of an old one.
    for output, limit in ((tmp_path / "new", 1000), (folder.parent, 20_000), (folder.parent, 100_000)):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            with pytest.raises(export.ExportError, match=r"cannot be written \(.*\); nothing is left of it"):
                export.saved_model(model, output, version=3, overwrite=True)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert _files(folder) == before
    assert [p.name for p in folder.parent.iterdir()] == ["3"]
    assert not (tmp_path / "new").exists()


def test_a_written_model_that_differs_from_keras_is_no_export(model, tmp_path, monkeypatch):
    save = tf.saved_model.save

    def save_another(served_mixer, *arguments, **kwargs):
        variable = served_mixer.weights["head/bias"]
        variable.assign_add([0, 0, 0, 0, 0, 0, 2e-4])
        save(served_mixer, *arguments, **kwargs)
        variable.assign_sub([0, 0, 0, 0, 0, 0, 2e-4])

    monkeypatch.setattr(tf.saved_model, "save", save_another)
    with pytest.raises(export.ExportError, match="serving_default of the written model differs from Keras by"):
        export.saved_model(model, tmp_path / "new")
    assert not (tmp_path / "new").exists()


KILLED = """
import importlib.util, os, signal, sys
spec = importlib.util.spec_from_file_location("version_folder", sys.argv[1])
version_folder = importlib.util.module_from_spec(spec)
spec.loader.exec_module(version_folder)
if sys.argv[4] == "two steps":
    version_folder.files._exchange = lambda one, other: False
countdown = int(sys.argv[3])
def kill_after(frame, event, argument):
    global countdown
    if event == "line" and frame.f_code.co_filename in (sys.argv[1], version_folder.files.__file__):
        countdown -= 1
        if not countdown:
            os._exit(137)  # nothing more runs, as after kill -9
    return kill_after
with_trace = sys.settrace(kill_after)
with version_folder.new_version(sys.argv[2], 1, overwrite=True) as folder:
    for name in ("saved_model.pb", "weights"):
        (folder / name).write_text("new")
"""


@pytest.mark.parametrize("way", ["exchange", "two steps"])
def test_killed_at_any_line_the_version_is_the_old_or_the_new_one(tmp_path, way):
    """The lines are those of `version_folder` and `files`; in two steps the next export puts the old one back."""
    output, seen = tmp_path / "served", set()
    for count in range(1, 400, 7):
        (output / "1").mkdir(parents=True, exist_ok=True)
        for name in ("saved_model.pb", "weights"):
            (output / "1" / name).write_text("old")
        child = [sys.executable, "-S", "-c", KILLED, version_folder.__file__, str(output), str(count), way]
        code = subprocess.run(child, check=False).returncode
        if way == "two steps":
            version_folder._remove_leftovers(output)
        contents = {(output / "1" / name).read_text() for name in ("saved_model.pb", "weights")}
        assert len(contents) == 1
        numbers = [p.name for p in output.iterdir() if p.name.lstrip("-").isdecimal()]
        assert numbers == ["1"]
        seen |= contents
        if not code:
            break
    assert code == 0
    assert seen == {"old", "new"}
    assert [p.name for p in output.iterdir()] == ["1"]


def test_two_exports_at_once_are_refused(tmp_path):
    with (
        version_folder.new_version(tmp_path, 1) as folder,
        pytest.raises(ValueError, match="another process is exporting to"),
        version_folder.new_version(tmp_path, 2),
    ):
        pass
    assert folder.name.startswith(".1.")
    assert (tmp_path / "1").is_dir()


# ---- Bad arguments ----


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"version": -1}, "version must be a whole number of at least 0, got -1"),
        ({"version": True}, "version must be a whole number of at least 0, got True"),
        ({"crop": "centre"}, "crop must be resmall, resize or none, got 'centre'"),
        ({"top": 0}, "top must be a positive integer, got 0"),
        ({"storage": "int8"}, "storage must be float32, bfloat16 or float16, got 'int8'"),
        ({"activation": "relu"}, "activation must be softmax or sigmoid, got 'relu'"),
        ({"activation": "sigmoid"}, "activation is sigmoid, but the model's own is softmax; leave it out"),
        ({"class_names": ["a"]}, "the head has 7 classes, but class_names has 1 names"),
        ({"class_names": "abcdefg"}, "class_names must be a list of 7 names, got 'abcdefg'"),
        ({"class_names": [*"abcdef", "g\nh"]}, r"class_names must be of one line each; that of class 6 is 'g\\nh'"),
        ({"class_names": [*"abcdef", ""]}, r"class_names must be texts that are not empty, or \(id, name\); 6 is"),
        ({"warmup_images": np.zeros((2, 8, 8, 3), np.uint8)}, r"warmup_images must be uint8 of shape \(N, 16, 16, 3\)"),
        ({"output": ""}, "output: must name a folder, got ''"),
        ({"output": "s3://bucket/served"}, "output: 's3://bucket/served' is neither a local path nor one of a bucket"),
        ({"output": ROOT / "setup.cfg"}, "output: .*setup.cfg is a file; name a folder"),
        ({"output": ROOT, "version": "docs"}, "version must be a whole number"),
        ({"jit_compile": "yes"}, "jit_compile must be True or False, got 'yes'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_bad_arguments_are_named_in_one_sentence(model, tmp_path, kwargs, message):
    with pytest.raises((ValueError, OSError), match=message):
        export.saved_model(model, **{"output": tmp_path / "new", **kwargs})
    assert not (tmp_path / "new").exists()


def test_models_that_are_no_classifiers_are_refused(tmp_path):
    sizes = dict(patch_size=4, num_blocks=1, hidden_dim=8, tokens_mlp_dim=8, channels_mlp_dim=8)
    two, body = ({"input_shape": (8, 8, 2)}, {"input_shape": (8, 8, 3), "include_top": False})
    with pytest.raises(ValueError, match="model must take RGB or grey images, not those of 2 channels"):
        export.saved_model(keras_mixer.MLPMixer(**sizes, **two), tmp_path)
    with pytest.raises(ValueError, match="has no head; build it with include_top=True"):
        export.saved_model(keras_mixer.MLPMixer(**sizes, **body), tmp_path)
    with pytest.raises(ValueError, match="model must be an MLPMixer, got str"):
        export.saved_model("runs/pretrain", tmp_path)
    model = keras_mixer.MLPMixer(**sizes, input_shape=(8, 8, 3), classes=2)
    model.get_layer("head").bias.assign([0, 1e6])
    with pytest.raises(ValueError, match="the weight head/bias has a value that is NaN or infinite in float16"):
        export.saved_model(model, tmp_path, storage="float16")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_no_export_is_never_replaced(model, tmp_path):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "thesis.txt").touch()
    with pytest.raises(FileExistsError, match="1 is not an exported model, so it is kept"):
        export.saved_model(model, tmp_path, overwrite=True)
    assert (tmp_path / "1" / "thesis.txt").exists()
