"""Writing records: whole or not at all, every image checked, bad ones named or left out."""

import fcntl
import json
import os
import resource
import shutil
import struct

import numpy as np
import pytest
import tensorflow as tf
from encoded_images import OTHERS, PLAIN
from small_records import COUNT, jpeg, one_sentence, read, write_originals

from keras_mixer.data import decode, opening, record_writing, records

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
    return write_originals(tmp_path_factory.mktemp("originals"))


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
