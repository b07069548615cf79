"""What a task gives to the settings of fine-tuning."""

import pytest

from keras_mixer.cli import inputs, transfer
from keras_mixer.data import opening, tasks
from keras_mixer.paper import TINY
from keras_mixer.starting_point import StartingPoint

START = StartingPoint("x.npz", TINY, 16, 3, None, None, {}, "x.npz")


def _filled(task, **given):
    settings = transfer.Settings(task=task, **given)
    return settings.filled(**transfer.chosen_by(settings, tasks.get_task(task), START))


def test_the_hyper_rule_comes_from_the_task_unless_something_is_given_by_hand():
    assert _filled("vtab-svhn").augmentation == "none"
    rule = inputs.augmentation(_filled("vtab-svhn", augmentation="hyper_rule"))
    assert (rule.augmentation, rule.flip_rate) == ("hyper_rule", 0)
    assert rule.crop_area == pytest.approx((0.64, 0.64))
    assert _filled("vtab-svhn", augmentation="hyper_rule", flip_rate=0.25).flip_rate == 0.25
    with pytest.raises(ValueError, match="^augmentation: hyper_rule is for tasks of VTAB-1k, which pets is not"):
        _filled("pets", augmentation="hyper_rule")


def test_the_hyper_rule_takes_drawn_signs_as_they_are_but_no_aspect():
    digits = opening.open_source("digits", training=True)
    given = transfer.Settings(task="vtab-svhn", augmentation="hyper_rule", crop_area=(0.5, 0.5))
    filled = _filled("vtab-svhn", augmentation="hyper_rule", batch_size=8)
    inputs.check_train_batches(filled, digits, given)
    with pytest.raises(ValueError, match="^crop_aspect: has no effect, since --augmentation=hyper_rule keeps the asp"):
        inputs.check_train_batches(filled, digits, given.with_values(crop_aspect=(1, 1)))
