"""Any dataset of TensorFlow Datasets as a `Source`: by index from array_record, shard by shard from TFRecord."""

import dataclasses
import difflib
import logging
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from keras_mixer import buckets
from keras_mixer.data import decode
from keras_mixer.data.records import Shard, find_unreadable, sequential_records
from keras_mixer.data.source import Record, Source, indexed_records
from keras_mixer.data.splits import default_split, select
from keras_mixer.data.task_labels import Label

logger = logging.getLogger("keras_mixer")

# Names whose images are drawn signs: a mirrored or a closely cropped 6 is no 6.
GLYPHS = ("mnist", "emnist", "kmnist", "fashion_mnist", "omniglot", "svhn_cropped", "binarized_mnist")


@dataclasses.dataclass(frozen=True)
class Reading:
    """How a dataset is read where its features alone do not say it.

    Attributes:
        label: the feature that is the label, or a function of the decoded example, without its image, that computes it;
            None finds the one class label.
        class_names: of a label that is computed.
        photographs: of the source; None goes by the name.
        image_scale: factor of the pixels.
    """

    label: Label | None = None
    class_names: tuple[str, ...] = ()
    photographs: bool | None = None
    image_scale: float = 1


def tfds_source(
    name: str,
    split: str | None,
    data_dir: str | None,
    manual_dir: str | None,
    training: bool,
    reading: Reading = Reading(),
) -> Source:
    """Return the `source.Source` of a TFDS name, downloading and preparing it where needed.

    Args:
        name, split, data_dir, manual_dir, training: as `opening.open_source` takes them; a split may be a sum of parts.
        reading: a `Reading`.
    """
    builder = _builder(name, data_dir)
    base = name.split("/")[0].split(":")[0]
    if reading.label is not None and builder.name != base:
        raise ValueError(f"dataset: {data_dir} holds {builder.name}, where {name} is needed; give its own --data_dir.")
    if not builder.info.splits:
        _prepare(builder, name, manual_dir)
    split = _known_parts(builder, split or default_split(list(builder.info.splits), training, name), name)
    info = builder.info.splits[split]
    features = builder.info.features
    image_key, label = find_keys(features, name, reading.label)
    if training and "real_label" in features:
        logger.warning("dataset: %s is read with its original label; its several ReaL labels are not used.", name)
    decoders = {image_key: tfds.decode.SkipDecoding()}

    def parse(record: Record) -> tuple[tf.Tensor, tf.Tensor]:
        example = features.deserialize_example(record, decoders=decoders)
        image = example.pop(image_key)
        if reading.image_scale != 1:
            image = decode.decode_image(image, python=False) * tf.constant(reading.image_scale, tf.uint8)
        return image, tf.cast(label(example) if callable(label) else example[label], tf.int64)

    shards = [
        Shard(str(i.filename), i.skip, i.take if i.take >= 0 else i.examples_in_shard - i.skip)
        for i in info.file_instructions
    ]
    unreadable: Callable[[], str | None] | None = None
    if builder.info.file_format == tfds.core.file_adapters.FileFormat.ARRAY_RECORD:
        records = indexed_records(info.num_examples, _array_record_gather(shards))
    else:
        records, unreadable = sequential_records(shards), lambda: find_unreadable(shards, parse)
    return Source(
        name=f"{name} {split}",
        num_examples=info.num_examples,
        class_names=tuple(reading.class_names or features[label].names),
        photographs=base not in GLYPHS if reading.photographs is None else reading.photographs,
        records=records,
        parse=parse,
        find_unreadable=unreadable,
    )


def has_splits(name: str, data_dir: str | None) -> bool:
    """Return whether a TFDS name can be read without downloading anything.

    Raises:
        ValueError: for a name that TFDS does not know, or cannot open.
    """
    return bool(_builder(name, data_dir).info.splits)


def _builder(name: str, data_dir: str | None) -> tfds.core.DatasetBuilder:
    try:
        if data_dir and (buckets.path_of(data_dir, "data_dir") / "dataset_info.json").exists():
            return tfds.builder_from_directory(data_dir)
        return tfds.builder(name, data_dir=data_dir)
    except tfds.core.registered.DatasetNotFoundError:
        near = difflib.get_close_matches(name.split("/")[0], ["digits", *tfds.list_builders()], n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "see tensorflow.org/datasets for the names."
        raise ValueError(f"dataset: {name!r} is not digits, a folder or a TFDS name; {hint}") from None
    except (ValueError, KeyError, FileNotFoundError) as error:
        raise ValueError(f"dataset: TFDS cannot open {name!r}: {' '.join(str(error).split())[:300]}") from None


def _prepare(builder: tfds.core.DatasetBuilder, name: str, manual_dir: str | None) -> None:
    try:
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=manual_dir))
    except Exception as error:
        raise ValueError(
            f"dataset: TFDS could not download and prepare {name!r} ({type(error).__name__}: "
            f"{' '.join(str(error).split())[:200]}); prepare it where there is a network and give its --data_dir."
        ) from error


def _known_parts(builder: tfds.core.DatasetBuilder, split: str, name: str) -> str:
    """Return a split, which may be a sum of parts, by the dataset's own names; a clear error for a bad part."""
    sizes = {key: value.num_examples for key, value in builder.info.splits.items()}
    return "+".join(select(part, sizes, name)[0] + "".join(part.partition("[")[1:]) for part in split.split("+"))


def find_keys(
    features: Mapping[str, tfds.features.FeatureConnector], name: str, label: Label | None = None
) -> tuple[str, Label]:
    """Return the name of the one image and the one class label of a dataset; ValueError where they are not clear.

    A `label` that names its feature, or is a function that computes it, is returned as it is.
    """
    images = [key for key, value in features.items() if isinstance(value, tfds.features.Image)]
    labels = [key for key, value in features.items() if isinstance(value, tfds.features.ClassLabel)]
    image = "image" if "image" in images else images[0] if len(images) == 1 else None
    if label is None:
        label = "label" if "label" in labels else labels[0] if len(labels) == 1 else None
    elif not callable(label) and label not in labels:
        raise ValueError(f"dataset: {name!r} has no class label {label!r}; it has {', '.join(labels) or 'none'}.")
    if image is None or label is None:
        raise ValueError(
            f"dataset: {name!r} has no single image and class label (images: {images}, labels: {labels}); "
            "choose an image classification dataset."
        )
    return image, label


def _array_record_gather(shards: Sequence[Shard]) -> Callable[[tf.Tensor], tf.Tensor]:
    """Read record i through array_record, which is random access."""
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    readers = [ArrayRecordDataSource(shard.path) for shard in shards]
    starts = np.cumsum([0, *(shard.take for shard in shards)])

    def read(i: np.int64) -> bytes:
        k = int(np.searchsorted(starts, i, side="right")) - 1
        return readers[k][int(i - starts[k]) + shards[k].skip]

    def gather(i: tf.Tensor) -> tf.Tensor:
        return tf.ensure_shape(tf.numpy_function(read, [i], tf.string), [])

    return gather
