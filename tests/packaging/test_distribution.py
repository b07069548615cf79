"""The wheel and the source distribution: what they hold and say, and that they work away from the checkout."""

import configparser
import email
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml
from conftest import ROOT
from PIL import Image

BUILD = "import sys; from setuptools import build_meta; print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"
RECIPES = [path.stem for path in sorted((ROOT / "recipes").glob("*.py")) if path.stem != "__init__"]
RELATIVE_LINK = re.compile(
    r"\]\((?!https?://|#|mailto:)|<(?:img|a)[^>]+(?:src|href)=\"(?!https?://)|^\[[^\]]+\]: (?!http)", re.M
)


def sources():
    """The files that git knows, or in an unpacked source distribution all that are no product of a build."""
    if (ROOT / ".git").exists():
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        return {name for name in listed.split("\0") if name and (ROOT / name).is_file()}
    files = {str(path.relative_to(ROOT)) for path in ROOT.rglob("*") if path.is_file()}
    products = ("PKG-INFO", "keras_mixer.egg-info/", ".venv/", "build/", "runs/", ".pytest_cache/", ".hypothesis/")
    return {name for name in files if not name.startswith(products) and "__pycache__" not in name}


def run(*command, cwd):
    """Run a command as a user would, without what this test's own process was told by its environment."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [str(word) for word in command]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def build(kind, tree, output):
    process = run(sys.executable, "-c", BUILD, f"build_{kind}", output, cwd=tree)
    assert process.returncode == 0, process.stderr
    return output / process.stdout.split()[-1]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A wheel that was built from the unpacked source distribution, as package indexes have it."""
    folder = tmp_path_factory.mktemp("built")
    for name in sources():
        (folder / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / "tree" / name)
    sdist = build("sdist", folder / "tree", folder)
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    unpacked = folder / sdist.name.removesuffix(".tar.gz")
    shutil.copytree(unpacked, folder / "again")  # a build leaves files behind
    return build("wheel", folder / "again", folder), unpacked


@pytest.fixture(scope="module")
def programs(built, tmp_path_factory):
    """The programs of a new environment that has the wheel, and by a .pth file what the present one has."""
    folder = tmp_path_factory.mktemp("new")
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    python = folder / "bin" / "python"
    install = ["install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check", built[0]]
    process = run(sys.executable, "-m", "pip", "--python", python, *install, cwd=folder)
    assert process.returncode == 0, process.stderr
    (site,) = folder.glob("lib/python*/site-packages")
    assert (site / "keras_mixer").is_dir()
    packages = [path for path in sys.path if pathlib.Path(path).name in ("site-packages", "dist-packages")]
    (site / "present.pth").write_text("\n".join(packages))
    return python, folder / "bin" / "keras-mixer"


@pytest.fixture(scope="module")
def results(built, programs, tmp_path_factory):
    """Name -> what the process said; two at a time, since each spends its time importing TensorFlow."""
    python, mixer = programs
    outside = tmp_path_factory.mktemp("outside")
    Image.new("L", (16, 16), 200).save(outside / "grey.png")
    pretrain = [mixer, "pretrain", "--total_steps=5", "--batch_size=32", "--workdir=run", "--augmentation=none"]
    alone = {
        "list": [mixer],
        "pretrain help": [mixer, "pretrain", "--help"],
        "finetune help": [python, "-m", "keras_mixer", "finetune", "--help"],
        "import": [python, "-c", "from keras_mixer.recipes import finetune as f; print(f.__file__, bool(f.run))"],
    }
    quick = [python, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", "tests/data/test_splits.py"]
    with ThreadPoolExecutor(2) as pool:
        trained = pool.submit(run, *pretrain, cwd=outside)
        started = {name: pool.submit(run, *command, cwd=outside) for name, command in alone.items()}
        started["test"] = pool.submit(run, *quick, cwd=built[1])
        started["pretrain"] = trained
        trained.result()
        started["predict"] = pool.submit(run, mixer, "predict", "--weights=run", "grey.png", cwd=outside)
    return {name: future.result() for name, future in started.items()}


def test_the_source_distribution_holds_every_file_of_the_checkout(built):
    held = {str(path.relative_to(built[1])) for path in built[1].rglob("*") if path.is_file()}
    assert not sources() - held
    assert {name for name in held - sources() if "egg-info/" not in name} <= {"PKG-INFO"}
    assert {
        "tests/golden/flax_mixer_tiny.npz",
        "docs/architecture.md",
        ".ci/run",
        "requirements-tpu.txt",
        "SECURITY.md",
    } <= held


def test_the_wheel_holds_the_package_and_nothing_else(built):
    with zipfile.ZipFile(built[0]) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        (programs,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
        assert archive.read(programs).decode().split("\n")[:2] == [
            "[console_scripts]",
            "keras-mixer = keras_mixer.__main__:main",
        ]
        assert any(name.endswith("licenses/LICENSE") for name in archive.namelist())
    package = {name for name in sources() if name.startswith("keras_mixer/")}
    assert held == package | {f"keras_mixer/{name}" for name in sources() if name.startswith("recipes/")}
    assert {"keras_mixer/py.typed", "keras_mixer/assets/checkpoints.json", "keras_mixer/recipes/pretrain.py"} <= held


def test_the_metadata_says_who_what_and_for_which_python(built):
    with zipfile.ZipFile(built[0]) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = email.message_from_string(archive.read(name).decode())
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    assert metadata["Name"] == "keras_mixer"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["Author"] in (ROOT / "CITATION.cff").read_text()
    assert metadata["Project-URL"].startswith("Paper, https://")
    assert "mlp-mixer" in metadata["Keywords"]
    assert {"Typing :: Typed", "Programming Language :: Python :: 3.11"} <= {*metadata.get_all("Classifier")}
    assert {*metadata.get_all("Provides-Extra")} == {*config["options.extras_require"]}
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.get_payload().strip() == (ROOT / "README.md").read_text().strip()


def test_the_readme_reads_well_where_no_other_file_is():
    """An index shows its one picture by the words in its place."""
    text, pictures = re.subn(r"!\[[^\]]{30,}\]\(docs/pictures/report\.png\)", "", (ROOT / "README.md").read_text())
    assert pictures == 1
    assert not RELATIVE_LINK.findall(text)
    for planted in ("[docs](docs/a.md)", "![picture](docs/a.png)", '<img src="a.png">', "[a]: docs/a.md"):
        assert RELATIVE_LINK.search(planted)
    assert not RELATIVE_LINK.search("[paper](https://arxiv.org) `docs/a.md`\n[a]: https://arxiv.org")


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "SECURITY.md", "docs/architecture.md"])
def test_every_file_that_a_document_names_is_there(document):
    text = (ROOT / document).read_text()
    named = re.findall(r"`((?:docs|recipes|examples|experiments|keras_mixer|tests|\.ci)/[\w/.]*|[A-Z]+\.\w+)`", text)
    named += [(pathlib.Path(document).parent / link) for link in re.findall(r"\]\((?!https?://)([^)#]+)\)", text)]
    assert len(named) > 8
    assert not [name for name in named if not (ROOT / name).exists()]


VERSION = re.search(r'"(.+)"', (ROOT / "keras_mixer" / "_version.py").read_text()).group(1)


def test_the_version_is_the_same_wherever_it_stands(built):
    assert f"-{VERSION}-" in built[0].name
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == VERSION


RELEASED = re.compile(r"## \[(\d+\.\d+\.\d+)\] - \d{4}-\d\d-\d\d")
CHANGES = re.compile("### (Added|Changed|Deprecated|Removed|Fixed|Security)")


def changelog_fault(text, version):
    """What keeps a changelog from the form that its first lines promise, or from the version of the package."""
    lines = text.splitlines()
    letters = {"T": "# Changelog", "U": r"## \[Unreleased\]", "V": RELEASED, "C": CHANGES, "x": "#.*", "-": "- .*"}
    kinds = (next((letter for letter, form in letters.items() if re.fullmatch(form, line)), "") for line in lines)
    if not re.fullmatch("TU(C-+)*(V(C-+)+)*", "".join(kinds)):
        return "a heading is missing, unknown, in the wrong place or without an entry"
    released = [tuple(map(int, found[1].split("."))) for line in lines if (found := RELEASED.fullmatch(line))]
    if released != sorted({*released}, reverse=True):
        return "versions are not in order, the newest first"
    newest = tuple(map(int, version.split(".")))
    if released[:1] > [newest]:
        return "the package is older than its changelog"
    pending = "- " in text.partition("## [Unreleased]")[2].partition("\n## ")[0]
    return None if pending or [newest] == released[:1] else "nothing is said of this version"


def test_the_changelog_has_the_form_that_it_promises():
    text = (ROOT / "CHANGELOG.md").read_text()
    assert changelog_fault(text, VERSION) is None
    versions = "## [0.2.0] - 2027-01-02\n### Added\n- a\n## [0.1.0] - 2026-12-01\n### Fixed\n- b\n"
    good = f"# Changelog\n## [Unreleased]\n{versions}"
    assert changelog_fault(good, "0.2.0") is None
    for old, new, version in (
        ("## [Unreleased]\n", "", "0.2.0"),
        ("## [0.2.0] - 2027-01-02", "## 0.2.0 - unreleased", "0.2.0"),
        ("### Added", "### News", "0.2.0"),
        ("0.1.0", "0.3.0", "0.3.0"),
        ("### Fixed", "### Added\n### Fixed", "0.2.0"),
        ("", "", "0.1.0"),
        ("", "", "0.3.0"),
    ):
        assert changelog_fault(good.replace(old, new), version), (old, new, version)


def test_the_citation_names_the_package_and_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors", "license", "version"} <= citation.keys()
    paper = citation["preferred-citation"]
    assert (paper["type"], paper["year"], len(paper["authors"])) == ("conference-paper", 2021, 12)
    assert all({"family-names", "given-names"} == author.keys() for author in paper["authors"])
    assert paper["url"].endswith("2105.01601")


def test_the_installed_package_runs_away_from_the_checkout(results, programs):
    for name in ("list", "import", "pretrain", "predict"):
        assert results[name].returncode == 0, (name, results[name].stderr)
    assert [line.split()[0] for line in results["list"].stdout.splitlines()[-len(RECIPES) :]] == RECIPES
    path, has_main = results["import"].stdout.split()
    assert pathlib.Path(path).is_relative_to(programs[0].parent.parent)
    assert has_main == "True"
    assert "--total_steps" in results["pretrain help"].stdout
    assert "Fine-tune" in results["finetune help"].stdout
    assert "step 5/5" in results["pretrain"].stdout
    assert re.search(r"grey\.png +\d+\.\d\d%", results["predict"].stdout)


def test_the_unpacked_source_distribution_passes_a_test(results):
    assert results["test"].returncode == 0, results["test"].stdout + results["test"].stderr
    assert " passed" in results["test"].stdout
