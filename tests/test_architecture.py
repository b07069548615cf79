"""Imports run one way (docs/architecture.md), public names are explicit, and importing is light."""

import ast
import pathlib
import subprocess
import sys

import pytest
from conftest import ROOT

PACKAGE = ROOT / "keras_mixer"
# Modules of the same rank may import each other, and those of a lower rank.
WEIGHTS = (
    "weights",
    "resolution",
    "released",
    "weight_files",
    "weight_layouts",
    "fetch",
    "hub",
    "keras_h5",
    "mixer_variables",
    "checkpoint",
    "npz",
    "class_names",
    "stem_channels",
)
RANKS = {
    "_version": 0,
    "paper": 0,
    "types": 0,
    "errors": 0,
    "arguments": 0,
    "composite": 0,
    "random_draws": 0,
    "layers": 1,
    **dict.fromkeys(WEIGHTS, 2),
    "models": 3,
}
# These are above all, and nothing below them imports them.
TOP = {"serving": 4, "export": 5, "versions": 4, "starting_point": 4, "exported": 4, "runs": 5}
# These know no model, and not each other.
APART = {"data", "training", "evaluation", "analysis"}
# This one knows no model either, so they may share it.
SHARED = {"random_draws", "types"}
# What the exported graph does to encoded images is what an evaluation does.
OF_SERVING = {
    f"keras_mixer.data.{name}" for name in ("crops", "decode", "decode_plain", "grey", "image_limits", "pixel_settings")
}


def _imports(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module, node
            yield from ((f"{node.module}.{alias.name}", node) for alias in node.names)


def _parts(path):
    """The part of the package a file belongs to, and the parts it imports."""
    part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    names = {name.split(".")[1] for name, _ in _imports(ast.parse(path.read_text())) if name.startswith("keras_mixer.")}
    return part, {name for name in names if (PACKAGE / name).exists() or (PACKAGE / f"{name}.py").exists()}


def violations(part, imported):
    imported = imported - {part}
    if part in APART:
        return imported - SHARED
    ranks = RANKS | TOP
    return {name for name in imported if name in APART or ranks[name] > ranks[part]}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_one_way(path):
    part, imported = _parts(path)
    if part in ("__init__", "__main__", "cli"):  # the roof
        return
    if part in ("starting_point", "exported", "runs"):  # they open a model with the pixels that it wants
        imported -= {"data"}
    if part == "serving":
        imported -= {"data"}
        of_data = {name for name, _ in _imports(ast.parse(path.read_text())) if name.startswith("keras_mixer.data.")}
        assert {".".join(name.split(".")[:3]) for name in of_data} <= OF_SERVING
    assert not violations(part, imported)
    names = [name for name, _ in _imports(ast.parse(path.read_text()))]
    assert not [
        name for name in names if name.split(".")[0] in ("recipes", "absl") or name.startswith("keras_mixer.cli")
    ]


def test_the_check_sees_a_wrong_import():
    assert violations("layers", {"models"}) == {"models"}
    assert violations("weights", {"models"}) == {"models"}
    assert violations("training", {"layers"}) == {"layers"}
    assert violations("weights", {"serving"}) == {"serving"}
    assert violations("serving", {"training", "models"}) == {"training"}


@pytest.mark.parametrize("name", sorted(RANKS))
def test_model_code_names_no_backend(name):
    names = {imported.split(".")[0] for imported, _ in _imports(ast.parse((PACKAGE / f"{name}.py").read_text()))}
    assert not names & {"tensorflow", "jax", "torch"}


def test_import_loads_no_data_or_training_code():
    code = (
        "import sys, keras_mixer\n"
        "heavy = ['keras_mixer.data', 'keras_mixer.training', 'keras_mixer.serving', 'tensorflow_datasets',"
        " 'keras_cv', 'tensorboard', 'tqdm']\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.strip() == "[]"


def test_public_names_are_explicit_and_exist():
    import keras_mixer

    assert len(set(keras_mixer.__all__)) == len(keras_mixer.__all__)
    assert all(getattr(keras_mixer, name).__doc__ for name in keras_mixer.__all__)


def test_no_file_is_longer_than_a_reader_can_hold():
    long = {str(p): n for p in pathlib.Path(PACKAGE).rglob("*.py") if (n := len(p.read_text().splitlines())) > 300}
    assert not long
