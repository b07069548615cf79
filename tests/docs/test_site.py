"""The site: it builds without a warning, which covers links and anchors, and reads well in a browser."""

import importlib
import re
import subprocess
import sys

import pytest
from browser import new_page, open_browser
from conftest import ROOT
from pages import PAGES

from keras_mixer.cli import flags

NAMED = re.compile(r"`((?:docs|recipes|examples|experiments|keras_mixer|tests|\.ci|notebooks)/[\w/.-]*\w)`")


def build(config, folder):
    """Build the site, and return the process."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(config), "-d", str(folder)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    process = build(ROOT / "mkdocs.yml", folder)
    assert process.returncode == 0, process.stderr[-4000:]
    return folder


@pytest.fixture(scope="module")
def browser():
    with open_browser() as browser:
        yield browser


def test_a_broken_link_stops_the_build(tmp_path):
    (tmp_path / "docs").mkdir()
    settings = (ROOT / "mkdocs.yml").read_text("utf-8")
    (validation,) = re.findall(r"^validation:\n(?:  .*\n)+", settings, re.M)
    for link, fault in (("nowhere.md", "not found"), ("#nowhere", "no such anchor"), ("other.md#x", "not contain")):
        (tmp_path / "docs" / "index.md").write_text(f"# A\n\n[link]({link})\n")
        (tmp_path / "docs" / "other.md").write_text("# B\n")
        (tmp_path / "mkdocs.yml").write_text(f"site_name: x\n{validation}")
        process = build(tmp_path / "mkdocs.yml", tmp_path / "site")
        assert process.returncode == 1
        assert fault in process.stderr, process.stderr


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_names_is_there(page):
    text = (ROOT / page).read_text("utf-8")
    assert not [name for name in NAMED.findall(text) if not (ROOT / name).exists()]
    assert not re.findall(r"\]\(\.\./\.\./(?!docs)", text), "a link out of docs/ is dead on the site"


def test_every_flag_of_every_command_is_in_the_reference(site):
    for path in sorted((ROOT / "recipes").glob("[a-z]*.py")):
        settings = importlib.import_module(f"keras_mixer.recipes.{path.stem}").Settings
        shown = flags.help_text(settings, "", full=True)
        page = (site / "reference" / "commands" / f"{path.stem}.html").read_text("utf-8")
        for flag in re.findall(r"^  (--\S+)", shown, re.M):
            assert flag in page, (path, flag)


@pytest.mark.parametrize(("width", "dark"), [(390, False), (1400, True)])
def test_pages_fit_and_ask_no_other_host(site, browser, width, dark):
    page = new_page(browser, width=width, dark=dark)
    for path in sorted(site.rglob("*.html")):
        if path.name == "404.html":
            continue
        page.goto(path.as_uri())
        wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        assert wide <= 0, f"{path.relative_to(site)} is {wide} px wider than a window of {width}"
    assert not [url for url in page.asked if not url.startswith(("file:", "data:", "blob:"))]
