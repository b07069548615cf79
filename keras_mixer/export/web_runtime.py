"""The runtime of an exported page: one version of onnxruntime-web, by the hashes of its two files."""

import base64
import hashlib
import pathlib
import shutil
from typing import Any, NamedTuple

from keras_mixer.errors import InputError
from keras_mixer.types import Path

VERSION = "1.30.0"
CDN = f"https://cdn.jsdelivr.net/npm/onnxruntime-web@{VERSION}/dist/"
FOLDER = "runtime"  # of the page, where the files lie beside it


class RuntimeFile(NamedTuple):
    """A file of the npm package, in its folder dist/."""

    file: str
    bytes: int
    integrity: str  # as browsers check it: of `openssl dgst -sha384 -binary FILE | base64`


# The smallest that the package has: it computes on the CPU, and the script needs no other.
SCRIPT = RuntimeFile(
    "ort.wasm.bundle.min.mjs", 73_054, "sha384-PLWz+nHEVHpjwBsO0YVdvQj6n5814Iv8E3b8FG0Rp/uIAtjFMCKOpP66iPzedrIG"
)
WASM = RuntimeFile(
    "ort-wasm-simd-threaded.wasm",
    14_239_897,
    "sha384-vjBJ1z7qrhkTyYsNqKeF6c7N+nOJSU94czEo+tvZcu8G75JparGq9kB+kTnEUNVM",
)


def check_runtime(runtime: Path | None, argument: str = "runtime") -> pathlib.Path | None:
    """Return the folder of the runtime as a path, once both files in it are those of `VERSION`; None for the CDN.

    Raises:
        ValueError: if it is no such folder, naming the file that is missing or another.
    """
    if runtime is None:
        return None
    folder = pathlib.Path(runtime).expanduser()
    remedy = f"run npm pack onnxruntime-web@{VERSION}, unpack it, and give its folder package/dist"
    for needed in (SCRIPT, WASM):
        path = folder / needed.file
        if not path.is_file():
            fault = f"{folder} has no {needed.file}" if folder.is_dir() else f"{str(folder)!r} is no folder"
            raise InputError(argument, fault, remedy)
        if integrity(path) != needed.integrity:
            fault = f"{path} is damaged, or not that of onnxruntime-web {VERSION}"
            raise InputError(argument, fault, remedy)
    return folder


def integrity(path: Path) -> str:
    """Return the hash of a file as browsers check it.

    Example:
        >>> import pathlib
        >>> _ = pathlib.Path("empty").write_bytes(b"")
        >>> integrity("empty")[:20]
        'sha384-OLBgp1GsljhM2'
    """
    return "sha384-" + base64.b64encode(hashlib.sha384(pathlib.Path(path).read_bytes()).digest()).decode()


def write_runtime(page: pathlib.Path, runtime: pathlib.Path | None) -> dict[str, Any]:
    """Put a checked runtime beside the page that is being written, and return what its settings say of it."""
    if runtime is not None:
        (page / FOLDER).mkdir()
        for needed in (SCRIPT, WASM):
            shutil.copyfile(runtime / needed.file, page / FOLDER / needed.file)
    return {
        "version": VERSION,
        "base": CDN if runtime is None else f"{FOLDER}/",
        "script": SCRIPT._asdict(),
        "wasm": WASM._asdict(),
    }
