"""The several valid labels of ImageNet's validation images (ReaL): from TFDS, or from the original JSON file."""

import json
import os
import pathlib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import tensorflow as tf

from keras_mixer import buckets
from keras_mixer.data.source import Record, Source
from keras_mixer.data.subsets import read_paths

if TYPE_CHECKING:
    import tensorflow_datasets as tfds  # takes seconds to import

NUM_VALIDATION = 50_000  # images of ImageNet's validation set, and entries of the original file
NUM_CLASSES = 1000
_FILE_NAME = re.compile(r"ILSVRC2012_val_(\d{8})\.")


def read_real_json(path: str | os.PathLike[str]) -> list[list[int]]:
    """Return the lists of labels in the authors' `real.json`: one for each validation image, in the files' order.

    Raises:
        ValueError: if it is not a list of lists of numbers from 0 to 999.
        OSError: if it cannot be read.
    """
    try:
        label_sets = json.loads(pathlib.Path(path).expanduser().read_bytes())
    except OSError as error:
        raise OSError(f"real_labels: cannot read {path} ({error.strerror}); give the path of a real.json.") from None
    except ValueError:
        raise ValueError(f"real_labels: {path} is not JSON; give the original real.json.") from None
    if not isinstance(label_sets, list) or not label_sets:
        raise ValueError(f"real_labels: {path} must be a list with a list of labels for each image; give real.json.")
    for i, labels in enumerate(label_sets):
        valid = isinstance(labels, list) and all(type(k) is int and 0 <= k < NUM_CLASSES for k in labels)
        if not valid:
            raise ValueError(
                f"real_labels: entry {i} of {path} is {str(labels)[:40]}, not a list of numbers from 0 to "
                f"{NUM_CLASSES - 1}; give the original real.json."
            )
    return label_sets


def match_labels(
    label_sets: Sequence[Sequence[int]], num_examples: int, numbers: Sequence[int] | None = None, name: str = "the file"
) -> Sequence[Sequence[int]]:
    """Return one list of labels for each image of a source.

    Args:
        label_sets: of `read_real_json`.
        num_examples: of the source.
        numbers: the number from 1 in the name of each image's file (`ILSVRC2012_val_00000001.JPEG` is 1), where the
            files have such names, since a dataset may hold them in another order; None where they have not.
        name: of the file, for the error.

    Raises:
        ValueError: with numbers, unless there are 50,000 entries or as many as images and each number has one;
            without, unless there are as many entries as images.
    """
    expected = {num_examples} | ({NUM_VALIDATION} if numbers is not None else set())
    if len(label_sets) not in expected:
        raise ValueError(
            f"real_labels: {name} has {len(label_sets):,} entries, but there are {num_examples:,} images"
            + (f" and ImageNet's validation set has {NUM_VALIDATION:,}" if numbers is not None else "")
            + "; give the real.json of these images, with one entry for each."
        )
    if numbers is None:
        return label_sets
    if max(numbers) > len(label_sets) or min(numbers) < 1:
        raise ValueError(
            f"real_labels: {name} has {len(label_sets):,} entries, and no entry {max(numbers):,} for the image of that "
            "number; give the original real.json of 50,000."
        )
    return [label_sets[i - 1] for i in numbers]


def validation_numbers(file_names: Sequence[str]) -> list[int] | None:
    """Return the number in each validation file's name, or None where one has none.

    Example:
        >>> validation_numbers(["n01440764/ILSVRC2012_val_00000293.JPEG"])
        [293]
    """
    matches = [_FILE_NAME.search(name) for name in file_names]
    return [int(match[1]) for match in matches if match] if matches and all(matches) else None


def read_tfds_fields(
    source: Source, features: "tfds.features.FeaturesDict"
) -> tuple[list[str] | None, list[list[int]] | None]:
    """Return (file names, label sets) of a TFDS source, None where its features have no `file_name`, `real_label`."""
    import tensorflow_datasets as tfds  # takes seconds to import

    images = [key for key, value in features.items() if isinstance(value, tfds.features.Image)]
    keys = [key for key in ("file_name", "real_label") if key in features]
    skip = dict.fromkeys(images, tfds.decode.SkipDecoding())

    def fields(record: Record) -> dict[str, tf.Tensor]:
        example = features.deserialize_example(record, decoders=skip)
        return {key: example[key] for key in keys}

    if not keys:
        return None, None
    rows = list(source.records(None, 0).map(fields, num_parallel_calls=tf.data.AUTOTUNE).as_numpy_iterator())
    names = [row["file_name"].decode() for row in rows] if "file_name" in keys else None
    return names, [row["real_label"].tolist() for row in rows] if "real_label" in keys else None


def find_label_sets(
    source: Source, dataset: str, data_dir: str | None = None, real_labels: str | None = None
) -> Sequence[Sequence[int]] | None:
    """Return the label sets of each image of a source, or None where neither file nor dataset has any.

    Args:
        source: as `opening.open_source` opened it from `dataset` and `data_dir`.
        real_labels: path of a `real.json`, which wins over labels of the dataset.

    Raises:
        ValueError, OSError: for a file that cannot be read or does not fit.
    """
    paths = read_paths(source)
    features = None if paths is not None else _tfds_features(dataset, data_dir)
    names, label_sets = (paths, None) if features is None else read_tfds_fields(source, features)
    if real_labels is None:
        return label_sets
    numbers = validation_numbers(names) if names else None
    return match_labels(read_real_json(real_labels), source.num_examples, numbers, str(real_labels))


def _tfds_features(dataset: str, data_dir: str | None) -> "tfds.features.FeaturesDict | None":
    """Return the features of a TFDS dataset that was opened before; None for what is no TFDS dataset."""
    if dataset == "digits" or buckets.is_bucket(dataset) or pathlib.Path(dataset).expanduser().is_dir():
        return None
    import tensorflow_datasets as tfds

    if data_dir and (pathlib.Path(data_dir) / "dataset_info.json").exists():
        return tfds.builder_from_directory(data_dir).info.features
    return tfds.builder(dataset, data_dir=data_dir).info.features
