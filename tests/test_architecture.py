"""Imports run one way (docs/architecture.md), public names are explicit, and importing is light."""

import ast
import subprocess
import sys

import house
import pytest
from conftest import ROOT
from house import FILES, imports_of, module_of, room_of

# From the ground up: a file imports lower floors, its own room, and on its floor nothing.
FLOORS = (
    {"_version", "types", "errors", "paper", "buckets"},
    {"arguments", "cost_model", "random_draws", "versions", "files", "class_names"},
    {"composite", "one_pass"},
    {"layers", "data", "training"},
    {"weights", "pictures"},
    {"models", "evaluation"},
    {"starting_point", "exported", "export", "report"},
    {"run_data"},
    {"runs"},
    {"cli"},
    {"benchmark"},
    {"recipes"},
    {"__main__"},
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
# These run on every backend of Keras, and so name none.
BACKEND_FREE = {"layers", "models", "weights", *FLOORS[0], *FLOORS[1], *FLOORS[2]} - {"versions", "one_pass"}
# Rooms that know no model, though they may import lower floors.
KNOW_NO_MODEL = {"data", "training", "evaluation", "pictures", "report"}
MODEL = {"layers", "models", "weights", "composite"}
KNOW_ABSL = {"cli", "recipes", "__main__"}
# Only these rename and sync files; the second is to load without any other module.
WRITE_WHOLE = {"keras_mixer/files.py", "keras_mixer/weights/download.py"}
RENAMING = {"replace", "rename", "renames", "move", "fsync", "fdatasync"}
PROGRAMS = [*FILES, *sorted((ROOT / "experiments").glob("*.py"))]


def wrong_imports(module, text):
    """Return the imports of a module that its room may not have."""
    room, wrong = room_of(module), []
    for name in imports_of(text):
        top, other = name.split(".")[0], room_of(name) if name.startswith("keras_mixer") else ""
        if top in ("tensorflow", "jax", "torch") and room in BACKEND_FREE:
            wrong.append(name)
        if top == "absl" and room not in KNOW_ABSL:
            wrong.append(name)
        if top == "recipes":
            wrong.append(name)
        if other not in FLOOR or other == room or not room:
            continue
        if FLOOR[other] >= FLOOR[room] or (room in KNOW_NO_MODEL and other in MODEL):
            wrong.append(name)
    return wrong


def circle(edges):
    """Return the names of a circle of imports, or None."""
    done = {}

    def visit(name, path):
        if done.get(name) == "open":
            return [*path[path.index(name) :], name]
        if name in done:
            return None
        done[name] = "open"
        found = next(filter(None, (visit(other, [*path, name]) for other in sorted(edges[name]))), None)
        done[name] = "closed"
        return found

    return next(filter(None, (visit(name, []) for name in sorted(edges))), None)


def edges_of(texts):
    """Return module -> the modules of the package that it imports."""
    edges = {module: set() for module in texts}
    for module, text in texts.items():
        for name in imports_of(text):
            while name and name not in texts:
                name = name.rpartition(".")[0]
            if name not in ("", "keras_mixer", module):
                edges[module].add(name)
    return edges


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_run_one_way(path):
    assert room_of(module_of(path)) in {*FLOOR, ""}
    assert not wrong_imports(module_of(path), path.read_text())


def test_the_picture_of_the_house_is_what_stands():
    assert {*house.ROOMS} == {*FLOOR}, "say in ROOMS of tests/house.py where a room is drawn and what it is for"
    drawn = house.draw(FLOORS)
    assert drawn == house.PICTURE.read_text(), "run `python tests/house.py`, and look at what it drew"


def test_no_circle():
    assert circle(edges_of({module_of(path): path.read_text() for path in FILES})) is None


def test_the_checks_see_a_planted_violation():
    assert wrong_imports("keras_mixer.layers", "from keras_mixer import models")
    assert wrong_imports("keras_mixer.weights.npz", "import keras_mixer.models")
    assert wrong_imports("keras_mixer.training.loop", "def f():\n    from keras_mixer.layers import MlpBlock")
    assert wrong_imports("keras_mixer.data.source", "from keras_mixer.training import loop")
    assert wrong_imports("keras_mixer.evaluation.real", "from keras_mixer import models")
    assert wrong_imports("keras_mixer.weights.npz", "import tensorflow as tf")
    assert wrong_imports("keras_mixer.runs", "from absl import flags")
    assert wrong_imports("keras_mixer.cli.entry", "from keras_mixer.recipes import finetune")
    assert not wrong_imports("keras_mixer.cli.entry", "from absl import flags\nfrom keras_mixer import runs")
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == ["a", "b", "c", "a"]
    assert (
        circle(edges_of({"keras_mixer.a": "import keras_mixer.b", "keras_mixer.b": "def f():\n from . import x"}))
        is None
    )


def whole_writing(text):
    """Return the names by which a source text renames or syncs files itself, rather than through `files`."""
    names, modules = [], {"os", "shutil"}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            modules |= {alias.asname for alias in node.names if alias.name in ("os", "shutil") and alias.asname}
        elif isinstance(node, ast.ImportFrom) and node.module in ("os", "shutil"):
            names += [alias.name for alias in node.names if alias.name in RENAMING]
        elif isinstance(node, ast.Attribute) and node.attr in RENAMING:
            base = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", "")
            # `replace` and `move` are methods of much else, such as of a text.
            if node.attr not in ("replace", "move") or base in modules or base.endswith("Path"):
                names.append(node.attr)
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "replace":
            names += ["replace"] * (len(node.args) == 1 and not node.keywords)  # a path's; a text's has two arguments
    return names


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda p: str(p.relative_to(ROOT)))
def test_one_module_writes_whole_or_not_at_all(path):
    assert bool(whole_writing(path.read_text())) == (str(path.relative_to(ROOT)) in WRITE_WHOLE)


def test_the_check_sees_a_planted_way_of_writing():
    for text in (
        "import os\nos.replace(a, b)",
        "import os\ndef f():\n    os.rename(a, b)",
        "import os as system\nsystem.replace(a, b)",
        "from os import fsync",
        "os.fsync(file.fileno())",
        "path.rename(other)",
        "pathlib.Path(a).replace(b)",
        "pathlib.Path.replace(a, b)",
        "map(Path.rename, paths, others)",
        "shutil.move(a, b)",
    ):
        assert whole_writing(text), text
    for text in ("text.replace('a', 'b')", "dataclasses.replace(a, b=c)", "files.replacing(path)", "window.move(1, 2)"):
        assert not whole_writing(text), text


def test_import_loads_no_data_or_training_code():
    code = (
        "import sys, keras_mixer\n"
        "heavy = ['keras_mixer.data', 'keras_mixer.training', 'keras_mixer.export', 'tensorflow_datasets',"
        " 'keras_cv', 'tensorboard', 'tqdm']\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert result.stdout.strip() == "[]"


def test_public_names_are_explicit_and_exist():
    import keras_mixer

    assert len(set(keras_mixer.__all__)) == len(keras_mixer.__all__)
    assert all(getattr(keras_mixer, name).__doc__ for name in keras_mixer.__all__)
