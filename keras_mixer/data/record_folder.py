"""Where a folder of records may be written, and how a new one takes its place: whole, once it is finished."""

import contextlib
import pathlib
from collections.abc import Iterator

import tensorflow as tf

from keras_mixer import buckets, files
from keras_mixer.data.records import MANIFEST

CLAIM = ".writing"  # in a bucket, of the process that writes


def check_output(output: pathlib.Path, overwrite: bool) -> None:
    """Refuse to write where something is, except that `overwrite` replaces records."""
    if output.exists() and not output.is_dir():
        raise FileExistsError(f"output: {output} is a file; choose another folder.")
    names = sorted(path.name for path in output.iterdir() if path != output) if output.exists() else []
    names = [name for name in names if name != CLAIM]
    if buckets.is_bucket(output) and not any(name != MANIFEST and not name.endswith(".tfrecord") for name in names):
        overwrite |= MANIFEST not in names  # what a killed process left, which no manifest names
    if names and not overwrite:
        raise FileExistsError(f"output: {output} exists; choose another folder, or overwrite to replace records.")
    strange = [name for name in names if name != MANIFEST and not name.endswith(".tfrecord")]
    if names and (strange or (MANIFEST not in names and not buckets.is_bucket(output))):
        raise FileExistsError(
            f"output: {output} holds {(strange or names)[0]!r} and is not a folder of records, so it is not "
            "overwritten; choose another folder."
        )


@contextlib.contextmanager
def new_folder(output: pathlib.Path, overwrite: bool) -> Iterator[pathlib.Path]:
    """Give a folder beside `output`, locked, that takes its place at the end; after an error it is removed."""
    if buckets.is_bucket(output):
        with explained(output):
            buckets.make_folder(output)
        with explained(output), files.lock(output / CLAIM, f"output: another process writes {output}; wait for it."):
            check_output(output, overwrite)
            before = [path for path in output.iterdir() if path.name.endswith((".tfrecord", MANIFEST))]
            for path in sorted(before, key=lambda path: path.name != MANIFEST):
                path.unlink()
            yield output
        return
    temporary = output.with_name(f".{output.name}.tmp")
    with explained(output):
        temporary.mkdir(parents=True, exist_ok=True)
        lock = files.lock(temporary, f"output: another process writes {output}; wait, or choose another folder.")
    with explained(output), lock, files.replacing_folder(output, temporary, MANIFEST) as folder:
        check_output(output, overwrite)  # again, now that nobody else writes
        yield folder


@contextlib.contextmanager
def explained(output: pathlib.Path) -> Iterator[None]:
    """Turn what the system says when it cannot write into one sentence."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # a sentence already
            raise
        kind, reason = type(error), error.strerror
    except tf.errors.OpError as error:
        kind, reason = OSError, (buckets.reason(error) or "").rpartition("; ")[2]
    else:
        return
    raise kind(f"output: cannot write {output} ({reason}); nothing was left there, make room or choose another folder.")
