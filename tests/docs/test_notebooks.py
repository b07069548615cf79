"""The notebooks run from top to bottom without a network, and say what their committed outputs say."""

import base64
import copy
import subprocess
import sys

import nbformat
import notebook_runs
import pytest

NAMES = [path.stem for path in notebook_runs.NOTEBOOKS]
PICTURE, NOTEBOOK = 100_000, 600_000  # bytes, at most


def read(name):
    return nbformat.read(notebook_runs.ROOT / "notebooks" / f"{name}.ipynb", 4)


def tagged(notebook, tag):
    return [cell for cell in notebook.cells if tag in cell.metadata.get("tags", ())]


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_says_what_it_said(name, tmp_path):
    # A process of its own, since the client of a kernel leaves sockets open, of which Python warns.
    command = [sys.executable, notebook_runs.__file__, name, f"--output={tmp_path}"]
    process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    fresh = nbformat.read(tmp_path / f"{name}.ipynb", 4)
    assert not notebook_runs.differences(read(name), fresh), "python tests/docs/notebook_runs.py writes it anew"


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_small_whole_and_has_its_settings_in_one_cell(name):
    notebook = read(name)
    assert (notebook_runs.ROOT / "notebooks" / f"{name}.ipynb").stat().st_size < NOTEBOOK
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert "%pip install" in code[0].source
    (settings,) = tagged(notebook, "parameters")
    values = {}
    exec(settings.source, values)
    assert all(setting.isupper() for setting in values if setting != "__builtins__")
    pictures = [o["data"]["image/png"] for o in notebook_runs.outputs_of(notebook) if "image/png" in o.get("data", {})]
    assert len(pictures) >= 3
    assert max(len(base64.b64decode(picture)) for picture in pictures) < PICTURE


def first_with(notebook, tag, word):
    """The first text output of a cell, with a tag or None, that has a word."""
    cells = tagged(notebook, tag) if tag else [cell for cell in notebook.cells if not cell.metadata.get("tags")]
    return next(
        output
        for cell in cells
        for output in cell.get("outputs", ())
        if output.output_type == "stream" and word in output.text
    )


@pytest.mark.parametrize(
    ("name", "tag", "before", "after", "seen"),
    [
        ("inside_a_mixer", None, "stem ", "stern ", True),  # a word
        ("inside_a_mixer", None, "(8, 64, 64)", "(8, 64, 65)", True),  # a number
        ("inside_a_mixer", None, "18,528,264", "18,628,264", True),
        ("inside_a_mixer", None, "the stem differ by", "the stem differ by 1e-7 +", True),
        ("inside_a_mixer", "trained", "right on ", "right on 2", True),
        ("inside_a_mixer", "trained", "right on ", "wrong on ", True),
        ("inside_a_mixer", "trained", "% of", " of", True),
        ("transfer_learning", "run", "compiling", "not compiling", True),
        ("transfer_learning", "run", "images/s", "0 images/s", True),
        ("transfer_learning", "run", "predicted 0 of", "predicted 0 of 9\npredicted 1 of", False),
    ],
)
def test_a_planted_difference_is_seen(name, tag, before, after, seen):
    committed, planted = read(name), read(name)
    assert not notebook_runs.differences(committed, planted)
    output = first_with(planted, tag, before)
    output.text = output.text.replace(before, after, 1)
    assert bool(notebook_runs.differences(committed, planted)) == seen


def test_numbers_may_differ_by_what_their_cell_allows():
    committed = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1")])
    for tags, before, after, alike in (
        ([], "differ by 0", "differ by 4e-07", True),
        ([], "differ by 1e-07", "differ by 1e-04", False),
        ([], "1,000 of 5", "1,001 of 5", True),
        ([], "1,000 of 5", "1,010 of 5", False),
        (["trained"], "75.0% right", "62.5% right", True),
        (["trained"], "75.0% right", "40.0% right", False),
        (["trained"], "frequency 1.62", "frequency 1.50", True),
        (["trained"], "frequency 1.62", "frequency 1.10", False),
        (["run"], "17 s of training", "99 s of training", True),
        (["run"], "17 s of training", "99 s of training, by chance", False),
    ):
        committed.cells[0].metadata["tags"] = tags
        planted = copy.deepcopy(committed)
        committed.cells[0].outputs = [nbformat.v4.new_output("stream", text=before)]
        planted.cells[0].outputs = [nbformat.v4.new_output("stream", text=after)]
        assert bool(notebook_runs.differences(committed, planted)) != alike, (tags, before, after)


def test_a_warning_a_lost_picture_and_a_lost_cell_are_seen():
    committed = read("inside_a_mixer")
    warned, faceless, short = (copy.deepcopy(committed) for _ in range(3))
    warned.cells[-1].outputs.append(nbformat.v4.new_output("stream", name="stderr", text="DeprecationWarning"))
    for cell in faceless.cells:
        cell["outputs"] = [output for output in cell.get("outputs", ()) if output.output_type == "stream"]
    short.cells.pop()
    for planted, said in ((warned, "stderr"), (faceless, "pictures"), (short, "cells")):
        assert said in str(notebook_runs.differences(committed, planted))
