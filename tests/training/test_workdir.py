"""The run's folder: settings, lock, atomic files, the metrics file."""

import json

import pytest

from keras_mixer.training import workdir
from keras_mixer.training.metrics import COLUMNS, MetricsFile

SETTINGS = {"model": "tiny", "batch_size": 64}


def test_settings_and_details_are_written_and_the_same_run_may_continue(tmp_path):
    for _ in range(2):
        with workdir.open_workdir(tmp_path / "a" / "b", SETTINGS, {"versions": {"x": "1"}}) as folder:
            assert json.loads((folder / "run.json").read_text()) == {"settings": SETTINGS, "versions": {"x": "1"}}


def test_other_settings_are_refused_and_named(tmp_path):
    with workdir.open_workdir(tmp_path, SETTINGS):
        pass
    message = "batch_size was 64 and is 32, seed was None and is 1.*choose another --workdir, or --overwrite"
    with (
        pytest.raises(ValueError, match=message),
        workdir.open_workdir(tmp_path, {"model": "tiny", "batch_size": 32, "seed": 1}),
    ):
        pass
    assert json.loads((tmp_path / "run.json").read_text())["settings"] == SETTINGS


def test_overwrite_removes_a_runs_files_and_no_other(tmp_path):
    with workdir.open_workdir(tmp_path, SETTINGS):
        (tmp_path / "checkpoints").mkdir()
        (tmp_path / "checkpoints" / "step_1.npz").write_text("old")
        for name in ("metrics.csv", "report.html", "report.json"):
            (tmp_path / name).write_text("old")
    (tmp_path / "mine.txt").write_text("kept")
    (tmp_path / "checkpoints" / "mine.bin").write_text("kept")
    with workdir.open_workdir(tmp_path, {"model": "b16"}, overwrite=True):
        assert (tmp_path / "mine.txt").read_text() == "kept"
        assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["mine.bin"]
        for name in ("metrics.csv", "report.html", "report.json"):
            assert not (tmp_path / name).exists()


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["model.keras", "checkpoints", "run.json"])
def test_a_strangers_folder_is_left_alone(tmp_path, name, overwrite):
    if name == "checkpoints":
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).write_text('{"mine": 1}')
    with (
        pytest.raises(ValueError, match=f"{name} is not of a run of this package; choose another --workdir"),
        workdir.open_workdir(tmp_path, SETTINGS, overwrite=overwrite),
    ):
        pass
    assert (tmp_path / name).exists()


def test_an_empty_name_is_refused():
    with pytest.raises(ValueError, match="workdir: must name a folder"), workdir.open_workdir("", SETTINGS):
        pass


def test_two_processes_do_not_share_a_folder(tmp_path):
    with (
        workdir.open_workdir(tmp_path, SETTINGS),
        pytest.raises(ValueError, match="another process is running in"),
        workdir.open_workdir(tmp_path, SETTINGS),
    ):
        pass


def test_a_file_in_the_way_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(OSError, match="cannot write to .*choose another --workdir"),
        workdir.open_workdir(tmp_path / "file", SETTINGS),
    ):
        pass


@pytest.mark.parametrize("text", ["{", '{"settings": null}', '{"settings": ["model"]}', "[]"])
def test_damaged_run_json_is_refused(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(ValueError, match="is not of a run"), workdir.open_workdir(tmp_path, SETTINGS):
        pass


def test_metrics_after_the_restored_step_are_dropped(tmp_path):
    path = tmp_path / "metrics.csv"
    metrics = MetricsFile(path, 0)
    for step in (10, 20, 30):
        metrics.write({"step": step, "train_loss": step / 10})
    metrics.close()
    MetricsFile(path, 20).close()
    assert path.read_text().split() == [",".join(COLUMNS), "10,,1.0" + ",,,,,,,,,,", "20,,2.0" + ",,,,,,,,,,"]
    MetricsFile(path, 0).close()
    assert path.read_text().split() == [",".join(COLUMNS)]
