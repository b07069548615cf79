"""Pages of the site that are made of the package: its public functions and classes, and every flag of every command.

MkDocs calls `on_files` when it builds the site (`hooks` in mkdocs.yml). Nothing here is written to disk.
"""

import importlib
import inspect
import pathlib
import re
import shlex
import sys

import griffe
from mkdocs.structure.files import File

ROOT = pathlib.Path(__file__).parent.parent
# Page -> title, what it is for, modules in the order in which one reads them.
PYTHON = {
    "models": ("Models and layers", "Build a Mixer, of a size of the paper or of any other.", ("models", "layers")),
    "weights": (
        "Weights",
        "Load and save checkpoints, and list the released ones.",
        ("weights.released", "weights.checkpoint", "class_names"),
    ),
    "runs": ("Runs", "Use a finished run, an export or a released model in two lines.", ("runs",)),
    "data": (
        "Data",
        "Images from files, records and TFDS, and what is done to them before the model sees them.",
        ("data.decode", "data.source", "data.opening", "data.augment_settings", "data.randaugment", "data.pipeline"),
    ),
    "training": (
        "Training",
        "The step, the loop, and what they are made of. It trains any Keras model.",
        ("training.loop", "training.step", "training.optimizers", "training.losses", "training.strategies"),
    ),
    "evaluation": (
        "Evaluation",
        "Accuracy, few-shot accuracy and predictions.",
        ("evaluation.predictions", "evaluation.fewshot", "evaluation.tables"),
    ),
    "export": ("Export", "A model in the form that a server, a phone or a browser takes.", ("export",)),
    "pictures": ("Pictures", "Curves, grids of images and pictures of weights.", ("pictures.curves", "pictures.grids")),
}


class Examples(griffe.Extension):
    """Has the part "Example:" of a docstring shown as code, which griffe does for "Examples:" only."""

    def on_object(self, *, obj, **kwargs):
        if obj.docstring:
            obj.docstring.value = re.sub(r"^( *)Example:$", r"\1Examples:", obj.docstring.value, flags=re.M)


def on_files(files, config):
    """Add the pages of the reference, and the changelog, which stands beside the README."""
    sys.path.insert(0, str(ROOT))
    from keras_mixer.__main__ import _about, commands

    about = {name: _about(path) for name, path in commands().items()}
    pages = {"reference/index.md": index(about), "changelog.md": (ROOT / "CHANGELOG.md").read_text("utf-8")}
    pages |= {f"reference/python/{name}.md": python_page(*of) for name, of in PYTHON.items()}
    pages |= {f"reference/commands/{name}.md": command_page(name) for name in about}
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


def index(about):
    """Return the page that lists all others of the reference."""
    python = [f"| [{title}](python/{name}.md) | {text} |" for name, (title, text, _) in PYTHON.items()]
    made = [f"| [{name}](commands/{name}.md) | {cell(text)} |" for name, text in about.items()]
    return "\n".join(
        [
            "# Reference",
            "",
            "Two ways lead to the same code: Python, and commands. A command is `python recipes/NAME.py` in a checkout",
            "and `keras-mixer NAME` wherever the package is installed. Its flags are the fields of its `Settings`, so",
            "`recipes.NAME.run(Settings(...))` is the same call from Python.",
            "",
            "| Python | |",
            "|---|---|",
            *python,
            "",
            "| command | |",
            "|---|---|",
            *made,
            "",
        ]
    )


def python_page(title, about, modules):
    """Return a page of public functions and classes; mkdocstrings fills it in."""
    parts = [f"# {title}", "", about, "", *(variants() if "models" in modules else ())]
    for module in modules:
        parts += [f"## `keras_mixer.{module}`", "", f"::: keras_mixer.{module}", "    options:"]
        parts += ["      show_root_heading: false", "      show_root_toc_entry: false", ""]
    return "\n".join(parts)


def variants():
    """Return the table of the paper's models, which are functions without docstrings of their own."""
    from keras_mixer.paper import VARIANTS

    sizes = list(next(iter(VARIANTS.values())))
    head = "The paper's models are functions that give `MLPMixer` its sizes and take its other arguments:"
    rows = [f"| `Mixer{name.upper()}` | {' | '.join(map(str, v.values()))} |" for name, v in VARIANTS.items()]
    return [head, "", f"| | {' | '.join(sizes)} |", f"|---|{'---|' * len(sizes)}", *rows, ""]


def command_page(name):
    """Return a page of what a command does and which flags it takes, from its docstring and its settings."""
    from keras_mixer.cli import flags

    recipe = importlib.import_module(f"keras_mixer.recipes.{name}")
    parts = [f"# {name}", "", fenced(inspect.getdoc(recipe)), "", "## Flags", ""]
    parts += ["Each is written `--name=value`. Those that most people need are **bold**.", ""]
    for title, fields in flags._groups(recipe.Settings).items():
        parts += [f"### {title}", "", "| flag | default | what it is |", "|---|---|---|"]
        parts += [flag_row(field) for field in fields if not field.metadata["positional"]]
        parts.append("")
    return "\n".join(parts)


def fenced(text):
    """Return a docstring with its indented commands as blocks of shell."""
    parts = text.split("\n\n")
    return "\n\n".join(f"```sh\n{inspect.cleandoc(part)}\n```" if part.startswith("    ") else part for part in parts)


def flag_row(field):
    """Return the row of the table of flags for one field."""
    default = field.default if field.default is not None else field.metadata["usual"]
    if isinstance(default, tuple):
        default = ",".join(map(str, default))
    name = f"--[no]{field.name}" if isinstance(default, bool) else f"--{field.name}"
    name = f"**`{name}`**" if field.metadata["common"] else f"`{name}`"
    shown = "" if default in (None, "") else f"`{shlex.quote(str(default))}`"
    least = field.metadata["least"]
    text = field.metadata["help"] + ("" if least is None else f" At least {least:g}.")
    return f"| {name} | {shown} | {cell(text)} |"


def cell(text):
    """Return a text as a cell of a table."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
