"""Sources: the digits, folders, TFDS; order as a function of the seed; and what is refused."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from keras_mixer.data import opening
from keras_mixer.data.source import Source, indexed_records


def _write_images(folder, count, side=12, start=0):
    folder.mkdir(parents=True)
    for i in range(count):
        pixels = np.full((side, side + 2, 3), (start + i) % 256, np.uint8)
        (folder / f"{i:03d}.png").write_bytes(tf.io.encode_png(pixels).numpy())


@pytest.fixture
def flat(tmp_path):
    for label, name in enumerate(["ant", "bee", "cow"]):
        _write_images(tmp_path / "flat" / name, 20, start=label * 50)
    return str(tmp_path / "flat")


def _labels(source, seed, start, count):
    return [int(source.parse(r)[1]) for r in source.records(seed, start).take(count)]


def test_digits_hold_out_the_last_360_rows():
    train, test = (opening.open_source("digits", training=t) for t in (True, False))
    assert (train.num_examples, test.num_examples) == (1437, 360)
    data = load_digits()
    images = np.stack([test.parse(r)[0] for r in test.records(None, 0)])
    np.testing.assert_array_equal(images[..., 0], np.round(data.images[-360:] * 255 / 16))
    assert _labels(test, None, 0, 360) == data.target[-360:].tolist()
    assert not train.photographs


def test_each_shuffled_pass_has_every_example_once_in_another_order():
    source = opening.open_source("digits", "train[:50]", training=True)
    count = source.num_examples
    source = Source("n", count, source.class_names, False, indexed_records(count, lambda i: i), None)
    order = [int(i) for i in source.records(3, 0).take(3 * count)]
    passes = [order[i * count : (i + 1) * count] for i in range(3)]
    assert all(sorted(p) == list(range(count)) for p in passes)
    assert passes[0] != passes[1] != passes[2] != list(range(count))
    assert [int(i) for i in source.records(4, 0).take(count)] != passes[0]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31 - 1), start=st.integers(0, 100), size=st.integers(1, 40))
def test_a_stream_can_start_anywhere(seed, start, size):
    records = indexed_records(size, lambda i: i)
    whole = [int(i) for i in records(seed, 0).take(start + 5)]
    assert [int(i) for i in records(seed, start).take(5)] == whole[start:]


def test_flat_folder_splits_each_class_by_its_seed(flat):
    train, test = (opening.open_source(flat, training=t, seed=1) for t in (True, False))
    assert (train.num_examples, test.num_examples) == (54, 6)
    assert train.class_names == ("ant", "bee", "cow")
    assert np.bincount(_labels(test, None, 0, 6)).tolist() == [2, 2, 2]
    read = lambda s: {r["path"].numpy() for r in s.records(None, 0)}
    assert not read(train) & read(test)
    assert read(test) != read(opening.open_source(flat, training=False, seed=2))
    assert train.photographs


def test_split_folder_uses_the_given_splits(tmp_path):
    for split, count in (("train", 4), ("val", 2), ("test", 3)):
        for name in ("x", "y"):
            _write_images(tmp_path / split / name, count)
    root = str(tmp_path)
    assert opening.open_source(root, training=True).num_examples == 8
    assert opening.open_source(root, training=False).num_examples == 4  # val comes before test
    assert opening.open_source(root, "test", training=False).num_examples == 6
    assert opening.open_source(root, "train[:75%]", training=True).num_examples == 6


@pytest.mark.parametrize("file_format", ["tfrecord", "array_record"])
def test_tfds_by_prepared_directory(tmp_path, file_format):
    tfds_directory, labels = _prepare_tfds(tmp_path, file_format)
    source = opening.open_source("tiny_images", "train", tfds_directory, training=True)
    assert source.num_examples == 30
    assert source.class_names == ("a", "b", "c")
    assert sorted(_labels(source, None, 0, 100)) == sorted(labels)
    images = [source.parse(r)[0] for r in source.records(None, 0).take(1)]
    assert images[0].dtype == tf.string
    whole = [r.numpy() for r in source.records(5, 0).take(75)]
    assert sorted(whole[:30]) == sorted(whole[30:60])
    assert whole[:30] != whole[30:60]
    assert [r.numpy() for r in source.records(5, 40).take(35)] == whole[40:]
    assert opening.open_source("tiny_images", "train[:50%]", tfds_directory, training=True).num_examples == 15


def _prepare_tfds(tmp_path, file_format):
    import tensorflow_datasets as tfds

    labels = np.arange(30) % 3

    with tfds.core.registered.skip_registration():

        class TinyImages(tfds.core.GeneratorBasedBuilder):
            VERSION = tfds.core.Version("1.0.0")
            pkg_dir_path = tmp_path

            def _info(self):
                features = {"image": tfds.features.Image(), "label": tfds.features.ClassLabel(names=["a", "b", "c"])}
                return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

            def _split_generators(self, dl_manager):
                return {"train": self._generate_examples()}

            def _generate_examples(self):
                for i, label in enumerate(labels):
                    yield i, {"image": np.full((8, 8, 3), i, np.uint8), "label": int(label)}

    builder = TinyImages(data_dir=tmp_path / "tfds", file_format=file_format)
    builder.download_and_prepare()
    return str(builder.data_path), labels.tolist()


PAPER_TASKS = {
    "imagenet2012": 1000,
    "imagenet_v2": 1000,
    "imagenet2012_real": 1000,
    "cifar10": 10,
    "cifar100": 100,
    "oxford_iiit_pet": 37,
    "oxford_flowers102": 102,
}


@pytest.mark.parametrize("name", PAPER_TASKS)
def test_the_papers_tasks_are_known_by_their_tfds_names(name, tmp_path):
    import tensorflow_datasets as tfds

    from keras_mixer.data.tfds import find_keys

    features = tfds.builder(name, data_dir=tmp_path).info.features
    image, label = find_keys(features, name)
    assert (image, features[label].num_classes) == ("image", PAPER_TASKS[name])


def test_tfds_prepares_by_name_from_a_manual_folder(tmp_path):
    import tensorflow_datasets as tfds

    class ManualImages(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")
        MANUAL_DOWNLOAD_INSTRUCTIONS = "Put images.npy there."
        pkg_dir_path = tmp_path

        def _info(self):
            features = {"image": tfds.features.Image(), "label": tfds.features.ClassLabel(num_classes=2)}
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {"test": self._generate_examples(np.load(dl_manager.manual_dir / "images.npy"))}

        def _generate_examples(self, images):
            for i, image in enumerate(images):
                yield i, {"image": image, "label": i % 2}

    arguments = dict(data_dir=str(tmp_path / "data"), training=False)
    with pytest.raises(ValueError, match="TFDS could not download and prepare 'manual_images'"):
        opening.open_source("manual_images", manual_dir=str(tmp_path / "nowhere"), **arguments)
    (tmp_path / "manual").mkdir()
    np.save(tmp_path / "manual" / "images.npy", np.zeros((6, 4, 4, 3), np.uint8))
    source = opening.open_source("manual_images", manual_dir=str(tmp_path / "manual"), **arguments)
    assert (source.name, source.num_examples) == ("manual_images test", 6)


@pytest.mark.parametrize(
    ("dataset", "split", "message"),
    [
        ("cifar1O", None, "'cifar1O' is not digits, a folder or a TFDS name; did you mean"),
        ("no/such/folder", None, "the folder 'no/such/folder' does not exist"),
        ("digits", "dev", "digits has no split 'dev'; it has train, test"),
        ("digits", "train[:0]", "has no images"),
    ],
)
def test_bad_names_are_refused_in_one_sentence(dataset, split, message):
    with pytest.raises(ValueError, match=message) as error:
        opening.open_source(dataset, split, training=True)
    assert "\n" not in str(error.value)


def test_folder_without_images_is_refused(tmp_path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "dog").mkdir()
    with pytest.raises(ValueError, match="has no images"):
        opening.open_source(str(tmp_path), training=True)
    with pytest.raises(ValueError, match="has no class folders"):
        opening.open_source(str(tmp_path / "cat"), training=True)


def test_flat_folder_with_one_image_per_class_has_nothing_held_out(tmp_path):
    for name in ("ant", "bee"):
        _write_images(tmp_path / name, 1)
    assert opening.open_source(str(tmp_path), training=True).num_examples == 2
    with pytest.raises(ValueError, match="dataset: each class folder of .* has a single image, which is for training"):
        opening.open_source(str(tmp_path), training=False)


def test_flat_folder_with_an_empty_train_beside_its_classes_is_refused(tmp_path):
    _write_images(tmp_path / "ant", 3)
    _write_images(tmp_path / "bee", 3)
    (tmp_path / "train").mkdir()
    with pytest.raises(
        ValueError, match="has class folders beside 'train', which is the name of a split; move .* or remove .*train"
    ):
        opening.open_source(str(tmp_path), training=True)
    (tmp_path / "train").rmdir()
    assert opening.open_source(str(tmp_path), training=True).class_names == ("ant", "bee")


@pytest.mark.parametrize("name", ["dataset", "data_dir", "manual_dir"])
def test_null_byte_in_a_path_is_refused(name):
    kwargs = {"dataset": "mnist"} | {name: "images\0/train"}
    with pytest.raises(
        ValueError, match=rf"^{name}: 'images.x00/train' has a null byte, which no path can have; remove"
    ):
        opening.open_source(training=True, **kwargs)


def test_class_folder_missing_in_training_is_refused(tmp_path):
    for path in ("train/a", "train/c", "val/a", "val/b", "val/c"):
        _write_images(tmp_path / path, 1)
    with pytest.raises(ValueError, match="has the class folder 'b', which"):
        opening.open_source(str(tmp_path), training=False)


def test_unreadable_image_is_named(flat):
    source = opening.open_source(flat, training=True, seed=1)
    assert source.find_unreadable() is None
    path = next(iter(source.records(None, 0)))["path"].numpy().decode()
    with open(path, "wb") as file:
        file.write(b"not an image")
    assert source.find_unreadable() == path


def test_skipping_leaves_out_exactly_the_bad_files_and_names_them(flat, caplog):
    import pathlib

    whole = opening.open_source(flat, training=True, seed=1)
    paths = [r["path"].numpy().decode() for r in whole.records(None, 0)]
    for path, content in ((paths[3], b""), (paths[30], b"<html>no image</html>")):
        pathlib.Path(path).write_bytes(content)
    kwargs = dict(training=True, seed=1, on_bad_image="skip")
    with pytest.raises(ValueError, match="above --max_bad_fraction=0.01; mend them or raise it"):
        opening.open_source(flat, **kwargs)
    source = opening.open_source(flat, **kwargs, max_bad_fraction=0.05)
    kept = [r["path"].numpy().decode() for r in source.records(None, 0)]
    assert kept == [path for path in paths if path not in (paths[3], paths[30])]
    assert "2 of 54 images cannot be read and are left out" in caplog.text
    assert source.left_out == (f"{flat}: 2 of 54 files of train cannot be decoded and are left out.",)
    assert opening.open_source(flat, training=False).left_out == ()
    assert pathlib.Path(paths[3]).name in caplog.text


def test_skipping_is_refused_where_it_cannot_be_kept():
    with pytest.raises(ValueError, match="on_bad_image: skip is for a folder of images, and 'digits' is none"):
        opening.open_source("digits", training=True, on_bad_image="skip")
    with pytest.raises(ValueError, match="on_bad_image: must be 'stop' or 'skip', got 'drop'"):
        opening.open_source("digits", training=True, on_bad_image="drop")
