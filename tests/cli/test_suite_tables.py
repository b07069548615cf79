"""`cli.suite_tables`: what a suite's measured row says beside its accuracies."""

import dataclasses

import pytest

from keras_mixer import paper
from keras_mixer.cli.suite_tables import _core_days
from keras_mixer.starting_point import StartingPoint

RUN = {"image_size": 224, "batch_size": 4096, "total_steps": 93_835, "weights": None}
START = StartingPoint("runs/b16", paper.VARIANTS["b16"], 224, 3, 1000, None, RUN, "runs/b16")


def test_a_pre_training_run_costs_what_its_operations_do():
    """The paper's 300 epochs of ImageNet: 12.7 core-days by operations, published as 10."""
    assert 1000 * _core_days(START) == pytest.approx(12.7, abs=0.05)


@pytest.mark.parametrize("other", [{}, RUN | {"weights": "imagenet21k"}, RUN | {"started_from": "b16 imagenet21k"}])
def test_of_what_began_with_other_weights_it_is_not_known(other):
    assert _core_days(dataclasses.replace(START, settings=other)) is None
