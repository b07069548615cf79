"""Batches: a pure function of (seed, step), exact evaluation batches, mixup, jitter, and what is refused."""

import dataclasses
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_mixer
from keras_mixer.data import augment, opening, pipeline
from keras_mixer.data.augment_settings import Augmentation
from keras_mixer.data.source import Source, indexed_records

ARGS = dict(batch_size=8, image_size=16, seed=7, augmentation=Augmentation(mixup_alpha=0.2))


@pytest.fixture(scope="module")
def digits():
    return opening.open_source("digits", "train[:50]", training=True)


@pytest.fixture(scope="module")
def photographs():
    """Random images of odd sizes, treated as photographs."""
    rng = np.random.default_rng(0)
    encoded = [tf.io.encode_jpeg(rng.integers(0, 256, (20 + i, 41 - i, 3), np.uint8)).numpy() for i in range(20)]
    gather = lambda i: {"image": tf.gather(encoded, i), "label": i % 3}
    records = indexed_records(20, gather)
    return Source("photographs", 20, ("a", "b", "c"), True, records, lambda r: (r["image"], r["label"]))


def _take(dataset, count):
    return [tuple(part.numpy() for part in batch) for batch in dataset.take(count)]


@pytest.mark.parametrize("kind", ["digits", "photographs"])
@pytest.mark.parametrize("magnitude", [0, 10])
def test_batch_is_a_function_of_seed_and_step(kind, magnitude, request):
    source = request.getfixturevalue(kind)
    args = dict(ARGS, augmentation=Augmentation(mixup_alpha=0.2, randaugment_magnitude=magnitude))
    whole = _take(pipeline.train_batches(source, **args), 9)  # more than one pass
    again = _take(pipeline.train_batches(source, start_step=5, **args), 4)
    for (images, labels), (images_again, labels_again) in zip(whole[5:], again, strict=True):
        np.testing.assert_array_equal(images, images_again)
        np.testing.assert_array_equal(labels, labels_again)
    other = _take(pipeline.train_batches(source, **dict(args, seed=8)), 1)
    assert (other[0][0] != whole[0][0]).any()


@pytest.mark.parametrize("kind", ["digits", "photographs"])
def test_batch_does_not_depend_on_parallelism(kind, request):
    augmentation = Augmentation(mixup_alpha=0.2, randaugment_magnitude=10, cutmix_alpha=1.0)
    data = pipeline.train_batches(request.getfixturevalue(kind), **{**ARGS, "augmentation": augmentation})
    options = tf.data.Options()
    options.threading.private_threadpool_size = 1
    options.autotune.enabled = False
    one_thread = _take(data.with_options(options), 4)
    for many, one in zip(_take(data, 4), one_thread, strict=True):
        np.testing.assert_array_equal(many[0], one[0])
        np.testing.assert_array_equal(many[1], one[1])


def test_replicas_share_the_same_global_batch():
    """Two logical CPUs, in a process of their own, get the halves of the batch that one device gets."""
    code = """
        import numpy as np
        from keras_mixer.data import pipeline, opening
        from keras_mixer.data.augment_settings import Augmentation
        from keras_mixer.training import strategies
        strategy = strategies.make_strategy("mirrored", 2)
        source = opening.open_source("digits", "train[:50]", training=True)
        mixup = Augmentation(mixup_alpha=0.2)
        data = pipeline.train_batches(source, batch_size=8, image_size=16, seed=7, augmentation=mixup)
        shared = strategy.experimental_distribute_dataset(data)
        for step, whole, parts in zip(range(9), data, shared):
            for one, several in zip(whole, parts):
                several = np.concatenate([v.numpy() for v in strategy.experimental_local_results(several)])
                assert len(strategy.experimental_local_results(parts[0])) == 2
                assert (one.numpy() == several).all()
        print("equal", step + 1)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert result.stdout.strip() == "equal 9", result.stderr[-2000:]


def test_training_batches_have_the_models_range_and_mixed_labels(digits):
    images, labels = _take(pipeline.train_batches(digits, **ARGS), 1)[0]
    assert images.shape == (8, 16, 16, 3)
    assert images.dtype == labels.dtype == np.float32
    assert images.min() >= -1
    assert images.max() <= 1
    np.testing.assert_allclose(labels.sum(axis=1), 1, rtol=1e-6)


def test_range_is_that_of_preprocess_input():
    pixels = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(pipeline.to_model_range(pixels), keras_mixer.preprocess_input(pixels))


def test_without_augmentation_images_are_only_resized(digits):
    args = dict(ARGS, augmentation=Augmentation("none"), batch_size=50)
    images, labels = _take(pipeline.train_batches(digits, **args), 1)[0]
    plain = _take(pipeline.eval_batches(digits, batch_size=50, image_size=16), 1)[0][0]
    assert {image.tobytes() for image in images} == {image.tobytes() for image in plain}
    assert set(labels.ravel().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("crop", ["resmall", "resize"])
@pytest.mark.parametrize("batch_size", [7, 20, 64])
def test_evaluation_gives_every_image_once(photographs, crop, batch_size):
    batches = _take(pipeline.eval_batches(photographs, batch_size=batch_size, image_size=14, crop=crop), 99)
    assert all(images.shape == (batch_size, 14, 14, 3) for images, _, _ in batches)
    labels, mask = (np.concatenate([b[i] for b in batches]) for i in (1, 2))
    assert mask.tolist() == [1.0] * 20 + [0.0] * (len(mask) - 20)
    assert labels[:20].tolist() == [i % 3 for i in range(20)]


def test_mixup_is_one_weight_with_the_neighbour():
    images = tf.random.stateless_uniform((6, 2, 2, 3), [0, 0])
    labels = tf.eye(6)
    mixed, mixed_labels = (t.numpy() for t in augment.mixup(images, labels, [1, 2], 0.5))
    weight = mixed_labels[0, 0]
    assert weight >= 0.5
    np.testing.assert_allclose(mixed_labels, weight * np.eye(6) + (1 - weight) * np.roll(np.eye(6), 1, 0), atol=1e-6)
    expected = weight * images.numpy() + (1 - weight) * np.roll(images.numpy(), 1, axis=0)
    np.testing.assert_allclose(mixed, expected, atol=1e-6)


@pytest.mark.parametrize("alpha", [0.2, 0.5, 1.0])
def test_mixup_weights_follow_the_folded_beta(alpha):
    from scipy import stats

    one = tf.ones((2, 1, 1, 1)), tf.eye(2)
    draws = np.array([augment.mixup(*one, [i, 3], alpha)[1][0, 0].numpy() for i in range(400)])
    beta = stats.beta(alpha, alpha)
    folded = lambda a: beta.cdf(a) - beta.cdf(1 - a)
    assert stats.kstest(draws, folded).pvalue > 1e-3


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(-(2**31), 2**31 - 1), index=st.integers(0, 2**40))
def test_fold_seed_is_pure_and_spreads(seed, index):
    first = augment.fold_seed(seed, index).numpy()
    assert (first == augment.fold_seed(seed, index).numpy()).all()
    assert (first != augment.fold_seed(seed, index + 1).numpy()).any()


def test_small_affine_keeps_shape_and_roughly_the_ink(digits):
    image = tf.image.resize(tf.repeat(next(iter(digits.records(None, 0)))["image"], 3, axis=-1), (32, 32))
    image = tf.cast(image, tf.uint8)
    moved = [augment.small_affine(image, [i, 0]) for i in range(20)]
    assert all(m.shape == image.shape and m.dtype == tf.uint8 for m in moved)
    ink = np.array([m.numpy().mean() for m in moved]) / image.numpy().mean()
    assert 0.7 < ink.min() < ink.max() < 1.3
    still = augment.small_affine(image, [0, 0], rotation=0.0, shift=0.0, zoom=0.0)
    np.testing.assert_array_equal(still, image)


@pytest.mark.parametrize("label", [3, -1])
def test_label_outside_the_range_stops(photographs, label):
    bad = dataclasses.replace(photographs, parse=lambda r: (r["image"], tf.constant(label, tf.int64)))
    with pytest.raises(tf.errors.InvalidArgumentError, match=pipeline.LABEL_ERROR):
        _take(pipeline.train_batches(bad, **ARGS), 1)
    with pytest.raises(tf.errors.InvalidArgumentError, match=pipeline.LABEL_ERROR):
        _take(pipeline.eval_batches(bad, batch_size=4, image_size=8), 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(batch_size=51), "has 50 images, fewer than a batch of 51; use a smaller --batch_size"),
        (dict(batch_size=0), "batch_size: must be a positive number of images, got 0"),
        (dict(image_size=0), "image_size: must be a positive number of pixels"),
    ],
)
def test_bad_arguments_are_refused_in_one_sentence(digits, change, message):
    with pytest.raises(ValueError, match=message):
        pipeline.train_batches(digits, **{**ARGS, **change})


def test_an_unknown_augmentation_is_refused():
    with pytest.raises(
        ValueError, match="augmentation: must be one of paper, keras_cv, hyper_rule, none, got 'strong'"
    ):
        Augmentation("strong")
