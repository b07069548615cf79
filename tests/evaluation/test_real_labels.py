"""The original real.json: matched by the number in a file's name, or refused in one sentence."""

import json

import pytest

from keras_mixer.data import opening, real_labels


def _write(path, value):
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_entries_are_those_of_the_number_in_the_name_in_any_order():
    sets = [[k % 1000] for k in range(50_000)]
    names = ["n02/ILSVRC2012_val_00050000.JPEG", "ILSVRC2012_val_00000001.JPEG"]
    assert real_labels.match_labels(sets, 2, real_labels.validation_numbers(names)) == [[999], [0]]


def test_without_names_there_is_an_entry_for_each_image():
    assert real_labels.validation_numbers(["a.jpg", "ILSVRC2012_val_00000001.JPEG"]) is None
    assert real_labels.match_labels([[1], []], 2) == [[1], []]


@pytest.mark.parametrize(
    ("count", "images", "numbers", "message"),
    [
        (49_999, 3, [1, 2, 3], "has 49,999 entries, but there are 3 images and ImageNet's validation set has 50,000"),
        (2, 3, None, "real_labels: real.json has 2 entries, but there are 3 images; give"),
        (50_000, 3, None, "real_labels: real.json has 50,000 entries, but there are 3 images; give"),
        (3, 3, [1, 2, 7], "has 3 entries, and no entry 7 for the image of that number"),
    ],
)
def test_a_wrong_length_is_one_sentence(count, images, numbers, message):
    with pytest.raises(ValueError, match=message):
        real_labels.match_labels([[1]] * count, images, numbers, "real.json")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("{", "is not JSON"),
        ({"a": 1}, "must be a list with a list of labels for each image"),
        ([[1], 5], "entry 1 of .* is 5, not a list of numbers from 0 to 999"),
        ([[1000]], r"entry 0 of .* is \[1000\], not a list"),
        ([[True]], "entry 0 of"),
    ],
)
def test_a_damaged_file_is_one_sentence(tmp_path, value, message):
    with pytest.raises(ValueError, match=message):
        real_labels.read_real_json(_write(tmp_path / "real.json", value))


def test_a_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(OSError, match="real_labels: cannot read .*No such file"):
        real_labels.read_real_json(tmp_path / "real.json")


def test_digits_have_one_label_each_and_take_a_file_of_their_length(tmp_path):
    source = opening.open_source("digits", "test[:2]", training=False)
    assert real_labels.find_label_sets(source, "digits") is None
    path = _write(tmp_path / "real.json", [[1, 2], []])
    assert real_labels.find_label_sets(source, "digits", real_labels=path) == [[1, 2], []]
