"""From a recipe's `run` to the gradient a reader passes few of our own functions."""

import ast
import json
import subprocess
import sys
import textwrap

from trained import ROOT

MOST = 6  # `run` and the function that calls `tape.gradient` included
# The loss is called by the function that calls `tape.gradient`.
PROGRAM = """
    import inspect, json, os, runpy, sys
    from keras_mixer.cli import entry
    from keras_mixer.training import losses

    def loss_of_this_test(labels, logits):
        codes = [info.frame.f_code for info in inspect.stack()]
        frames = [[c.co_filename, c.co_name, c.co_varnames[:c.co_argcount]] for c in reversed(codes)]
        print("frames", json.dumps(frames), flush=True)
        os._exit(0)

    losses.LOSSES["softmax"] = loss_of_this_test
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
"""


def _own_functions():
    """Return name and arguments of every function of the package and of the recipes."""
    for path in [*(ROOT / "keras_mixer").rglob("*.py"), *(ROOT / "recipes").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                yield node.name, tuple(argument.arg for argument in node.args.args)


def test_at_most_six_functions_of_ours_lead_to_the_gradient(tmp_path):
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), "recipes/pretrain.py", "--total_steps=1"]
    result = subprocess.run(
        [*command, f"--workdir={tmp_path}"], capture_output=True, text=True, cwd=ROOT, check=False, timeout=300
    )
    assert result.returncode == 0, result.stderr[-3000:]
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("frames ")]
    own, way = set(_own_functions()), []
    for file, name, arguments in json.loads(line.removeprefix("frames ")):
        # What TensorFlow traces runs as a copy, tf__<name>, in a generated file; a loop's body there is no function.
        copied = "__autograph_generated_file" in file and (name.removeprefix("tf__"), tuple(arguments)) in own
        if copied or file.startswith(("recipes/", str(ROOT / "recipes"), str(ROOT / "keras_mixer"))):
            way.append(name.removeprefix("tf__"))
    way = way[way.index("restoring") + 1 :]  # the decorator of the recipe's own function
    print(" -> ".join(way))
    assert "train" in way  # of training/loop.py
    assert way[-1] == "gradients"
    assert len(way) <= MOST, way
