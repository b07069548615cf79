"""The tables of docs/results can be made again, and one knows which are stale."""

import ast
import os
import pathlib
import re
import shlex
import subprocess
import sys

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "experiments"))
import refresh

COMMENT = "<!-- measured: 2026-01-02 | minutes: 3 | from: a b | run: python experiments/x.py --rounds=2 -->\n\n"
PAGE = f"# Title\n\n{COMMENT}| n | ms |\n|---|---|\n| 1 | 20 |\n\nText.\n"
FILLED = r"(?:[\d, ]*|[\w.,/-]*)"  # numbers, or a name: what a program fills into a title
TABLES = [t for path in sorted(refresh.RESULTS.glob("*.md")) for t in refresh.tables_of(path.read_text(), path.stem)]


def test_a_printed_table_takes_the_place_of_the_one_with_its_columns():
    (table,) = refresh.tables_of(PAGE, "page")
    assert (table.day, table.minutes, table.sources) == ("2026-01-02", 3, ("a", "b"))
    printed = "said\n| other |\n|---|\n| 1 |\n\n| n | ms |\n|---|---|\n| 1 | 10 |\n| 2 | 15 |\n"
    new = refresh.replaced(PAGE, table, printed, "2026-03-04", "CPU, 1 core")
    expected = PAGE.replace("2026-01-02", "2026-03-04").replace("| 1 | 20 |\n", "| 1 | 10 |\n| 2 | 15 |\n")
    assert new == expected.replace("--rounds=2 -->", "--rounds=2 | machine: CPU, 1 core -->")
    (table,) = refresh.tables_of(new, "page")
    again = refresh.replaced(new, table, printed, "2026-03-05", "CPU, 2 cores")
    assert again == new.replace("03-04", "03-05").replace("1 core", "2 cores")
    assert refresh.replaced(PAGE, table, "| n | seconds |\n|---|---|\n| 1 | 2 |\n", "2026-03-04", "CPU") is None


def test_only_a_table_that_is_not_by_hand_is_replaced(tmp_path, monkeypatch, capsys):
    (tmp_path / "docs").mkdir()
    monkeypatch.setattr(refresh, "RESULTS", tmp_path / "docs")
    monkeypatch.setattr(refresh, "ROOT", tmp_path)
    monkeypatch.setattr(refresh, "last_change", lambda sources: "7")
    command = (
        "for i in 7 8; do echo '| n | ms |'; echo '|---|---|'; echo \"| $i | $KERAS_MIXER_FINISHED_SINCE |\"; done"
    )
    page = PAGE.replace("python experiments/x.py --rounds=2", command)
    for mark, row in ((" | by hand", "| 1 | 20 |"), ("", "| 8 | 7 |")):
        marked = page.replace(" -->", f"{mark} -->")
        (tmp_path / "docs" / "page.md").write_text(marked)
        tables = refresh.tables_of(marked, "page")
        assert [(table.by_hand, table.command) for table in tables] == [(bool(mark), command)]
        refresh.run(command, tables)
        assert row in (tmp_path / "docs" / "page.md").read_text()
        assert ("by hand; do so from that file" in capsys.readouterr().out) == bool(mark)
    assert len(list((tmp_path / "runs" / "refreshed").iterdir())) == 1


def test_the_list_counts_a_command_once(capsys):
    (table,) = refresh.tables_of(PAGE, "page")
    (other,) = refresh.tables_of(PAGE.replace(" -->", " | by hand -->"), "page")
    refresh.print_list({table: 2, other: 1})
    *_, first, second, summary = capsys.readouterr().out.splitlines()
    assert (" itself " in first, " by hand " in second) == (True, True)
    assert summary.startswith("2 tables, 1 of them by hand. 2 are stale: their programs take 3 minutes")


def test_a_comment_without_a_table_is_refused():
    with pytest.raises(ValueError, match="no table stands under"):
        refresh.tables_of(f"{COMMENT}\nText.\n", "page")


def test_what_is_measured_names_programs_and_files_that_are_there():
    assert len(TABLES) > 20
    for table in TABLES:
        for name in table.sources:
            assert (ROOT / name).exists(), f"{table.page}: {name}"
        programs = [word for word in shlex.split(table.command) if word.endswith(".py")]
        assert programs or " -c " in table.command, table.command
        assert all(pathlib.Path(ROOT / name).is_file() for name in programs), table.command


def test_a_commit_to_its_sources_makes_a_table_stale():
    (table,) = refresh.tables_of(PAGE.replace("from: a b", "from: keras_mixer/layers.py"), "page")
    (never,) = refresh.tables_of(PAGE.replace("2026-01-02", "2100-01-02"), "page")
    assert refresh.changes(table) > 0
    assert refresh.changes(never) == 0


def _patterns(programs):
    """The texts of some programs, as one expression: what is filled into them may be some numbers or a word."""
    found = set()
    for program in programs:
        for node in ast.walk(ast.parse(program.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(re.escape(node.value))
            elif isinstance(node, ast.JoinedStr):
                parts = [re.escape(p.value) if isinstance(p, ast.Constant) else FILLED for p in node.values]
                if any(isinstance(p, ast.Constant) and re.search(r"[a-z]{2}", p.value) for p in node.values):
                    found.add("".join(parts))
    return re.compile("|".join(sorted(found | {text.replace("_", " ") for text in found}, key=len, reverse=True)))


def _programs_of(table):
    named = [ROOT / word for word in shlex.split(table.command) if word.endswith(".py")]
    if named == [ROOT / "recipes" / "benchmark.py"]:
        named = sorted((ROOT / "keras_mixer" / "benchmark").glob("*.py"))
    return [*named, ROOT / "keras_mixer" / "paper.py"]


@pytest.mark.parametrize(
    "table", [table for table in TABLES if not table.by_hand], ids=lambda t: f"{t.page}: {t.columns[:40]}"
)
def test_a_program_prints_the_columns_of_its_table(table):
    texts = _patterns(_programs_of(table))
    cells = [cell.strip() for cell in table.columns.strip("|").split("|")]
    missing = [cell for cell in cells if cell and not texts.fullmatch(cell)]
    assert not missing, f"{table.command} prints no column {missing}"


def test_the_tables_of_one_command_are_told_apart():
    for table in TABLES:
        same = [t for t in TABLES if (t.page, t.command, t.columns) == (table.page, table.command, table.columns)]
        assert same == [table]


def test_a_printed_table_is_the_one_on_the_page():
    (table,) = (table for table in TABLES if table.command == "python experiments/core_days.py")
    words = [sys.executable, *table.command.split()[1:]]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    printed = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
    assert table.table in printed
