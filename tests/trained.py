"""A tiny run of `recipes/pretrain.py`, trained once for all tests that use it, and recipes as users run them."""

import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parent.parent
_folders: list[pathlib.Path] = []


def run_recipe(recipe, *arguments, check=True, **kwargs):
    """Run a recipe in a process of its own, and return it when it has ended."""
    command = [sys.executable, f"recipes/{recipe}.py", *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, **{"cwd": ROOT, **kwargs})
    assert not check or result.returncode == 0, result.stderr
    return result


def trained_run(factory):
    """Return the workdir of 30 steps on digits; `factory` is pytest's `tmp_path_factory`."""
    if not _folders:
        folder = factory.mktemp("trained") / "run"
        flags = ["--total_steps=30", "--batch_size=64", "--warmup_steps=2", "--learning_rate=0.01", "--mixup_alpha=0"]
        run_recipe("pretrain", *flags, f"--workdir={folder}")
        _folders.append(folder)
    return _folders[0]
