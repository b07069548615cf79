"""What a classifier says of each image once: totals in training, per-image predictions, what follows, against NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_fscore_support

from keras_mixer.evaluation import calibration, predictions, real, report_files
from keras_mixer.evaluation.predictions import make_evaluator
from keras_mixer.training.losses import softmax_cross_entropy

IDENTITY = keras.Sequential([keras.Input((9,)), keras.layers.Activation("linear")])
RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(40, 9)).astype("float32")
LABELS = RNG.integers(0, 9, 40)
LOGITS[3, LABELS[3]] = LOGITS[3].max() + 1  # a hit
LOGITS[4, LABELS[4]] = LOGITS[4, (LABELS[4] + 1) % 9] = LOGITS[4].max() + 1  # a tie, so a miss
MASK = (np.arange(40) < 33).astype("float32")


def _batches(batch_size, logits=LOGITS):
    return tf.data.Dataset.from_tensor_slices((logits, LABELS, MASK)).batch(batch_size)


def _predictions(batch_size=8, **kwargs):
    return predictions.predict_images(IDENTITY, _batches(batch_size), softmax_cross_entropy, **kwargs)


@pytest.mark.parametrize("batch_size", [1, 8, 40])
def test_totals_are_those_of_the_evaluator_during_training(batch_size):
    totals = _predictions(batch_size).totals()
    expected = make_evaluator(IDENTITY, _batches(batch_size), softmax_cross_entropy)()
    for key, value in expected.items():
        assert totals[key] == pytest.approx(value, abs=1e-7)  # the loss differs by 2e-8, the others by nothing


def test_each_image_is_once_in_order_with_numpys_class_and_probability():
    counts = []
    found = _predictions(on_batch=counts.append)
    assert counts == [8, 8, 8, 8, 1]
    np.testing.assert_array_equal(found.labels, LABELS[:33])
    probabilities = np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True)
    expected = LOGITS.argmax(-1)[:33]
    expected[4] = (LABELS[4] + 1) % 9
    np.testing.assert_array_equal(found.predicted, expected)
    np.testing.assert_allclose(found.confidence, probabilities.max(-1)[:33], rtol=1e-6)
    assert found.correct[3]
    assert not found.correct[4]
    np.testing.assert_array_equal(found.correct, found.predicted == found.labels)


def test_sigmoid_probabilities_are_of_each_class_alone():
    confidence = _predictions(probabilities=tf.nn.sigmoid).confidence
    np.testing.assert_allclose(confidence, 1 / (1 + np.exp(-LOGITS[:33].max(-1))), rtol=1e-6)


def test_logits_that_are_not_finite_are_refused():
    logits = LOGITS.copy()
    logits[[2, 5], 0] = np.nan
    with pytest.raises(ValueError, match="weights: the logits of 2 of 33 images are NaN or infinite"):
        predictions.predict_images(IDENTITY, _batches(8, logits), softmax_cross_entropy)


# ---- The totals in training ----


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


# ---- What follows from predictions ----


def _reference_error(confidence, correct, bins):
    total = 0.0
    for i in range(bins):
        inside = (confidence > i / bins) & (confidence <= (i + 1) / bins)
        if inside.any():
            total += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
    return total


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 200), st.integers(0, 1000))
def test_calibration_error_is_the_sum_over_fifteen_bins(count, seed):
    rng = np.random.default_rng(seed)
    confidence, correct = rng.uniform(0.01, 1, count), rng.random(count) < 0.5
    assert predictions.expected_calibration_error(confidence, correct) == pytest.approx(
        _reference_error(confidence, correct, 15), abs=1e-12
    )


def test_calibration_error_of_the_ends_and_of_a_perfect_model():
    assert predictions.expected_calibration_error([1.0, 1.0], [True, True]) == 0
    assert predictions.expected_calibration_error([0.0, 1.0], [True, False]) == 1


def test_confusion_and_classes_count_the_same_images(tmp_path):
    found = _predictions()
    matrix = report_files.write_tables(tmp_path, found, [f"class {k}" for k in range(9)])
    expected = np.zeros((9, 9), int)
    np.add.at(expected, (found.labels, found.predicted), 1)
    np.testing.assert_array_equal(matrix, expected)
    rows = predictions.class_rows(found, [f"class {k}" for k in range(9)])
    assert [row["images"] for row in rows] == matrix.sum(1).tolist()
    assert [row["correct"] for row in rows] == np.diagonal(matrix).tolist()
    k = int(np.argmax(matrix.sum(1)))
    own = found.labels == k
    assert rows[k]["name"] == f"class {k}"
    assert rows[k]["top5"] == pytest.approx((found.rank[own] < 5).mean())
    assert rows[k]["mean_confidence"] == pytest.approx(found.confidence[own].mean())
    assert [row["predicted"] for row in rows] == matrix.sum(0).tolist()
    expected = precision_recall_fscore_support(found.labels, found.predicted, labels=range(9), zero_division=np.nan)
    for name, values in zip(("precision", "recall", "f1"), expected, strict=False):
        ours = [np.nan if row[name] == "" else row[name] for row in rows]
        np.testing.assert_allclose(ours, values, rtol=1e-12)


def test_a_class_without_images_has_no_accuracy():
    found = predictions.Predictions(*np.zeros((5, 1), int), num_classes=2)
    assert predictions.class_rows(found, ["a", "b"])[1] == {
        "class": 1, "name": "b", "images": 0, "correct": 0, "top1": "", "top5": "", "mean_confidence": "",
        "predicted": 0, "precision": "", "recall": "", "f1": "",
    }  # fmt: skip


def test_the_worst_mistakes_are_the_most_confident_ones():
    found = _predictions()
    worst = predictions.worst_mistakes(found, 5)
    confidence = np.where(found.correct, -1, found.confidence)
    np.testing.assert_array_equal(worst, np.argsort(-confidence, kind="stable")[:5])
    assert len(predictions.worst_mistakes(found, 1000)) == (~found.correct).sum()


def test_the_surest_hits_are_right_and_the_most_confident_ones():
    found = _predictions()
    expected = np.argsort(-np.where(found.correct, found.confidence, -1), kind="stable")[:2]
    np.testing.assert_array_equal(predictions.surest_hits(found, 2), expected)
    assert len(predictions.surest_hits(found, 1000)) == found.correct.sum()


def test_a_predictor_is_traced_once_and_knows_the_probability_of_any_class():
    traced = []

    def loss(labels, logits):
        traced.append(1)
        return softmax_cross_entropy(labels, logits)

    predictor = predictions.Predictor(IDENTITY, loss)
    found = predictor.predict(_batches(8))
    data = tf.data.Dataset.from_tensor_slices((LOGITS, np.full(40, 2), MASK)).batch(8)
    probabilities = np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True)
    np.testing.assert_allclose(predictor.probability_of_label(data), probabilities[:33, 2], rtol=1e-6)
    assert len(traced) == 1
    np.testing.assert_array_equal(found.predicted, _predictions().predicted)


def test_the_bins_of_calibration_add_up_to_its_error():
    found = _predictions()
    rows = [row for row in calibration.calibration_rows(found.confidence, found.correct) if row["images"]]
    assert sum(row["images"] for row in rows) == 33
    error = sum(row["images"] / 33 * abs(row["accuracy"] - row["confidence"]) for row in rows)
    assert error == pytest.approx(found.totals()["expected_calibration_error"], abs=1e-12)


def test_real_counts_a_hit_for_any_valid_label_and_skips_images_without():
    found = real.real_accuracy([1, 2, 3, 4], [[1], [9, 2], [7, 8], []])
    assert found == {"real_top1": 2 / 3, "real_num_examples": 3, "real_skipped": 1}
    with pytest.raises(ValueError, match="real_labels: 1 label sets for 2 images"):
        real.real_accuracy([1, 2], [[1]])
    with pytest.raises(ValueError, match="real_labels: no image has a valid label"):
        real.real_accuracy([1], [[]])
