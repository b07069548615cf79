"""Execute the notebooks, and compare what they say with what they said.

python tests/docs/notebook_runs.py                  # executes every notebook and writes its outputs anew
python tests/docs/notebook_runs.py inside_a_mixer   # this one
"""

import argparse
import base64
import io
import json
import os
import pathlib
import re
import sys
import tempfile
import time

import nbformat
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
WIDEST, COLOURS = 640, 32  # of a picture in a committed notebook
NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?(%?)")
# Lines of a run that come more or less often on a machine of another speed.
PASSING = re.compile(r"(predicted|step) # of #")
# What a cell's tag says of its numbers: how far they may be from the committed ones, as a fraction and in points.
EXACT, TRAINED = (1e-3, 1e-5), (0.15, 15)


def execute(path: pathlib.Path, place: pathlib.Path) -> NotebookNode:
    """Return a notebook with new outputs, executed in a folder by this Python, and without a network."""
    notebook = nbformat.read(path, 4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    # A kernel of this very Python, whatever kernels the machine has.
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    with tempfile.TemporaryDirectory() as kernels:
        (pathlib.Path(kernels) / "own").mkdir()
        spec = json.dumps({"argv": argv, "display_name": "own", "language": "python"})
        (pathlib.Path(kernels) / "own" / "kernel.json").write_text(spec)
        specs = KernelSpecManager(kernel_dirs=[kernels])
        manager = AsyncKernelManager(
            kernel_name="own", kernel_spec_manager=specs, transport="ipc", ip=os.path.join(kernels, "ipc")
        )
        client = NotebookClient(notebook, km=manager, timeout=600, record_timing=False)
        nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
        client.execute(cwd=str(place), env=os.environ | nowhere | {"PIP_NO_INDEX": "1"})
    del notebook.metadata["language_info"]  # the version of Python, which says nothing of the notebook
    return notebook


def shrink(notebook: NotebookNode) -> None:
    """Make the pictures of a notebook small: fewer colours, and no wider than a page."""
    for output in outputs_of(notebook):
        encoded = output.get("data", {}).get("image/png")
        if encoded is not None:
            with Image.open(io.BytesIO(base64.b64decode(encoded))) as picture:
                small = picture.convert("RGB")
            small.thumbnail((WIDEST, 10 * WIDEST))
            file = io.BytesIO()
            small.quantize(COLOURS).save(file, "png", optimize=True)
            output["data"]["image/png"] = base64.b64encode(file.getvalue()).decode()


def outputs_of(notebook: NotebookNode) -> list[NotebookNode]:
    """Return the outputs of all cells."""
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def differences(committed: NotebookNode, fresh: NotebookNode) -> list[str]:
    """Return what the cells of one notebook say otherwise than those of the other; pictures only have to be there.

    Words are compared letter by letter, and numbers to `EXACT`. In a cell with the tag `trained` they are results of a
    training, which differ between processors: `TRAINED`. With the tag `run` the text is the log of a run: its numbers
    are speeds and seconds too, and are not compared.
    """
    if len(committed.cells) != len(fresh.cells):
        return [f"{len(committed.cells)} cells, now {len(fresh.cells)}"]
    found = []
    for i, (old, new) in enumerate(zip(committed.cells, fresh.cells, strict=True)):
        if old.cell_type == "code":
            tags = old.metadata.get("tags", ())
            for kind, before, now in zip(("stdout", "stderr", "pictures"), _said(old), _said(new), strict=True):
                if not _alike(before, now, tags):
                    found.append(f"cell {i}, {kind}: was {before!r}, now {now!r}")
    return found


def _said(cell: NotebookNode) -> tuple[str, str, str]:
    """Return the texts of a cell's two streams, and the kinds of its other outputs."""
    texts = {"stdout": "", "stderr": ""}
    others = []
    for output in cell.outputs:
        if output.output_type == "stream":
            texts[output.name] += output.text
        else:
            others.append(" ".join(sorted(output.get("data", {output.output_type: None}))))
    return texts["stdout"], texts["stderr"], ", ".join(others)


def _alike(before: str, now: str, tags: list[str]) -> bool:
    words = [_words(text) for text in (before, now)]
    if "run" in tags:
        return words[0] == words[1]
    part, points = TRAINED if "trained" in tags else EXACT
    numbers = [[(_value(match), bool(match[1])) for match in NUMBER.finditer(text)] for text in (before, now)]
    return words[0] == words[1] and all(
        abs(a - b) <= max(part * abs(a), points if percent or "trained" not in tags else 0)
        for (a, percent), (b, _) in zip(*numbers, strict=True)
    )


def _words(text: str) -> list[str]:
    """Return the lines of a text with # for each number and spaces as one, without those that come and go."""
    lines = [re.sub(r"\s+", " ", NUMBER.sub(r"#\1", line)).strip() for line in text.splitlines()]
    return [line for line in lines if not PASSING.match(line)]


def _value(match: re.Match[str]) -> float:
    return float(match[0].rstrip("%").replace(",", ""))


def main() -> None:
    """Write notebooks with new outputs: in their place, or to a folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="of notebooks; default all")
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "notebooks", help="folder to write to")
    args = parser.parse_args()
    for path in NOTEBOOKS:
        if not args.names or path.stem in args.names:
            began = time.monotonic()
            with tempfile.TemporaryDirectory() as place:
                notebook = execute(path, pathlib.Path(place))
            shrink(notebook)
            nbformat.write(notebook, args.output / path.name)
            print(f"{path.name}: {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
