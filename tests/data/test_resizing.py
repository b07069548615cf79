"""Resizing by small matrix products against TensorFlow's own antialiased resizing."""

import numpy as np
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_mixer.data.resizing import resize


@settings(max_examples=40, deadline=None)
@given(
    before=st.tuples(st.integers(1, 150), st.integers(1, 150)),
    after=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    content=st.integers(0, 2**32 - 1),
)
def test_it_equals_tensorflows_antialiased_resizing_but_for_rounding(before, after, content):
    image = np.random.default_rng(content).integers(0, 256, (*before, 3), np.uint8)
    expected = tf.image.resize(image, after, antialias=True).numpy()
    # Measured: at most 0.006 apart before rounding, hence 1 grey level where a value lies half-way between two.
    np.testing.assert_allclose(resize(image, after), expected, rtol=0, atol=0.51)


def test_a_flat_image_stays_flat():
    for level in (0, 93, 255):
        image = np.full((37, 91, 3), level, np.uint8)
        np.testing.assert_array_equal(resize(image, (19, 120)), np.full((19, 120, 3), level, np.uint8))


def test_the_comparison_sees_resizing_without_antialiasing():
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    assert np.abs(resize(image, 20) - tf.image.resize(image, (20, 20)).numpy()).max() > 50
