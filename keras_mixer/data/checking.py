"""Image files that are none: found by decoding each as a whole, and left out only up to a stated fraction."""

import concurrent.futures
import logging
import os
import pathlib

import tensorflow as tf

from keras_mixer.data import decode
from keras_mixer.data.progress import Progress

logger = logging.getLogger("keras_mixer")
MAX_THREADS = 8  # each may hold a decoded image


def check_policy(on_bad_image, max_bad_fraction):
    """Raise a ValueError unless these are "stop" or "skip", and a fraction in [0, 1)."""
    if on_bad_image not in ("stop", "skip"):
        raise ValueError(f"on_bad_image: must be 'stop' or 'skip', got {on_bad_image!r}.")
    if not 0 <= max_bad_fraction < 1:
        raise ValueError(f"max_bad_fraction: must be at least 0 and less than 1, got {max_bad_fraction}.")


def num_threads():
    """Return how many threads to decode in."""
    return min(MAX_THREADS, os.cpu_count() or 1)


def without_bad_images(root, split, files, others, max_bad_fraction):
    """Decode every image once, and return those that can be; the others are counted and named in a warning.

    Args:
        root: the folder that the names in messages are relative to.
        split: its name.
        files: a list of (path, label).
        others: paths of files that are no images by their name.
        max_bad_fraction: more than this fraction of all these files is an error.

    Raises:
        ValueError: above the fraction.
    """
    bad = BadImages(root, split, len(files) + len(others), max_bad_fraction)
    for path in others:
        bad.add(path, f"{path}: is not an image by its name.")
    good = []
    with (
        concurrent.futures.ThreadPoolExecutor(num_threads()) as threads,
        Progress(f"checked {split}:", len(files), "images") as progress,
    ):
        for (path, label), (_, fault) in zip(files, threads.map(_fault_only, (path for path, _ in files)), strict=True):
            if fault:
                bad.add(path, fault)
            else:
                good.append((path, label))
            progress.update()
    if bad.skipped:
        names = ", ".join(entry["path"] for entry in bad.skipped[:5])
        more = " ..." if len(bad.skipped) > 5 else ""
        logger.warning(
            "split %s of %s: %d of %d files are no images and are left out: %s%s",
            split,
            root,
            len(bad.skipped),
            bad.total,
            names,
            more,
        )
    return good


class BadImages:
    """Files left out of a split, with the reason; `max_fraction` None stops at the first."""

    def __init__(self, root, split, total, max_fraction):
        self.root, self.split, self.total, self.max_fraction = root, split, total, max_fraction
        self.skipped = []

    def add(self, path, reason):
        """Stop, or leave out the file; stop as well above the fraction, with a ValueError."""
        if self.max_fraction is None:
            raise ValueError(f"dataset: {reason[:-1]}, or use on_bad_image=skip.")
        self.skipped.append({"path": os.path.relpath(path, self.root), "reason": reason})
        if len(self.skipped) > self.max_fraction * self.total:
            first = ", ".join(bad["path"] for bad in self.skipped[:3])
            raise ValueError(
                f"dataset: {len(self.skipped)} or more of the {self.total:,} files of split {self.split} are bad "
                f"({first} ...), above max_bad_fraction={self.max_fraction:g}; mend them or raise it. The last one, "
                f"{reason}"
            )


@tf.function(input_signature=[tf.TensorSpec([], tf.string)])
def _decoded_height(encoded):
    return tf.shape(decode.decode_image(encoded))[0]


def read_image(path):
    """Return (bytes, None), or (None, a sentence on what is wrong); the image is decoded as a whole."""
    try:
        if not os.path.isfile(path):
            return None, f"{path}: is missing or no regular file; replace or remove it."
        encoded = pathlib.Path(path).read_bytes()
        _decoded_height(encoded)
    except OSError as error:
        return None, f"{path}: cannot be read ({error.strerror}); replace or remove it."
    except tf.errors.OpError as error:
        return None, decode.describe_error(error, path)
    return encoded, None


def _fault_only(path):
    return None, read_image(path)[1]  # so that no finished image waits in memory
