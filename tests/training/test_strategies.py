"""Strategies by name, on a machine without a GPU."""

import pytest
import tensorflow as tf

from keras_mixer.training import strategies


@pytest.mark.parametrize("name", ["auto", "one_device"])
def test_one_device(name):
    assert strategies.make_strategy(name).num_replicas_in_sync == 1


def test_mirrored_on_one_cpu():
    strategy = strategies.make_strategy("mirrored")
    assert isinstance(strategy, tf.distribute.MirroredStrategy)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("multi",), "strategy: must be one of auto, one_device, mirrored, got 'multi'"),
        (("mirrored", 0), "num_devices: must be a positive number, got 0"),
    ],
)
def test_bad_names_are_refused(args, message):
    with pytest.raises(ValueError, match=message):
        strategies.make_strategy(*args)


def test_more_logical_cpus_after_the_start_is_one_sentence():
    tf.constant(1.0) + 1  # TensorFlow has started
    with pytest.raises(ValueError, match="num_devices: 5 logical CPUs were asked for after TensorFlow had started"):
        strategies.make_strategy("mirrored", 5)
