"""`keras-mixer COMMAND ...` and `python -m keras_mixer COMMAND ...`: the commands, for who installed a wheel."""

import ast
import pathlib
import runpy
import sys

from keras_mixer import recipes


def commands() -> dict[str, str]:
    """Return name -> path of every command."""
    folder = pathlib.Path(recipes.__file__).parent
    return {path.stem: str(path) for path in sorted(folder.glob("*.py")) if path.stem != "__init__"}


def _about(path: str) -> str:
    """Return the first line of a command's docstring, without running it."""
    return (ast.get_docstring(ast.parse(pathlib.Path(path).read_text("utf-8"))) or "").split("\n")[0]


def main() -> None:
    """Run the command that the first argument names, with the other arguments."""
    found = commands()
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help"):
        print("keras-mixer COMMAND --help tells what a command does and which flags it takes. Commands:")
        print("\n".join(f"  {name:14} {_about(path)}" for name, path in found.items()))
        return
    if name not in found:
        print(f"error: {name!r} is no command; use one of {', '.join(found)}.", file=sys.stderr)
        sys.exit(2)
    sys.argv = [found[name], *sys.argv[2:]]
    runpy.run_path(found[name], run_name="__main__")


if __name__ == "__main__":
    main()
