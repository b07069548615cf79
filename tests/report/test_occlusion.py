"""What the model looked at, for models of which that is known."""

import keras
import numpy as np
import tensorflow as tf

from keras_mixer.evaluation.predictions import Predictor
from keras_mixer.report import occlusion
from keras_mixer.training.losses import softmax_cross_entropy


def test_parts_are_patches_or_blocks_of_them_and_cover_every_pixel_once():
    for side, patch, cells in ((16, 4, 4), (224, 16, 7), (224, 32, 7), (448, 16, 7), (64, 4, 8), (36, 4, 5)):
        covered = np.zeros((side, side), int)
        places = occlusion.boxes((side, side), patch)
        for top, bottom, left, right in places:
            covered[top:bottom, left:right] += 1
        assert (covered == 1).all()
        assert len(places) == cells**2 <= occlusion.MOST_CELLS**2
        assert not (places % patch).any()


def test_the_part_that_a_model_reads_is_the_one_whose_covering_lowers_it():
    """A model that reads one corner, asked in batches that do not divide the number of images."""
    inputs = keras.Input((8, 8, 3))
    corner = keras.ops.mean(inputs[:, 4:, :4], axis=(1, 2, 3))
    model = keras.Model(inputs, keras.ops.stack([corner, -corner], axis=-1))
    images = np.full((3, 8, 8, 3), -1.0, np.float32)
    images[:, 5:7, 1:3] = 1
    traced = []

    def loss(labels, logits):
        traced.append(1)
        return softmax_cross_entropy(labels, logits)

    predictor, places = Predictor(model, loss), occlusion.boxes((8, 8), 4)
    batches = tf.data.Dataset.from_tensor_slices((images, np.zeros(3, np.int64), np.ones(3, np.float32)))
    predictor.predict(batches.repeat().batch(5).take(1))
    asked = predictor.probability_of_label(occlusion.covered_batches(images, np.array([1, 1, 0]), places, 5))
    drops = occlusion.drops(asked, len(images))
    assert drops.shape == (3, 4)
    assert traced == [1]  # the same function
    np.testing.assert_allclose(drops[:, [0, 1, 3]], 0, atol=1e-6)
    # The mean colour is darker than the corner, which speaks for class 0.
    assert (drops[:2, 2] < -0.05).all()
    assert drops[2, 2] > 0.05
