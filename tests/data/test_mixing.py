"""Batches cross to the device as bytes, and become there what `train_batches` makes on the host."""

import numpy as np
import pytest
import tensorflow as tf

from keras_mixer.data import opening, pipeline
from keras_mixer.data.augment_settings import Augmentation
from keras_mixer.data.mixing import Finish

KINDS = {
    "nothing": Augmentation("none"),
    "mixup": Augmentation("none", mixup_alpha=0.5),
    "cutmix": Augmentation("none", cutmix_alpha=1.0, label_smoothing=0.1),
    "either": Augmentation("none", mixup_alpha=0.5, cutmix_alpha=1.0),
}
ARGS = dict(batch_size=12, image_size=(10, 14), seed=4)


def batches_of(make, how, **more):
    digits = opening.open_source("digits", training=True)
    return [[x.numpy() for x in batch] for batch in make(digits, **ARGS, augmentation=how, **more).take(4)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", [(0, 1), (0, 3), (2, 3)])
def test_bytes_that_are_finished_are_the_batches(kind, part):
    how = KINDS[kind]
    finish = Finish(how, 10)
    crossing = batches_of(pipeline.train_batches, how, part=part, as_bytes=True)
    rows = 12 // part[1] + finish.neighbours
    assert finish.neighbours == (kind != "nothing")
    for (images, labels, drawn), expected in zip(
        crossing, batches_of(pipeline.train_batches, how, part=part), strict=True
    ):
        assert (images.dtype, images.shape, labels.dtype) == (np.uint8, (rows, 10, 14, 3), np.int64)
        assert (drawn == drawn[0]).all()
        for found, wanted in zip(finish(*map(tf.constant, (images, labels, drawn))), expected, strict=True):
            np.testing.assert_array_equal(found, wanted)
        compiled = tf.function(finish, jit_compile=True)(*map(tf.constant, (images, labels, drawn)))
        np.testing.assert_allclose(compiled[0], expected[0], atol=2e-7)  # measured 1.2e-7: it fuses a product and a sum
        np.testing.assert_allclose(compiled[1], expected[1], atol=1e-7)


def test_pixels_are_scaled_by_a_division_in_graphs_as_well():
    pixels = np.arange(256, dtype=np.uint8)
    for scaled in (pipeline.to_model_range, tf.function(pipeline.to_model_range)):
        np.testing.assert_array_equal(scaled(tf.constant(pixels)), pixels.astype(np.float32) / np.float32(127.5) - 1)


def test_some_rows_with_their_neighbour_are_those_of_the_batch():
    """What micro-batches and replicas take."""
    finish = Finish(KINDS["either"], 10)
    for batch in batches_of(pipeline.train_batches, KINDS["either"], as_bytes=True):
        whole = finish(*map(tf.constant, batch))
        for first in (0, 4, 8):
            some = finish(*(tf.constant(x[first : first + 5]) for x in batch))
            np.testing.assert_array_equal(some[0], whole[0][first : first + 4])
            np.testing.assert_array_equal(some[1], whole[1][first : first + 4])


def test_evaluation_batches_may_cross_as_bytes():
    digits = opening.open_source("digits", "test[:20]", training=False)
    args = dict(batch_size=16, image_size=12)
    for part in ((0, 1), (1, 2)):
        floats = list(pipeline.eval_batches(digits, **args, part=part))
        for (images, *rest), (pixels, *others) in zip(
            floats, pipeline.eval_batches(digits, **args, part=part, as_bytes=True), strict=True
        ):
            assert pixels.dtype == tf.uint8
            np.testing.assert_array_equal(pipeline.to_model_range(pixels), images)
            for a, b in zip(rest, others, strict=True):
                np.testing.assert_array_equal(a, b)
