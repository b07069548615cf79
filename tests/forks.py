"""Recipes as processes that start in a moment: each is a copy of one process that has imported TensorFlow already.

Importing takes seconds, and most runs in tests no longer. A copy is a real process with a pid, an environment, a
folder and signals of its own. `python forks.py` is the process that is copied: it reads lines of JSON, each a recipe to
start. `trained.run_recipe` and `trained.start_recipe` are what tests use.
"""

import importlib
import json
import os
import pathlib
import runpy
import signal
import subprocess
import sys
import tempfile
import time
import traceback

ROOT = pathlib.Path(__file__).parent.parent
IMPORTED = (  # once, for all copies; by name, since no line here uses them
    "keras_mixer.cli.quiet_tensorflow",  # first
    *(f"keras_mixer.recipes.{name}" for name in ("evaluate", "export", "fewshot", "finetune", "pretrain")),
)


class Server:
    """The process that is copied."""

    def __init__(self, place):
        self.place = pathlib.Path(place)
        command = [sys.executable, str(pathlib.Path(__file__))]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, text=True, start_new_session=True)

    def start(self, recipe, *arguments, cwd=ROOT, env=None):
        """Start a recipe, and return it as a `Process`."""
        folder = pathlib.Path(tempfile.mkdtemp(dir=self.place))
        asked = dict(recipe=recipe, arguments=list(map(str, arguments)), cwd=str(cwd), folder=str(folder))
        self.process.stdin.write(json.dumps(asked | {"env": dict(os.environ if env is None else env)}) + "\n")
        self.process.stdin.flush()
        return Process(folder, self.process)


class Process:
    """A recipe that was started: what tests use of `subprocess.Popen`."""

    def __init__(self, folder, server):
        self.folder, self.returncode = folder, None
        while not (folder / "pid").exists():
            assert server.poll() is None, "the process that is copied has ended"
            time.sleep(0.001)
        self.pid = int((folder / "pid").read_text())

    def poll(self):
        if self.returncode is None and (self.folder / "code").exists():
            self.returncode = int((self.folder / "code").read_text())
        return self.returncode

    def wait(self, timeout=600):
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
                raise subprocess.TimeoutExpired(str(self.folder), timeout)
            time.sleep(0.005)
        return self.returncode

    def send_signal(self, number):
        os.kill(self.pid, number)

    def errors_so_far(self):
        return (self.folder / "stderr").read_text()

    def communicate(self, timeout=600):
        """Wait for the end, and return what it wrote to standard output and standard error."""
        self.wait(timeout)
        return (self.folder / "stdout").read_text(), self.errors_so_far()


def _serve():
    for name in IMPORTED:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for a watcher
    for line in sys.stdin:
        if not os.fork():
            _watch(json.loads(line))


def _watch(asked):
    """In a first copy: start the recipe in a second, and write its pid and its exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if not pid:
        _run(asked)
    _write(pathlib.Path(asked["folder"]) / "pid", pid)
    _write(pathlib.Path(asked["folder"]) / "code", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    os._exit(0)


def _write(path, number):
    path.with_suffix(".new").write_text(str(number))
    path.with_suffix(".new").rename(path)


def _run(asked):
    """In the second copy: become the recipe's process."""
    code = 1
    try:
        for descriptor, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(f"{asked['folder']}/{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.environ.clear()
        os.environ.update(asked["env"])
        os.chdir(asked["cwd"])
        recipe = ROOT / "recipes" / f"{asked['recipe']}.py"
        sys.argv = [os.path.relpath(recipe) if recipe.is_relative_to(os.getcwd()) else str(recipe), *asked["arguments"]]
        runpy.run_path(str(recipe), run_name="__main__")
        code = 0
    except SystemExit as error:
        code = error.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve()
