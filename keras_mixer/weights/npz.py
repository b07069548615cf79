"""The .npz archive as a file of named float32 arrays: checked before it is read, read one at a time, written whole."""

import contextlib
import dataclasses
import errno
import math
import pathlib
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from keras_mixer import files
from keras_mixer.types import Grid, Path

MAX_HEADER = 4096  # bytes of one array's header; NumPy writes 128
# The released files are not compressed. A compressed one is read too, within this much growth: weights hardly
# shrink, except for a head that is still zero.
MAX_GROWTH = 4
MAX_GROWTH_EXTRA = 256 * 2**20
GRID_COMMENT = "keras_mixer grid "  # of the archive, where the patches form no square


@dataclasses.dataclass
class ArrayFile:
    """Named arrays of one checkpoint, of which only names, shapes and dtypes are read so far.

    `specs` maps a name to (shape, dtype name), `read` returns one array, `grid` is the (rows, columns) of patches
    where the file says it, and `notes` are sentences for the report of a load.
    """

    source: str
    specs: dict[str, tuple[tuple[int, ...], str]]
    read: Callable[[str], np.ndarray]
    grid: tuple[int, int] | None = None
    notes: tuple[str, ...] = ()


def from_mapping(arrays: Mapping[str, Any], source: str = "a mapping of arrays") -> ArrayFile:
    """Return an ArrayFile of a name-to-array mapping; PyTorch tensors are accepted as values."""
    arrays = {str(name): _as_numpy(name, value) for name, value in arrays.items()}
    specs = {name: (array.shape, array.dtype.name) for name, array in arrays.items()}
    return ArrayFile(source, specs, arrays.__getitem__)


def _as_numpy(name: str, value: Any) -> np.ndarray:
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        if str(getattr(value, "dtype", "")) == "torch.bfloat16":  # which NumPy has not
            value = value.float()
    try:
        return np.asarray(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"weights: the value of {name!r} is no array ({error}).") from None


def read_finite(file: ArrayFile, name: str) -> np.ndarray:
    """Return one array of an ArrayFile; raise a ValueError if a value is NaN or infinite."""
    array = file.read(name)
    finite = np.isfinite(array)
    if not finite.all():
        raise ValueError(
            f"weights: {name} of {file.source} holds {array.size - int(finite.sum()):,} of {array.size:,} values that "
            "are NaN or infinite; it is not loaded."
        )
    return array


def check_finite(file: ArrayFile) -> None:
    """Read every floating array of an ArrayFile once; raise a ValueError for one that is not whole or not finite."""
    for name, (_, dtype) in file.specs.items():
        if "float" in dtype:
            read_finite(file, name)


def open_npz(path: Path) -> ArrayFile:
    """Return an ArrayFile of an .npz archive, without reading or unpickling an array.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for a file that is no .npz archive, is cut off, holds pickled objects, or declares to grow beyond
            what its size on disk allows.
    """
    path = pathlib.Path(path)
    with reading(path, ".npz"):
        archive = zipfile.ZipFile(path)  # stays open: reading its directory again for each array would take longer
        check_growth(sum(member.file_size for member in archive.infolist()), path)
        headers = {}
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            if name == member.filename or name in headers:
                raise ValueError(f"{member.filename!r} {'twice' if name in headers else 'which is no .npy array'}")
            headers[name] = _read_header(archive, member)
        grid = _parse_grid(archive.comment)
    specs = {name: (shape, dtype.name if dtype.isnative else dtype.str) for name, (shape, _, dtype) in headers.items()}

    def read(name: str) -> np.ndarray:
        with reading(path, ".npz"):
            return _read_array(archive, name, *headers[name])

    return ArrayFile(str(path), specs, read, grid)


def check_growth(total: int, path: pathlib.Path) -> None:
    """Raise a ValueError for a file that declares `total` bytes of arrays, more than weights can be compressed."""
    on_disk = path.stat().st_size
    if total > MAX_GROWTH * on_disk + MAX_GROWTH_EXTRA:
        raise ValueError(f"{total:,} bytes of arrays in {on_disk:,} on disk, more than weights can be compressed")


def _read_header(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Return (shape, fortran_order, dtype) of a member, having read no more than its header."""
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"an array of the .npy version {version}")
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        try:
            shape, fortran_order, dtype = read(file, max_header_size=MAX_HEADER)
        except (SyntaxError, tokenize.TokenError):  # NumPy takes what it cannot parse for an older version's header
            raise ValueError(f"a header that makes no sense in {member.filename!r}") from None
        if dtype.hasobject:
            raise ValueError(f"pickled objects in {member.filename!r}, which could run any code")
        size = file.tell() + dtype.itemsize * math.prod(shape)
        if min(shape, default=0) < 0 or size != member.file_size:
            raise ValueError(
                f"an array {shape} in {member.filename!r}, which is not the {member.file_size:,} bytes there"
            )
    return shape, fortran_order, dtype


def _read_array(
    archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], fortran_order: bool, dtype: np.dtype
) -> np.ndarray:
    with archive.open(name + ".npy") as file:
        version = np.lib.format.read_magic(file)
        file.read(int.from_bytes(file.read(2 if version == (1, 0) else 4), "little"))
        data = file.read()  # to the end, where the CRC is checked; zipfile stops at the size that bounded the header
        if len(data) != dtype.itemsize * math.prod(shape):
            raise EOFError(f"{name} is cut off")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran_order else "C")


@contextlib.contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """Turn all that can be wrong with an archive of this kind, such as ".npz", into one sentence."""
    try:
        yield
    except ValueError as error:
        what = str(error).splitlines()[0].rstrip(".")
        raise ValueError(f"weights: {path} holds {what}; it is no {kind} of a checkpoint and is not loaded.") from None
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        NotImplementedError,
        RuntimeError,
        KeyError,
        OverflowError,
        OSError,
    ) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # which is a place before the file's beginning
            raise unreadable(path, error) from None
        raise ValueError(
            f"weights: {path} is no whole {kind} archive ({describe(path, error)}); get the file again."
        ) from None


def unreadable(path: Path, error: OSError) -> OSError:
    """Return the error of the system, such as of a file without permission, as one sentence."""
    return type(error)(error.errno, f"weights: {path} cannot be read ({error.strerror or error})")


def describe(path: Path, error: Exception | str) -> str:
    """Say what a file is that was refused with `error`: a web page, empty, cut off, or what the error says."""
    with open(path, "rb") as file:
        start = file.read(256).lstrip()
    if start[:1] == b"<":
        return "it is a web page, perhaps of a proxy or a login"
    if not start:
        return "it is empty"
    if start[:2] == b"PK" and "not a zip" in str(error):
        return "it is cut off: the archive's directory at its end is missing"
    return str(error).rstrip(".") or type(error).__name__


def _parse_grid(comment: bytes) -> Grid | None:
    text = comment.decode("ascii", "replace")
    if not text.startswith(GRID_COMMENT):
        return None
    try:
        rows, columns = (int(side) for side in text.removeprefix(GRID_COMMENT).split("x"))
    except ValueError:
        raise ValueError(f"the comment {text[:40]!r}, which is no grid of patches") from None
    return rows, columns


def write_npz(path: Path, arrays: Mapping[str, Callable[[], np.ndarray]], grid: Grid | None = None) -> None:
    """Write an .npz archive as `np.savez` does, atomically and the same bytes for the same arrays.

    Args:
        path: of the file; it is replaced once the new one is complete and on disk.
        arrays: name to a function that returns the array, called one at a time.
        grid: (rows, columns) of patches to note in the archive's comment, which readers of arrays do not see.

    Raises:
        OSError: if the file cannot be written; an older one is then unchanged.
    """
    with files.writing(path, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, get in arrays.items():
            array = np.ascontiguousarray(get())
            # A fixed date, and the size beforehand: without it zipfile adds 20 bytes that the size needs only from
            # 2 GiB on.
            member = zipfile.ZipInfo(name + ".npy", date_time=(1980, 1, 1, 0, 0, 0))
            member.external_attr = 0o600 << 16
            member.file_size = array.nbytes + MAX_HEADER
            with archive.open(member, "w") as entry:
                np.lib.format.write_array(entry, array, version=(1, 0), allow_pickle=False)
        if grid is not None:
            archive.comment = f"{GRID_COMMENT}{grid[0]}x{grid[1]}".encode("ascii")
