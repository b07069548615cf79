"""Names of both heads' classes, and `decode_predictions`."""

import keras
import numpy as np
import pytest

import keras_mixer
from keras_mixer import class_names


@pytest.mark.parametrize(("name", "size"), [("imagenet1k", 1000), ("imagenet21k", 21843)])
def test_each_head_has_a_distinct_synset_for_each_class(name, size):
    classes = class_names.imagenet_classes(name)
    ids = [synset for synset, _ in classes]
    assert len(classes) == len(set(ids)) == size
    assert all(len(synset) == 9 and synset[0] == "n" and synset[1:].isdigit() for synset in ids)
    assert ids == sorted(ids)
    assert all(lemmas.strip() for _, lemmas in classes)


def test_wordnet_notice_is_beside_the_names():
    notice = class_names.pathlib.Path(class_names.__file__).parent / "assets" / "WORDNET_NOTICE.txt"
    assert "Copyright 2006 by Princeton University. All rights reserved." in notice.read_text()


@pytest.mark.parametrize(("size", "index", "expected"), [
    (1000, 1, ("n01443537", "goldfish, Carassius auratus")),
    (21843, 0, ("n00004475", "organism, being")),
])  # fmt: skip
def test_head_is_recognised_by_its_number_of_classes(size, index, expected):
    scores = np.zeros((1, size), "float32")
    scores[0, index] = 0.5
    ((best, *rest),) = keras_mixer.decode_predictions(scores)
    assert best == (*expected, 0.5)
    assert len(rest) == 4


def test_own_names_come_with_their_index_best_first():
    scores = keras.ops.convert_to_tensor([[0.25, 0.5, 0.375], [0.5, 0.0, 0.5]])
    assert keras_mixer.decode_predictions(scores, top=2, classes=["a", "b", "c"]) == [
        [(1, "b", 0.5), (2, "c", 0.375)],
        [(0, "a", 0.5), (2, "c", 0.5)],
    ]


@pytest.mark.parametrize("row", [[-2.0, 3.0, 0.1], [0.2, 1.5, 0.0], [-0.1, 0.6, 0.5]])
def test_logits_are_refused_with_the_way_out(row):
    message = r"must be probabilities in \[0, 1\], got .*, as logits have; give keras.ops.softmax\(predictions\), or"
    with pytest.raises(ValueError, match=f"^decode_predictions: predictions {message}"):
        keras_mixer.decode_predictions([row], classes=["a", "b", "c"], top=1)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int64", "float16", "bfloat16"])
def test_scores_of_every_real_dtype_are_ranked(dtype):
    scores = keras.ops.cast(np.array([[0, 1, 0]]), dtype)
    ((*ranked,),) = keras_mixer.decode_predictions(scores, top=3, classes=["a", "b", "c"])
    assert ranked == [(1, "b", 1.0), (0, "a", 0.0), (2, "c", 0.0)]


@pytest.mark.parametrize(("scores", "kwargs", "message"), [
    (np.zeros(1000), {}, r"must be finite scores of shape \(images, classes\), got the shape \(1000,\)\."),
    (np.zeros((1, 10)), {}, "have 10 classes, neither 1000 nor 21843; give classes"),
    (np.zeros((1, 10)), {"classes": "imagenet1k"}, "have 10 classes, but classes has 1000 names"),
    (np.zeros((1, 2)), {"classes": ["a"]}, "have 2 classes, but classes has 1 names"),
    (np.zeros((1, 1000)), {"classes": "imagenet"}, "got 'imagenet'"),
    (np.zeros((1, 1000)), {"top": 1001}, "top must be a whole number from 1 to 1000, got 1001"),
    (np.zeros((1, 1000)), {"top": 0}, "got 0"),
    (np.full((1, 1000), np.nan), {}, "NaN"),
    (np.ones((1, 2), bool), {}, "predictions must be real numbers, integer or floating, got the dtype bool"),
    (np.ones((1, 2), "complex64"), {}, "got the dtype complex64"),
    (np.array([[None, 1]]), {}, "got the dtype object"),
    ([["a", "b"]], {}, "got the dtype <U1"),
    ([[1.0, 2.0], [3.0]], {}, "predictions must be one array .* got a list that is none; perhaps its rows differ"),
    (np.zeros((1, 1000)), {"classes": 1000}, "classes must be 'imagenet1k', .* a name for each class, got 1000"),
    (np.zeros((1, 2)), {"classes": []}, r"a name for each class, got \[\]"),
    (np.zeros((1, 2)), {"classes": {"a"}}, r"a name for each class, got \{'a'\}"),
    (np.zeros((1, 2)), {"classes": ["a", ["b", "c"]]}, "a name for each class, got "),
])  # fmt: skip
def test_bad_input_gives_one_sentence(scores, kwargs, message):
    with pytest.raises(ValueError, match=f"^decode_predictions: [^\n]*{message}[^\n]*$"):
        keras_mixer.decode_predictions(scores, **kwargs)
