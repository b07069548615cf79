"""Photographs to measure with, the clock, and the report."""

import io
import json
import time

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_mixer.benchmark import input_speed, memory


def test_photographs_are_distinct_jpegs_of_that_size_and_the_same_each_time():
    files = input_speed.photographs(5)
    assert len(set(files)) == 5
    assert files == input_speed.photographs(5)
    for file in files:
        with Image.open(io.BytesIO(file)) as image:
            assert (image.format, image.size, image.mode) == ("JPEG", (500, 375), "RGB")
    with pytest.raises(ValueError, match="photographs: cannot make 1 of 5000 x 500 pixels"):
        input_speed.photographs(1, height=5000)


def test_all_images_take_their_turn():
    take, per_element = input_speed.of_images(lambda image, k: image * 2, tf.constant([[[1]], [[2]], [[3]]]))
    (values,) = take(1)
    np.testing.assert_array_equal(values, ([2, 4, 6] * per_element)[:per_element])


def busy(milliseconds):
    def work(k):
        end = time.process_time() + milliseconds / 1000
        while time.process_time() < end:
            pass
        return np.int64(k)

    return tf.data.Dataset.range(2**62).map(lambda k: tf.numpy_function(work, [k], tf.int64))


def test_rates_are_of_cpu_time_and_include_what_is_prefetched():
    ahead = lambda n: busy(5).take(n).prefetch(4)
    rates = input_speed.measure({"direct": (busy(5).take, 1), "ahead": (ahead, 1)}, seconds=0.1, rounds=2)
    assert [len(values) for values in rates.values()] == [2, 2]
    # 5 ms of work allow no more than 200 a second, whatever else the machine does.
    assert all(0 < rate <= 201 for values in rates.values() for rate in values)
    with pytest.raises(ValueError, match="seconds: a measurement must take some time, got 0 s"):
        input_speed.measure({}, seconds=0)


def test_the_report_has_every_rate_its_median_and_a_picture(tmp_path):
    rates = {"decode": [100.0, 80.0, 90.0], "whole": [45.0, 40.0, 50.0], "flip": [9000.0, 8000.0, 8500.0]}
    paths = input_speed.write_report(tmp_path / "new", rates, "decode", {"peak_memory_mib": 7})
    assert sorted(tmp_path.glob("new/*")) == sorted(paths)
    result = json.loads(paths[0].read_text())
    assert (result["images_per_second"]["whole"], result["rounds"], result["peak_memory_mib"]) == (45.0, rates, 7)
    assert "| whole | 45 | 40 to 50 | 50 % |" in paths[1].read_text()
    assert "| flip | 8,500 | 8,000 to 9,000 | |" in paths[1].read_text()
    with Image.open(paths[2]) as image:
        assert len(np.unique(np.asarray(image))) > 10


def test_peak_memory_is_that_of_this_process():
    before = memory.peak_mib()
    assert 50 < before < 100_000
    block = np.ones(int((before + 100) * 2**20 / 8))
    assert memory.peak_mib() > block.nbytes / 2**20
