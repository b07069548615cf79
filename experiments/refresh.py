"""Tables of docs/results: which are stale, and all that take under an hour measured again.

    python experiments/refresh.py                          # lists them
    python experiments/refresh.py --run                    # measures the stale ones again
    python experiments/refresh.py --run input_speed records    # those of two pages, stale or not

Above a table stands a comment:

    <!-- measured: 2026-11-26 | minutes: 5 | from: keras_mixer/data | run: python experiments/input_scaling.py -->

It is stale when a commit after that day changed one of the paths after "from". What a program prints is kept in
runs/refreshed/; of the tables in it, the one with the same first row takes the old one's place, and the comment gets
the day and the machine. Where the comment ends with "| by hand", the table says what no program prints: it stays, and
is written anew by hand from what is kept.
"""

import argparse
import dataclasses
import datetime
import importlib.metadata
import os
import pathlib
import re
import subprocess
import sys
import time

from keras_mixer.benchmark import throughput

ROOT = pathlib.Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "results"
LONG = 60  # minutes
_FIELDS = ("measured", "minutes", "from", "run")
_COMMENT = re.compile(
    r"^<!-- "
    + r" \| ".join(rf"{name}: (?P<{name}>.+?)" for name in _FIELDS)
    + r"(?: \| machine: (?P<machine>.+?))?(?P<by_hand> \| by hand)? -->\n\n?",
    re.M,
)
_TABLE = re.compile(r"(?:^\|.*\n)+", re.M)


@dataclasses.dataclass(frozen=True)
class Measured:
    """A table of docs/results with what its comment says."""

    page: str
    day: str
    minutes: float
    sources: tuple[str, ...]
    command: str
    machine: str | None
    by_hand: bool
    comment: str
    table: str

    @property
    def columns(self) -> str:
        """The table's first row, which tells which of the printed tables it is."""
        return self.table.split("\n")[0]


def tables_of(text: str, page: str) -> list[Measured]:
    """Return the tables of a page that have a comment."""
    found = []
    for comment in _COMMENT.finditer(text):
        table = _TABLE.match(text, comment.end())
        if table is None:
            raise ValueError(f"{page}: no table stands under {comment.group().strip()}")
        day, minutes, sources, command = (comment[name] for name in _FIELDS)
        marks = comment["machine"], comment["by_hand"] is not None
        texts = comment.group(), table.group()
        found.append(Measured(page, day, float(minutes), (*sources.split(),), command, *marks, *texts))
    return found


def changes(table: Measured) -> int:
    """Return how many commits since its day changed what a table is measured of."""
    command = ["git", "log", "--oneline", f"--since={table.day}T23:59:59", "--", *table.sources]
    return len(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines())


def last_change(sources: list[str]) -> str:
    """Return when a commit last changed one of some paths, in seconds since 1970."""
    command = ["git", "log", "-1", "--format=%ct", "--", *sources]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip() or "0"


def replaced(text: str, table: Measured, printed: str, day: str, machine: str) -> str | None:
    """Return a page's text with the printed table in the place of an old one, or None where none has its columns."""
    new = [found for found in _TABLE.findall(printed + "\n") if found.split("\n")[0] == table.columns]
    if not new:
        return None
    comment = table.comment.replace(f"measured: {table.day}", f"measured: {day}")
    if table.machine:
        comment = comment.replace(f" | machine: {table.machine}", f" | machine: {machine}")
    else:
        comment = comment.replace(table.command, f"{table.command} | machine: {machine}")
    return text.replace(table.comment + table.table, comment + new[-1], 1)


def this_machine() -> str:
    """Return what the numbers depend on, in a few words."""
    return f"{throughput.cpu_name()}, TensorFlow {importlib.metadata.version('tensorflow')}"


def run(command: str, tables: list[Measured]) -> None:
    """Run the program of some tables, keep what it prints, and put it in their places."""
    print(f"$ {command}", flush=True)
    began = time.monotonic()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}  # this package, and not one that is installed
    environment["PATH"] = f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    # Trainings that an experiment keeps count where they are newer than what they are measured of.
    environment["KERAS_MIXER_FINISHED_SINCE"] = last_change([name for table in tables for name in table.sources])
    shell = ["bash", "-e", "-c", command]  # some commands are loops, or two programs
    process = subprocess.run(shell, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    kept = ROOT / "runs" / "refreshed" / (re.sub(r"\W+", "_", command)[:100] + ".txt")
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(process.stdout)
    print(f"  {(time.monotonic() - began) / 60:.1f} minutes, exit code {process.returncode}, {kept.relative_to(ROOT)}")
    for table in tables if process.returncode == 0 else ():
        if table.by_hand:
            print(
                f"  {table.page}: the table that begins with {table.columns} is written by hand; do so from that file"
            )
            continue
        path = RESULTS / f"{table.page}.md"
        today = datetime.date.today().isoformat()
        text = replaced(path.read_text("utf-8"), table, process.stdout, today, this_machine())
        if text is None:
            print(f"  {table.page}: it printed no table that begins with {table.columns}; the old one stays")
        else:
            path.write_text(text, "utf-8")
            print(f"  {table.page}: replaced; read what is said of it again")


def print_list(stale: dict[Measured, int]) -> None:
    """Print a line for each table, and what it comes to; `stale` holds the number of commits since."""
    print(f"{'page':16} {'measured':10} {'minutes':>7}  {'stale':12} {'replaced':8} command")
    for table, commits in stale.items():
        since, way = f"{commits} commits" if commits else "", "by hand" if table.by_hand else "itself"
        print(f"{table.page:16} {table.day:10} {table.minutes:7g}  {since:12} {way:8} {table.command}")
    old = [table for table, commits in stale.items() if commits]
    minutes = {table.command: table.minutes for table in old}  # some commands print several tables
    short = [value for value in minutes.values() if value < LONG]
    print(
        f"{len(stale)} tables, {sum(table.by_hand for table in stale)} of them by hand. {len(old)} are stale: their "
        f"programs take {sum(minutes.values()):g} minutes, and those under {LONG}, which --run runs, {sum(short):g}."
    )


def main() -> None:
    """List the tables, or measure some again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", nargs="*", metavar="PAGE", help="measure again: these pages, or all that is stale")
    args = parser.parse_args()
    pages = {path.stem: tables_of(path.read_text("utf-8"), path.stem) for path in sorted(RESULTS.glob("*.md"))}
    if unknown := sorted({*(args.run or ())} - {*pages}):
        parser.error(f"--run: {unknown[0]!r} is no page of docs/results; use some of {', '.join(pages)}")
    found = [table for tables in pages.values() for table in tables]
    stale = {table: changes(table) for table in found}
    if args.run is None:
        print_list(stale)
        return
    chosen = [table for table in found if table.page in args.run or (not args.run and stale[table])]
    for command in dict.fromkeys(table.command for table in chosen):
        its = [table for table in chosen if table.command == command]
        if its[0].minutes < LONG:
            run(command, its)
        else:
            print(f"$ {command}\n  left out: it takes {its[0].minutes:g} minutes")


if __name__ == "__main__":
    main()
