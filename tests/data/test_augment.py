"""CutMix, random erasing, label smoothing and keras-cv's augmentation, alone and through the pipeline."""

import sys

import numpy as np
import pytest
import tensorflow as tf

from keras_mixer.data import augment, opening, pipeline
from keras_mixer.data.augment_settings import Augmentation

IMAGES = np.arange(6, dtype="float32")[:, None, None, None] * np.ones((6, 20, 16, 3), "float32")


@pytest.fixture(scope="module")
def digits():
    return opening.open_source("digits", "train[:50]", training=True)


def _batch(source, **kwargs):
    return tuple(part.numpy() for part in next(iter(_batches(source, **kwargs))))


def _batches(source, **kwargs):
    return pipeline.train_batches(source, batch_size=16, image_size=16, seed=3, augmentation=Augmentation(**kwargs))


def test_cutmix_pastes_one_rectangle_and_labels_say_how_much():
    for step in range(20):
        images, labels = (t.numpy() for t in augment.cutmix(IMAGES, tf.eye(6), [step, 0], 1.0))
        pasted = images[1, :, :, 0] == 0  # from image 0
        assert ((images[1] == 1) | (images[1] == 0)).all()
        rows, columns = pasted.any(axis=1), pasted.any(axis=0)
        assert pasted.sum() == rows.sum() * columns.sum()  # a rectangle
        np.testing.assert_allclose(labels[1, 0], pasted.mean(), atol=1e-6)
        np.testing.assert_allclose(labels[1, 1], 1 - pasted.mean(), atol=1e-6)
        np.testing.assert_array_equal(images[3, :, :, 0] == 2, pasted)  # the same for the whole batch


def test_cutmix_shares_vary_and_are_on_average_what_beta_gives():
    shares = [augment.cutmix(IMAGES, tf.eye(6), [i, 1], 1.0)[1].numpy()[1, 0] for i in range(300)]
    # Uniform for Beta(1, 1), less what the border cuts off (to 0.32 here in a plain NumPy simulation).
    assert 0.27 < np.mean(shares) < 0.4
    assert np.std(shares) > 0.15


def test_random_erasing_replaces_a_rectangle_in_its_share_of_images():
    image = tf.zeros((32, 32, 3), tf.uint8)
    erased = [augment.random_erasing(image, [i, 0], 0.25).numpy() for i in range(400)]
    touched = [e for e in erased if e.any()]
    assert 70 < len(touched) < 130  # 100, with standard deviation 8.7
    areas = [(e.any(axis=-1)).mean() for e in touched]
    assert 0.005 < min(areas) < max(areas) < 0.36
    assert len(np.unique(touched[0])) > 5  # noise, not a constant


def test_label_smoothing_moves_its_fraction_evenly():
    np.testing.assert_allclose(augment.smooth_labels(tf.eye(4), 0.1)[0], [0.925, 0.025, 0.025, 0.025], rtol=1e-6)


def test_options_reach_the_batch_and_keep_label_sums(digits):
    plain = _batch(digits)
    for option in (dict(cutmix_alpha=1.0), dict(random_erasing_rate=0.9), dict(label_smoothing=0.1)):
        images, labels = _batch(digits, **option)
        assert (images != plain[0]).any() or (labels != plain[1]).any()
        np.testing.assert_allclose(labels.sum(axis=1), 1, rtol=1e-5)
    assert _batch(digits, label_smoothing=0.1)[1].min() == pytest.approx(0.01)


def test_mixup_and_cutmix_together_take_turns(digits):
    args = dict(mixup_alpha=1.0, cutmix_alpha=1.0, augmentation="none")
    batches = list(_batches(digits, **args).take(30))
    only = lambda name: list(_batches(digits, **(args | {name: 0.0})).take(30))
    mixed, cut = only("cutmix_alpha"), only("mixup_alpha")
    same = lambda a, b: bool((a[0].numpy() == b[0].numpy()).all())
    kinds = [(same(b, m), same(b, c)) for b, m, c in zip(batches, mixed, cut, strict=True)]
    assert all(any(kind) for kind in kinds)
    assert {(True, False), (False, True)} <= set(kinds)


def test_keras_cv_augments(digits):
    images, labels = _batch(digits, augmentation="keras_cv", randaugment_magnitude=9, mixup_alpha=0.2)
    assert images.shape == (16, 16, 16, 3)
    assert images.min() >= -1
    assert images.max() <= 1
    np.testing.assert_allclose(labels.sum(axis=1), 1, rtol=1e-5)
    assert (labels.max(axis=1) < 1).any()


def test_keras_cv_refuses_what_it_cannot_express(monkeypatch):
    with pytest.raises(ValueError, match="keras-cv can express at most 10, got 15"):
        Augmentation("keras_cv", randaugment_magnitude=15)
    monkeypatch.setitem(sys.modules, "keras_cv", None)
    with pytest.raises(ValueError, match=r"pip install keras-cv"):
        Augmentation("keras_cv")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(mixup_alpha=-0.1), "mixup_alpha: must be a number that is not negative, got -0.1; use 0 for none"),
        (dict(cutmix_alpha=-1), "cutmix_alpha: must be a number that is not negative"),
        (dict(mixup_alpha=float("nan")), "mixup_alpha: must be a number that is not negative, got nan"),
        (dict(random_erasing_rate=1.5), r"random_erasing_rate: must be a fraction in \[0, 1\), got 1.5"),
        (dict(label_smoothing=-0.1), r"label_smoothing: must be a fraction in \[0, 1\)"),
    ],
)
def test_bad_rates_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(**change)
