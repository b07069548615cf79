"""Images made smaller by area: sides, pixels, transparency, uprightness, and records of them."""

import io
import json
import pickle

import numpy as np
import pytest
import tensorflow as tf
from encoded_images import JPEGS, OTHERS, PHOTO, PLAIN, PNGS, encode, with_alpha, with_orientation
from PIL import Image

from keras_mixer.data import checking, decode, image_limits, opening, record_writing, records, shrinking
from keras_mixer.data.colours import composite_numpy
from keras_mixer.data.shrinking import Shrinking

RNG = np.random.default_rng(0)


def opened(encoded):
    return Image.open(io.BytesIO(encoded))


def area(image, height, width):
    """The mean of the part of an image (H, W, C) that each pixel of a smaller one covers, in float64."""

    def weights(old, new):
        edges = np.arange(new + 1) * old / new
        low, high = np.maximum(np.arange(old), edges[:-1, None]), np.minimum(np.arange(old) + 1, edges[1:, None])
        return np.maximum(high - low, 0) * new / old

    rows = np.einsum("nh,hwc->nwc", weights(image.shape[0], height), image)
    return np.einsum("mw,nwc->nmc", weights(image.shape[1], width), rows)


# ---- Sides


@pytest.mark.parametrize(
    ("sides", "most", "expected"),
    [
        ((3000, 4000), 512, (384, 512)),
        ((4000, 3000), 512, (512, 384)),
        ((512, 512), 512, None),
        ((1, 512), 512, None),
        ((1, 90), 10, (1, 10)),
        ((512, 51_200), 512, (6, 512)),  # rounded to 5 it would be thinner than 1 to 100
    ],
)
def test_the_longer_side_becomes_max_side_and_nothing_is_enlarged(sides, most, expected):
    assert Shrinking(most).sides(*sides) == expected


def test_any_image_within_the_limits_stays_within_them():
    for _ in range(2000):
        shorter = int(RNG.integers(1, 900))
        longer = int(RNG.integers(shorter, 100 * shorter + 1))
        most = int(RNG.integers(1, 2000))
        found = Shrinking(most).sides(shorter, longer)
        assert (found is None) == (longer <= most)
        if found:
            assert found[1] == most
            assert not image_limits.fault_of(1, *found)
            assert abs(found[0] - shorter * most / longer) <= 1


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (dict(max_side=0), "max_side: must be from 1 to 65,500 pixels, got 0; try 512."),
        (dict(max_side=70_000), "max_side: must be from 1 to 65,500 pixels, got 70000; try 512."),
        (dict(max_side=9, quality=101), "quality: must be from 1 to 100, got 101; try 95."),
        (dict(quality=0), "quality: must be from 1 to 100, got 0; try 95."),
    ],
)
def test_other_sides_and_qualities_are_refused(values, sentence):
    with pytest.raises(ValueError, match=sentence):
        Shrinking(**values)


# ---- Pixels


@pytest.mark.parametrize("sides", [(5, 7), (13, 16), (1, 1), (26, 17)])
def test_a_pixel_is_the_mean_of_its_area(sides):
    image = RNG.integers(0, 256, (26, 33, 3), np.uint8)
    ours = shrinking.shrunk(tf.constant(image), *sides).numpy()
    assert np.abs(ours - area(image, *sides)).max() <= 0.51


def test_a_photograph_becomes_a_jpeg_of_the_quality():
    sizes = []
    for quality in (60, 95):
        smaller = shrinking.shrunk_file(JPEGS["jpeg"], Shrinking(100, quality))
        assert (opened(smaller).format, opened(smaller).size) == ("JPEG", (100, 66))
        expected = area(decode.decode_image(JPEGS["jpeg"]).numpy(), 66, 100)
        assert np.abs(decode.decode_image(smaller).numpy() - expected).mean() < (12 if quality == 60 else 5)
        sizes.append(len(smaller))
    assert sizes[0] < sizes[1]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_it_stands_upright_and_says_nothing_of_it(orientation):
    encoded = with_orientation(orientation)
    smaller = shrinking.shrunk_file(encoded, Shrinking(67))
    expected = decode.decode_image(encoded).numpy()
    assert "exif" not in opened(smaller).info
    found = decode.decode_image(smaller).numpy()
    assert np.abs(found - area(expected, *found.shape[:2])).mean() < 8


@pytest.mark.parametrize("name", [n for n in PNGS if opened(PNGS[n]).convert("RGBA").getextrema()[3][0] < 255])
def test_transparent_png_stays_png_and_looks_the_same_on_any_background(name):
    smaller = shrinking.shrunk_file(PNGS[name], Shrinking(67))
    assert opened(smaller).format == "PNG"
    for alpha in ("white", "black"):
        found, before = (decode.decode_image(e, alpha).numpy() for e in (smaller, PNGS[name]))
        assert np.abs(found - area(before, *found.shape[:2])).max() < 2.5


def test_what_is_hidden_under_transparent_pixels_does_not_show_at_their_edges():
    image = np.zeros((8, 8, 4), np.uint8)
    image[:, :, 0] = 255  # red, and below it green that nobody sees
    image[:, 3:, :] = (0, 255, 0, 0)
    image[:, :3, 3] = 255
    smaller = np.asarray(opened(shrinking.shrunk_pixels(image, Shrinking(4))))
    assert smaller[0].tolist() == [[255, 0, 0, 255], [255, 0, 0, 128], [0, 255, 0, 0], [0, 255, 0, 0]]
    assert composite_numpy(smaller, "white")[0, 1].tolist() == [255, 127, 127]


def test_an_opaque_png_becomes_a_jpeg_also_with_an_alpha_channel():
    opaque = encode(PHOTO.convert("RGBA"), "PNG")
    for encoded in (PNGS["png"], PNGS["png grey"], PNGS["png palette"], opaque):
        assert opened(shrinking.shrunk_file(encoded, Shrinking(50))).format == "JPEG"


# ---- Records


@pytest.mark.parametrize("name", [*JPEGS, *PNGS, *PLAIN, *OTHERS])
def test_every_kind_of_file_is_shrunk_or_kept(tmp_path, name):
    path = tmp_path / "image.jpg"
    path.write_bytes((JPEGS | PNGS | PLAIN | OTHERS)[name])
    smaller, change, fault = checking.read_for_records(path, Shrinking(40))
    small_already = name == "gif beyond its screen" and change != "shrunk"
    assert fault is None
    assert change == "shrunk" or small_already
    assert decode.in_tensorflow(smaller)
    assert max(opened(smaller).size) <= 40 or small_already
    kept, change, fault = checking.read_for_records(path, Shrinking(max(opened(path.read_bytes()).size) + 200))
    assert (kept, change, fault) == checking.read_for_records(path)


@pytest.fixture
def images(tmp_path):
    for label, name in enumerate(("ant", "bee")):
        (tmp_path / "images" / "train" / name).mkdir(parents=True)
        (tmp_path / "images" / "val" / name).mkdir(parents=True)
        for i, picture in enumerate((PHOTO, PHOTO.resize((60, 40)), with_alpha(), PHOTO.rotate(90 * label))):
            picture.save(tmp_path / "images" / "train" / name / f"{i}.png")
        PHOTO.convert("RGB").save(tmp_path / "images" / "val" / name / "0.tif")
    return tmp_path / "images"


def test_records_and_their_manifest_say_what_was_shrunk(images, tmp_path):
    how = dict(max_side=64, quality=80, num_shards=2)
    manifest = record_writing.write_records(images, tmp_path / "small", **how)
    assert manifest == records.verify_records(tmp_path / "small")
    assert (manifest["max_side"], manifest["quality"]) == (64, 80)
    facts = {name: (s["shrunk"], s["converted"], s["num_examples"]) for name, s in manifest["splits"].items()}
    assert facts == {"train": (6, 0, 8), "val": (2, 0, 2)}
    again = record_writing.write_records(images, tmp_path / "again", **how)
    assert again == manifest
    other = record_writing.write_records(images, tmp_path / "other", **how | dict(quality=81))
    assert other["splits"]["train"]["shards"] != manifest["splits"]["train"]["shards"]
    source = opening.open_source(str(tmp_path / "small"), training=True)
    stored = [source.parse(record)[0].numpy() for record in source.records(None, 0)]
    assert all(max(opened(encoded).size) <= 64 for encoded in stored)
    untouched = {(images / "train" / name / "1.png").read_bytes() for name in ("ant", "bee")}
    assert untouched <= set(stored)


def test_without_max_side_nothing_is_shrunk_and_manifests_of_before_are_read(images, tmp_path):
    manifest = record_writing.write_records(images, tmp_path / "records")
    assert "max_side" not in manifest
    assert manifest["splits"]["train"]["shrunk"] == 0
    for split in manifest["splits"].values():
        del split["shrunk"]
    (tmp_path / "records" / "manifest.json").write_text(json.dumps(manifest))
    assert records.verify_records(tmp_path / "records") == manifest
    assert opening.open_source(str(tmp_path / "records"), training=True).num_examples == 8


def test_what_another_process_needs_to_write_a_shard_can_be_sent_to_it(images, tmp_path):
    how = dict(max_side=64, num_shards=1)
    manifest = record_writing.write_records(images, tmp_path / "records", **how)
    reading = checking.Reading(shrinking=Shrinking(64))
    options = dict(splits=["train"], divided=(1, None), seed=0, overwrite=False)
    plan = record_writing.plan_records(images, tmp_path / "elsewhere", reading=reading, **options)
    ((name, files),) = record_writing.shards_of("train", plan.splits["train"], 0)
    sent = pickle.loads(pickle.dumps((files, plan.splits["train"].bad, plan.shrinking)))
    written = record_writing.write_shard(tmp_path / name, sent[0], sent[1], shrinking=sent[2])
    assert written.shard == manifest["splits"]["train"]["shards"][0]
    assert written.shrunk == 6


def test_a_damaged_large_file_is_named_as_ever(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(JPEGS["jpeg"][:-300])
    assert checking.read_for_records(path, Shrinking(40)) == checking.read_for_records(path)
    assert "Invalid JPEG data or crop window" in checking.read_for_records(path)[2]
