"""`training.remaining`: how long a run will take, told from the times of its first steps."""

import pytest

from keras_mixer.training.remaining import Remaining, duration


def _told(remaining, seconds_per_step, steps, start=0, compiling=40.0):
    """Feed executions of one step each; return (step, seconds) of what is told, of which there may be one only."""
    told, now = [], compiling
    for step in range(start + 1, start + steps + 1):
        found = remaining.executed(step, now)
        if found is not None:
            told.append((step, found))
        now += seconds_per_step
    return told


def test_the_first_step_which_compiles_does_not_count():
    ((step, seconds),) = _told(Remaining(1000, 32, 1000), 2.0, 50)
    assert step == 4  # three timed ones
    assert seconds == pytest.approx(2.0 * 996)


def test_fast_steps_are_timed_for_two_seconds_and_slow_ones_for_five():
    ((step, _),) = _told(Remaining(100_000, 32, 10**9), 0.01, 1000)
    assert 200 <= step <= 203
    ((step, _),) = _told(Remaining(1000, 32, 10**9), 30.0, 9)
    assert step == 2


def test_a_run_that_is_soon_over_tells_nothing():
    assert not _told(Remaining(100, 32, 50), 0.01, 100)


def test_evaluations_to_come_count_a_third_of_a_training_step_an_image():
    remaining = Remaining(1000, 10, 100, eval_images=300)
    ((step, seconds),) = _told(remaining, 1.0, 20)
    assert remaining.images_per_second == pytest.approx(10)
    assert remaining.evaluation_seconds() == pytest.approx(10)
    assert seconds == pytest.approx((1000 - step) + 10 * 10)


def test_a_run_that_goes_on_has_only_its_rest_before_it():
    ((step, seconds),) = _told(Remaining(1000, 10, 100, eval_images=300), 1.0, 20, start=950)
    assert seconds == pytest.approx((1000 - step) + 10)


def test_the_time_of_an_evaluation_is_no_training():
    remaining = Remaining(1000, 10, 10**9)
    assert remaining.executed(1, 0.0) is None
    remaining.paused(60.0)
    assert remaining.executed(2, 61.0) is None
    assert remaining.executed(4, 64.0) is None
    assert remaining.executed(6, 65.0) == pytest.approx(994.0)


def test_the_sentence():
    remaining = Remaining(20_000, 8, 10**9)
    remaining.images_per_second = 21.3
    assert remaining.sentence(12, 7_790) == "step 12 of 20,000: about 2 h 10 min here (21 images/s)"
    remaining.images_per_second = 2.04
    assert remaining.sentence(3, 50).endswith("about 50 s here (2.0 images/s)")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((0.4, "0 s"), (89, "89 s"), (90, "2 min"), (3569, "59 min"), (3600, "1 h"), (3720, "1 h")),
        *((7000, "1 h 55 min"), (7198, "2 h"), (86_300, "1 day"), (90_000, "1 day 1 h"), (172_800, "2 days")),
    ],
)
def test_durations_in_words(seconds, text):
    assert duration(seconds) == text
