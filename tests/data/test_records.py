"""Reading records: in a reproducible order, and damage named by file, shard and record."""

import json
import os
import pathlib
import shutil
import struct

import numpy as np
import pytest
import tensorflow as tf
from small_records import jpeg, one_sentence, read, write_originals

from keras_mixer.data import checking, opening, pipeline, record_writing, records
from keras_mixer.data.augment_settings import Augmentation


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    return write_originals(tmp_path_factory.mktemp("originals"))


@pytest.fixture
def images(originals, tmp_path):
    return shutil.copytree(originals / "images", tmp_path / "images")


@pytest.fixture
def made(originals, images, tmp_path):
    return shutil.copytree(originals / "records", tmp_path / "records")


def test_records_hold_the_bytes_labels_and_paths_of_the_folder(images, made):
    source = opening.open_source(str(made), training=True)
    assert (source.num_examples, source.class_names, source.photographs) == (24, ("ant", "bee"), True)
    folder = opening.open_source(str(images), training=True)
    assert sorted(read(source)) == sorted(read(folder))
    assert opening.open_source(str(made), training=False).name.endswith(" val")
    example = tf.train.Example.FromString(next(iter(source.records(None, 0))).numpy())
    path = example.features.feature["image/path"].bytes_list.value[0].decode()
    assert (images / path).read_bytes() == example.features.feature["image/encoded"].bytes_list.value[0]


@pytest.mark.parametrize(
    ("split", "part"), [("train[:50%]", slice(0, 12)), ("train[5:18]", slice(5, 18)), ("train[-1:]", slice(23, 24))]
)
def test_a_part_of_a_split_is_that_part_of_its_records(made, split, part):
    source = opening.open_source(str(made), split, training=True)
    expected = read(opening.open_source(str(made), "train", training=True))[part]
    assert read(source) == expected
    assert source.num_examples == len(expected)
    whole = sum(shard["bytes"] for shard in records.read_manifest(made)["splits"]["train"]["shards"])
    assert source.num_bytes() == pytest.approx(whole * len(expected) / 24, rel=0.05)  # records of nearly one size
    assert sorted(read(source, seed=1, count=len(expected))) == sorted(expected)


def test_order_is_a_function_of_seed_and_pass_and_can_start_anywhere(made):
    source = opening.open_source(str(made), training=True)
    order = read(source, seed=4, count=72)
    passes = [order[:24], order[24:48], order[48:]]
    assert all(sorted(p) == sorted(read(source)) for p in passes)
    assert passes[0] != passes[1] != passes[2]
    for start in (1, 23, 24, 40):
        assert read(source, seed=4, start=start, count=30) == order[start : start + 30]
    assert read(source, seed=5, count=24) != passes[0]
    assert read(source, start=20) == read(source)[20:]


def test_reading_records_runs_no_python(made):
    source = opening.open_source(str(made), training=True)
    for batches in (
        pipeline.train_batches(
            source, batch_size=4, image_size=8, seed=0, augmentation=Augmentation("paper", 10, mixup_alpha=0.2)
        ),
        pipeline.eval_batches(source, batch_size=4, image_size=8),
    ):
        graph = batches._as_serialized_graph().numpy()
        assert b"PyFunc" not in graph
        assert b"DecodePng" in graph  # where one would be


# ---- Damaged records ----


def shard_of(made, i=1):
    return made / f"train-{i:05d}-of-00003.tfrecord"


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "is missing; copy or make the records anew"),
        (lambda path: os.truncate(path, 700), r"is truncated, 700 bytes where the manifest promises [\d,]+; copy"),
        (lambda path: path.write_bytes(path.read_bytes() + b"x"), "is longer than it should be"),
    ],
)
def test_a_shard_of_another_size_is_named_at_opening(made, damage, message):
    damage(shard_of(made))
    for function in (lambda: opening.open_source(str(made), training=True), lambda: records.verify_records(made)):
        with pytest.raises(ValueError, match=f"dataset: the shard .*train-00001-of-00003.tfrecord {message}") as error:
            function()
        one_sentence(error)


def record_bounds(path):
    bounds, data = [0], path.read_bytes()
    while bounds[-1] < len(data):
        bounds.append(bounds[-1] + 16 + struct.unpack_from("<Q", data, bounds[-1])[0])
    return bounds


def test_a_flipped_bit_is_an_error_whose_shard_and_record_are_named(made):
    path = shard_of(made)
    flip(path, record_bounds(path)[5] + 20)
    source = opening.open_source(str(made), training=True)
    for seed in (None, 0):
        with pytest.raises(tf.errors.DataLossError):
            read(source, seed, count=24)
    assert source.find_unreadable() == f"{path} record 5"
    part = opening.open_source(str(made), "train[14:]", training=True)  # which skips it
    assert part.find_unreadable() == f"{path} record 5"
    with pytest.raises(ValueError, match=r"other bytes than its manifest promises in train-00001-of-00003.tfrecord"):
        records.verify_records(made)


def test_an_undecodable_image_in_a_shard_is_named(images, tmp_path, monkeypatch):
    (images / "train" / "bee" / "truncated.jpg").write_bytes(jpeg()[:-300])
    monkeypatch.setattr(checking, "_decoded_height", lambda encoded: None)  # as another writer might
    record_writing.write_records(images, tmp_path / "records")
    source = opening.open_source(str(tmp_path / "records"), training=True)
    i = [encoded[:2] == b"\xff\xd8" for encoded, _ in read(source)].index(True)
    assert source.find_unreadable() == f"{tmp_path / 'records' / 'train-00000-of-00001.tfrecord'} record {i}"


def test_a_shard_that_is_cut_between_records_after_opening_is_no_shorter_pass(made):
    source = opening.open_source(str(made), training=True)
    path = shard_of(made)
    os.truncate(path, record_bounds(path)[6])
    for seed in (None, 0):
        with pytest.raises(tf.errors.FailedPreconditionError, match="expected to contain 8 elements"):
            read(source, seed, count=24)
    assert source.find_unreadable() == f"{path} record 6 (the file ends before it)"
    path.unlink()
    with pytest.raises(tf.errors.NotFoundError):
        read(source)
    assert source.find_unreadable() == f"{path} record 0 (the file is missing)"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(version=3), "is not the manifest of keras_mixer records, version 1 or 2"),
        (lambda m: m.pop("splits"), "is damaged .*'splits'"),
        (lambda m: m["splits"]["train"].update(num_examples=25), "promises 25 examples, and its shards 24"),
        (lambda m: m["splits"]["train"]["shards"].pop(), "promises 24 examples, and its shards 16"),
        (lambda m: m["splits"]["train"]["shards"][0].update(file="../x"), "'../x' is not a file of this folder"),
        (lambda m: m["splits"]["train"]["shards"][0].update(bytes="many"), "must be counts"),
        (lambda m: m.update(class_names=[]), "class_names must be names"),
        (lambda m: m["splits"]["train"].update(num_examples=0, shards=[]), "has no images"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(made, change, message):
    manifest = json.loads((made / "manifest.json").read_text())
    change(manifest)
    (made / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=message) as error:
        opening.open_source(str(made), training=True)
    one_sentence(error)


def test_a_manifest_that_is_no_json_and_other_splits_are_refused(made):
    with pytest.raises(ValueError, match="has no split 'extra'; it has train, val"):
        opening.open_source(str(made), "extra", training=True)
    (made / "manifest.json").write_text('{"format": ')
    with pytest.raises(ValueError, match=r"manifest.json is damaged, it is not JSON"):
        opening.open_source(str(made), training=True)
    with pytest.raises(ValueError, match=r"is not a folder of records, it has no manifest.json"):
        records.verify_records(made.parent)


# ---- TFDS ----


@pytest.fixture
def tfds_directory(tmp_path):
    import tensorflow_datasets as tfds

    with tfds.core.registered.skip_registration():

        class TinyImages(tfds.core.GeneratorBasedBuilder):
            VERSION = tfds.core.Version("1.0.0")
            pkg_dir_path = tmp_path

            def _info(self):
                features = {"image": tfds.features.Image(), "label": tfds.features.ClassLabel(names=["a", "b"])}
                return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

            def _split_generators(self, dl_manager):
                return {"train": self._generate_examples()}

            def _generate_examples(self):
                for i in range(20):
                    yield i, {"image": np.full((8, 8, 3), i, np.uint8), "label": i % 2}

    config = tfds.download.DownloadConfig(num_shards=2)
    builder = TinyImages(data_dir=tmp_path / "tfds")
    builder.download_and_prepare(download_config=config)
    return builder.data_path


def test_damage_to_a_tfds_shard_is_an_error_and_named(tfds_directory):
    source = opening.open_source("tiny_images", "train", str(tfds_directory), training=True)
    paths = sorted(str(p) for p in tfds_directory.glob("*.tfrecord*"))
    assert len(paths) == 2
    assert source.find_unreadable() is None
    path = pathlib.Path(paths[1])
    whole, bounds = path.read_bytes(), record_bounds(path)
    half = opening.open_source("tiny_images", "train[75%:]", str(tfds_directory), training=True)
    assert (len(read(half)), half.find_unreadable()) == (5, None)

    def expect(kind, name):
        for seed in (None, 0):
            with pytest.raises(kind):
                read(source, seed, count=20)
        assert source.find_unreadable() == name

    flip(path, bounds[3] + 20)
    expect(tf.errors.DataLossError, f"{path} record 3")
    path.write_bytes(whole[: bounds[7] + 30])
    expect(tf.errors.DataLossError, f"{path} record 7")
    path.write_bytes(whole[: bounds[7]])
    expect(tf.errors.FailedPreconditionError, f"{path} record 7 (the file ends before it)")
    path.unlink()
    expect(tf.errors.NotFoundError, f"{path} record 0 (the file is missing)")
