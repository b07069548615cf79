"""Numbers, charts and small pictures of the page, each against what is known of it."""

import base64
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from keras_mixer.evaluation.calibration import calibration_rows
from keras_mixer.report import charts, images, numbers


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    [
        (8, 10, 0.4901625, 0.9433178),  # Brown, Cai and DasGupta's formula; R's binom.confint gives the same
        (0, 20, 0.0, 0.1611252),
        (20, 20, 0.8388748, 1.0),
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, table I: 0.2553 to 0.3662
    ],
)
def test_wilsons_interval_is_the_published_one(hits, count, low, high):
    assert numbers.wilson_interval(hits, count) == pytest.approx((low, high), abs=5e-7 if hits != 81 else 5e-5)


@given(st.integers(1, 5000), st.floats(0, 1))
def test_wilsons_interval_holds_the_rate_and_narrows(count, share):
    hits = round(share * count)
    low, high = numbers.wilson_interval(hits, count)
    assert 0 <= low <= hits / count + 1e-12
    assert hits / count - 1e-12 <= high <= 1
    wider = numbers.wilson_interval(hits, count, z=3)
    assert wider[1] - wider[0] >= high - low


def test_no_trials_are_refused():
    for hits, count in ((0, 0), (3, 2), (-1, 2)):
        with pytest.raises(ValueError, match="hits: must be from 0 to the count"):
            numbers.wilson_interval(hits, count)


def test_a_line_is_where_its_values_are():
    line = charts.Line("eval", np.array([0.0, 50, 100]), np.array([0.0, 1.0, 0.5]))
    chart = charts.line_chart("top-1", [line])
    assert [mark[1] for mark in chart.y_marks] == ["0", "0.2", "0.4", "0.6", "0.8", "1"]
    (drawn,) = chart.lines
    assert [point.x for point in drawn.points] == [chart.left, (chart.left + chart.right) / 2, chart.right]
    assert [point.y for point in drawn.points] == [chart.bottom, chart.top, (chart.top + chart.bottom) / 2]
    assert drawn.points[1].text == "step 50: eval 1"
    assert drawn.path == "M" + "L".join(f"{p.x:g} {p.y:g}" for p in drawn.points)
    assert chart.rows == [["step", "eval"], ["0", "0"], ["50", "1"], ["100", "0.5"]]


def test_values_that_are_not_finite_are_no_points():
    line = charts.Line("train", np.arange(4.0), np.array([1.0, np.nan, np.inf, 2.0]))
    assert len(charts.line_chart("loss", [line]).lines[0].points) == 2
    assert charts.line_chart("loss", [charts.Line("train", np.array([]), np.array([]))]) is None


def test_a_long_line_keeps_its_end_and_few_points():
    line = charts.Line("train", np.arange(10_001.0), np.arange(10_001.0))
    (drawn,) = charts.line_chart("loss", [line]).lines
    assert len(drawn.points) <= charts.MOST_POINTS
    assert drawn.points[-1].text == "step 10,000: train 1e+04"


@pytest.mark.parametrize("value", [0.0, 3.0, -2.0, 1e-12, 1e9])
def test_a_level_line_has_an_axis(value):
    chart = charts.line_chart("loss", [charts.Line("train", np.array([1.0]), np.array([value]))])
    assert len(chart.y_marks) >= 2
    assert chart.top <= chart.lines[0].points[0].y <= chart.bottom


def test_the_reliability_diagram_has_a_point_for_each_bin_with_images():
    rows = calibration_rows([0.95, 0.95, 0.35], [True, False, True])
    chart = charts.reliability(rows)
    assert [point.text for point in chart.lines[1].points] == [
        "confidence 33% to 40%: 1 image, mean confidence 35.0%, accuracy 100.0%",
        "confidence 93% to 100%: 2 images, mean confidence 95.0%, accuracy 50.0%",
    ]


def _opened(uri):
    head, data = uri.split(",")
    picture = Image.open(io.BytesIO(base64.b64decode(data)))
    assert head == f"data:image/{picture.format.lower()};base64"
    return picture


def test_a_small_picture_is_kept_pixel_by_pixel_and_a_large_one_is_small():
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    np.testing.assert_array_equal(np.asarray(_opened(images.data_uri(pixels))), pixels)
    large = _opened(images.data_uri(np.zeros((300, 600, 3), np.uint8)))
    assert (large.format, large.size) == ("JPEG", (160, 80))


def test_the_overlay_is_red_where_covering_lowers_and_blue_where_it_raises():
    places = np.array([[0, 4, 0, 4], [0, 4, 4, 8]])
    picture = images.overlay(np.full((4, 8, 3), 128, np.uint8), np.array([0.4, -0.2]), places).astype(int)
    assert picture.shape == (80, 160, 3)
    red, blue = picture[40, 20], picture[40, 120]
    assert red[0] > red[2] + 30
    assert blue[2] > blue[0] + 20
