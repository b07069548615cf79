"""Parts of a batch, for several machines: bit for bit the rows of the whole, and nothing else is decoded."""

import dataclasses
import os
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_mixer.data import opening, pipeline, record_writing
from keras_mixer.data.augment_settings import Augmentation
from keras_mixer.data.source import Rows, indexed_records

NUM_IMAGES = 22  # in each kind of source
MIXINGS = {
    "nothing": Augmentation(),
    "all": Augmentation(
        randaugment_magnitude=10, mixup_alpha=0.5, cutmix_alpha=1.0, random_erasing_rate=0.5, label_smoothing=0.1
    ),
    "cutmix": Augmentation(cutmix_alpha=1.0),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Noise in sizes that differ, as JPEG."""
    root, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for i in range(NUM_IMAGES):
        path = root / "train" / "abc"[i % 3] / f"{i:02d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tf.io.encode_jpeg(rng.integers(0, 256, (20 + i, 41 - i, 3), np.uint8)).numpy())
    return root


@pytest.fixture(scope="module")
def open_kind(folder, tmp_path_factory):
    """Open each kind of source once."""
    opened = {}

    def make(kind):
        if kind == "digits":
            return opening.open_source("digits", f"train[:{NUM_IMAGES}]", training=True)
        if kind == "folder":
            return opening.open_source(str(folder), "train", training=True)
        if kind == "records":
            output = tmp_path_factory.mktemp("made") / "records"
            record_writing.write_records(folder, output, num_shards=3)
            return opening.open_source(str(output), "train", training=True)
        directory = _prepare_tfds(folder, tmp_path_factory.mktemp(kind), kind.removeprefix("tfds "))
        return opening.open_source("tiny_photographs", "train", directory, training=True)

    def get(kind):
        if kind not in opened:
            opened[kind] = make(kind)
            assert opened[kind].num_examples == NUM_IMAGES
        return opened[kind]

    return get


def _prepare_tfds(folder, directory, file_format):
    import tensorflow_datasets as tfds

    with tfds.core.registered.skip_registration():

        class TinyPhotographs(tfds.core.GeneratorBasedBuilder):
            VERSION = tfds.core.Version("1.0.0")
            pkg_dir_path = directory

            def _info(self):
                features = {"image": tfds.features.Image(), "label": tfds.features.ClassLabel(names=["a", "b", "c"])}
                return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

            def _split_generators(self, dl_manager):
                return {"train": self._generate_examples()}

            def _generate_examples(self):
                for path in sorted(folder.glob("train/*/*.jpg")):
                    yield path.name, {"image": str(path), "label": path.parent.name}

    builder = TinyPhotographs(data_dir=directory, file_format=file_format)
    builder.download_and_prepare()
    return str(builder.data_path)


def _take(dataset, count):
    return [tuple(part.numpy() for part in batch) for batch in dataset.take(count)]


def _assert_parts_are_the_whole(make, count, num_batches):
    whole = _take(make((0, 1)), num_batches)
    parts = [_take(make((i, count)), num_batches) for i in range(count)]
    assert all(len(part) == len(whole) for part in parts)
    for tensors, *shares in zip(whole, *parts, strict=True):
        for i, tensor in enumerate(tensors):
            assert all(len(share[i]) * count == len(tensor) for share in shares)
            np.testing.assert_array_equal(np.concatenate([share[i] for share in shares]), tensor)


KINDS = ["digits", "folder", "records", "tfds tfrecord", "tfds array_record"]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "folder"])  # which has a test of its own
def test_training_parts_of_every_source_are_bit_for_bit_the_whole(open_kind, kind):
    args = dict(batch_size=8, image_size=8, seed=3, start_step=1, augmentation=Augmentation(mixup_alpha=0.5))
    make = lambda part: pipeline.train_batches(open_kind(kind), part=part, **args)
    _assert_parts_are_the_whole(make, 2, 3)  # over the end of a pass


@pytest.mark.parametrize("mixing", MIXINGS)
def test_training_parts_with_every_augmentation_are_bit_for_bit_the_whole(open_kind, mixing):
    args = dict(batch_size=8, image_size=16, seed=1, augmentation=MIXINGS[mixing])
    _assert_parts_are_the_whole(lambda part: pipeline.train_batches(open_kind("folder"), part=part, **args), 2, 3)


@settings(max_examples=5, deadline=None)
@given(
    share=st.integers(1, 5),
    count=st.sampled_from([1, 2, 4]),
    start_step=st.integers(0, 2**20),
    seed=st.integers(0, 2**31 - 1),
    alpha=st.sampled_from([0, 0.5]),
)
def test_training_parts_are_the_whole_from_any_step(open_kind, share, count, start_step, seed, alpha):
    args = dict(batch_size=share * count, image_size=8, seed=seed, start_step=start_step)
    args |= dict(augmentation=Augmentation("none", mixup_alpha=alpha))  # quickly built
    _assert_parts_are_the_whole(lambda part: pipeline.train_batches(open_kind("digits"), part=part, **args), count, 2)


def test_the_first_row_of_a_part_is_mixed_with_the_last_of_the_part_before(open_kind):
    """Mixed by itself, a part would have its own last image there."""
    args = dict(batch_size=8, image_size=16, seed=3)
    plain, mixing = Augmentation("none"), Augmentation("none", mixup_alpha=0.5)
    plain = _take(pipeline.train_batches(open_kind("digits"), augmentation=plain, **args), 1)[0][0]
    for index, neighbour, own_last in ((0, 7, 3), (1, 3, 7)):
        data = pipeline.train_batches(open_kind("digits"), part=(index, 2), augmentation=mixing, **args)
        mixed, labels = _take(data, 1)[0]
        weight = labels[labels > 0].min()  # of the partner, where the two classes differ
        assert 0 < weight < 0.5
        mix = lambda partner, w=weight, row=4 * index: (1 - w) * plain[row] + w * plain[partner]
        np.testing.assert_allclose(mixed[0], mix(neighbour), atol=1e-6)
        assert np.abs(mixed[0] - mix(own_last)).max() > 0.05


@pytest.mark.parametrize(("kind", "crop"), [(kind, "resize" if kind == "folder" else "resmall") for kind in KINDS])
def test_evaluation_parts_of_every_source_are_bit_for_bit_the_whole(open_kind, kind, crop):
    make = lambda part: pipeline.eval_batches(open_kind(kind), batch_size=16, image_size=12, crop=crop, part=part)
    _assert_parts_are_the_whole(make, 2, -1)  # 22 = 16 + 6: the last part's last batch is all filling


@settings(max_examples=5, deadline=None)
@given(share=st.integers(1, 9), count=st.sampled_from([1, 2, 4]))
def test_evaluation_parts_have_equally_many_batches_and_every_image_once(open_kind, share, count):
    source = open_kind("digits")
    make = lambda part: pipeline.eval_batches(source, batch_size=share * count, image_size=8, part=part)
    parts = [_take(make((i, count)), -1) for i in range(count)]
    assert {len(part) for part in parts} == {-(-source.num_examples // (share * count))}
    whole = [np.concatenate(shares) for batch in zip(*parts, strict=True) for shares in zip(*batch, strict=True)]
    images, labels, mask = (np.concatenate(whole[i::3]) for i in range(3))
    assert mask.tolist() == [1.0] * source.num_examples + [0.0] * (len(mask) - source.num_examples)
    assert labels[mask == 1].tolist() == [int(source.parse(r)[1]) for r in source.records(None, 0)]
    assert (images[mask == 0] == -1).all()  # black


@settings(max_examples=30, deadline=None)
@given(batch_size=st.integers(1, 9), start=st.integers(0, 40), length=st.integers(0, 40), data=st.data())
def test_positions_are_those_of_the_rows(batch_size, start, length, data):
    own = tuple(sorted(data.draw(st.sets(st.integers(0, batch_size - 1), min_size=1))))
    rows, expected = Rows(batch_size, own), [k for k in range(start, start + length) if k % batch_size in own]
    assert [int(k) for k in rows.positions(start, start + length)] == expected
    assert [int(k) for k in rows.positions(start).take(len(expected))] == expected
    assert [int(k) for k in rows.filter(tf.data.Dataset.range(start, start + length), start)] == expected
    assert rows.count(start + length) - rows.count(start) == len(expected)


# ---- The work that a part does ----


def _copy(folder, destination):
    for path in folder.glob("train/*/*.jpg"):
        (destination / "train" / path.parent.name).mkdir(parents=True, exist_ok=True)
        (destination / "train" / path.parent.name / path.name).write_bytes(path.read_bytes())


def test_a_damaged_or_missing_file_of_another_part_does_no_harm(folder, tmp_path):
    _copy(folder, tmp_path)
    source = opening.open_source(str(tmp_path), "train", training=True)
    order = [r["path"].numpy().decode() for r in source.records(3, 0).take(NUM_IMAGES)]  # of one pass
    make = lambda index: pipeline.train_batches(source, batch_size=8, image_size=8, seed=3, part=(index, 2)).take(2)
    before = [images for images, _ in make(0)]
    others = [path for k, path in enumerate(order) if k % 8 >= 4]
    os.unlink(others[0])
    for path in others[1:]:
        pathlib.Path(path).write_bytes(b"no image")
    np.testing.assert_array_equal([images for images, _ in make(0)], before)
    with pytest.raises(tf.errors.NotFoundError):
        list(make(1))


def test_a_damaged_image_in_records_of_another_part_does_no_harm(folder, tmp_path):
    _copy(folder, tmp_path / "images")
    record_writing.write_records(tmp_path / "images", tmp_path / "records", num_shards=1)
    source = opening.open_source(str(tmp_path / "records"), "train", training=False)
    encoded = [source.parse(r)[0].numpy() for r in source.records(None, 0)]
    shard = tmp_path / "records" / "train-00000-of-00001.tfrecord"
    with tf.io.TFRecordWriter(str(tmp_path / "damaged")) as writer:
        for k, record in enumerate(source.records(None, 0)):
            good = encoded[k]
            writer.write(record.numpy().replace(good, b"x" * len(good)) if k % 8 >= 4 else record.numpy())
    shard.write_bytes((tmp_path / "damaged").read_bytes())
    make = lambda part: pipeline.eval_batches(source, batch_size=8, image_size=12, part=part)
    assert sum(mask.sum() for _, _, mask in _take(make((0, 2)), -1)) == 12
    with pytest.raises(tf.errors.InvalidArgumentError):
        _take(make((1, 2)), -1)


@pytest.mark.parametrize(("mixing", "per_step"), [({}, 2), (dict(mixup_alpha=0.5), 3), (dict(cutmix_alpha=1.0), 3)])
@pytest.mark.parametrize("kind", ["digits", "records"])
def test_a_part_parses_its_share_and_one_neighbour_where_images_are_mixed(open_kind, kind, mixing, per_step):
    source, parsed = open_kind(kind), []

    def parse(record):
        image, label = source.parse(record)
        count = tf.numpy_function(lambda: parsed.append(1) or np.int64(0), [], tf.int64)
        with tf.control_dependencies([count]):
            return image, tf.identity(label)

    counted = dataclasses.replace(source, parse=parse)
    # Prefetching reads on, so the stream ends after three batches.
    ending = lambda seed, start, *rows: source.records(seed, start, *rows).take(3 * per_step)
    counted = dataclasses.replace(counted, records=ending)
    data = pipeline.train_batches(
        counted, batch_size=8, image_size=8, seed=0, part=(1, 4), augmentation=Augmentation(**mixing)
    )
    assert (len(_take(data, -1)), len(parsed)) == (3, 3 * per_step)


def test_a_source_by_index_does_not_gather_the_records_of_other_parts():
    gathered = []

    def gather(i):
        return tf.numpy_function(lambda i: gathered.append(int(i)) or i, [i], tf.int64)

    records = indexed_records(20, gather)
    assert [int(k) for k in records(None, 0, Rows(8, (2, 3)))] == [2, 3, 10, 11, 18, 19]
    assert gathered == [2, 3, 10, 11, 18, 19]


def test_keras_cv_augments_within_the_part(open_kind):
    augmentation = Augmentation("keras_cv", randaugment_magnitude=9, mixup_alpha=0.2, cutmix_alpha=1.0)
    args = dict(batch_size=8, image_size=16, seed=0, augmentation=augmentation)
    data = pipeline.train_batches(open_kind("digits"), part=(0, 2), **args)
    images, labels = _take(data, 1)[0]
    assert images.shape == (4, 16, 16, 3)
    np.testing.assert_allclose(labels.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("batch_size", "part", "message"),
    [
        (8, (0, 3), "batch_size: 8 images cannot be shared evenly by a count of 3 parts; use a multiple of 3 for"),
        (8, (2, 2), r"part: must be \(index, count\), whole numbers with 0 <= index < count, got \(2, 2\)"),
        (8, (-1, 2), "part: must be"),
        (8, (0, 0), "part: must be"),
        (8, (0.0, 2), "part: must be"),
        (8, 2, "part: must be .* got 2"),
        (0, (0, 1), "batch_size: must be a positive number of images, got 0"),
    ],
)
def test_bad_parts_are_refused_in_one_sentence(open_kind, batch_size, part, message):
    with pytest.raises(ValueError, match=message) as error:
        pipeline.train_batches(open_kind("digits"), batch_size=batch_size, image_size=8, seed=0, part=part)
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=message):
        pipeline.eval_batches(open_kind("digits"), batch_size=batch_size, image_size=8, part=part)
