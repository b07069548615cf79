"""Exact accuracy: masks, ties, NaN, the last batch, against NumPy."""

import keras
import numpy as np
import tensorflow as tf

from keras_mixer.evaluation.classification import make_evaluator
from keras_mixer.training.losses import softmax_cross_entropy

IDENTITY = keras.Sequential([keras.Input((9,)), keras.layers.Activation("linear")])


def _evaluate(logits, labels, mask, batch_size):
    data = tf.data.Dataset.from_tensor_slices((logits, labels, mask)).batch(batch_size)
    return make_evaluator(IDENTITY, data, softmax_cross_entropy)()


def test_metrics_equal_numpy_for_any_batch_size():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(40, 9)).astype("float32")
    labels = rng.integers(0, 9, 40)
    mask = (np.arange(40) < 33).astype("float32")
    order = np.argsort(-logits[:33])
    own = logits[np.arange(33), labels[:33]]
    expected = {
        "top1": (order[:, 0] == labels[:33]).mean(),
        "top5": (order[:, :5] == labels[:33, None]).any(-1).mean(),
        "loss": (np.log(np.exp(logits[:33]).sum(-1)) - own).mean(),
        "num_examples": 33,
    }
    for batch_size in (1, 8, 40):
        result = _evaluate(logits, labels, mask, batch_size)
        assert result.keys() == expected.keys()
        np.testing.assert_allclose(list(result.values()), list(expected.values()), rtol=1e-6)


def test_ties_and_nan_score_nothing():
    logits = np.zeros((2, 9), "float32")
    logits[1, 3] = np.nan
    result = _evaluate(logits, np.array([0, 3]), np.ones(2, "float32"), 2)
    assert result["top1"] == result["top5"] == 0


def test_a_dataset_that_is_distributed_already_counts_the_same():
    rng = np.random.default_rng(1)
    logits, labels = rng.normal(size=(20, 9)).astype("float32"), rng.integers(0, 9, 20)
    mask = (np.arange(20) < 17).astype("float32")
    strategy = tf.distribute.OneDeviceStrategy("/cpu:0")
    data = tf.data.Dataset.from_tensor_slices((logits, labels, mask)).batch(10)
    distributed = strategy.distribute_datasets_from_function(lambda _: data)
    evaluate = make_evaluator(IDENTITY, distributed, softmax_cross_entropy, strategy)
    assert evaluate() == evaluate() == _evaluate(logits, labels, mask, 10)


def test_the_evaluator_reads_the_present_weights():
    model = keras.Sequential([keras.Input((9,)), keras.layers.Dense(9, use_bias=False)])
    images = np.eye(9, dtype="float32")
    data = tf.data.Dataset.from_tensor_slices((images, np.arange(9), np.ones(9, "float32"))).batch(9)
    evaluate = make_evaluator(model, data, softmax_cross_entropy)
    for kernel, top1 in [(np.eye(9), 1.0), (np.roll(np.eye(9), 1, axis=1), 0.0)]:
        model.set_weights([kernel])
        assert evaluate()["top1"] == top1


def test_with_five_classes_or_fewer_every_image_is_a_top5_hit():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Activation("linear")])
    logits = np.array([[3, 2, 1], [1, 2, 3]], "float32")
    data = tf.data.Dataset.from_tensor_slices((logits, np.array([0, 0]), np.ones(2, "float32"))).batch(2)
    result = make_evaluator(model, data, softmax_cross_entropy)()
    assert (result["top1"], result["top5"]) == (0.5, 1.0)
