"""How every recipe reads its command line; imports no framework, so that recipes without one can use it."""

import difflib
import pathlib
import sys
from typing import Any

from absl import flags

FLAGS: Any = flags.FLAGS


def parse_flags(argv: list[str], positional: bool = False) -> list[str]:
    """Read the flags and return the arguments that are none, the program's name first; --help prints and exits.

    Raises:
        ValueError: for a wrong flag, in one sentence; for an argument that is no flag, unless `positional`.
    """
    if {"-h", "--help"} & set(argv):
        print(f"{sys.modules['__main__'].__doc__}\n{FLAGS.main_module_help()}")
        sys.exit(0)
    try:
        rest = FLAGS(argv)
    except flags.UnrecognizedFlagError as error:
        near = difflib.get_close_matches(error.flagname, list(FLAGS), n=1)
        hint = f"; did you mean --{near[0]}?" if near else "."
        raise ValueError(f"--{error.flagname} is not a flag of this recipe{hint} See --help.") from None
    except flags.Error as error:
        raise ValueError(f"{error}. See --help.".replace("('", "").replace("', '", ": ").replace("')", "")) from None
    if len(rest) > 1 and not positional:
        raise ValueError(f"{rest[1]!r} is not a flag; flags are written --name=value. See --help.")
    return rest


def command(name: str) -> str:
    """Return how to call another command from here: as a script where there is one, else the installed command."""
    script = pathlib.Path("recipes", f"{name}.py")
    return f"python {script}" if script.is_file() else f"keras-mixer {name}"
