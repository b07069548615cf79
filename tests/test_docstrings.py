"""Every example in a docstring of the package runs and prints what it says."""

import doctest
import importlib
import pkgutil

import keras
import numpy as np
import pytest

import keras_mixer

MODULES = [m.name for m in pkgutil.walk_packages(keras_mixer.__path__, "keras_mixer.")]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # some write a file
    module = importlib.import_module(name)
    names = {**vars(module), "keras": keras, "np": np, "keras_mixer": keras_mixer}
    failed, _ = doctest.testmod(module, extraglobs=names)
    assert not failed
