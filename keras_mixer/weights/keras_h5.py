"""Read a .weights.h5 file of Keras: of a Mixer, or of a model with one Mixer inside."""

import contextlib
import os
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from keras_mixer.weights.npz import ArrayFile, unreadable

STEM = re.compile(r"(|.*/)layers/patch_embed/conv/vars/0")  # of each Mixer in a file, below its own path


def open_h5(path: str | os.PathLike[str]) -> ArrayFile:
    """Return an ArrayFile of a Keras weights file; Keras names its layers by class and position.

    Of a model with a Mixer inside, such as a Sequential around it, the arrays of the Mixer are taken.

    Raises:
        ValueError: if the file is damaged, points into other files, or holds several Mixers.
        OSError: if it may not be read.
    """
    import h5py  # a dependency of Keras; slow to import, so only here

    found: dict[str, tuple[tuple[int, ...], str]] = {}
    elsewhere: list[str] = []

    def note(name: str | bytes, item: h5py.HLObject) -> None:
        if not isinstance(name, str):  # h5py gives the bytes where they are no UTF-8
            raise ValueError(f"a name that is no text, {name!r}")
        if isinstance(item, h5py.Dataset):
            found[name] = (item.shape, "bfloat16" if _is_bfloat16(item) else item.dtype.name)
            if item.external or item.is_virtual:
                elsewhere.append(name)

    with _damage_explained(path), h5py.File(path, "r") as file:
        file.visititems(note)
    if elsewhere:
        raise ValueError(f"weights: {elsewhere[0]} of {path} points into another file; it is not loaded.")
    specs = {name: spec for name, spec in found.items() if not name.startswith("optimizer/")}
    notes = [f"{len(found) - len(specs)} arrays of the optimizer left out"] if len(found) > len(specs) else []
    mixers = [match[1] for match in map(STEM.fullmatch, specs) if match]
    if len(mixers) > 1:
        raise ValueError(
            f"weights: {path} holds {len(mixers)} Mixers; load it with load_weights into a model that is built as the "
            "one that was saved, and write the Mixer that you want with keras_mixer.save_checkpoint."
        )
    prefix = mixers[0] if mixers else ""
    inner = {name.removeprefix(prefix): spec for name, spec in specs.items() if name.startswith(prefix)}
    if len(inner) < len(specs):
        notes.append(f"{len(specs) - len(inner)} arrays of the layers around the Mixer left out")

    def read(name: str) -> np.ndarray:
        with _damage_explained(path), h5py.File(path, "r") as file:
            array = file[prefix + name][()]
        return array.view(_bfloat16()) if inner[name][1] == "bfloat16" else array

    return ArrayFile(str(path), inner, read, notes=tuple(notes))


def _is_bfloat16(item: Any) -> bool:
    """Whether Keras wrote a dataset of bfloat16, which HDF5 does not know: two bytes and a note of what they are."""
    return item.dtype.kind == "V" and item.dtype.itemsize == 2 and item.attrs.get("dtype") == "bfloat16"


def _bfloat16() -> np.dtype:
    import ml_dtypes  # a dependency of Keras

    return np.dtype(ml_dtypes.bfloat16)


@contextlib.contextmanager
def _damage_explained(path: str | os.PathLike[str]) -> Iterator[None]:
    """Say in one sentence that a file is damaged: h5py meets damage with nearly every kind of exception."""
    try:
        yield
    except PermissionError as error:
        raise unreadable(path, error) from None
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ValueError(
            f"weights: {path} is no whole HDF5 file ({reason}); it is damaged, so fetch or save it again."
        ) from None
