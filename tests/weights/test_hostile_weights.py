"""Files of weights that were made to do harm: they run nothing, read no other file, fill no memory (SECURITY.md)."""

import contextlib
import json
import pathlib
import tempfile
import zipfile

import h5py
import keras
import numpy as np
import pytest
import tiny

import keras_mixer
from keras_mixer.weights import formats

MARKER = "harm was done"


@pytest.fixture(scope="module")
def model():
    return tiny.build()


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder to work in, with a file that no weights may read, and no marker of harm before and after."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.bin").write_bytes(np.ones(1000, "float32").tobytes())
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["x"] = np.ones(48, "float32")
    yield tmp_path
    assert not (tmp_path / MARKER).exists()


def edit(source, target, config=None, weights=None):
    """Copy a .keras file with another configuration, or with weights that a function of the HDF5 file has changed."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "config.json" and config:
                data = json.dumps(config).encode()
            if name == "model.weights.h5" and weights:
                with changed_h5(data, weights) as path:
                    data = path.read_bytes()
            new.writestr(name, data)
    return target


@contextlib.contextmanager
def changed_h5(data, change):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "a.h5")
        path.write_bytes(data)
        with h5py.File(path, "a") as file:
            change(file)
        yield path


def replaced(file):
    """The name and shape of the array of 48 numbers, taken out of the file."""
    found = []
    file.visititems(lambda name, item: found.append(name) if getattr(item, "shape", None) == (48,) else None)
    shape = file[found[0]].shape
    del file[found[0]]
    return found[0], shape


def points_to_bytes(file):
    name, shape = replaced(file)
    file.create_dataset(
        name, shape, "f4", external=[(str(pathlib.Path("secret.bin").absolute()), 0, h5py.h5f.UNLIMITED)]
    )


def points_to_hdf5(file):
    file[replaced(file)[0]] = h5py.ExternalLink(str(pathlib.Path("secret.h5").absolute()), "x")


def declares_too_much(file):
    """None of its parts is written: a file of kilobytes that fills 400 GB when it is read."""
    file.create_dataset(replaced(file)[0], (10**6, 10**5), "f4", chunks=(100, 100))


def config(module, class_name, **settings):
    return {"module": module, "class_name": class_name, "config": settings, "registered_name": None}


@pytest.mark.parametrize(
    ("hostile", "message"),
    [
        (config("keras.layers", "TFSMLayer", filepath="served", call_endpoint="serve"), "disallowed by default"),
        (config("keras.utils", "get_file", fname=MARKER, origin="file:secret.bin"), "not a modeling function"),
        (config("os", "system", command=f"touch '{MARKER}'"), "Could not locate class 'system'"),
        (config("keras_mixer.weights.download", "fetch"), "Could not locate class 'fetch'"),
        (config("keras.layers", "StringLookup", vocabulary="secret.bin", name="names"), "could not be deserialized"),
    ],
    ids=["a SavedModel", "a download", "a program", "a function of ours", "a file of words"],
)
def test_a_keras_file_brings_no_code_and_reads_no_other_file(model, place, hostile, message):
    model.save("whole.keras")
    with pytest.raises(ValueError, match=rf"^weights: hostile\.keras is no Keras model .*{message}"):
        formats.open_file(edit("whole.keras", "hostile.keras", config=hostile))


def test_a_lambda_is_not_run(model, place):
    images = keras.Input((32, 32, 3))
    harm = keras.layers.Lambda(lambda x: (open("harm was done", "w").close(), x)[1])
    keras.Model(images, model(harm(images))).save("lambda.keras")
    (place / MARKER).unlink()  # it ran once, where it was made
    with pytest.raises(ValueError, match=r"^weights: lambda\.keras is no Keras model .*`Lambda` layer"):
        keras_mixer.load_checkpoint(model, "lambda.keras")


@pytest.mark.filterwarnings("ignore:Skipping nested container:UserWarning")  # Keras looks on after the refusal
@pytest.mark.parametrize("change", [points_to_bytes, points_to_hdf5])
def test_weights_come_from_no_other_file(model, place, change):
    model.save("whole.keras")
    with pytest.raises(ValueError, match=r"^weights: hostile\.keras is no Keras model that can be loaded"):
        formats.open_file(edit("whole.keras", "hostile.keras", weights=change))
    model.save_weights("whole.weights.h5")
    with changed_h5((place / "whole.weights.h5").read_bytes(), change) as path:
        path = path.rename(place / "hostile.weights.h5")
        with pytest.raises(ValueError, match="points into another file|does not hold this model's arrays"):
            keras_mixer.load_checkpoint(model, path)


def test_an_hdf5_file_may_not_declare_more_than_it_could_hold(model, place):
    model.save_weights("whole.weights.h5")
    with changed_h5((place / "whole.weights.h5").read_bytes(), declares_too_much) as path:
        path = path.rename(place / "hostile.weights.h5")
    assert path.stat().st_size < 2**20
    with pytest.raises(ValueError, match=r"^weights: .*400,0\d\d,\d{3},\d{3} bytes of arrays in .*than weights can be"):
        formats.open_file(path)
