"""The linear few-shot score against NumPy's least squares, its draws, and its refusals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_mixer.evaluation import fewshot


def _data(classes, per_class, columns, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(classes), per_class))
    centres = rng.normal(size=(classes, columns))
    features = centres[labels] + rng.normal(size=(len(labels), columns)) * 1.5 + 3.0
    return features.astype("float32"), labels


def _reference(features, labels, num_classes, l2):
    """Least squares of the augmented system [X; sqrt(l2) I] W = [Y; 0], which knows neither primal nor dual."""
    x = features.astype("float64")
    mean, deviation = x.mean(0), x.std(0) + 1e-5
    x = np.hstack([(x - mean) / deviation, np.full((len(x), 1), 100.0)])
    y = 2.0 * np.eye(num_classes)[labels] - 1
    stacked = np.vstack([x, np.sqrt(l2) * np.eye(x.shape[1])])
    return np.linalg.lstsq(stacked, np.vstack([y, np.zeros((x.shape[1], num_classes))]), rcond=None)[0]


def _accuracy(train_features, train_labels, test_features, test_labels, shots, l2=1024.0, seed=0, num_classes=None):
    """As the recipe has it, for one draw."""
    num_classes = num_classes or int(train_labels.max()) + 1
    drawn = fewshot.draw_examples(train_labels, shots, seed, num_classes)
    fit = fewshot.fit_least_squares(train_features[drawn], train_labels[drawn], num_classes, l2)
    return fewshot.accuracy(fit, test_features, test_labels)


@pytest.mark.parametrize("l2", [1024.0, 1.0])
@pytest.mark.parametrize("shots", [1, 5, 25])  # of 6 classes and 40 columns: dual, dual, primal
def test_the_solution_is_numpys_least_squares(shots, l2):
    features, labels = _data(6, 30, 40)
    drawn = fewshot.draw_examples(labels, shots, seed=1)
    ours = fewshot.fit_least_squares(features[drawn], labels[drawn], 6, l2)[0]
    theirs = _reference(features[drawn], labels[drawn], 6, l2)
    assert np.abs(ours - theirs).max() < 1e-5  # measured 3e-15


def test_the_accuracy_is_that_of_the_reference():
    features, labels = _data(6, 60, 40)
    train, test = np.arange(360) < 200, np.arange(360) >= 200
    drawn = fewshot.draw_examples(labels[train], 5, seed=3)
    chosen = features[train][drawn].astype("float64")
    weights = _reference(features[train][drawn], labels[train][drawn], 6, 1024.0)
    x = (features[test] - chosen.mean(0)) / (chosen.std(0) + 1e-5)
    expected = ((np.hstack([x, np.full((len(x), 1), 100.0)]) @ weights).argmax(-1) == labels[test]).mean()
    ours = _accuracy(features[train], labels[train], features[test], labels[test], 5, 1024, 3)
    assert abs(ours - expected) < 1e-5
    assert 0.4 < ours < 1  # neither chance nor a task that anything solves


def test_scores_in_parts_are_those_of_the_whole(monkeypatch):
    features, labels = _data(4, 30, 10)
    arguments = (features, labels, features, labels, 10)
    whole = _accuracy(*arguments)
    monkeypatch.setattr(fewshot, "_ROWS", 7)
    assert _accuracy(*arguments) == whole


def test_a_feature_that_never_varies_changes_nothing():
    features, labels = _data(4, 30, 10)
    constant = np.hstack([features, np.full((len(features), 1), 5.0, "float32")])
    fits = [fewshot.fit_least_squares(f[:40], labels[:40], 4)[0] for f in (features, constant)]
    np.testing.assert_allclose(fits[1][:10], fits[0][:10], atol=1e-12)
    assert np.abs(fits[1][10]).max() < 1e-9


def test_labels_of_the_examples_are_whole_numbers_for_each():
    features, labels = _data(3, 4, 5)
    with pytest.raises(ValueError, match="train_labels: must be whole numbers from 0, got float64"):
        fewshot.fit_least_squares(features, labels / 1.0, 3)
    with pytest.raises(ValueError, match=r"train_features: must be \(N, C\) with train_labels \(N,\)"):
        fewshot.fit_least_squares(features, labels[:-1], 3)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(1, 8), st.integers(0, 1000))
def test_draws_are_per_class_without_repetition_and_nested(classes, shots, seed):
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(classes), 9))
    drawn = fewshot.draw_examples(labels, shots, seed)
    np.testing.assert_array_equal(labels[drawn], np.repeat(np.arange(classes), shots))
    assert len(set(drawn)) == len(drawn)
    more = fewshot.draw_examples(labels, shots + 1, seed)
    assert set(drawn) < set(more)


def test_other_seeds_draw_other_examples():
    labels = np.repeat(np.arange(5), 100)
    draws = [fewshot.draw_examples(labels, 3, seed) for seed in (0, 1)]
    assert set(draws[0]) != set(draws[1])
    np.testing.assert_array_equal(draws[0], fewshot.draw_examples(labels, 3, 0))


def test_the_class_without_enough_examples_is_named():
    with pytest.raises(ValueError, match="shots: class 1, 'dog', has 1 training examples, fewer than 2 shots"):
        fewshot.draw_examples(np.array([0, 1, 0]), 2, seed=0, class_names=["cat", "dog"])


F, L = _data(3, 4, 5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(shots=5), "shots: class 0 has 4 training examples, fewer than 5 shots; use at most 4"),
        (
            dict(num_classes=4),
            "shots: class 3 has 0 training examples, fewer than 2 shots; leave out classes without any",
        ),
        (dict(shots=0), "shots: must be a whole number of at least 1, got 0"),
        (dict(l2=0), "l2: must be a positive number, got 0"),
        (dict(seed=-1), "seed: must be a whole number of at least 0, got -1"),
        (dict(test_labels=L[:-1]), r"test_features: must be \(N, C\) with test_labels \(N,\)"),
        (dict(train_features=F[:, 0]), r"train_features: must be \(N, C\) with train_labels \(N,\)"),
        (dict(test_features=F[:, :2]), "test_features: 2 columns, but train_features has 5"),
        (dict(test_features=np.full_like(F, np.nan)), "test_features: must be finite"),
        (dict(train_features=np.full_like(F, np.inf)), "train_features: must be finite"),
        (dict(test_labels=L / 1.0), "test_labels: must be whole numbers from 0, got float64"),
    ],
    ids=lambda v: next(iter(v)) if isinstance(v, dict) else "",
)
def test_bad_input_is_one_sentence(change, message):
    arguments = dict(train_features=F, train_labels=L, test_features=F, test_labels=L, shots=2) | change
    with pytest.raises(ValueError, match=message):
        _accuracy(**arguments)


@pytest.mark.parametrize(
    ("counts", "shots", "left", "sentence"),
    [
        ([9, 9], (5, 1), [1, 5], ""),
        ([9, 4], (10, 1, 5), [1], "skipped shots 5, 10: class 'dog' has 4 training images."),
        ([1, 9], (1, 2), [1], "skipped shots 2: class 'cat' has 1 training image."),
    ],
)
def test_shots_that_a_class_cannot_fill_are_skipped(counts, shots, left, sentence):
    labels = np.repeat([0, 1], counts)
    assert fewshot.possible_shots(labels, shots, 2, ["cat", "dog"]) == (left, sentence)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([9, 1], "shots: class 'dog' has 1 training image, fewer than 2; use at most 1, or add images."),
        ([9, 0], "shots: class 'dog' has no training images, fewer than 2; add images, or remove the class."),
    ],
)
def test_where_no_shots_are_left_it_says_why(counts, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        fewshot.possible_shots(np.repeat([0, 1], counts), (5, 2), 2, ["cat", "dog"])
