"""Try what a release hands out: build it, install it in new environments away from the checkout, and use it there.

    python tests/packaging/try_release.py            the source distribution, the wheel, and the wheel with each extra
    python tests/packaging/try_release.py versions   oldest and newest dependencies, and each Python that is supported

It needs the extra `test`. An environment costs seconds, since uv links its files from a cache that the first run fills.
"""

import configparser
import functools
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
EXTRAS = ("heic", "safetensors", "hub", "serving", "litert", "onnx", "openvino", "beam", "backends", "docs")
LEFT_OUT = {
    "gpu": "gigabytes of CUDA libraries",
    "bench": "its torch is gigabytes of CUDA libraries",
    "test": "the environment that runs this has it",
}
PYTHONS = ("3.11", "3.12", "3.13")
UV = (sys.executable, "-m", "uv")


def run(*command: object, cwd: pathlib.Path = ROOT) -> str:
    """Run a command and return what it wrote; PYTHONPATH, which would let the checkout in, is not handed on."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    words = [str(word) for word in command]
    process = subprocess.run(
        words, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if process.returncode:
        raise RuntimeError(f"{' '.join(words)}\nended with {process.returncode}:\n{process.stdout}")
    return process.stdout


def build(folder: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path, pathlib.Path]:
    """Return the source distribution, the wheel that was built from it, and the folder of what the first holds."""
    run(sys.executable, "-m", "build", "--installer=uv", "--outdir", folder)
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    print(run(sys.executable, "-m", "twine", "--no-color", "check", "--strict", sdist, wheel).strip())
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    return sdist, wheel, folder / sdist.name.removesuffix(".tar.gz")


def interpreter(version: str) -> str | None:
    """Return a Python of this version, also one of pyenv's that its own commands hide; None where there is none."""
    if version == HERE:
        return sys.executable
    pyenv = pathlib.Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"
    candidates = [shutil.which(f"python{version}"), *sorted(pyenv.glob(f"{version}.*/bin/python"))]
    works = lambda python: not subprocess.run([python, "-c", ""], capture_output=True, check=False).returncode
    return next((str(python) for python in candidates if python and works(python)), None)


def environment(folder: pathlib.Path, *requirements: object, python: str = sys.executable) -> pathlib.Path:
    """Return the Python of a new virtual environment with these requirements, and options of uv, installed."""
    run(*UV, "venv", "--quiet", "--no-python-downloads", "--python", python, folder)
    run(*UV, "pip", "install", "--quiet", "--python", folder / "bin" / "python", *requirements, cwd=folder)
    return folder / "bin" / "python"


def try_package(folder: pathlib.Path, package: pathlib.Path, sources: pathlib.Path, extra: str = "") -> str:
    """Install a distribution with an extra in a new environment, and use it."""
    options: list[object] = []
    if extra == "backends":  # the layers under JAX; the other one, torch, is gigabytes of CUDA libraries
        (folder / "without_torch.txt").write_text("torch; sys_platform == 'none'\n")
        options = ["--override", folder / "without_torch.txt"]
    python = environment(folder / f"environment_{extra}_{package.suffix}", f"{package}[{extra}]", *options)
    return used(python, extra, sources, folder)


def used(python: pathlib.Path, extra: str, sources: pathlib.Path, folder: pathlib.Path) -> str:
    """Return the last line of what `use_package.py` says; before it TensorFlow may say what it found."""
    told = run(python, sources / "tests" / "packaging" / "use_package.py", extra, sources, cwd=folder)
    return told.strip().splitlines()[-1]


def try_versions(folder: pathlib.Path, wheel: pathlib.Path, sources: pathlib.Path, version: str, oldest: bool) -> str:
    """Install the wheel with the oldest or the newest direct dependencies; compare with the authors, and train."""
    python = interpreter(version)
    if python is None:
        return "not here, left out"
    options = ["--resolution", "lowest-direct"] if oldest else []
    place = folder / f"environment_{version}_{oldest}"
    needed = setup()["options"]["install_requires"].split()  # named here too: of the wheel alone they are not direct
    needed += [line for line in setup()["options.extras_require"]["test"].split() if line.startswith("pytest")]
    python_there = environment(place, wheel, *needed, *options, python=python)
    alone = place.with_name(f"{place.name}_tests")  # without the package beside them
    shutil.copytree(sources / "tests", alone / "tests")
    parity = run(python_there, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_parity.py", cwd=alone)
    told = [used(python_there, name, alone, alone) for name in ("", "pretrain")]
    frozen = run(*UV, "pip", "freeze", "--python", python_there)
    names = [re.match(r"[\w-]+", line).group().replace("_", "-") for line in needed]
    direct = [line for line in frozen.splitlines() if line.partition("==")[0] in names]
    return "; ".join([*told, parity.strip().splitlines()[-1].strip("= "), " ".join(direct)])


@functools.cache
def setup() -> configparser.ConfigParser:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    return config


def trials(folder: pathlib.Path, which: str) -> dict[str, Callable[[], str]]:
    """Return name -> trial."""
    sdist, wheel, sources = build(folder)
    if which == "versions":
        ends = [("3.11", True), *((version, False) for version in PYTHONS)]
        return {
            f"Python {version}, {'oldest' if oldest else 'newest'}": functools.partial(
                try_versions, folder, wheel, sources, version, oldest
            )
            for version, oldest in ends
        }
    assert {*EXTRAS, *LEFT_OUT} == {*setup()["options.extras_require"]}, "an extra is neither tried nor left out"
    for extra, reason in LEFT_OUT.items():
        print(f"{extra}: not tried, {reason}")
    found = {"source distribution": functools.partial(try_package, folder, sdist, sources)}
    found["wheel"] = functools.partial(try_package, folder, wheel, sources)
    return found | {extra: functools.partial(try_package, folder, wheel, sources, extra) for extra in EXTRAS}


def main(which: str = "extras") -> None:
    began = time.monotonic()
    failed = []
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        waiting = {name: pool.submit(trial) for name, trial in trials(pathlib.Path(folder), which).items()}
        for name, future in waiting.items():
            try:
                print(f"{name}: {future.result().strip()}", flush=True)
            except RuntimeError as error:
                failed.append(name)
                print(f"{name}: FAILED\n{error}", flush=True)
    print(f"{len(waiting) - len(failed)} of {len(waiting)} trials passed in {time.monotonic() - began:.0f} s.")
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
