"""Rules of the code that each file shows by itself: sizes, types, imports inside functions, and who reads FLAGS.

A list of offenders may only shrink: who mends one takes it out, and nothing new goes in."""

import ast
import configparser
import sys

import pytest
from house import FILES, ROOT, imports_of, module_of

TEXTS = {module_of(path): path.read_text() for path in FILES}
LINES, ARGUMENTS, FILE_LINES = 60, 7, 300
# Signatures that Keras has set, or that users were promised.
PROMISED = {
    "keras_mixer.models.MLPMixer.__init__",
    "keras_mixer.models._variant.build",
    "keras_mixer.export.serving_folder.saved_model",
    "keras_mixer.export.web.web",
    "keras_mixer.cli.flags.setting",  # the constructor of settings
}
TOO_LARGE = {
    "keras_mixer.data.opening.open_source",
    "keras_mixer.data.pipeline.train_batches",
    "keras_mixer.data.record_writing.write_records",
}
# Not in the default install, or not on every system.
OPTIONAL = {
    *("ai_edge_litert", "apache_beam", "array_record", "huggingface_hub", "jax", "keras_hub", "onnx", "onnxruntime"),
    *("pillow_heif", "resource", "safetensors", "skimage", "tf2onnx", "timm", "torch"),
}
# A second or more, or what a process can do without.
SLOW = {
    *("h5py", "keras", "keras_cv", "matplotlib", "ml_dtypes", "PIL", "sklearn", "tensorflow", "tensorflow_datasets"),
    *("tqdm", "etils"),
}
# They import TensorFlow Datasets, and Apache Beam.
SLOW_OF_OURS = ("keras_mixer.data.tfds.", "keras_mixer.data.beam_engine.")
LATE_IMPORTS = {
    # A process that measures a peer loads nothing of ours, and one without TensorFlow none of it.
    ("keras_mixer.benchmark.child", "keras_mixer"),
    ("keras_mixer.benchmark.child", "keras_mixer.cost_model"),
    ("keras_mixer.benchmark.child", "keras_mixer.benchmark.keras_timing"),
    ("keras_mixer.benchmark.child", "keras_mixer.benchmark.peers"),
    ("keras_mixer.recipes.benchmark", "importlib.import_module(module)"),
}
FLAGS_AT_HOME = "keras_mixer.cli.flags"


def functions_of(text):
    """Every function of a source text with its name, those inside classes and functions as outer.inner."""

    def visit(node, prefix):
        for child in ast.iter_child_nodes(node):
            named = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
            name = f"{prefix}.{child.name}" if named else prefix
            if named and not isinstance(child, ast.ClassDef):
                yield name.removeprefix("."), child
            yield from visit(child, name)

    return visit(ast.parse(text), "")


def arguments_of(function):
    """The arguments that a caller gives."""
    every = function.args
    found = [*every.posonlyargs, *every.args, *every.kwonlyargs, every.vararg, every.kwarg]
    return [argument for argument in found if argument and argument.arg not in ("self", "cls")]


def too_large(text):
    """Names of the functions with more lines, the docstring not counted, or more arguments than a reader can hold."""
    for name, function in functions_of(text):
        says = function.body[0] if ast.get_docstring(function) else None
        lines = function.end_lineno - function.lineno + 1 - (says.end_lineno - says.lineno + 1 if says else 0)
        if lines > LINES or len(arguments_of(function)) > ARGUMENTS:
            yield name


def untyped(text):
    """Names of the functions with an argument or a result that has no type."""
    for name, function in functions_of(text):
        if function.returns is None or any(argument.annotation is None for argument in arguments_of(function)):
            yield name


def late_imports(text):
    """What functions import, and what they give to import_module, but for packages that are optional or slow."""
    for _, function in functions_of(text):
        for node in ast.walk(function):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = imports_of(ast.unparse(node))
                yield from (
                    name
                    for name in names
                    if name.split(".")[0] not in OPTIONAL | SLOW and not name.startswith(SLOW_OF_OURS)
                )
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
                yield ast.unparse(node)


def names_flags(text):
    """Whether a source text reads the flags of the process."""
    nodes = ast.walk(ast.parse(text))
    return any("FLAGS" in (getattr(node, "id", ""), getattr(node, "attr", "")) for node in nodes)


def only(found, listed):
    """Fail with what is new, and with what is listed and offends no longer."""
    assert not found - listed, "new: mend it"
    assert not listed - found, "mended: take it out of the list"


def test_functions_are_of_a_size_that_a_reader_can_hold():
    found = {f"{module}.{name}" for module, text in TEXTS.items() for name in too_large(text)}
    only(found, PROMISED | TOO_LARGE)


def test_files_are_of_a_size_that_a_reader_can_hold():
    assert not {module: n for module, text in TEXTS.items() if (n := len(text.splitlines())) > FILE_LINES}


def test_every_function_has_types():
    only({f"{module}.{name}" for module, text in TEXTS.items() for name in untyped(text)}, set())


def test_functions_import_only_what_is_optional_or_slow():
    texts = {module: text for module, text in TEXTS.items() if module != "keras_mixer"}  # it hands out names when used
    only({(module, name) for module, text in texts.items() for name in late_imports(text)}, LATE_IMPORTS)


def test_optional_packages_are_in_no_default_install():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    default = config["options"]["install_requires"].replace("-", "_").split()
    assert not [name for name in OPTIONAL if any(line.startswith((f"{name}>", f"{name}<")) for line in default)]
    assert not (OPTIONAL | SLOW) & set(sys.stdlib_module_names) - {"resource"}


def test_flags_are_read_at_one_place():
    assert {module for module, text in TEXTS.items() if names_flags(text)} == {FLAGS_AT_HOME}


def test_the_checks_see_a_planted_violation():
    long = "def f():\n" + "    x = 1\n" * LINES
    assert list(too_large(long)) == ["f"]
    assert list(too_large("class A:\n    def f(self, a, b, c, d, *, e, f, g, h): pass")) == ["A.f"]
    assert not list(too_large("class A:\n    def f(self, a, b, c, d, *, e, f): pass"))
    assert not list(too_large('def f():\n    """Says' + "\n" * LINES + '    """\n    return 1'))
    assert list(untyped("def f(a: int): pass")) == ["f"]
    assert list(untyped("def f(a) -> None: pass")) == ["f"]
    assert list(untyped("def f(*a) -> None: pass")) == ["f"]
    assert list(untyped("class A:\n    def g(self) -> None:\n        def h(x): pass")) == ["A.g.h"]
    assert not list(untyped("class A:\n    def f(self, *, a: int = 1, **b: int) -> None: pass"))
    assert list(late_imports("def f():\n    from keras_mixer import models")) == ["keras_mixer.models"]
    assert list(late_imports("def f():\n    import json")) == ["json"]
    assert list(late_imports("def f():\n    importlib.import_module(name)")) == ["importlib.import_module(name)"]
    assert not list(late_imports("import json\ndef f():\n    import torch.nn\n    from matplotlib import figure"))
    assert names_flags("from absl import flags\ndef f(): return flags.FLAGS.seed")
    assert names_flags("FLAGS = 1")
    assert not names_flags("from absl import flags\nflags.DEFINE_integer('seed', 0, 'FLAGS')")
    for found, listed in (({"a"}, set()), (set(), {"a"})):
        with pytest.raises(AssertionError):
            only(found, listed)
