"""The pages of the documentation as tests read them: blocks of code, and files that are named."""

import dataclasses
import re
import shlex

from conftest import ROOT

DOCS = ROOT / "docs"
PAGES = sorted(str(path.relative_to(ROOT)) for path in DOCS.rglob("*.md"))
_BLOCK = re.compile(r"^(?P<indent> *)```(?P<language>\S*)[^\n]*\n(?P<code>.*?)^(?P=indent)```", re.M | re.S)
_WHY_NOT = re.compile(r"<!-- not run: (.+) -->\n\s*$")


@dataclasses.dataclass(frozen=True)
class Block:
    """A block of code on a page; `why_not` says why no test runs it."""

    page: str
    line: int
    language: str
    code: str
    why_not: str

    @property
    def is_program(self):
        return self.language in ("python", "sh")


def blocks_of(text, page=""):
    """Return the blocks of a page, in order."""
    found = []
    for match in _BLOCK.finditer(text):
        before = text[: match.start()]
        reason = _WHY_NOT.search(before)
        code = "".join(line.removeprefix(match["indent"]) for line in match["code"].splitlines(keepends=True))
        number = before.count("\n") + 1
        found.append(Block(page, number, match["language"], code, reason.group(1) if reason else ""))
    return found


def blocks(page):
    """Return the blocks of a page that is named by its path from the root."""
    return blocks_of((ROOT / page).read_text("utf-8"), page)


def commands_of(code):
    """Return the commands of a block of shell, lines that go on joined."""
    commands, begun = [], ""
    for line in re.sub(r"\\\n\s*", " ", code).splitlines():
        begun = f"{begun}\n{line}" if begun else line.strip()
        try:
            shlex.split(begun, comments=True)
        except ValueError:  # inside quotes
            continue
        commands += [begun] if begun and not begun.startswith("#") else []
        begun = ""
    return commands
