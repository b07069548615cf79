"""A cache of decoded images: the same pixels whether kept or made, a bound that holds, and damage that is mended."""

import logging
import os
import time

import numpy as np
import pytest
import tensorflow as tf
from encoded_images import JPEGS, OTHERS, PNGS, with_orientation

from keras_mixer.data import crops, decode, image_cache, opening, pipeline
from keras_mixer.data.augment_settings import Augmentation
from keras_mixer.data.pixel_settings import PixelSettings

FILES = {
    "a.jpg": JPEGS["jpeg"],
    "b.png": PNGS["png alpha"],
    "c.jpg": with_orientation(6),
    "d.tif": OTHERS["tiff"],
    "e.heic": OTHERS["heic"],
    "f.gif": OTHERS["gif beyond its screen"],
}
SIDE = 60
HOW = Augmentation(crop_area=(0.3, 1.0))


def write_images(root):
    for label, name in enumerate(("ant", "bee")):
        (root / "train" / name).mkdir(parents=True)
        for file, encoded in FILES.items():
            (root / "train" / name / file).write_bytes(encoded + bytes(label))
    return opening.open_source(str(root), training=True)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.fixture
def own_source(tmp_path):
    """The same in files that a test may change."""
    return write_images(tmp_path / "images")


@pytest.fixture(scope="module")
def made(source):
    """Three passes of batches of which nothing is kept."""
    return batches(source, NoStore())


@pytest.fixture(params=["memory", "disk"])
def store(request, tmp_path):
    return image_cache.Memory(10**9) if request.param == "memory" else folder(tmp_path)


def folder(tmp_path, most=10**9, how="60"):
    return image_cache.Folder(tmp_path / "cache", most, how)


def batches(source, store=None, count=9, start_step=0):
    if store is not None:
        source = image_cache.cached(source, store, SIDE, PixelSettings())
    options = dict(batch_size=4, image_size=16, seed=3, augmentation=HOW, start_step=start_step)
    return [images.numpy() for images, _ in pipeline.train_batches(source, **options).take(count)]


def images_of(source):
    return [source.parse(record)[0].numpy() for record in source.records(None, 0)]


def entries(tmp_path):
    return sorted((tmp_path / "cache").glob("*.pixels"))


class NoStore:
    def get(self, path):
        return None

    def put(self, path, pixels):
        pass


# ---- The same pixels


def test_an_image_is_that_of_decoding_shrunk_by_area_and_never_enlarged(source, store):
    cached = image_cache.cached(source, store, SIDE, PixelSettings())
    for record, image in zip(source.records(None, 0), images_of(cached), strict=True):
        whole = decode.decode_image(source.parse(record)[0])
        shorter = min(whole.shape[:2])
        assert min(image.shape[:2]) == min(shorter, SIDE)
        expected = tf.image.resize(whole, image.shape[:2], method="area").numpy()
        assert np.abs(image - expected).max() <= 0.51


def test_batches_are_the_same_whatever_is_kept_and_in_every_pass(source, made, store):
    np.testing.assert_array_equal(made, batches(source, store))
    assert store.used > 0
    np.testing.assert_array_equal(made[5:], batches(source, store, count=4, start_step=5))


def test_the_second_pass_decodes_nothing(own_source, store):
    cached = image_cache.cached(own_source, store, SIDE, PixelSettings())
    before = images_of(cached)
    for record in own_source.records(None, 0):
        path = os.fsdecode(record["path"].numpy())
        with open(path, "wb") as file:
            file.write(b"<html>")
    for one, other in zip(before, images_of(cached), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("most", [0, 60_000])
def test_a_bound_holds_and_changes_no_pixel(source, made, tmp_path, most):
    for store in (image_cache.Memory(most), folder(tmp_path, most)):
        np.testing.assert_array_equal(made, batches(source, store))
        assert store.used <= most
    assert sum(path.stat().st_size for path in entries(tmp_path)) <= most
    assert bool(entries(tmp_path)) == (most > 0)


# ---- On disk


def test_damaged_entries_are_made_again(source, made, tmp_path):
    images_of(image_cache.cached(source, folder(tmp_path), SIDE, PixelSettings()))
    whole = {path: path.read_bytes() for path in entries(tmp_path)}
    for path, damage in zip(whole, ("a bit", "cut off", "empty", "no entry"), strict=False):
        if damage == "a bit":
            path.write_bytes(whole[path][:-100] + bytes([whole[path][-100] ^ 4]) + whole[path][-99:])
        elif damage == "no entry":
            path.write_bytes(b"something else" * 100)
        else:
            os.truncate(path, 0 if damage == "empty" else len(whole[path]) - 1)
    store = folder(tmp_path)
    np.testing.assert_array_equal(made, batches(source, store))
    assert {path: path.read_bytes() for path in entries(tmp_path)} == whole
    assert store.used == sum(map(len, whole.values()))


def test_another_process_reads_what_one_has_kept(source, made, tmp_path, monkeypatch):
    images_of(image_cache.cached(source, folder(tmp_path), SIDE, PixelSettings()))
    count = len(entries(tmp_path))
    monkeypatch.setattr(image_cache.Folder, "put", lambda *_: pytest.fail("decoded again"))
    np.testing.assert_array_equal(made, batches(source, folder(tmp_path)))
    assert count == len(entries(tmp_path)) == 2 * len(FILES)


def test_a_changed_file_and_other_settings_have_other_entries(own_source, tmp_path):
    images_of(image_cache.cached(own_source, folder(tmp_path), SIDE, PixelSettings()))
    path = os.fsdecode(next(iter(own_source.records(None, 0)))["path"].numpy())
    status = os.stat(path)
    with open(path, "wb") as file:
        file.write(PNGS["png"])
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    image = images_of(image_cache.cached(own_source, folder(tmp_path), 200, PixelSettings()))[0]
    np.testing.assert_array_equal(image, decode.decode_image(PNGS["png"]).numpy())
    count = len(entries(tmp_path))
    images_of(image_cache.cached(own_source, folder(tmp_path, how="other"), SIDE, PixelSettings(alpha="black")))
    assert len(entries(tmp_path)) > count


def test_leftovers_of_a_kill_are_removed_and_what_others_write_is_not(tmp_path):
    folder(tmp_path)
    old, new = (tmp_path / "cache" / f".{name}.pixels.0123abcd.tmp" for name in ("old", "new"))
    for path in (old, new):
        path.write_bytes(b"part")
    os.utime(old, (time.time() - 7200,) * 2)
    folder(tmp_path)
    assert (old.exists(), new.exists()) == (False, True)


def test_a_full_disk_ends_the_keeping_and_not_the_run(source, made, tmp_path, monkeypatch, caplog):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(image_cache.files, "writing", full)
    with caplog.at_level(logging.WARNING, "keras_mixer"):
        np.testing.assert_array_equal(made, batches(source, folder(tmp_path)))
    assert "takes no more images (No space left on device)" in caplog.text
    assert not entries(tmp_path)


def test_removing_takes_its_own_files_alone(source, tmp_path):
    images_of(image_cache.cached(source, folder(tmp_path), SIDE, PixelSettings()))
    (tmp_path / "cache" / "notes.txt").write_text("mine")
    image_cache.remove(tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["notes.txt"]
    (tmp_path / "cache" / "notes.txt").unlink()
    image_cache.remove(tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
    image_cache.remove(tmp_path / "cache")


# ---- The size, and what fits


@pytest.mark.parametrize(
    ("how", "size", "side"),
    [
        (Augmentation(), 224, 1157),
        (Augmentation(crop_area=(0.35, 1.0)), 224, 438),
        (Augmentation(augmentation="none"), (160, 224), 224),
        (Augmentation(augmentation="hyper_rule", crop_area=(0.64, 0.64)), 224, 280),
    ],
)
def test_the_side_follows_from_the_smallest_crop(how, size, side):
    assert image_cache.side_for(size, how) == side


def test_no_crop_of_an_image_of_that_side_is_enlarged():
    how = Augmentation(crop_area=(0.2, 1.0))
    side = image_cache.side_for(64, how)
    for sides in ((side, side), (side, 2 * side), (3 * side, side)):
        for k in range(300):
            _, extent = crops.inception_window(tf.constant(sides), [k, 1], how.crop_area, how.crop_aspect)
            assert min(extent.numpy()[:2]) >= 64 - 1  # whole pixels


def test_the_estimate_is_what_the_images_take(source):
    store = image_cache.Memory(10**9)
    images_of(image_cache.cached(source, store, SIDE, PixelSettings()))
    assert image_cache.estimated_bytes(source, SIDE) == pytest.approx(store.used, rel=0.02)


def test_only_a_folder_of_images_is_kept():
    digits = opening.open_source("digits", training=True)
    with pytest.raises(ValueError, match="cache: is for a folder of images, and digits train is none; leave it out"):
        image_cache.cached(digits, NoStore(), SIDE, PixelSettings())


def test_a_damaged_image_is_an_error_as_without_a_cache(own_source, store):
    path = os.fsdecode(next(iter(own_source.records(None, 0)))["path"].numpy())
    with open(path, "wb") as file:
        file.write(b"<html>")
    cached = image_cache.cached(own_source, store, SIDE, PixelSettings())
    with pytest.raises(tf.errors.InvalidArgumentError, match="it is no JPEG"):
        list(cached.records(None, 0).map(cached.parse))
    assert cached.find_unreadable().startswith(path)
    os.unlink(path)
    with pytest.raises(tf.errors.NotFoundError):
        list(cached.records(None, 0).map(cached.parse))
