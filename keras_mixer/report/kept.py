"""report.json: what a page shows that no other file of the run has; `evidence` makes it."""

import json
import pathlib
from typing import Any

from keras_mixer import files

NAME = "report.json"
Evidence = dict[str, Any]
# Of each part that a page shows, what it must be.
KINDS: dict[str, type] = {"mistakes": list, "hits": list, "batch": list, "weights": list}
KINDS |= {"calibration": dict, "occlusion": dict, "data": dict}


def keep(folder: pathlib.Path, evidence: Evidence, anew: bool = False) -> None:
    """Write evidence into report.json of a folder, beside what that has already, or `anew`.

    Raises:
        files.SaveError: where it cannot be written.
    """
    path = folder / NAME
    earlier = {} if anew or not path.exists() else read(folder)
    with files.naming_unwritable(path), files.writing(path) as file:
        json.dump(earlier | evidence, file)


def read(folder: pathlib.Path) -> Evidence:
    """Return what report.json of a folder says, empty where there is none.

    Raises:
        ValueError: where it is damaged.
    """
    path = folder / NAME
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict) or not all(
        isinstance(found.get(name, kind()), kind) for name, kind in KINDS.items()
    ):
        raise ValueError(f"places: {path} is damaged; remove it, and the page has fewer pictures.")
    return found
