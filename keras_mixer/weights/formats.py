"""Open a file of weights of any format, as an ArrayFile in the file's own layout."""

import contextlib
import os
import pathlib
import re
import tempfile
import urllib.parse
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np

from keras_mixer import buckets
from keras_mixer.types import Path, Weights
from keras_mixer.weights import download, hub, mixer_variables, npz, released
from keras_mixer.weights.npz import ArrayFile

SUFFIXES = (".npz", ".keras", ".weights.h5", ".safetensors")
H5_STEM = re.compile(r"(|.*/)layers/patch_embed/conv/vars/0")  # of each Mixer in a .weights.h5


def open_file(weights: Weights) -> ArrayFile:
    """Return an ArrayFile of a path, a URL (http, https, file, gs or hf), or a mapping from names to arrays.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not of a known format, or not whole.
    """
    if isinstance(weights, Mapping):
        if isinstance(weights.get("state_dict"), Mapping):  # as many training programs save it, beside other things
            return npz.from_mapping(weights["state_dict"])
        return npz.from_mapping(weights)
    if not isinstance(weights, (str, os.PathLike)):
        raise ValueError(
            "weights must be the name of a released checkpoint, the path or URL of a file, or a mapping from names to "
            f"arrays; got {type(weights).__name__}."
        )
    text = os.fspath(weights)
    if text.lower().startswith(hub.SCHEME):
        text = os.fspath(hub.fetch(text, SUFFIXES))
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", text)
    if scheme and not download.is_url(text):
        raise ValueError(
            f"weights: {text!r} has the scheme {scheme[1]!r}, but a URL must be one of http, https, file, gs or hf; "
            "fetch the file and give its path."
        )
    name = urllib.parse.urlsplit(text).path if scheme else text  # a URL may go on with a query
    opener = _opener(name)
    if opener is None:
        raise ValueError(
            f"weights: {text!r} is neither a released name ({', '.join(released.NAMES)}) nor the path or URL of a file "
            f"that ends in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}."
        )
    if download.is_url(text):
        return opener(download.fetch_url(text, verify=lambda path: npz.check_finite(opener(path))))
    path = pathlib.Path(os.path.expanduser(text))
    if not path.is_file():
        raise FileNotFoundError(f"weights: there is no file {os.fspath(path)!r}.")
    return opener(path)


def is_file_url(text: str) -> bool:
    """Whether a text is the URL of a file rather than a local path, or a folder in a bucket.

    Example:
        >>> is_file_url("gs://data/b16.npz"), is_file_url("gs://data/run"), is_file_url("runs/b16.npz")
        (True, False, False)
    """
    return "://" in text and not (buckets.is_bucket(text) and not text.lower().endswith(SUFFIXES))


def _opener(name: str) -> Callable[[Path], ArrayFile] | None:
    """Return the function that opens a file of this name, None for one of another suffix."""
    openers = (npz.open_npz, open_keras, open_h5, open_safetensors)
    return next((f for suffix, f in zip(SUFFIXES, openers, strict=True) if name.lower().endswith(suffix)), None)


def open_keras(path: Path) -> ArrayFile:
    """Return an ArrayFile of a saved Keras model that holds a Mixer's layers, by the names of the layers."""
    path = pathlib.Path(path)
    if not zipfile.is_zipfile(path):  # Keras would say that there is no such file
        reason = npz.describe(path, "File is not a zip file")
        raise ValueError(f"weights: {path} is there, but it is not a Keras file ({reason}); get the file again.")
    with npz.reading(path, ".keras"), zipfile.ZipFile(path) as archive:
        npz.check_growth(sum(member.file_size for member in archive.infolist()), path)
        # Keras tries again where its first read fails, and from Python 3.12 on without looking at the checksum.
        if damaged := archive.testzip():
            raise zipfile.BadZipFile(f"Bad CRC-32 for file {damaged!r}")
    with tempfile.TemporaryDirectory() as folder:
        link = pathlib.Path(folder, "model.keras")  # Keras knows a file by its suffix, which a partial download lacks
        link.symlink_to(path.absolute())
        try:
            model = keras.saving.load_model(link, compile=False)
        except Exception as error:  # whatever a damaged archive, an unknown class or an unsafe lambda raises in Keras
            if isinstance(error, OSError) and error.errno is not None:
                raise npz.unreadable(path, error) from None
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            reason = reason.replace(str(link), "it").rstrip(".")
            raise ValueError(f"weights: {path} is no Keras model that can be loaded here ({reason}).") from None
    try:
        variables = mixer_variables.mixer_variables(model)
        grid = mixer_variables.mixer_grid(model)
    except ValueError as error:
        reason = str(error).removeprefix("weights: ").rstrip(".")
        raise ValueError(f"weights: {path} holds no weights that can be used here ({reason}).") from None
    specs = {name: (tuple(v.shape), str(v.dtype)) for name, v in variables.items()}

    def read(name: str) -> np.ndarray:
        return keras.ops.convert_to_numpy(variables[name])

    return npz.ArrayFile(str(path), specs, read, grid)


def open_h5(path: Path) -> ArrayFile:
    """Return an ArrayFile of a Keras weights file; Keras names its layers by class and position.

    Of a model with a Mixer inside, such as a Sequential around it, the arrays of the Mixer are taken.

    Raises:
        ValueError: if the file is damaged, points into other files, declares more bytes than weights can be compressed,
            or holds several Mixers.
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
        total = sum(file[name].nbytes for name in found)
    if elsewhere:
        raise ValueError(f"weights: {elsewhere[0]} of {path} points into another file; it is not loaded.")
    with npz.reading(path, ".weights.h5"):
        npz.check_growth(total, pathlib.Path(path))
    specs = {name: spec for name, spec in found.items() if not name.startswith("optimizer/")}
    notes = [f"{len(found) - len(specs)} arrays of the optimizer left out"] if len(found) > len(specs) else []
    mixers = [match[1] for match in map(H5_STEM.fullmatch, specs) if match]
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

    return npz.ArrayFile(str(path), inner, read, notes=tuple(notes))


def _is_bfloat16(item: Any) -> bool:
    """Whether Keras wrote a dataset of bfloat16, which HDF5 does not know: two bytes and a note of what they are."""
    return item.dtype.kind == "V" and item.dtype.itemsize == 2 and item.attrs.get("dtype") == "bfloat16"


def _bfloat16() -> np.dtype:
    import ml_dtypes  # a dependency of Keras

    return np.dtype(ml_dtypes.bfloat16)


@contextlib.contextmanager
def _damage_explained(path: Path) -> Iterator[None]:
    """Say in one sentence that a file is damaged: h5py meets damage with nearly every kind of exception."""
    try:
        yield
    except PermissionError as error:
        raise npz.unreadable(path, error) from None
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ValueError(
            f"weights: {path} is no whole HDF5 file ({reason}); it is damaged, so fetch or save it again."
        ) from None


def open_safetensors(path: Path) -> ArrayFile:
    """Return an ArrayFile of a .safetensors file."""
    try:
        import safetensors
    except ImportError:
        raise ImportError(
            f"weights: {path} needs the package safetensors; install it with pip install 'keras_mixer[safetensors]'."
        ) from None
    names = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}
    try:
        with safetensors.safe_open(path, framework="np") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            specs = {
                name: (tuple(s.get_shape()), names.get(s.get_dtype(), s.get_dtype())) for name, s in slices.items()
            }
    except safetensors.SafetensorError as error:
        raise ValueError(f"weights: {path} is no whole .safetensors file ({error}); get the file again.") from None

    def read(name: str) -> np.ndarray:
        with safetensors.safe_open(path, framework="np") as file:
            return file.get_tensor(name)

    return npz.ArrayFile(str(path), specs, read)
