"""The tables of docs/results can be made again, and one knows which are stale."""

import pathlib
import shlex
import sys

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "experiments"))
import refresh

COMMENT = "<!-- measured: 2026-01-02 | minutes: 3 | from: a b | run: python experiments/x.py --rounds=2 -->\n\n"
PAGE = f"# Title\n\n{COMMENT}| n | ms |\n|---|---|\n| 1 | 20 |\n\nText.\n"
TABLES = [t for path in sorted(refresh.RESULTS.glob("*.md")) for t in refresh.tables_of(path.read_text(), path.stem)]


def test_a_printed_table_takes_the_place_of_the_one_with_its_columns():
    (table,) = refresh.tables_of(PAGE, "page")
    assert (table.day, table.minutes, table.sources) == ("2026-01-02", 3, ("a", "b"))
    printed = "said\n| other |\n|---|\n| 1 |\n\n| n | ms |\n|---|---|\n| 1 | 10 |\n| 2 | 15 |\n"
    new = refresh.replaced(PAGE, table, printed, "2026-03-04")
    assert new == PAGE.replace("2026-01-02", "2026-03-04").replace("| 1 | 20 |\n", "| 1 | 10 |\n| 2 | 15 |\n")
    assert refresh.replaced(PAGE, table, "| n | seconds |\n|---|---|\n| 1 | 2 |\n", "2026-03-04") is None


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
