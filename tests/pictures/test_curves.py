"""Reading the metrics of runs, smoothing, and the picture of their curves."""

import json
import math
import re

import numpy as np
import pytest
from PIL import Image

from keras_mixer.pictures import curves
from keras_mixer.training import metrics

HEADER = "step,learning_rate,train_loss,train_top1,eval_loss,eval_top1,eval_top5,images_per_second"
ROWS = [HEADER, "10,0.1,2.0,0.25,,,,0.0", "20,0.05,1.5,0.5,1.25,0.75,1.0,100.0", "30,0.0,1.0,0.5,nan,0.5,1.0,200.0"]


def _run(folder, lines=ROWS, end="\r\n", **settings):
    folder.mkdir(parents=True)
    (folder / "metrics.csv").write_text("".join(line + "\r\n" for line in lines[:-1]) + lines[-1] + end, newline="")
    (folder / "run.json").write_text(json.dumps({"settings": {"batch_size": 10, "seed": 0} | settings}))
    return metrics.read_run(folder)


def _pixels(path, colour):
    """How many pixels are of the colour; the edges of lines, mixed with white, do not count."""
    with Image.open(path) as image:
        return int((np.abs(np.asarray(image.convert("RGB")).astype(int) - colour).max(axis=-1) < 8).sum())


def test_empty_cells_are_left_out_and_nan_is_kept(tmp_path):
    run = _run(tmp_path / "a")
    steps, losses = run.series("train_loss")
    np.testing.assert_array_equal((steps, losses), ([10, 20, 30], [2, 1.5, 1]))
    np.testing.assert_array_equal(run.series("eval_loss"), ([20, 30], [1.25, math.nan]))
    np.testing.assert_array_equal(run.series("images_per_second"), ([20, 30], [100, 200]))  # 0 is not measured
    assert run.series("gradient_norm")[0].shape == (0,)
    assert run.progress() == "step 30, eval top-1 50.00% at step 30"


def test_positions_in_images_and_in_seconds_of_training(tmp_path):
    run = _run(tmp_path / "a")
    np.testing.assert_array_equal(run.positions("images"), [100, 200, 300])
    np.testing.assert_allclose(run.positions("seconds"), [0, 1, 1.5])  # nothing, 100 images at 100/s, 100 at 200/s


def test_a_run_in_progress_may_have_no_rows_or_half_a_row(tmp_path):
    empty = _run(tmp_path / "empty", [HEADER])
    assert (empty.columns["step"], empty.progress()) == ([], "no rows yet")
    assert empty.positions("seconds").shape == (0,)
    half = _run(tmp_path / "half", [*ROWS[:2], "20,0.0"], end="")
    assert half.columns["step"] == [10]
    assert half.progress() == "step 10, not evaluated yet"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([HEADER, "1,2"], r"line 2 of .*metrics.csv is malformed: 2 values for 8 columns"),
        ([*ROWS, ROWS[1]], "line 5 of .* its step must be more than that of the line before"),
        ([HEADER, "10,fast,,,,,,"], "line 2 of .* learning_rate is 'fast', not a number"),
        ([HEADER, ",,,,,,,"], "line 2 of .* its step must be more"),
        ([HEADER + ",accuracy"], "has the unknown column 'accuracy'; its columns must be of step, learning_rate"),
        (["train_loss"], "has not step, or a column twice"),
        ([""], "has not step, or a column twice"),
    ],
)
def test_a_malformed_file_is_refused_by_line(tmp_path, lines, message):
    with pytest.raises(ValueError, match=f"^workdirs: .*{message}"):
        _run(tmp_path / "a", lines)


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"workdirs: .*b is not a folder; give the --workdir of a training run"):
        metrics.read_run(tmp_path / "b")
    with pytest.raises(FileNotFoundError, match=r"has no metrics.csv"):
        metrics.read_run(tmp_path)
    with pytest.raises(ValueError, match=r"workdirs: no folder under .* has a metrics.csv; train first"):
        metrics.find_workdirs(tmp_path)
    run = _run(tmp_path / "a")
    (run.folder / "metrics.csv").write_bytes(b"\xff\xfe\n")
    with pytest.raises(ValueError, match="is not a CSV file"):
        metrics.read_run(run.folder)
    (run.folder / "run.json").write_text("{")
    with pytest.raises(ValueError, match=r"run.json is not of a run of this package"):
        metrics.read_run(run.folder)


def test_runs_are_found_sorted_at_any_depth(tmp_path):
    for name in ("b", "sweep/c", "a"):
        _run(tmp_path / name)
    assert [str(f.relative_to(tmp_path)) for f in metrics.find_workdirs(tmp_path)] == ["a", "b", "sweep/c"]


def test_smoothing_is_the_weighted_mean_of_the_past_and_skips_what_is_not_finite():
    values = np.array([2.0, 4.0, math.nan, 1.0])
    np.testing.assert_array_equal(curves.smoothed(values, 0), values)
    expected = [2, (0.5 * 2 + 4) / 1.5, math.nan, (0.25 * 2 + 0.5 * 4 + 1) / 1.75]
    np.testing.assert_allclose(curves.smoothed(values, 0.5), expected, rtol=1e-12)
    np.testing.assert_allclose(curves.smoothed(np.full(50, 3.0), 0.99), 3.0, rtol=1e-12)  # no pull to 0 at the start


@pytest.mark.parametrize("weight", [-0.1, 1.0, math.nan])
def test_a_weight_outside_its_range_is_refused(weight):
    with pytest.raises(ValueError, match=r"smooth: must be at least 0 and below 1, got"):
        curves.smoothed([1.0], weight)


def test_names_are_as_short_as_they_can_be_and_a_folder_twice_is_refused():
    assert metrics.run_names(["x/run", "y/run", "run"])[:2] == ["x/run", "y/run"]
    with pytest.raises(ValueError, match="is given twice"):
        metrics.run_names(["a", "b/../a"])


def test_settings_that_differ_are_named_with_their_runs(tmp_path):
    runs = [_run(tmp_path / "a"), _run(tmp_path / "b", seed=1, note="x" * 40), _run(tmp_path / "c")]
    assert metrics.differing_settings(runs, ["a", "b", "c"]) == [
        "seed: 0 (a, c), 1 (b)",
        f"note: not set (a, c), {'x' * 23}… (b)",
    ]


def test_the_picture_shows_each_run_in_its_colour_and_replaces_an_older_one(tmp_path):
    runs = [_run(tmp_path / "$a$"), _run(tmp_path / "_b", [HEADER, "10,0.1,2.5,0.2,2.0,0.25,1.0,50.0"])]
    path = tmp_path / "pictures" / "curves.png"
    blue, orange, green = (31, 119, 180), (255, 127, 14), (44, 160, 44)
    assert curves.write_curves(path, runs[:1]) == ["$a$"]
    assert _pixels(path, blue) > 500
    assert _pixels(path, orange) == 0
    assert curves.write_curves(path, runs, smooth=0.5, x="images") == ["$a$", "_b"]
    with_a_row = _pixels(path, orange)
    curves.write_curves(path, [runs[0], _run(tmp_path / "c", [HEADER])])
    assert with_a_row > _pixels(path, orange) + 50 > 50  # a single row is marked; the legend has a line in any case
    assert _pixels(path, green) == 0
    assert [p.name for p in path.parent.iterdir()] == ["curves.png"]


def test_a_last_row_of_few_steps_is_no_spike_at_the_end(tmp_path):
    """The mean of a single batch; evaluations, and means over as many steps as before, are drawn."""
    rows = [HEADER, *(f"{n},0.1,{2 - n / 100},0.5,{2 - n / 100},0.5,1.0,100.0" for n in (20, 40, 60))]
    for name, last, points in (("short", 61, [20, 40, 60]), ("whole", 70, [20, 40, 60, 70])):
        run = _run(tmp_path / name, [*rows, f"{last},0.1,9.0,0.0,1.2,0.5,1.0,900.0"])
        for column in ("train_loss", "train_top1", "images_per_second"):
            assert curves._curve(run, column, "step")[0].tolist() == points
        assert curves._curve(run, "train_loss", "images")[0].tolist() == [10 * n for n in points]
        assert curves._curve(run, "eval_loss", "step")[0].tolist() == [20, 40, 60, last]
        assert curves._curve(run, "learning_rate", "step")[0].tolist() == [20, 40, 60, last]


@pytest.mark.parametrize("norm", ["2.5", "0"])
def test_norms_get_a_panel_where_a_run_has_them(tmp_path, norm):
    plain = _run(tmp_path / "a")
    with_norms = _run(tmp_path / "b", [HEADER + ",gradient_norm,weight_norm", f"10,0.1,2.0,0.25,,,,9.0,{norm},{norm}"])
    texts = []
    for runs in ([plain], [plain, with_norms]):
        curves.write_curves(tmp_path / "a.svg", runs)
        texts.append((tmp_path / "a.svg").read_text())
    assert ["norm: gradient solid" in text for text in texts] == [False, True]


def test_averaged_weights_are_named_where_a_run_has_evaluated_them(tmp_path):
    header = HEADER + ",ema_loss,ema_top1,ema_top5"
    texts = []
    for name, cells in (("a", ",,"), ("b", "1.5,0.5,1.0")):
        run = _run(tmp_path / name, [header, f"10,0.1,2.0,0.25,2.0,0.25,1.0,9.0,{cells}"])
        curves.write_curves(tmp_path / "a.svg", [run])
        texts.append((tmp_path / "a.svg").read_text())
    assert ["eval of averaged weights" in text for text in texts] == [False, True]


def test_names_legend_and_settings_are_written_as_they_are(tmp_path):
    runs = [_run(tmp_path / "_$a$"), _run(tmp_path / "b", [HEADER], seed=1)]
    curves.write_curves(tmp_path / "a.svg", runs)
    comments = re.findall(r"<!-- (.*?) -->", (tmp_path / "a.svg").read_text())
    assert {"_$a$", "b (no rows yet)", "train", "eval", "seed: 0 (_$a$), 1 (b)"} <= set(comments)


def test_bad_output_leaves_what_was_there(tmp_path):
    run = _run(tmp_path / "a")
    (tmp_path / "file").write_text("old")
    for name, message in [
        ("curves", r"output: .*curves must end in one of .*\.pdf.*\.png.*\.svg"),
        ("curves.txt", "output: .*must end in one of"),
        ("file/curves.png", "output: cannot write .*; choose another --output"),
    ]:
        with pytest.raises((ValueError, OSError), match=message):
            curves.write_curves(tmp_path / name, [run])
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(ValueError, match="output: .* is a folder"):
        curves.write_curves(tmp_path / "folder.png", [run])
    with pytest.raises(ValueError, match="x: must be one of step, images, seconds, got 'epochs'"):
        curves.write_curves(tmp_path / "a.png", [run], x="epochs")
    (run.folder / "run.json").unlink()
    with pytest.raises(ValueError, match=r"x: images needs batch_size in .*run.json; use step"):
        curves.write_curves(tmp_path / "a.png", [metrics.read_run(run.folder)], x="images")
    assert {p.name for p in tmp_path.iterdir()} == {"a", "file", "folder.png"}
    assert (tmp_path / "file").read_text() == "old"
