"""Run a recipe many times, each in a process of its own, which is a copy of one that has imported TensorFlow already.

Importing takes seconds, and what bad input does after it a fraction of one. `python forked_recipe.py RECIPE` reads
lines of JSON, [flags, path of standard output, path of standard error], and answers each with the exit code.
"""

import json
import os
import pathlib
import runpy
import subprocess
import sys
import traceback

ROOT = pathlib.Path(__file__).parent.parent.parent


class ForkedRecipe:
    """Starts the process that is copied; `run(*flags)` returns what `subprocess.run` of the recipe would."""

    def __init__(self, recipe, folder):
        self.folder = folder
        command = [sys.executable, str(pathlib.Path(__file__).relative_to(ROOT)), recipe]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, *flags):
        paths = [str(self.folder / name) for name in ("stdout", "stderr")]
        self.process.stdin.write(json.dumps([flags, *paths]) + "\n")
        self.process.stdin.flush()
        code = int(self.process.stdout.readline())
        return subprocess.CompletedProcess(flags, code, *(pathlib.Path(path).read_text() for path in paths))

    def close(self):
        self.process.communicate()


def _run(recipe, flags, *paths):
    """In the copy: become the recipe's process."""
    for descriptor, path in enumerate(paths, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    sys.argv = [recipe, *flags]
    code = 0
    try:
        runpy.run_path(recipe, run_name="__main__")
    except SystemExit as error:
        code = error.code or 0
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main(recipe):
    import keras_mixer.cli.quiet_tensorflow  # first
    import keras_mixer.cli.training  # noqa: F401

    for line in sys.stdin:
        child = os.fork()
        if not child:
            _run(recipe, *json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
