"""Every block of code in the documentation runs, or says on the page's source why no test runs it."""

import dataclasses
import importlib
import json
import os
import shlex
import shutil

import numpy as np
import pytest
from conftest import ROOT
from pages import PAGES, blocks, blocks_of, commands_of
from PIL import Image
from trained import run_recipe, trained_run

from keras_mixer.cli import flags

LANGUAGES = {"python", "sh", "text", "json", "yaml"}
RUN = {page: [b for b in blocks(page) if b.is_program and not b.why_not] for page in PAGES}
COUNTS = {"blue": 12, "green": 6, "red": 9}  # of pictures


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """What docs/guides take for granted: pictures, a run on digits and one on these pictures."""
    folder = tmp_path_factory.mktemp("pages")
    rng = np.random.default_rng(0)
    for channel, (name, count) in zip((2, 1, 0), COUNTS.items(), strict=True):
        (folder / "photos" / name).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 100, (40, 50, 3), np.uint8)
            pixels[:, :, channel] += 150
            Image.fromarray(pixels).save(folder / "photos" / name / f"{i}.jpg")
    shutil.copy(folder / "photos" / "red" / "0.jpg", folder / "cat.jpg")
    for name in ("recipes", "experiments"):
        (folder / name).symlink_to(ROOT / name)
    shutil.copytree(trained_run(tmp_path_factory), folder / "runs" / "pretrain")
    sizes = ["--image_size=32", "--total_steps=4", "--batch_size=8"]
    run_recipe("finetune", "--weights=runs/pretrain", "--dataset=photos", *sizes, cwd=folder)
    return folder


def program(command):
    """Return the name of the command of this package that a line of shell runs, and its arguments; or None."""
    words = shlex.split(command, comments=True)
    while words and "=" in words[0]:  # environment variables
        words = words[1:]
    if words[:1] == ["keras-mixer"] and len(words) > 1:
        return words[1], words[2:]
    if words[:3] == ["python", "-m", "keras_mixer"]:
        return words[3], words[4:]
    if words[:1] == ["python"] and words[1].startswith("recipes/"):
        return words[1].removeprefix("recipes/").removesuffix(".py"), words[2:]
    return None


def refused(command):
    """Return why a command does not take its flags, or an empty text."""
    found = program(command)
    if not found or {"--help", "--helpfull"} & set(found[1]):
        return ""
    name, arguments = found
    arguments = [word for word in arguments if not word.startswith("--flagfile=")]
    ends = [i for i, word in enumerate(arguments) if word in ("|", "&&", ">", "2>&1", "&", ";")]
    try:
        recipe = importlib.import_module(f"keras_mixer.recipes.{name}")
        flags.read(recipe.Settings, [name, *arguments[: min(ends, default=None)]], "")
    except (ImportError, ValueError) as error:
        return f"{command}: {error}"
    return ""


@pytest.mark.parametrize("page", PAGES)
def test_blocks_say_their_language_and_commands_take_their_flags(page):
    wrong = [f"{b.page}:{b.line}: language {b.language!r}" for b in blocks(page) if b.language not in LANGUAGES]
    for block in blocks(page):
        if block.language == "sh":
            wrong += [f"{page}:{block.line}: {why}" for c in commands_of(block.code) if (why := refused(c))]
    assert not wrong


def test_wrong_flags_and_values_are_seen():
    assert "is not a flag" in refused("python recipes/pretrain.py --total_step=3")
    assert "whole number" in refused("X=1 keras-mixer finetune --weights=a --total_steps=x")
    assert "No module" in refused("python -m keras_mixer train")
    assert not refused("python recipes/pretrain.py --total_steps=3 && ls")
    assert not refused("ls recipes")
    block, other = blocks_of("a\n```sh\nls\n```\n\n<!-- not run: long -->\n  ```python\n  x = 1\n  ```\n")
    assert (block.line, block.code, block.why_not) == (2, "ls\n", "")
    assert (other.code, other.why_not, other.language) == ("x = 1\n", "long", "python")


@pytest.mark.parametrize("page", [page for page in PAGES if RUN[page]])
def test_blocks_run(page, place, tmp_path):
    folder = tmp_path / "place"
    shutil.copytree(place, folder, symlinks=True)
    (tmp_path / "blocks.json").write_text(json.dumps([dataclasses.asdict(block) for block in RUN[page]]))
    program = str(ROOT / "tests" / "docs" / "run_page")
    environment = os.environ | {"MPLBACKEND": "agg"}
    process = run_recipe(program, tmp_path / "blocks.json", cwd=folder, env=environment, check=False)
    assert process.returncode == 0, process.stdout[-3000:] + process.stderr[-3000:]


def test_a_block_that_fails_is_named(tmp_path):
    bad = blocks_of("```python\nx = 1\n```\n\n```python\nassert x == 2\n```\n", "docs/page.md")
    (tmp_path / "blocks.json").write_text(json.dumps([dataclasses.asdict(block) for block in bad]))
    process = run_recipe(str(ROOT / "tests" / "docs" / "run_page"), tmp_path / "blocks.json", cwd=tmp_path, check=False)
    assert process.returncode == 1
    assert "failed: docs/page.md:5" in process.stderr
