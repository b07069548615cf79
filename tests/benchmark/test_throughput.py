"""Measuring processes, with real ones that are cheap to start; tables and ratios; start-up."""

import json
import os
import subprocess
import sys
import time

import pytest
from conftest import ROOT

from keras_mixer.benchmark import speed_report, start_up, throughput

# The package is entered without its __init__, as the recipe does, so that a process starts in a fraction of a second.
CHILD = """
import importlib.util, sys, time
sys.modules["keras_mixer"] = importlib.util.module_from_spec(importlib.util.find_spec("keras_mixer"))
from keras_mixer.benchmark import memory, throughput
calls = []
def prepare():
    print("this is noise")
    {prepare}
    return throughput.Prepared(run, dict(gflop_per_image=2.0), memory.peak_mib)
def run(n):
    {run}
throughput.serve(prepare)
"""


def _child(name="c", prepare="pass", run="time.sleep(0.001 * n)"):
    command = [sys.executable, "-c", CHILD.format(prepare=prepare, run=run)]
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return throughput.Child(name, command, {"PYTHONPATH": os.pathsep.join(paths)})


def test_a_process_measures_as_long_as_it_is_asked():
    with _child() as child:
        assert child.facts["gflop_per_image"] == 2.0
        (answers,) = throughput.interleave([child], rounds=2, seconds=0.02)
    assert len(answers) == 2
    for answer in answers:
        assert answer["calls"] > 1
        assert answer["seconds_per_call"] >= 0.001
        assert answer["peak_mib"] > 5


def test_only_one_measures_at_a_time(tmp_path):
    path = str(tmp_path / "log")
    run = f"open({path!r}, 'a').write(f'+{{sys.argv}}'); time.sleep(0.01); open({path!r}, 'a').write('-')"
    with _child("a", run=run) as a, _child("b", run=run) as b:
        throughput.interleave([a, b], rounds=3, seconds=0.01)
    log = (tmp_path / "log").read_text()
    assert "+" not in log.replace("+['-c']-", "")
    assert log.count("-['") == 0


def test_memory_is_that_of_the_process_alone():
    """100 MiB in this process are not in the child's peak; the same in the child are."""
    ballast = bytearray(100 * 2**20)
    with _child() as small, _child(prepare="global ballast; ballast = bytearray(b'x') * (100 * 2**20)") as large:
        difference = large.facts["peak_mib"] - small.facts["peak_mib"]
    assert 95 < difference < 105
    assert small.facts["peak_mib"] < 90
    del ballast


@pytest.mark.parametrize(
    ("kind", "prepare", "message"),
    [
        (ValueError, "raise ValueError('model: wrong.')", "^model: wrong.$"),
        (throughput.ChildFailed, "raise MemoryError()", "^c: out of memory.$"),
        (throughput.ChildFailed, "raise KeyError('x')", "^c: KeyError: 'x'$"),
        (throughput.ChildFailed, "import os; os.write(2, b'last words'); os._exit(7)", "exit code 7: last words$"),
        (throughput.ChildFailed, "import os; os.kill(os.getpid(), 9)", "killed, probably out of memory"),
    ],
)
def test_a_process_that_fails_says_why_in_one_sentence(kind, prepare, message):
    with pytest.raises(kind, match=message):
        _child(prepare=prepare)


def test_one_that_dies_later_leaves_the_others_their_answers():
    run = "os._exit(3) if n > 1 else time.sleep(0.001)"
    with _child("dies", prepare="global os; import os", run=run) as dies, _child("lives") as lives:
        failed, answers = throughput.interleave([dies, lives], rounds=2, seconds=0.02)
    assert isinstance(failed, throughput.ChildFailed)
    assert len(answers) == 2


def test_one_that_is_killed_while_it_waits_leaves_the_others_their_answers():
    with _child("dies") as dies, _child("lives") as lives:
        dies._process.kill()
        dies._process.wait()
        failed, answers = throughput.interleave([dies, lives], rounds=2, seconds=0.02)
    assert str(failed) == "dies: killed, probably out of memory."
    assert len(answers) == 2


def test_a_process_ends_when_nobody_asks_any_more():
    child = _child()
    child._process.stdin.close()
    assert child._process.wait(timeout=10) == 0
    child.close()


@pytest.mark.skipif(not os.path.exists("/proc/stat"), reason="this system does not say what is busy")
def test_a_busy_core_is_seen():
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        time.sleep(0.2)
        busy = throughput.busy_cores(0.5)
        process.kill()
    assert 0.2 < busy <= os.cpu_count()


@pytest.mark.parametrize(("seconds", "rounds"), [(0, 1), (-1, 1), (float("nan"), 1), (float("inf"), 1), (1, 0)])
def test_no_time_is_refused(seconds, rounds):
    with pytest.raises(ValueError, match="seconds: a measurement must take some time"):
        throughput.interleave([], rounds, seconds)


def _row(name="keras_mixer graph", mode="inference", batch=8, seconds=(0.1, 0.2, 0.4), peak=100.0, precision="float32"):
    child = type("Facts", (), {})()
    child.name = name
    child.facts = {"gflop_per_image": 2.0, "compile_seconds": 1.0, "precision": precision}
    return throughput.row(child, [{"seconds_per_call": s, "peak_mib": 10.0} for s in seconds], mode, batch, peak)


def test_a_row_has_the_median_and_a_training_step_costs_three_forward_passes():
    row = _row()
    assert (row["images_per_second"], row["range"]) == (40.0, [20.0, 80.0])
    assert (row["gflop_per_image"], row["gflops"], row["share_of_peak"]) == (2.0, 80.0, 0.8)
    row = _row(mode="training")
    assert (row["gflop_per_image"], row["gflops"], row["share_of_peak"]) == (6.0, 240.0, 2.4)


def test_ratios_are_of_the_best_batch_sizes_in_one_dtype_beside_the_papers():
    rows = [
        _row(seconds=(1,), batch=8),
        _row(seconds=(1,), batch=16),
        _row("vit", seconds=(1,), batch=4),
        _row("vit_bf16", seconds=(1,), batch=40, precision="bfloat16"),
        {"name": "resnet", "mode": "inference", "batch_size": 8, "error": "resnet: out of memory."},
    ]
    table = speed_report.ratio_table(rows, "b16", 224)
    assert table.splitlines()[2:] == ["| keras_mixer graph | 16 | vit | 4 | 4.00 | 1.61 |"]
    assert speed_report.ratio_table(rows, "b16", 448).endswith("| 4.00 |  |\n")
    assert speed_report.ratio_table(rows[:2], "b16", 224) == ""
    assert "| resnet | resnet: out of memory. |" in speed_report.table(rows)
    papers = {
        m: speed_report.ratio_table(rows[:3], m, 224).split("|")[-2].strip() for m in ("b16", "l16", "h14", "tiny")
    }
    assert papers == {"b16": "1.61", "l16": "1.50", "h14": "2.23", "tiny": ""}
    resnet = speed_report.ratio_table([rows[0], _row("resnet", seconds=(1,), batch=4)], "s32", 224)
    assert resnet.endswith("| 5.32 |\n")


def test_slopes_leave_out_what_took_no_memory():
    point = lambda value, ms, mib: dict(
        axis="pixels", name="m", value=value, ms_per_batch=ms, working_mib=mib, gflop_per_batch=value
    )
    rows = [point(1, 1, 0), point(2, 4, 3), point(4, 16, 6), {"axis": "pixels", "name": "m", "error": "m: no."}]
    values = speed_report.slopes(rows)["pixels", "m"]
    assert list(values.values()) == pytest.approx([2.0, 1.0, 1.0])
    assert speed_report.slopes(rows[:1])["pixels", "m"]["ms_per_batch"] is None


def test_start_up_measures_the_code_and_not_what_precedes_it():
    ballast = "x = bytearray(b'x') * (60 * 2**20)"
    rows = start_up.measure({"free": (ballast, "pass"), "heavy": ("import time", f"{ballast}; time.sleep(0.2)")}, 2)
    free, heavy = rows
    assert free["seconds"] < 0.2 <= heavy["seconds"]
    assert free["added_mib"] < 10 < 55 < heavy["added_mib"] < 70
    assert [len(row["rounds"]) for row in rows] == [2, 2]
    assert start_up.table(rows).count("\n") == 4


def test_start_up_reports_the_last_line_of_what_fails():
    with pytest.raises(ValueError, match=r"^start_up: 'import nothing_like_it' failed: ModuleNotFoundError"):
        start_up.run_once("", "import nothing_like_it")


def test_a_report_is_whole_or_not_there(tmp_path):
    class Breaks:
        def savefig(self, *_, **__):
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match=r"^output: cannot write into .* \(No space left on device\)"):
        speed_report.write(tmp_path, "speed", {"rows": []}, "text", Breaks())
    assert json.loads((tmp_path / "speed.json").read_text()) == {"rows": []}
    assert {path.name for path in tmp_path.iterdir()} == {"speed.json", "speed.md"}


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot bind a process to a core")
def test_one_core_is_one_core():
    with _child(prepare="throughput.use_one_core(); assert throughput.cpu_name().endswith(', 1 core')") as child:
        assert child.facts["gflop_per_image"] == 2.0
