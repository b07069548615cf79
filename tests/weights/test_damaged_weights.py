"""Randomly damaged files of weights: each is refused in one sentence, or loads; no library's own error comes out."""

import collections
import struct

import keras
import numpy as np
import pytest
import safetensors.numpy
import tiny

import keras_mixer

COUNT = 150  # damaged files of each kind
SUFFIXES = ("npz", "keras", "weights.h5", "safetensors")
CHECKED = ("npz", "keras")  # formats with a checksum of every array, which the zip archive brings


@pytest.fixture(scope="module")
def model():
    return tiny.build(input_shape=(16, 16, 3))


@pytest.fixture(scope="module")
def whole(model, tmp_path_factory):
    """The bytes of one model's file in each format."""
    folder = tmp_path_factory.mktemp("whole")
    keras_mixer.save_checkpoint(model, folder / "model.npz")
    model.save(folder / "model.keras")
    model.save_weights(folder / "model.weights.h5")
    with np.load(folder / "model.npz") as arrays:
        safetensors.numpy.save_file(dict(arrays), folder / "model.safetensors")
    return {suffix: (folder / f"model.{suffix}").read_bytes() for suffix in SUFFIXES}


def damaged(content, rng):
    """Cut off, flip bits of, overwrite, repeat or swap parts of a file."""
    data = bytearray(content)
    place, length = int(rng.integers(len(data))), int(rng.integers(1, 200))
    if rng.random() < 0.5:  # headers are small, and most of a file is numbers
        place = int(rng.integers(min(2000, len(data))))
    match rng.integers(6):
        case 0:
            return bytes(data[:place])
        case 1:
            data[place] ^= 1 << int(rng.integers(8))
        case 2:
            data[place : place + length] = rng.bytes(length)
        case 3:
            data[place : place + length] = bytes(length)
        case 4:
            data[place:place] = data[place : place + length]
        case 5:
            other = int(rng.integers(len(data)))
            data[place : place + 8], data[other : other + 8] = data[other : other + 8], data[place : place + 8]
    return bytes(data)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_damage_is_refused_in_a_sentence_or_harmless(model, whole, tmp_path, suffix):
    rng = np.random.default_rng(0)
    path, outcomes = tmp_path / f"damaged.{suffix}", collections.Counter()
    before = [keras.ops.convert_to_numpy(weight) for weight in model.weights]
    for _ in range(COUNT):
        path.write_bytes(damaged(whole[suffix], rng))
        try:
            keras_mixer.load_checkpoint(model, path)
            same = all(np.array_equal(old, new) for old, new in zip(before, model.weights, strict=True))
            outcomes["equal" if same else "other numbers"] += 1
        except (ValueError, OSError) as error:
            outcomes["refused" if str(error).startswith("weights: ") and str(path) in str(error) else repr(error)] += 1
    assert not outcomes.keys() - {"equal", "other numbers", "refused"}, outcomes
    assert outcomes["refused"] > COUNT / 3
    if suffix in CHECKED:
        assert not outcomes["other numbers"], outcomes
    print(suffix, dict(outcomes))


def test_a_flipped_bit_in_a_file_that_we_write_is_refused(model, whole, tmp_path):
    """docs/guides/weights.md says which formats carry a checksum."""
    for suffix in CHECKED:
        data = bytearray(whole[suffix])
        data[len(data) // 2] ^= 1  # among the numbers
        (tmp_path / f"flipped.{suffix}").write_bytes(data)
        with pytest.raises(ValueError, match=r"weights: .*flipped.*CRC"):
            keras_mixer.load_checkpoint(model, tmp_path / f"flipped.{suffix}")


def displaced(data):
    """An archive whose directory says that it began a million bytes later: what it lists lies before the file."""
    end = data.rindex(b"PK\x05\x06") + 16
    place = struct.unpack_from("<I", data, end)[0]
    return data[:end] + struct.pack("<I", place + 10**6) + data[end + 4 :]


@pytest.mark.parametrize(("suffix", "damage"), [
    ("npz", displaced),
    ("keras", displaced),
    ("weights.h5", lambda data: data.replace(b"vars\0", b"\xffars\0")),
], ids=["npz", "keras", "h5 name that is no text"])  # fmt: skip
def test_damage_that_random_damage_seldom_meets(model, whole, tmp_path, suffix, damage):
    path = tmp_path / f"damaged.{suffix}"
    path.write_bytes(damage(whole[suffix]))
    with pytest.raises(ValueError, match=r"^weights: .*damaged\.[^\n]* again\.$"):
        keras_mixer.load_checkpoint(model, path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_that_is_cut_off_says_what_to_do(model, whole, tmp_path, suffix):
    path = tmp_path / f"cut.{suffix}"
    path.write_bytes(whole[suffix][: len(whole[suffix]) // 2])
    with pytest.raises(ValueError, match=r"^weights: .*cut\.[^\n]* again\.$"):
        keras_mixer.load_checkpoint(model, path)


def test_keras_gets_no_archive_with_a_wrong_checksum(model, whole, tmp_path, monkeypatch):
    """Where its first read fails Keras tries another, which newer Pythons do without looking at the checksum."""
    monkeypatch.setattr(keras.saving, "load_model", lambda *args, **kwargs: pytest.fail("read"))
    data = bytearray(whole["keras"])
    data[len(data) // 2] ^= 1
    (tmp_path / "flipped.keras").write_bytes(data)
    with pytest.raises(ValueError, match=r"flipped\.keras is no whole \.keras archive \(Bad CRC-32"):
        keras_mixer.load_checkpoint(model, tmp_path / "flipped.keras")


@pytest.mark.parametrize("suffix", ["npz", "keras", "weights.h5"])
def test_a_file_that_may_not_be_read_is_not_called_damaged(model, whole, tmp_path, monkeypatch, suffix):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    path = tmp_path / f"locked.{suffix}"
    path.write_bytes(whole[suffix])
    monkeypatch.setattr(
        "h5py.File.__init__" if suffix == "weights.h5" else "keras_mixer.weights.npz.zipfile.ZipFile", refuse
    )
    with pytest.raises(PermissionError, match=r"weights: .*locked\.\S+ cannot be read \(Permission denied\)"):
        keras_mixer.load_checkpoint(model, path)
