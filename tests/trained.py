"""A tiny run of `recipes/pretrain.py`, trained once for all tests that use it, and recipes as users run them."""

import atexit
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import forks

ROOT = pathlib.Path(__file__).parent.parent
_folders: list[pathlib.Path] = []
_servers: list[forks.Server] = []


def server():
    """Return the process of which the recipes of this worker are copies."""
    if not _servers:
        place = tempfile.mkdtemp()
        _servers.append(forks.Server(place))
        atexit.register(shutil.rmtree, place, ignore_errors=True)
        atexit.register(_servers[0].process.communicate)
    return _servers[0]


def environment(**changes):
    """Return the environment of a recipe: XLA compiles what this worker trains again and again only once."""
    cache = f"--tf_xla_persistent_cache_directory={server().place / 'xla'}"
    return {**os.environ, "TF_XLA_FLAGS": cache, **changes}


def start_recipe(recipe, *arguments, cwd=ROOT, env=None):
    """Start a recipe in a process of its own, a `forks.Process`."""
    return server().start(recipe, *arguments, cwd=cwd, env=environment() if env is None else env)


def run_recipe(recipe, *arguments, check=True, **kwargs):
    """Run a recipe in a process of its own, and return it when it has ended, as `subprocess.run` does."""
    process = start_recipe(recipe, *arguments, **kwargs)
    output, errors = process.communicate()
    assert not check or process.returncode == 0, errors
    return subprocess.CompletedProcess([recipe, *arguments], process.returncode, output, errors)


def run_fresh(recipe, *arguments, cwd=ROOT, env=None):
    """The same in a new interpreter, started as users start it."""
    command = [sys.executable, str(ROOT / "recipes" / f"{recipe}.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=env)


def trained_run(factory):
    """Return the workdir of 30 steps on digits; `factory` is pytest's `tmp_path_factory`."""
    if not _folders:
        folder = factory.mktemp("trained") / "run"
        flags = ["--total_steps=30", "--batch_size=64", "--warmup_steps=2", "--learning_rate=0.01", "--mixup_alpha=0"]
        run_recipe("pretrain", *flags, f"--workdir={folder}")
        _folders.append(folder)
    return _folders[0]
