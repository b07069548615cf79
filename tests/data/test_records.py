"""Records: written whole or not at all, read in a reproducible order, and damage named by file, shard and record."""

import fcntl
import json
import os
import pathlib
import resource
import shutil
import struct

import numpy as np
import pytest
import tensorflow as tf
from encoded_images import OTHERS, PLAIN

from keras_mixer.data import checking, decode, opening, pipeline, record_writing, records
from keras_mixer.data.augment_settings import Augmentation

COUNT = {"train": 12, "val": 3}  # images of each class


def png(value, side=9):
    return tf.io.encode_png(np.full((side, side + 1, 3), value, np.uint8)).numpy()


def jpeg():
    return tf.io.encode_jpeg(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)).numpy()


BOMB = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + struct.pack(">IIBBBBB", 60000, 50000, 8, 2, 0, 0, 0)
BAD_IMAGES = {
    "truncated.jpg": (jpeg()[:-300], "Invalid JPEG data or crop window"),
    "page.jpg": (b"<!DOCTYPE html><html><body>Not found</body></html>", "it is no JPEG, PNG, GIF, WebP, BMP, TIFF"),
    "empty.png": (b"", "it is no JPEG, PNG, GIF, WebP, BMP, TIFF"),
    "bomb.png": (BOMB, "more than 89478485 pixels"),
    "thin.gif": (b"GIF89a\xff\xff\1\0\0\0\0,\0\0\0\0\xff\xff\1\0\0\2\0;", "one side more than 100 times the other"),
    "link.png": (None, "is missing or no regular file"),
}


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    root = tmp_path_factory.mktemp("originals")
    for split, count in COUNT.items():
        for label, name in enumerate(["ant", "bee"]):
            (root / "images" / split / name).mkdir(parents=True)
            for i in range(count):
                (root / "images" / split / name / f"{i:02d}.png").write_bytes(png(100 * label + i))
    record_writing.write_records(root / "images", root / "records", num_shards=3)
    return root


@pytest.fixture
def images(originals, tmp_path):
    return shutil.copytree(originals / "images", tmp_path / "images")


@pytest.fixture
def made(originals, images, tmp_path):
    return shutil.copytree(originals / "records", tmp_path / "records")


def add_bad(images, name):
    path = images / "train" / "bee" / name
    if BAD_IMAGES[name][0] is None:
        path.symlink_to(images / "nowhere.png")
    else:
        path.write_bytes(BAD_IMAGES[name][0])
    return path


def one_sentence(error):
    text = str(error.value)
    assert "\n" not in text
    assert text.endswith(".")
    return text


def read(source, seed=None, start=0, count=-1):
    return [tuple(x.numpy() for x in source.parse(r)) for r in source.records(seed, start).take(count)]


# ---- Writing, and reading back ----


def test_records_hold_the_bytes_labels_and_paths_of_the_folder(images, made):
    source = opening.open_source(str(made), training=True)
    assert (source.num_examples, source.class_names, source.photographs) == (24, ("ant", "bee"), True)
    folder = opening.open_source(str(images), training=True)
    assert sorted(read(source)) == sorted(read(folder))
    assert opening.open_source(str(made), training=False).name.endswith(" val")
    example = tf.train.Example.FromString(next(iter(source.records(None, 0))).numpy())
    path = example.features.feature["image/path"].bytes_list.value[0].decode()
    assert (images / path).read_bytes() == example.features.feature["image/encoded"].bytes_list.value[0]


def test_manifest_has_counts_bytes_and_checksums_and_nothing_else_is_left(made):
    manifest = json.loads((made / "manifest.json").read_text())
    assert manifest["class_names"] == ["ant", "bee"]
    shards = manifest["splits"]["train"]["shards"]
    assert [s["file"] for s in shards] == [f"train-{i:05d}-of-00003.tfrecord" for i in range(3)]
    assert [s["examples"] for s in shards] == [8, 8, 8]
    assert all(records.sha256(made / s["file"]) == s["sha256"] for s in shards)
    assert len(list(made.iterdir())) == 7
    assert sorted(p.name for p in made.parent.iterdir()) == ["images", "records"]
    assert records.verify_records(made) == manifest


def test_files_are_a_function_of_the_images_and_the_seed(images, made, tmp_path):
    again = record_writing.write_records(images, tmp_path / "again", num_shards=3)
    other = record_writing.write_records(images, tmp_path / "other", num_shards=3, seed=1)
    manifest = records.read_manifest(made)
    assert again == manifest
    assert other["splits"]["train"]["shards"] != manifest["splits"]["train"]["shards"]
    labels = [label for _, label in read(opening.open_source(str(made), training=True))]
    assert labels != sorted(labels)  # a random order over all shards


def test_flat_folder_becomes_the_same_train_and_test(images, tmp_path):
    record_writing.write_records(images / "train", tmp_path / "flat", seed=3)
    for training in (True, False):
        ours = opening.open_source(str(tmp_path / "flat"), training=training)
        theirs = opening.open_source(str(images / "train"), training=training, seed=3)
        assert sorted(read(ours)) == sorted(read(theirs))


def test_there_are_no_more_shards_than_images(images, tmp_path):
    manifest = record_writing.write_records(images, tmp_path / "records", num_shards=20, photographs=False)
    assert [len(split["shards"]) for split in manifest["splits"].values()] == [20, 6]
    assert not opening.open_source(str(tmp_path / "records"), training=True).photographs


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


# ---- Bad images and folders ----


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_a_bad_image_stops_by_default_and_leaves_nothing(images, tmp_path, name):
    path = add_bad(images, name)
    with pytest.raises(ValueError, match=name) as error:
        record_writing.write_records(images, tmp_path / "records")
    sentence = one_sentence(error)
    assert sentence.startswith(f"dataset: {path}")
    assert BAD_IMAGES[name][1] in sentence
    assert sentence.endswith("or leave it out with --on_bad_image=skip.")
    assert [p.name for p in tmp_path.iterdir()] == ["images"]


def test_skipped_images_are_counted_and_listed(images, tmp_path):
    paths = [add_bad(images, name) for name in BAD_IMAGES]
    manifest = record_writing.write_records(
        images, tmp_path / "records", on_bad_image="skip", max_bad_fraction=0.2, num_shards=2
    )
    skipped = manifest["splits"]["train"]["skipped"]
    assert sorted(s["path"] for s in skipped) == sorted(str(p.relative_to(images)) for p in paths)
    assert all(BAD_IMAGES[os.path.basename(s["path"])][1] in s["reason"] for s in skipped)
    assert manifest["splits"]["val"]["skipped"] == []
    source = opening.open_source(str(tmp_path / "records"), training=True)
    assert (source.num_examples, len(read(source))) == (24, 24)
    assert source.find_unreadable() is None


def test_images_other_than_jpeg_and_png_become_png_without_loss(images, tmp_path):
    for split in COUNT:
        for label, kinds in (("ant", PLAIN), ("bee", OTHERS)):
            for name, encoded in kinds.items():
                (images / split / label / f"{name}.gif").write_bytes(encoded)  # a name may lie
    manifest = record_writing.write_records(images, tmp_path / "records")
    count = len(PLAIN) + len(OTHERS)
    assert {name: split["converted"] for name, split in manifest["splits"].items()} == {"train": count, "val": count}
    for record in opening.open_source(str(tmp_path / "records"), training=True).records(None, 0):
        example = tf.train.Example.FromString(record.numpy()).features.feature
        path, stored = (example[key].bytes_list.value[0] for key in ("image/path", "image/encoded"))
        encoded = (images / path.decode()).read_bytes()
        assert stored.startswith((b"\x89PNG", b"\xff\xd8"))
        for alpha in ("white", "drop"):  # transparency is kept, to be shown as the reader wants it
            ours = decode.decode_image(stored, alpha, python=False)
            np.testing.assert_array_equal(ours, decode.decode_image(encoded, alpha), err_msg=path.decode())


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


def test_more_bad_images_than_the_fraction_stop(images, tmp_path):
    for name in BAD_IMAGES:
        add_bad(images, name)
    with pytest.raises(ValueError, match="6 or more of the 30 images of split train .*max_bad_fraction=0.19"):
        record_writing.write_records(images, tmp_path / "records", on_bad_image="skip", max_bad_fraction=0.19)
    assert [p.name for p in tmp_path.iterdir()] == ["images"]


def test_a_class_whose_images_are_all_bad_is_named(images, tmp_path):
    for path in (images / "val" / "bee").iterdir():
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"every image is bad in the class folder of .*bee.00.png, so split val"):
        record_writing.write_records(images, tmp_path / "records", on_bad_image="skip", max_bad_fraction=0.6)


@pytest.mark.parametrize("function", ["records", "training"])
def test_skipping_does_not_empty_a_class(images, tmp_path, function):
    for path in (images / "train" / "bee").iterdir():
        path.write_bytes(b"")
    kwargs = dict(on_bad_image="skip", max_bad_fraction=0.6)
    with pytest.raises(ValueError, match=r"every image is bad in the class folder of .*bee.00.png, so split train"):
        if function == "records":
            record_writing.write_records(images, tmp_path / "records", **kwargs)
        else:
            opening.open_source(str(images), training=True, **kwargs)


def test_a_file_of_too_many_bytes_is_not_read(images, tmp_path):
    with open(images / "train" / "ant" / "huge.png", "wb") as file:
        file.truncate(2**43)  # a hole: 8 TiB by its length, which no memory holds
    kwargs = dict(on_bad_image="skip", max_bad_fraction=0.5)
    manifest = record_writing.write_records(images, tmp_path / "records", **kwargs)
    assert "more than 67108864 bytes" in manifest["splits"]["train"]["skipped"][0]["reason"]


def test_hidden_files_and_folders_are_ignored(images, tmp_path):
    for hidden in (".git", "train/.cache", "train/ant/.thumbnails"):
        (images / hidden).mkdir()
        (images / hidden / "a.png").write_bytes(b"")
    (images / "train" / "ant" / "._00.png").write_bytes(b"")
    (images / "train" / "ant" / "Thumbs.db").write_bytes(b"")
    assert opening.open_source(str(images), training=True).num_examples == 24
    assert record_writing.write_records(images, tmp_path / "r")["splits"]["train"]["num_examples"] == 24


@pytest.mark.parametrize("function", [record_writing.write_records, lambda r, _: opening.open_source(r, training=True)])
def test_bad_folders_are_refused_in_one_sentence(images, tmp_path, function):
    def refused(message):
        with pytest.raises(ValueError, match=message) as error:
            function(str(images), tmp_path / "records")
        one_sentence(error)
        assert [p.name for p in tmp_path.iterdir()] == ["images"]

    (images / "train" / "cow").mkdir()
    (images / "val" / "cow").mkdir()
    refused("the class folder .*train/cow has no images; add some or remove the class")
    for split in ("train", "val"):
        shutil.rmtree(images / split)
    refused("has no class folders; expected")


def test_classes_must_be_the_same_in_every_split(images, tmp_path):
    def refused(message):
        for function in (record_writing.write_records, lambda r, _: opening.open_source(r, "val", training=False)):
            with pytest.raises(ValueError, match=message):
                function(str(images), tmp_path / "records")

    shutil.move(images / "val" / "bee", images / "val" / "bea")
    refused("val has the class folder 'bea', which .*train has not; both need the same classes")
    shutil.rmtree(images / "val" / "bea")
    refused("train has the class folder 'bee', which .*val has not")
    shutil.rmtree(images / "train")
    refused("has the folders val, but no folder train with class folders, which define the labels")


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"on_bad_image": "ignore"}, "on_bad_image: must be 'stop' or 'skip', got 'ignore'"),
        ({"max_bad_fraction": 1.0}, "max_bad_fraction: must be at least 0 and less than 1, got 1.0"),
        ({"num_shards": 0}, "num_shards: must be a positive number of files, got 0"),
        ({"splits": ["extra"]}, "has no split 'extra'; it has train, val"),
        ({"root": "no/such"}, "the folder 'no/such' does not exist"),
        ({"root": "no\0such"}, "dataset: 'no.x00such' has a null byte, which no path can have; remove it"),
        ({"output": "images/records"}, "is in the folder of the images; choose one outside of it"),
    ],
)
def test_bad_arguments_are_refused(images, tmp_path, kwargs, message):
    output = tmp_path / kwargs.pop("output", "records")
    with pytest.raises(ValueError, match=message) as error:
        record_writing.write_records(kwargs.pop("root", images), output, **kwargs)
    one_sentence(error)
    assert [p.name for p in tmp_path.iterdir()] == ["images"]


# ---- Output ----


def test_existing_output_is_kept_unless_it_is_records_and_may_be_overwritten(images, made):
    before = {p.name: p.stat().st_mtime_ns for p in made.iterdir()}
    with pytest.raises(FileExistsError, match="exists; choose another folder, or overwrite"):
        record_writing.write_records(images, made)
    (images / "val" / "ant" / "00.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"00.png: image cannot be decoded"):
        record_writing.write_records(images, made, overwrite=True)
    assert {p.name: p.stat().st_mtime_ns for p in made.iterdir()} == before
    record_writing.write_records(images, made, splits=["train"], overwrite=True)
    assert list(records.read_manifest(made)["splits"]) == ["train"]
    (made / "thesis.tex").write_text("")
    with pytest.raises(FileExistsError, match=r"holds 'thesis.tex' and is not a folder of records"):
        record_writing.write_records(images, made, overwrite=True)
    assert sorted(p.name for p in made.parent.iterdir()) == ["images", "records"]


def test_leftovers_of_a_killed_process_do_no_harm(images, made):
    os.rename(made, made.with_name(".records.old"))  # killed between the two renames
    temporary = made.with_name(".records.tmp")
    temporary.mkdir()
    (temporary / "train-00000-of-00009.tfrecord").write_bytes(b"half")
    with pytest.raises(FileExistsError, match="exists"):
        record_writing.write_records(images, made)
    assert opening.open_source(str(made), training=True).num_examples == 24
    temporary.mkdir()
    (temporary / "train-00000-of-00009.tfrecord").write_bytes(b"half")
    record_writing.write_records(images, made, overwrite=True)
    assert not list(made.glob("*of-00009*"))
    assert sorted(p.name for p in made.parent.iterdir()) == ["images", "records"]


def test_two_processes_do_not_write_the_same_records(images, tmp_path):
    temporary = tmp_path / ".records.tmp"
    temporary.mkdir()
    (temporary / "half").write_text("")
    lock = os.open(temporary, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with pytest.raises(ValueError, match="another process writes .*records; wait, or choose another folder"):
        record_writing.write_records(images, tmp_path / "records")
    os.close(lock)
    assert (temporary / "half").exists()


def test_a_failed_write_is_one_sentence_and_leaves_nothing(images, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, limits[1]))  # as a full disk does, `write` fails half way
    try:
        with pytest.raises(OSError, match="output: cannot write .*records .*nothing was left there") as error:
            record_writing.write_records(images, tmp_path / "records")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    one_sentence(error)
    assert [p.name for p in tmp_path.iterdir()] == ["images"]


def test_a_disk_without_room_is_noticed_before_writing(images, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100))
    with pytest.raises(OSError, match=r"output: cannot write .*the images take [\d,]+ bytes, and 100 are free"):
        record_writing.write_records(images, tmp_path / "records")
    assert [p.name for p in tmp_path.iterdir()] == ["images"]


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
    add_bad(images, "truncated.jpg")
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
