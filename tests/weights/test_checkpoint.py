"""Strict loading from every format, saving in the released layout, and parity with an independent forward pass."""

import io
import json
import logging
import os
import pathlib
import re
import resource
import signal
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
import tiny
from conftest import ROOT
from file_server import FileServer
from numpy_mixer import exact_gelu, forward, random_weights, tanh_gelu

import keras_mixer
from keras_mixer import models
from keras_mixer.weights import layouts, mixer_variables, npz

FACTS = json.loads((pathlib.Path(keras_mixer.__file__).parent / "assets" / "checkpoints.json").read_text())


@pytest.fixture
def arrays(golden):
    return {k.removeprefix("checkpoint/"): v for k, v in golden.items() if k.startswith("checkpoint/")}


@pytest.fixture
def images(golden):
    return keras_mixer.preprocess_input(golden["images"])


@pytest.fixture
def server(tmp_path):
    (tmp_path / "served").mkdir()
    with FileServer(tmp_path / "served").running() as server:
        yield server


def logits(model, images):
    return keras.ops.convert_to_numpy(model(images))


def older_layout(arrays):
    """The older code's names, its shared count of a block's layers, and its axes of size one."""
    older = {}
    for name, value in arrays.items():
        name = name.replace("stem/", "embedding/").replace("pre_head_layer_norm/", "Mixer/encoder_norm/")
        name = name.replace("MixerBlock_", "Mixer/encoderblock_").replace("LayerNorm_1", "LayerNorm_2")
        match = re.fullmatch(r"(.*/(?:token|channel)_mixing)/Dense_([01])/(kernel|bias)", name)
        if match:
            name, value = f"{match[1]}_phase_0/{match[3]}{int(match[2]) + 1}", value[None]
        older[name] = value
    return older


def timm_layout(arrays):
    """The names and axes of timm's MlpMixer state dict."""
    state = {}
    for name, value in arrays.items():
        *path, part = name.split("/")
        if part == "kernel":
            value = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T
        path = ".".join(path).replace("MixerBlock_", "blocks.").replace("pre_head_layer_norm", "norm")
        path = path.replace("LayerNorm_0", "norm1").replace("LayerNorm_1", "norm2").replace("stem", "stem.proj")
        path = path.replace("token_mixing.Dense_0", "mlp_tokens.fc1").replace("token_mixing.Dense_1", "mlp_tokens.fc2")
        path = path.replace("channel_mixing.Dense_0", "mlp_channels.fc1")
        path = path.replace("channel_mixing.Dense_1", "mlp_channels.fc2")
        state[f"{path}.{part if part == 'bias' else 'weight'}"] = np.ascontiguousarray(value)
    return state


def write(path, arrays):
    np.savez(path, **arrays)
    return path


# ---- the formats


def test_numpy_forward_pass_equals_the_authors(golden, arrays, images):
    assert np.abs(forward(arrays, images)[1] - golden["out/logits"]).max() < 1e-6  # measured 3e-7


@pytest.mark.parametrize(
    "kind", ["npz", "compressed", "older", "keras", "h5", "safetensors", "mapping", "timm mapping", "wrapped keras"]
)
def test_every_format_gives_the_same_weights(golden, arrays, images, tmp_path, kind):
    released = write(tmp_path / "released.npz", arrays)
    source = tiny.build(weights=released)
    if kind == "npz":
        weights = released
    elif kind == "compressed":
        weights = tmp_path / "compressed.npz"
        np.savez_compressed(weights, **arrays)
    elif kind == "older":
        weights = write(tmp_path / "older.npz", older_layout(arrays))
    elif kind == "keras":
        weights = tmp_path / "model.keras"
        source.save(weights)
    elif kind == "wrapped keras":
        weights = tmp_path / "plain.keras"
        keras.Model(source.input, {"out": source.output, "features": source.get_layer("pre_logits").output}).save(
            weights
        )
    elif kind == "h5":
        weights = tmp_path / "model.weights.h5"
        source.save_weights(weights)
    elif kind == "safetensors":
        from safetensors.numpy import save_file

        weights = tmp_path / "timm.safetensors"
        save_file(timm_layout(arrays), weights)
    else:
        weights = arrays if kind == "mapping" else timm_layout(arrays)
    model = tiny.build()
    report = keras_mixer.load_checkpoint(model, weights)
    assert sorted(report.loaded) == sorted(arrays)
    assert not report.resized
    assert not report.new
    for name, variable in mixer_variables.mixer_variables(model).items():
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable), arrays[name], err_msg=name)
    assert np.abs(logits(model, images) - golden["out/logits"]).max() < 2e-6  # measured 4.2e-7


def test_tensors_of_another_framework_are_arrays(arrays):
    class Tensor:  # what a PyTorch tensor answers
        def __init__(self, values):
            self.values = values

        def detach(self):
            return self

        cpu = detach

        def __array__(self, dtype=None, copy=None):
            return np.asarray(self.values, dtype)

    report = keras_mixer.load_checkpoint(tiny.build(), {name: Tensor(a) for name, a in timm_layout(arrays).items()})
    assert len(report.loaded) == len(arrays)


def test_exact_gelu_of_timm_changes_logits_a_little(arrays, images):
    difference = np.abs(forward(arrays, images, exact_gelu)[1] - forward(arrays, images, tanh_gelu)[1]).max()
    assert 1e-5 < difference < 1e-2  # measured 2.5e-4; the same GELU gives 3e-7


def test_model_within_a_model_is_loaded(arrays):
    inner = tiny.build(include_top=False, pooling="avg", classes=None)
    outer = keras.Sequential([keras.Input((32, 32, 3)), inner, keras.layers.Dense(3, name="own_head")])
    report = keras_mixer.load_checkpoint(outer, arrays)
    assert report.unused == ["head/bias", "head/kernel"]
    np.testing.assert_array_equal(inner.get_layer("stem").conv.kernel, arrays["stem/kernel"])


def test_a_model_that_is_no_mixer_is_refused(arrays):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)], name="other")
    with pytest.raises(ValueError, match="'other' has no layer 'stem'; it is no Mixer"):
        keras_mixer.load_checkpoint(model, arrays)
    other = [keras.layers.Dense(2, name=name) for name in ("stem", "block_0", "pre_head_layer_norm")]
    with pytest.raises(ValueError, match="layer 'stem' of the model 'other' is a Dense, not a PatchEmbed"):
        keras_mixer.load_checkpoint(keras.Sequential([keras.Input((4,)), *other], name="other"), arrays)


@pytest.mark.parametrize("model", [None, "mixer.npz", keras_mixer.MLPMixer])
def test_what_is_no_model_is_named_by_its_argument(arrays, tmp_path, model):
    message = f"^weights: model must be an MLPMixer .* got {type(model).__name__}\\.$"
    with pytest.raises(ValueError, match=message):
        keras_mixer.load_checkpoint(model, arrays)
    with pytest.raises(ValueError, match=message):
        keras_mixer.save_checkpoint(model, tmp_path / "a.npz")


def test_keras_file_of_another_model_is_named(tmp_path):
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)], name="other").save(tmp_path / "a.keras")
    with pytest.raises(ValueError, match=r"^weights: .*a\.keras holds no weights .*'other' has no layer 'stem'"):
        keras_mixer.load_checkpoint(tiny.build(), tmp_path / "a.keras")


@pytest.mark.parametrize("name", ["a.weights.h5", "a.keras"])
def test_file_of_a_compiled_and_fitted_model_loads(arrays, tmp_path, name):
    model = tiny.build(weights=arrays)
    model.compile("adam", "mse", run_eagerly=True)
    model.fit(np.zeros((2, 32, 32, 3)), np.ones((2, 10)), verbose=0)
    (model.save if name == "a.keras" else model.save_weights)(tmp_path / name)
    other = tiny.build()
    report = keras_mixer.load_checkpoint(other, tmp_path / name)
    assert len(report.loaded) == len(arrays)
    assert ("arrays of the optimizer left out" in str(report)) == (name == "a.weights.h5")
    for saved, loaded in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(saved, loaded)


@pytest.mark.parametrize("name", ["A.NPZ", "A.Keras", "A.WEIGHTS.H5"])
def test_suffixes_of_any_case(arrays, tmp_path, name):
    model = tiny.build(weights=arrays)
    save = {"A.NPZ": keras_mixer.save_checkpoint, "A.Keras": keras.Model.save}.get(name, keras.Model.save_weights)
    save(model, tmp_path / name.lower())
    (tmp_path / name.lower()).rename(tmp_path / name)
    assert len(keras_mixer.load_checkpoint(tiny.build(), tmp_path / name).loaded) == len(arrays)


@pytest.mark.parametrize("grid", ["4x4", 4, 0, (), (-4, -4), (4,), (4.0, 4), (True, 16), ((4, 4), 1)])
def test_grid_that_is_none_gives_one_sentence(arrays, grid):
    message = f"load_checkpoint: grid must be (rows, columns) of patches, two positive integers, got {grid!r}."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        keras_mixer.load_checkpoint(tiny.build(), arrays, grid=grid)


# ---- the head


def test_another_number_of_classes_starts_a_zero_head_and_says_so(arrays, caplog):
    model = tiny.build(weights=arrays, classes=7)
    assert "newly initialised at zero: head/kernel, head/bias" in caplog.text
    assert caplog.records[-1].levelno == logging.WARNING
    assert not np.any(model.get_layer("head").kernel)
    np.testing.assert_array_equal(
        model.get_layer("block_2").layer_norm_1.gamma, arrays["MixerBlock_2/LayerNorm_1/scale"]
    )


def test_a_trained_head_is_replaced_by_zeros_not_left(arrays):
    model = tiny.build(classes=7)
    model.get_layer("head").kernel.assign(np.ones((48, 7)))
    report = keras_mixer.load_checkpoint(model, arrays)
    assert report.new == ["head/kernel", "head/bias"]
    assert not np.any(model.get_layer("head").kernel)


def test_classes_come_from_the_checkpoint(arrays):
    assert tiny.build(weights=arrays, classes=None).output_shape == (None, 10)


def test_a_checkpoint_without_head_needs_the_number_of_classes(arrays, tmp_path):
    keras_mixer.save_checkpoint(tiny.build(weights=arrays, include_top=False, classes=None), tmp_path / "body.npz")
    with pytest.raises(ValueError, match=r"has no head; give classes .* or include_top=False"):
        tiny.build(weights=tmp_path / "body.npz", classes=None)
    assert not np.any(tiny.build(weights=tmp_path / "body.npz", classes=5).get_layer("head").kernel)
    with pytest.raises(ValueError, match=r"has no head for this model's 10 classes\.\n- head/kernel\n- head/bias"):
        keras_mixer.load_checkpoint(tiny.build(), tmp_path / "body.npz")


def test_kernels_of_a_new_model_are_still_random(arrays):
    loaded = tiny.build(weights=arrays)
    fresh = type(loaded).from_config(loaded.get_config())
    kernel = np.asarray(fresh.get_layer("block_1").channel_mixing.dense_0.kernel)
    assert abs(kernel.std() - 48**-0.5) < 0.01
    again = keras.layers.deserialize(keras.layers.serialize(loaded.get_layer("block_1")))
    assert np.asarray(again.channel_mixing.dense_0.kernel).std() > 0.1


# ---- saving


def test_save_and_load_are_bit_exact(arrays, tmp_path):
    path = tmp_path / "saved.npz"
    keras_mixer.save_checkpoint(tiny.build(weights=arrays), path)
    with np.load(path) as saved:
        assert sorted(saved.files) == sorted(arrays)
        assert all(
            saved[name].dtype == "float32" and saved[name].tobytes() == arrays[name].tobytes() for name in arrays
        )
    before = path.read_bytes()
    keras_mixer.save_checkpoint(tiny.build(weights=path), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["saved.npz"]


def test_bfloat16_model_is_saved_as_float32_and_loads_back_equal(arrays, tmp_path):
    keras.config.set_dtype_policy("bfloat16")
    model = tiny.build()
    report = keras_mixer.load_checkpoint(model, arrays)
    assert "rounded to the model's bfloat16" in str(report)
    keras_mixer.save_checkpoint(model, tmp_path / "a.npz")
    keras_mixer.load_checkpoint(model, tmp_path / "a.npz")
    keras_mixer.save_checkpoint(model, tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_not_finite_weights_are_not_saved_and_the_old_file_stays(arrays, tmp_path):
    model, path = tiny.build(weights=arrays), tmp_path / "saved.npz"
    keras_mixer.save_checkpoint(model, path)
    before = path.read_bytes()
    model.get_layer("head").bias.assign(np.full(10, np.nan))
    with pytest.raises(ValueError, match="head/bias holds values that are NaN or infinite; nothing is written"):
        keras_mixer.save_checkpoint(model, path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["saved.npz"]


def test_quantised_model_is_not_saved(arrays, tmp_path):
    model = tiny.build(weights=arrays)
    model.get_layer("head").quantize("int8")
    with pytest.raises(ValueError, match=r"head is quantised \(int8\)"):
        keras_mixer.save_checkpoint(model, tmp_path / "a.npz")


@pytest.mark.parametrize(("path", "error", "message"), [
    ("model.h5", ValueError, r"path must end in \.npz, got 'model\.h5'"),
    (5, ValueError, r"path must be a path that ends in \.npz, got int"),
    ("no/model.npz", FileNotFoundError, "path must be in a folder that exists, but 'no' of 'no/model.npz' does not"),
    ("folder.npz", IsADirectoryError, "path must be that of a file, but 'folder.npz' is a directory"),
    ("file/model.npz", NotADirectoryError, "path must be in a folder, but 'file' of 'file/model.npz' is a file"),
    (f"{'a' * 300}.npz", OSError, r"path 'a+\.npz' cannot be written \(File name too long\)"),
])  # fmt: skip
def test_save_to_what_is_no_place_gives_one_sentence(tmp_path, monkeypatch, path, error, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(error, match=rf"save_checkpoint: {message}") as caught:
        keras_mixer.save_checkpoint(tiny.build(), path)
    assert "\n" not in str(caught.value)
    assert ".tmp" not in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder.npz"]


def test_save_and_load_expand_the_home_folder(arrays, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    keras_mixer.save_checkpoint(tiny.build(weights=arrays), "~/model.npz")
    assert [p.name for p in tmp_path.iterdir()] == ["model.npz"]
    assert len(keras_mixer.load_checkpoint(tiny.build(), "~/model.npz").loaded) == len(arrays)


def test_save_on_a_full_disk_leaves_the_old_file(arrays, tmp_path):
    path = tmp_path / "saved.npz"
    keras_mixer.save_checkpoint(tiny.build(weights=arrays), path)
    before = path.read_bytes()
    code = (
        "import sys, tiny, keras_mixer\n"
        "try: keras_mixer.save_checkpoint(tiny.build(), sys.argv[1])\n"
        "except OSError as error: print('refused', error.errno)"
    )

    def limit():  # a file may not grow beyond 100 kB: the same write error as a full disk
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    done = subprocess.run(
        [sys.executable, "-c", code, path], preexec_fn=limit, capture_output=True, text=True, env=_environment()
    )
    assert done.stdout.startswith("refused"), done.stderr
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["saved.npz"]


def _environment():
    tests = pathlib.Path(__file__).parents[1]
    paths = [str(tests.parent), str(tests), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "TF_CPP_MIN_LOG_LEVEL": "3"}


@pytest.mark.backends
def test_load_and_save_run_on_another_backend(arrays, golden, tmp_path):
    write(tmp_path / "a.npz", arrays)
    code = (
        "import sys, keras, numpy as np, tiny, keras_mixer\n"
        "model = tiny.build(weights=sys.argv[1], input_shape=(64, 32, 3))\n"
        "keras_mixer.save_checkpoint(model, sys.argv[2])\n"
        "keras_mixer.load_checkpoint(model, sys.argv[2])\n"
        "print(keras.backend.backend())"
    )
    command = [sys.executable, "-c", code, tmp_path / "a.npz", tmp_path / "b.npz"]
    done = subprocess.run(command, capture_output=True, text=True, env=_environment() | {"KERAS_BACKEND": "jax"})
    assert done.stdout.strip() == "jax", done.stderr


# ---- strictness


def _without(arrays, name):
    return {key: value for key, value in arrays.items() if key != name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: _without(a, "MixerBlock_1/LayerNorm_0/bias"), "- MixerBlock_1/LayerNorm_0/bias (48,) float32"),
        (lambda a: _without(a, "head/kernel"), "- head/kernel"),
        (lambda a: a | {"opt/state": np.zeros(3, "float32")}, "+ opt/state (3,) float32"),
        (
            lambda a: a | {"stem/kernel": a["stem/kernel"].transpose(2, 0, 1, 3)},
            "- stem/kernel (8, 8, 3, 48) float32\n+ stem/kernel (3, 8, 8, 48) float32",
        ),
        (
            lambda a: a | {"head/bias": a["head/bias"].astype("float64")},
            "- head/bias (10,) float32\n+ head/bias (10,) float64",
        ),
        (lambda a: a | {"head/bias": a["head/bias"].astype(">f4")}, "+ head/bias (10,) >f4"),
    ],
    ids=["missing", "half a head", "extra", "shape", "dtype", "byte order"],
)
def test_arrays_that_differ_are_listed(arrays, tmp_path, change, message):
    path = write(tmp_path / "changed.npz", change(arrays))
    with pytest.raises(
        ValueError, match=r"does not hold this model's arrays: .*\.\nArrays \(- the model needs, \+ the file has\):\n"
    ) as error:
        keras_mixer.load_checkpoint(tiny.build(), path)
    assert message in str(error.value)


def test_sizes_that_differ_come_first_and_arrays_in_forward_order(arrays):
    model = keras_mixer.MLPMixer(8, 4, 16, 20, 96, input_shape=(32, 32, 3), classes=10)
    with pytest.raises(ValueError, match="num_blocks is 3") as error:
        keras_mixer.load_checkpoint(model, arrays | {"a/new": np.zeros(2, "float32")})
    first, _, *lines, last = str(error.value).splitlines()
    assert first == (
        "weights: a mapping of arrays does not hold this model's arrays: num_blocks is 3 in the file, 4 in the model; "
        "hidden_dim is 48 in the file, 16 in the model."
    )
    assert len(lines) == 12
    assert [line.split()[1] for line in lines[:5:2]] == ["stem/kernel", "stem/bias", "MixerBlock_0/LayerNorm_0/scale"]
    assert re.fullmatch(r"\.\.\. and \d+ more", last)


def test_forward_order_is_stem_blocks_norm_head_and_the_rest():
    names = ["stem/bias", "MixerBlock_2/a", "MixerBlock_10/a", "pre_head_layer_norm/bias", "head/bias", "a/b"]
    assert sorted(sorted(names), key=layouts._place) == names


def test_file_of_something_else_holds_none_of_the_arrays():
    with pytest.raises(ValueError, match=r"^weights: a mapping of arrays holds none of this model's arrays\.\n"):
        keras_mixer.load_checkpoint(tiny.build(), {"a": np.zeros(2, "float32")})


def test_file_of_another_variant_is_named(tmp_path):
    shapes = layouts.released_shapes(models.VARIANTS["s32"], tokens=49, classes=10)
    path = tmp_path / "s32.npz"
    npz.write_npz(path, {name: lambda s=shape: np.zeros(s, "float32") for name, shape in shapes.items()})
    with pytest.raises(ValueError, match=r"num_blocks is 8 in .*; the file has the sizes of MixerS32\.\n") as error:
        keras_mixer.MixerB32(weights=path)
    assert len(str(error.value).splitlines()) == 15  # two sentences, 12 arrays, and how many more
    assert re.search(r"and \d+ more", str(error.value))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite_array_leaves_the_model_unchanged(arrays, tmp_path, value):
    bad = arrays["head/bias"].copy()
    bad[3] = value
    model = tiny.build()
    before = [np.asarray(weight) for weight in model.get_weights()]
    with pytest.raises(ValueError, match=r"head/bias of .* holds 1 of 10 values that are NaN or infinite"):
        keras_mixer.load_checkpoint(model, write(tmp_path / "nan.npz", arrays | {"head/bias": bad}))
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_not_finite_keras_and_h5_files_are_refused(arrays, tmp_path):
    model = tiny.build(weights=arrays)
    model.get_layer("head").bias.assign(np.full(10, np.inf))
    model.save(tmp_path / "a.keras")
    model.save_weights(tmp_path / "a.weights.h5")
    for name in ("a.keras", "a.weights.h5"):
        with pytest.raises(ValueError, match=r"head/bias of .* NaN or infinite"):
            tiny.build(weights=tmp_path / name)


def test_h5_of_other_shapes_is_refused(arrays, tmp_path):
    tiny.build(classes=10, input_shape=(64, 64, 3)).save_weights(tmp_path / "a.weights.h5")
    small = keras_mixer.MLPMixer(8, 3, 24, 20, 96, input_shape=(32, 32, 3), classes=10)
    with pytest.raises(
        ValueError,
        match="(?s)hidden_dim is 48 in the file, 24 in the model.*"
        + re.escape("- MixerBlock_0/LayerNorm_0/bias (24,) float32\n+ MixerBlock_0/LayerNorm_0/bias (48,) float32"),
    ):
        keras_mixer.load_checkpoint(small, tmp_path / "a.weights.h5")


def _zip(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def _npy(shape, dtype="<f4", data=b""):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": dtype, "fortran_order": False, "shape": shape})
    return buffer.getvalue() + data


def _truncated(path, arrays):
    data = write(path, arrays).read_bytes()
    path.write_bytes(data[: len(data) // 2])


def _bit_flip(path, arrays):
    data = bytearray(write(path, arrays).read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _pickled(path, arrays):
    np.savez(path, **arrays | {"head/bias": np.array([print] * 10, dtype=object)})


def _bomb(path, arrays):
    header = _npy((2**27,))  # 512 MiB of zeros in 0.5 MB
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("stem/kernel.npy", "w") as member:
        member.write(header)
        for _ in range(2**9):
            member.write(bytes(2**20))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_truncated, "is no whole .npz archive (it is cut off: the archive's directory at its end is missing)"),
        (_bit_flip, "is no whole .npz archive (Bad CRC-32"),
        (lambda p, a: p.write_bytes(b"<!DOCTYPE html><html>Sign in</html>"), "(it is a web page, perhaps of a proxy"),
        (lambda p, a: p.write_bytes(b""), "(it is empty)"),
        (lambda p, a: p.write_bytes(b"\x93NUMPY" + bytes(100)), "(File is not a zip file)"),
        (_pickled, "holds pickled objects in 'head/bias.npy', which could run any code"),
        (_bomb, "more than weights can be compressed"),
        (lambda p, a: _zip(p, {"stem/bias.npy": _npy((48,), data=bytes(100))}), "which is not the 228 bytes there"),
        (lambda p, a: _zip(p, {"stem/bias.npy": _npy((10**18, 10**18))}), "which is not the 128 bytes there"),
        (lambda p, a: _zip(p, {"stem/bias.npy": _npy((-1, -12), data=bytes(48))}), "which is not the"),
        (lambda p, a: _zip(p, {"run.sh": b"echo"}), "holds 'run.sh' which is no .npy array"),
        (lambda p, a: _zip(p, {"stem/bias.npy": b"\x93NUMPY\x01\x00\xff\xff" + b" " * 70000}), "is no .npz of a"),
    ],
    ids=["truncated", "flipped bit", "html", "empty", "no zip", "pickled", "bomb", "short", "huge", "negative", "other",
         "header"],
)  # fmt: skip
def test_damaged_archives_give_one_sentence(arrays, tmp_path, damage, message):
    path = tmp_path / "bad.npz"
    damage(path, arrays)
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        keras_mixer.load_checkpoint(tiny.build(), path)
    assert str(error.value).startswith("weights: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("suffix", "message"), [
    (".keras", "is there, but it is not a Keras file (it is a web page"),
    (".weights.h5", "is no whole HDF5 file"),
    (".safetensors", "is no whole .safetensors file"),
])  # fmt: skip
def test_damaged_files_of_other_formats_give_one_sentence(arrays, tmp_path, suffix, message):
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(b"<html>" + bytes(1000))
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        keras_mixer.load_checkpoint(tiny.build(), path)
    assert "\n" not in str(error.value)


def test_truncated_keras_and_h5_files_give_one_sentence(arrays, tmp_path):
    model = tiny.build(weights=arrays)
    model.save(tmp_path / "a.keras")
    model.save_weights(tmp_path / "a.weights.h5")
    for name in ("a.keras", "a.weights.h5"):
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data[: len(data) // 2])
        with pytest.raises(ValueError, match=r"^weights: [^\n]*$"):
            keras_mixer.load_checkpoint(model, tmp_path / name)


@pytest.mark.parametrize(("weights", "error", "message"), [
    ("imagenet22k", ValueError, r"'imagenet22k' is neither a released name \(imagenet1k, .*\) nor the path or URL"),
    ("no/such.npz", FileNotFoundError, "there is no file 'no/such.npz'"),
    (5, ValueError, "a mapping from names to arrays; got int"),
    ({}, ValueError, "- MixerBlock_0"),
    ("ftp://host/a.npz", ValueError, "has the scheme 'ftp', but a URL must be one of http, https, file, gs or hf"),
    ("http://host/a.tar?name=a.npz", ValueError, "is neither a released name"),
])  # fmt: skip
def test_weights_that_are_nothing_give_one_sentence(weights, error, message):
    with pytest.raises(error, match=message):
        tiny.build(weights=weights)


def test_mapping_value_that_is_no_array_is_listed(arrays):
    with pytest.raises(ValueError, match=r"- head/bias \(10,\) float32\n\+ head/bias \(\) str"):
        keras_mixer.load_checkpoint(tiny.build(), arrays | {"head/bias": "text"})


def test_loading_holds_no_second_copy_while_building(tmp_path):
    """Peak memory of building from a 45 MB file stays below 2.2 times the file: the model, an array, and the graph."""
    shapes = layouts.released_shapes(
        dict(patch_size=16, num_blocks=3, hidden_dim=512, tokens_mlp_dim=256, channels_mlp_dim=4096),
        tokens=196,
        classes=1000,
    )
    path = tmp_path / "large.npz"
    npz.write_npz(path, {name: lambda s=shape: np.ones(s, "float32") for name, shape in shapes.items()})
    code = (
        "import sys, re, keras_mixer, tiny\n"
        "def peak(): return 1024 * int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])\n"
        "tiny.build()\n"
        "open('/proc/self/clear_refs', 'w').write('5')\n"
        "before = peak()\n"
        "keras_mixer.MLPMixer(16, 3, 512, 256, 4096, weights=sys.argv[1])\n"
        "print(peak() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, env=_environment())
    assert int(done.stdout) < 2.2 * path.stat().st_size, done.stderr


# ---- the released files


def test_written_bytes_are_those_of_the_released_files():
    """The imagenet files hold no zip64 fields, which save_checkpoint leaves out too; the sam and gsam files have one of
    20 bytes for each array, as np.savez writes today."""
    for fact in FACTS["files"]:
        variant = fact["path"].split("-")[1].removesuffix(".npz").replace("_", "").lower()
        config = models.VARIANTS[variant]
        tokens = (224 // config["patch_size"]) ** 2
        shapes = layouts.released_shapes(config, tokens=tokens, classes=fact["classes"])
        arrays = sum(128 + 4 * int(np.prod(shape)) for shape in shapes.values())
        directory = 22 + sum(30 + 46 + 2 * len(f"{name}.npy") for name in shapes)
        zip64 = 0 if fact["path"].startswith("imagenet") else 20 * len(shapes)
        assert arrays + directory + zip64 == fact["bytes"], fact["path"]


def test_save_checkpoint_writes_exactly_the_released_number_of_bytes(tmp_path):
    keras_mixer.save_checkpoint(keras_mixer.MixerB16(), tmp_path / "b16.npz")
    assert (tmp_path / "b16.npz").stat().st_size == 239_564_448
    with np.load(tmp_path / "b16.npz") as archive:
        np.savez(tmp_path / "numpy.npz", **archive)
    assert (tmp_path / "numpy.npz").stat().st_size == 239_567_448


def test_list_weights_names_all_eleven_and_tells_fine_tuned_numbers_apart():
    table = keras_mixer.list_weights()
    assert len(table) == 11
    assert sum(entry["bytes"] for entry in table) == 3_489_219_014 - 6
    by_name = {(entry["model"], entry["weights"]): entry for entry in table}
    assert by_name["MixerB16", "imagenet1k"]["top1"] == {"paper": 76.44, "timm": 76.616}
    large = by_name["MixerL16", "imagenet21k"]
    assert large["top1"] is None
    assert large["after_imagenet_finetuning"][448] == {"top1": 83.91, "real": 87.75}
    assert "after fine-tuning" in str(table).splitlines()[0]
    assert all(entry["model"] in keras_mixer.__all__ for entry in table)


def test_every_released_file_has_a_model_card_with_its_numbers():
    for entry in keras_mixer.list_weights():
        card = (ROOT / entry["card"]).read_text()
        file = "/".join(entry["url"].split("/")[-2:])
        assert f"| `{entry['model']}` | `{file}` | {entry['classes']:,} | {entry['bytes']:,} |" in card
        if entry["top1"]:
            scores = " | ".join(str(entry[key][by]) for key in ("top1", "real") for by in ("paper", "timm"))
            assert f"| `{entry['model']}` | {scores} |" in card
        for size, after in entry["after_imagenet_finetuning"].items():
            numbers = f"{after['top1']:.2f} | {after['real']:.2f}"
            assert f"| `{entry['model']}` | ImageNet | {size} px | {numbers} |" in card
        assert entry["cifar10_finetuned"] is None or f"{entry['cifar10_finetuned']:.2f}" in card
    assert "Apache-2.0" in (ROOT / "docs" / "model_cards" / "index.md").read_text()
    assert str(keras_mixer.list_weights()).endswith("imagenet21k.md docs/model_cards/sam.md docs/model_cards/gsam.md")


def test_name_without_a_file_lists_what_exists():
    message = "no 'sam' weights for MixerL16; there are 'imagenet1k', 'imagenet21k', and 'sam' for MixerB16, MixerB32"
    with pytest.raises(ValueError, match=message):
        keras_mixer.MixerL16(weights="sam")
    with pytest.raises(ValueError, match="none were released for it"):
        keras_mixer.MixerH14(weights="imagenet")
    with pytest.raises(ValueError, match="for a model of these sizes"):
        tiny.build(weights="imagenet1k")


def _variant_file(path, variant, classes):
    """Write a generated checkpoint of a variant as the released files are; return its arrays."""
    config = models.VARIANTS[variant]
    tokens = (224 // config["patch_size"]) ** 2
    arrays = random_weights(layouts.released_shapes(config, tokens=tokens, classes=classes))
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.parent.name.startswith("imagenet"):
        npz.write_npz(path, {name: lambda a=array: a for name, array in arrays.items()})
    else:
        np.savez(path, **arrays)
    return arrays


def _assert_parity(model, arrays, limit=2e-5):
    images = np.random.default_rng(1).uniform(-1, 1, (1, 224, 224, 3)).astype("float32")
    expected = forward(arrays, images)[1]
    difference = np.abs(logits(model, images) - expected).max()
    print(f"largest difference {difference:.1e} in logits up to {np.abs(expected).max():.1f}")
    assert difference < limit


def test_s32_by_path_equals_numpy(tmp_path):
    arrays = _variant_file(tmp_path / "s32.npz", "s32", 1000)
    _assert_parity(keras_mixer.MixerS32(weights=tmp_path / "s32.npz", classifier_activation=None), arrays)  # 4e-6


@pytest.mark.slow
@pytest.mark.parametrize("classes", [1000, 21843])
@pytest.mark.parametrize("variant", sorted(models.VARIANTS))
def test_every_variant_and_head_by_path_equals_numpy(tmp_path, variant, classes):
    arrays = _variant_file(tmp_path / "file.npz", variant, classes)
    build = getattr(keras_mixer, f"Mixer{variant.upper()}")
    model = build(weights=tmp_path / "file.npz", classifier_activation=None)
    assert model.output_shape == (None, classes)
    _assert_parity(model, arrays)


@pytest.mark.slow
@pytest.mark.parametrize("fact", FACTS["files"], ids=lambda fact: fact["path"])
def test_every_released_name_through_a_server_equals_numpy(tmp_path, monkeypatch, server, fact):
    variant = fact["path"].split("-")[1].removesuffix(".npz").replace("_", "").lower()
    arrays = _variant_file(server.folder / fact["path"], variant, fact["classes"])
    assert (server.folder / fact["path"]).stat().st_size == fact["bytes"]
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("KERAS_MIXER_WEIGHTS", server.url)
    build = getattr(keras_mixer, f"Mixer{variant.upper()}")
    model = build(weights=fact["path"].split("/")[0], classifier_activation=None)
    assert model.output_shape == (None, fact["classes"])
    _assert_parity(model, arrays)
