"""Names of splits, in any usual form, and parts of them."""

import pytest

from keras_mixer.data import splits


@pytest.mark.parametrize(
    ("text", "expected"),
    [("train", (0, 200)), ("train[:99%]", (0, 198)), ("train[99%:]", (198, 200)), ("train[10:-5]", (10, 195))],
)
def test_parts_of_a_split(text, expected):
    assert splits.select(text, {"train": 200}, "x") == ("train", *expected)


def test_any_usual_name_finds_the_only_split_of_its_kind():
    sizes = {"Training": 10, "Valid": 4, "TEST": 2, "extra": 3}
    found = {"train": "Training", "val": "Valid", "dev": "Valid", "testing": "TEST", "extra": "extra"}
    assert {name: splits.select(name, sizes, "x")[0] for name in found} == found
    assert splits.select("validation[:50%]", sizes, "x") == ("Valid", 0, 2)
    for wrong in ("Extra", "cat", "train[:", "train[:300]"):
        with pytest.raises(ValueError, match=r"^split: "):
            splits.select(wrong, sizes, "x")
    with pytest.raises(ValueError, match="has no split 'valid'; it has val, dev"):  # which of them is not clear
        splits.select("valid", {"val": 1, "dev": 1}, "x")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["train", "test", "val"], ("train", "val")),
        (["Train", "Test"], ("Train", "Test")),
        (["training", "dev", "testing"], ("training", "dev")),
        (["train", "valid", "validation", "test"], ("train", "validation")),
    ],
)
def test_evaluation_takes_validation_before_test(names, expected):
    assert tuple(splits.default_split(names, training, "x") for training in (True, False)) == expected


def test_without_a_split_to_train_or_evaluate_on_the_others_are_named():
    with pytest.raises(ValueError, match="x has no default for evaluation; choose one of train, extra"):
        splits.default_split(["train", "extra"], False, "x")
    with pytest.raises(ValueError, match="x has no default for training; choose one of test"):
        splits.default_split(["test"], True, "x")
