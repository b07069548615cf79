"""What goes wrong in long runs, done to the real recipe: kills, signals, full disks, damaged files, lost workers.

One run suffers one fault after the other, `SUFFERED`, and must end as the run that nothing happened to. Its data are
one file of records. The table of docs/guides/stopping_and_resuming.md names these tests.
"""

import contextlib
import csv
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import trained
from cluster import cluster
from conftest import ROOT

from keras_mixer.data import record_writing
from keras_mixer.training import checkpoints
from keras_mixer.training.metrics import COLUMNS, MetricsFile

STEPS = 72
# Everything random is on. The heavy ball agrees to rounding between devices, which AdamW's division does not.
FLAGS = [f"--total_steps={STEPS}", "--batch_size=16", "--warmup_steps=4", "--checkpoint_steps=4", "--log_steps=3"]
FLAGS += ["--eval_steps=36", "--optimizer=sgd", "--weight_decay=0", "--learning_rate=0.03", "--ema_decay=0.9"]
FLAGS += ["--dropout_rate=0.1", "--stochastic_depth_rate=0.2", "--mixup_alpha=0.2", "--randaugment_magnitude=10"]

# Runs in every process that has its folder on PYTHONPATH: kills the process in its second save, after the bytes are
# written and before they have their name, and has the clock go back by an hour whenever it is read.
SITECUSTOMIZE = """
import os, signal, time

real_fsync, real_time = os.fsync, time.time
saves, reads = [], []

def fsync(descriptor):
    if ".step_" in os.readlink(f"/proc/self/fd/{descriptor}"):
        saves.append(1)
        if len(saves) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
    real_fsync(descriptor)

def backwards():
    reads.append(1)
    return real_time() - 3600 * len(reads)

os.fsync, time.time = fsync, backwards
"""


# ---- A run as a process ----


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with data of 112 + 40 digits in one file per split, and XLA's compiled step, made once."""
    place = tmp_path_factory.mktemp("faults")
    from sklearn.datasets import load_digits

    data = load_digits()
    for i, (image, label) in enumerate(zip(data.images[:152], data.target[:152], strict=True)):
        folder = place / "images" / ("train" if i < 112 else "test") / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.repeat(np.uint8(image * (255 / 16))[:, :, None], 3, axis=2)
        keras.utils.save_img(folder / f"{i}.png", pixels, scale=False)
    record_writing.write_records(place / "images", place / "data", num_shards=1, photographs=False)
    assert len(list((place / "data").glob("train*"))) == 1
    (place / "site").mkdir()
    (place / "site" / "sitecustomize.py").write_text(SITECUSTOMIZE)
    return place


class _Run:
    """`recipes/pretrain.py` in a process of its own."""

    def __init__(self, place, folder, *flags, cached=True, **environment):
        self.folder = folder
        flags = [f"--dataset={place / 'data'}", *FLAGS, *flags, f"--workdir={folder}"]
        if "PYTHONPATH" in environment:  # which a copied process does not read
            command = [sys.executable, "recipes/pretrain.py", *flags]
            pipes = dict(stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            self.process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment}, **pipes)
        else:
            cached = trained.environment(**environment) if cached else os.environ
            self.process = trained.start_recipe("pretrain", *flags, env=cached)

    def wait_for(self, condition):
        deadline = time.monotonic() + 300
        while not condition():
            assert self.process.poll() is None, f"it ended too early, {self.end()}"
            assert time.monotonic() < deadline
            time.sleep(0.002)

    def wait_for_steps(self, count):
        """Wait for a checkpoint `count` steps after the present one."""
        goal = newest(self.folder) + count
        self.wait_for(lambda: newest(self.folder) >= goal)

    def end(self, timeout=300):
        """Return the exit code and the lines of standard error."""
        _, errors = self.process.communicate(timeout=timeout)
        return self.process.returncode, errors.strip().splitlines()


def newest(folder):
    """The step of the newest checkpoint."""
    found = checkpoints.list_states(folder / "checkpoints")
    return int(found[0].stem.removeprefix("step_")) if found else -1


def leftovers(folder):
    return [p.name for p in folder.rglob(".*") if ".tmp" in p.name]


def outcome(folder):
    """Everything that a run computed: final weights, scores, and rows of metrics.csv."""
    weights = keras.saving.load_model(folder / "model.keras").get_weights()
    result = json.loads((folder / "result.json").read_text())
    scores = {k: v for k, v in result.items() if k.split("_")[-1] in ("top1", "top5", "loss")}
    with open(folder / "metrics.csv", newline="") as file:
        rows = [{k: v for k, v in row.items() if k != "images_per_second"} for row in csv.DictReader(file)]
    return weights, scores, rows


def assert_same(ours, theirs):
    """Bit for bit."""
    for a, b in zip(ours[0], theirs[0], strict=True):
        np.testing.assert_array_equal(a, b)
    assert ours[1:] == theirs[1:]
    assert len(ours[2]) == STEPS // 3


def largest_difference(ours, theirs):
    return max(np.abs(a - b).max() for a, b in zip(ours[0], theirs[0], strict=True))


@contextlib.contextmanager
def unwritable(folder):
    """Have nobody, root neither, create or rename a file in `folder`."""
    mode = folder.stat().st_mode
    folder.chmod(0o555)
    if os.geteuid():
        undo = []
    elif not subprocess.run(["chattr", "+i", folder], capture_output=True, check=False).returncode:
        undo = ["chattr", "-i", folder]
    else:
        subprocess.run(["mount", "--bind", folder, folder], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
        undo = ["umount", folder]
    try:
        yield
    finally:
        if undo:
            subprocess.run(undo, check=True)
        folder.chmod(mode)


@pytest.fixture(scope="module")
def straight(place):
    """What the run gives when nothing happens to it."""
    assert _Run(place, place / "straight").end() == (0, [])
    return outcome(place / "straight")


# ---- One run, one fault after the other ----


def second_signal(place, folder):
    run = _Run(place, folder, cached=False)
    run.wait_for(lambda: (folder / "metrics.csv").exists())  # the first step is being compiled
    run.process.send_signal(signal.SIGTERM)
    run.wait_for(run.process.errors_so_far)
    run.process.send_signal(signal.SIGTERM)
    code, errors = run.end(timeout=20)
    return {"code": code, "errors": errors, "newest": newest(folder)}


def second_job_then_kill_9(place, folder):
    run = _Run(place, folder)
    run.wait_for(lambda: _has_lock(folder, run.process.pid))
    run.process.send_signal(signal.SIGSTOP)  # so that it is surely still there when the other one comes
    before = newest(folder)
    code, errors = _Run(place, folder, "--overwrite").end()
    run.process.send_signal(signal.SIGCONT)
    run.wait_for_steps(4)
    assert newest(folder) > before
    time.sleep(random.uniform(0, 0.1))
    run.process.send_signal(signal.SIGKILL)
    return {"code": code, "errors": errors, "killed": run.end()[0], "newest": newest(folder)}


def _has_lock(folder, pid):
    if not (folder / ".lock").exists():
        return False
    inode = (folder / ".lock").stat().st_ino
    with open("/proc/locks") as file:
        return any(f":{inode} " in line and f" {pid} " in line for line in file)


def kill_in_a_save(place, folder):
    path = os.pathsep.join([str(place / "site"), *filter(None, [os.environ.get("PYTHONPATH")])])
    before = newest(folder)
    code, _ = _Run(place, folder, PYTHONPATH=path).end()
    return {"code": code, "before": before, "newest": newest(folder), "leftovers": leftovers(folder)}


def damaged_and_reversed_then_sigterm(place, folder):
    files = checkpoints.list_states(folder / "checkpoints")
    data = bytearray(files[0].read_bytes())
    with np.load(files[0]) as archive:  # a bit of a weight; some of the .zip format's own mean nothing
        largest = max((archive[name] for name in archive.files), key=lambda array: array.nbytes)
    data[data.find(largest.tobytes()) + random.randrange(largest.nbytes)] ^= 1 << random.randrange(8)
    files[0].write_bytes(data)
    for i, path in enumerate(files):  # as if a clock had been put back between the two
        os.utime(path, (1e9 + i, 1e9 + i))
    step = newest(folder)
    run = _Run(place, folder)
    run.wait_for(lambda: newest(folder) > step)
    left = leftovers(folder)
    run.process.send_signal(signal.SIGTERM)
    code, errors = run.end()
    shutil.copytree(folder, place / "snapshot")
    return {"code": code, "errors": errors, "damaged": files[0].name, "newest": newest(folder), "leftovers": left}


def full_disk(place, folder):
    run = _Run(place, folder)
    run.wait_for_steps(4)
    size = checkpoints.list_states(folder / "checkpoints")[0].stat().st_size
    resource.prlimit(run.process.pid, resource.RLIMIT_FSIZE, (size // 2, size // 2))
    code, errors = run.end()
    return {"code": code, "errors": errors, "newest": newest(folder), "leftovers": leftovers(folder)}


def read_only_folder(place, folder):
    run = _Run(place, folder)
    run.wait_for_steps(4)
    with unwritable(folder / "checkpoints"):
        code, errors = run.end()
    return {"code": code, "errors": errors, "newest": newest(folder)}


def folder_for_a_checkpoint_then_sigint(place, folder):
    path = checkpoints.list_states(folder / "checkpoints")[0]
    path.unlink()
    path.mkdir()
    step = newest(folder)
    run = _Run(place, folder)
    run.wait_for(lambda: newest(folder) > step)
    run.process.send_signal(signal.SIGINT)
    code, errors = run.end()
    return {"code": code, "errors": errors, "replaced": path.name, "newest": newest(folder)}


SUFFERED = (
    second_signal,
    second_job_then_kill_9,
    kill_in_a_save,
    damaged_and_reversed_then_sigterm,
    full_disk,
    read_only_folder,
    folder_for_a_checkpoint_then_sigint,
)


@pytest.fixture(scope="module")
def suffered(place, straight):
    """What each fault led to, by name, and "end": exit code and errors of the undisturbed rest."""
    folder = place / "run"
    seen = {fault.__name__: fault(place, folder) for fault in SUFFERED}
    seen["end"] = _Run(place, folder).end()
    return seen


def test_the_run_that_suffered_all_faults_ends_bit_equal(suffered, straight, place):
    assert suffered["end"] == (0, [])
    assert_same(outcome(place / "run"), straight)
    assert not leftovers(place / "run")


def test_a_second_signal_exits_at_once(suffered):
    seen = suffered["second_signal"]
    assert seen["code"] == 143
    assert seen["errors"] == ["SIGTERM: saving after this step; once more exits at once."]
    assert seen["newest"] == 0  # of before the first step; the step it was in is lost, and no more


def test_a_second_job_in_the_same_workdir_is_refused(suffered, place):
    seen = suffered["second_job_then_kill_9"]
    assert seen["code"] == 2
    where = place / "run"
    assert seen["errors"] == [
        f"error: workdir: another process is running in {where}; wait for it or choose another --workdir."
    ]


def test_kill_9_in_a_step(suffered):
    seen = suffered["second_job_then_kill_9"]  # the first job, which had gone on
    assert seen["killed"] == -signal.SIGKILL
    assert 0 < seen["newest"] < STEPS


def test_kill_9_in_a_save_and_a_clock_that_goes_back(suffered):
    seen = suffered["kill_in_a_save"]
    assert seen["code"] == -signal.SIGKILL
    assert seen["newest"] == seen["before"] // 4 * 4 + 4  # the first save, and not the second
    assert [name.split(".")[1] for name in seen["leftovers"]] == [f"step_{seen['newest'] + 4:08d}"]
    assert not suffered["damaged_and_reversed_then_sigterm"]["leftovers"]  # the next run removed it


def test_flipped_bit_in_the_newest_checkpoint_and_reversed_times(suffered):
    seen = suffered["damaged_and_reversed_then_sigterm"]
    warning = rf"WARNING: checkpoint .*{seen['damaged']} cannot be used \(.+\); trying the one before it."
    assert re.fullmatch(warning, seen["errors"][0])


def test_sigterm_saves_once_and_exits_143(suffered):
    seen = suffered["damaged_and_reversed_then_sigterm"]
    assert seen["code"] == 143
    assert seen["errors"][1:] == _stopped("SIGTERM", seen["newest"])


def test_sigint_saves_once_and_exits_130(suffered):
    seen = suffered["folder_for_a_checkpoint_then_sigint"]
    assert seen["code"] == 130
    assert seen["errors"][1:] == _stopped("SIGINT", seen["newest"])


def _stopped(name, step):
    return [
        f"{name}: saving after this step; once more exits at once.",
        f"error: stopped by {name} at step {step}; everything is saved, and the same command continues.",
    ]


def test_folder_in_the_place_of_the_newest_checkpoint(suffered, place):
    seen = suffered["folder_for_a_checkpoint_then_sigint"]
    assert f"{seen['replaced']} cannot be used (Is a directory); trying the one before it." in seen["errors"][0]
    assert (place / "run" / "checkpoints" / f"{seen['replaced']}.moved_0").is_dir()


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("full_disk", "File too large"), ("read_only_folder", "Operation not permitted|Permission denied|Read-only")],
)
def test_save_that_fails_is_one_sentence_and_exit_code_1(suffered, place, fault, reason):
    seen = suffered[fault]
    assert seen["code"] == 1
    before, after = (f"step_{step:08d}.npz" for step in (seen["newest"], seen["newest"] // 4 * 4 + 4))
    [error] = seen["errors"]
    path = re.escape(str(place / "run" / "checkpoints" / after))
    assert re.fullmatch(
        rf"error: workdir: {path} cannot be written \(({reason}).*\); {before} is kept. Make room or mend the folder, "
        "and run the same command again to continue.",
        error,
    )
    assert not seen.get("leftovers")


def test_resuming_on_another_number_of_devices(suffered, place, straight):
    """One device until SIGTERM, then two. Measured: see the message printed with -rP."""
    flags = ("--strategy=mirrored", "--num_devices=2")
    assert _Run(place, place / "snapshot", *flags).end() == (0, [])
    assert json.loads((place / "snapshot" / "result.json").read_text())["resumed_at_step"] > 8
    difference = largest_difference(outcome(place / "snapshot"), straight)
    print(f"largest difference of a weight {difference:.1e}")
    assert 0 < difference < 1e-5


# ---- Refused ----


def test_no_valid_checkpoint_is_an_error_and_never_a_restart(place, straight, tmp_path):
    shutil.copytree(place / "straight", tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()  # a finished run needs no checkpoint
    files = checkpoints.list_states(tmp_path / "run" / "checkpoints")
    assert len(files) == 2
    files[0].write_bytes(b"")
    files[1].write_bytes(files[1].read_bytes()[:-1])
    before = (tmp_path / "run" / "metrics.csv").read_bytes()
    code, errors = _Run(place, tmp_path / "run").end()
    assert code == 2
    assert [line.split(":")[0] for line in errors] == ["WARNING", "WARNING", "error"]
    assert "none of the 2 checkpoints in" in errors[2]
    assert (tmp_path / "run" / "metrics.csv").read_bytes() == before

    shutil.rmtree(tmp_path / "run" / "checkpoints")
    code, errors = _Run(place, tmp_path / "run").end()
    assert code == 2
    assert "has no checkpoint, and metrics.csv says that the run had begun" in errors[0]
    assert (tmp_path / "run" / "metrics.csv").read_bytes() == before


def test_another_model_and_batch_are_refused_with_what_differs(place, straight):
    flags = ("--model=s16", "--image_size=16", "--batch_size=8", "--eval_split=test[:20]")
    code, [error] = _Run(place, place / "straight", *flags).end()
    assert code == 2
    for difference in ("batch_size was 16 and is 8", "model was 'tiny' and is 's16'", "eval_images was 40 and is 20"):
        assert difference in error


def test_accumulation_that_does_not_divide_the_batch(place, tmp_path):
    code, [error] = _Run(place, tmp_path / "run", "--gradient_accumulation_steps=3").end()
    assert code == 2
    assert "gradient_accumulation_steps: the 16 images of a device cannot be divided into 3 equal parts" in error
    assert not (tmp_path / "run").exists()


# ---- Two workers, one file of data ----


def _workers(place, folder, *flags):
    flags = ("--strategy=multi_worker", *flags)
    return [_Run(place, folder, *flags, TF_CONFIG=config) for config in cluster()]


@pytest.fixture(scope="module")
def workers_suffered(place, straight):
    """What a signal to one of two workers and a kill of one led to, and the workdir, finished by two more.

    The first two find a run that is finished, and are told to replace it.
    """
    folder = place / "two_suffered"
    shutil.copytree(place / "straight", folder, ignore=shutil.ignore_patterns("checkpoints"))
    runs = _workers(place, folder, "--overwrite")
    runs[0].wait_for_steps(9)
    runs[1].process.send_signal(signal.SIGTERM)
    seen = {"folder": folder, "stopped": [run.end() for run in runs], "step": newest(folder)}

    runs = _workers(place, folder)
    runs[0].wait_for_steps(8)
    runs[1].process.send_signal(signal.SIGKILL)
    seen["left"] = runs[0].end(timeout=60)
    runs[1].end()

    seen["finished"] = [run.end() for run in _workers(place, folder)]
    return seen


def test_sigterm_to_one_worker_stops_both_after_the_same_step(workers_suffered):
    *notes, last = _stopped("SIGTERM", workers_suffered["step"])
    lines = [*notes, last.replace("continues.", "continues without --overwrite.")]
    assert workers_suffered["stopped"] == [(143, lines[1:]), (143, lines)]


def test_kill_9_of_a_worker_ends_the_other(workers_suffered):
    code, [error] = workers_suffered["left"]
    assert code == 1
    assert re.fullmatch(
        r"error: strategy: another worker has gone after step \d+ \(\w+\); start the same command on every worker "
        "again, and it continues from the newest checkpoint.",
        error,
    )


def test_one_file_and_two_workers_equal_one_device(workers_suffered, straight):
    """Also after both faults. Measured: see the message printed with -rP."""
    assert workers_suffered["finished"] == [(0, [])] * 2
    difference = largest_difference(outcome(workers_suffered["folder"]), straight)
    print(f"largest difference of a weight {difference:.1e}")
    assert 0 < difference < 1e-5


# ---- Checkpoints: every point of a save, every byte of a file ----

# Forked children save one state and are killed at some call, of Python or C, in the save; others save without end and
# are killed after some time. The parent looks at what is left.
SAVER = """
import json, os, pathlib, random, signal, sys, time
import numpy as np
from keras_mixer.training import checkpoints, workdir

run = pathlib.Path(sys.argv[1])
folder, seen = run / "checkpoints", {"before": 0, "after": 0, "leftovers": 0, "calls": 0}

def arrays(step):
    return {f"model/{i:04d}/v": np.full((50, 40), step * 10 + i, np.float32) for i in range(3)}

def check(steps):
    step, found = checkpoints.read_newest(folder, arrays(0))
    assert step in steps, (step, steps)
    assert all((found[name] == value).all() for name, value in arrays(step).items())
    return step

def in_child(work):
    pid = os.fork()
    if not pid:
        work()
        os._exit(0)
    return pid

def count_calls(kill_at):
    calls = 0
    def profile(frame, event, argument):
        nonlocal calls
        calls += 1
        if calls == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
    sys.setprofile(profile)
    checkpoints.save_state(folder, arrays(step + 1), step + 1)
    sys.setprofile(None)
    return calls

with workdir.open_workdir(run, {}):
    for step in (-1, 0, 1, 2):
        calls = seen["calls"] = count_calls(0)  # of a whole save, the last ones with a checkpoint to remove
    step = 3
    for at in sorted({*random.sample(range(1, calls), 60), *range(calls - 120, calls, 3)}):
        _, status = os.waitpid(in_child(lambda: count_calls(at)), 0)
        now = check((step, step + 1))
        seen["before" if now == step else "after"] += os.WIFSIGNALED(status)
        step = now
    for _ in range(20):
        def without_end():
            for more in range(step + 1, 10**6):
                checkpoints.save_state(folder, arrays(more), more)
        pid = in_child(without_end)
        time.sleep(random.uniform(0.001, 0.05))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        step = check(range(step, 10**6))
    seen["leftovers"] = len(list(folder.glob(".*.tmp")))
with workdir.open_workdir(run, {}):
    seen["left"] = [p.name for p in folder.iterdir() if p.name.endswith(".tmp")]
    seen["kept"] = len(list(folder.iterdir()))
print(json.dumps(seen))
"""


def test_kill_9_at_any_call_of_a_save_leaves_a_whole_newest_checkpoint(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", SAVER, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    assert result.returncode == 0, result.stderr
    seen = json.loads(result.stdout)
    print(seen)
    assert min(seen["before"], seen["after"], seen["leftovers"]) > 0  # kills hit both sides of the renaming
    assert seen["left"] == []
    assert seen["kept"] <= checkpoints.KEEP + 1  # one may have been killed before it removed the third


@pytest.fixture
def two_states(tmp_path):
    """A folder of checkpoints of steps 4 and 8, and the arrays of each step."""
    rng = np.random.default_rng(0)
    states = {s: {"model/0000/a": rng.normal(size=(3, 5)), "log/b": np.array([np.nan, s])} for s in (4, 8)}
    for step, arrays in states.items():
        checkpoints.save_state(tmp_path, arrays, step)
    return tmp_path, states


def _assert_one_of(states, found):
    step, arrays = found
    for name, value in states[step].items():
        np.testing.assert_array_equal(arrays[name], value)
    return step


def test_no_flipped_bit_is_ever_used(two_states):
    folder, states = two_states
    path = checkpoints.list_states(folder)[0]
    whole, used = path.read_bytes(), []
    for place in range(len(whole)):
        data = bytearray(whole)
        data[place] ^= 1 << place % 8
        path.write_bytes(data)
        used.append(_assert_one_of(states, checkpoints.read_newest(folder, states[8])))
    # The rest are bits without meaning, such as a time in a header; the content is whole.
    assert used.count(4) > len(whole) / 2


def test_no_truncated_file_is_ever_used(two_states):
    folder, states = two_states
    path = checkpoints.list_states(folder)[0]
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert _assert_one_of(states, checkpoints.read_newest(folder, states[8])) == 4


def test_a_damaged_later_checkpoint_never_costs_a_good_one(two_states):
    folder, states = two_states
    checkpoints.list_states(folder)[0].write_bytes(b"")
    for step in (5, 6):  # after the damaged one of step 8 was passed over
        checkpoints.save_state(folder, states[4], step, keep=1)
        assert checkpoints.read_newest(folder, states[4])[0] == step
    assert [path.name for path in checkpoints.list_states(folder)] == ["step_00000008.npz", "step_00000006.npz"]


def test_rows_that_a_full_disk_cut_off_are_dropped(tmp_path):
    path = tmp_path / "metrics.csv"
    for cut in ("1", "12", "12,", "12,0.5,0"):
        path.write_text(f"step,learning_rate,train_loss\n8,0.5,0.1\n{cut}")
        MetricsFile(path, 8).close()
        assert path.read_text().split() == [",".join(COLUMNS), "8,0.5,0.1,,,,,,,,,,"]


# ---- Long ----


@pytest.mark.slow
def test_kill_9_again_and_again(place, tmp_path):
    """AdamW, killed at random moments, in compilation too, until it finishes."""
    flags = ("--optimizer=adamw", "--weight_decay=0.1", "--learning_rate=1e-3")
    assert _Run(place, tmp_path / "straight", *flags).end() == (0, [])
    kills = 0
    while not (tmp_path / "run" / "result.json").exists():
        run = _Run(place, tmp_path / "run", *flags)
        if kills < 8:
            run.wait_for(lambda: (tmp_path / "run" / "run.json").exists())
            with contextlib.suppress(subprocess.TimeoutExpired):
                run.process.wait(random.uniform(6, 14))
            run.process.send_signal(signal.SIGKILL)
            kills += 1
        run.end()
    assert_same(outcome(tmp_path / "run"), outcome(tmp_path / "straight"))


@pytest.mark.slow
def test_two_workers_that_suffered_equal_two_that_did_not(place, workers_suffered):
    assert [run.end() for run in _workers(place, place / "two")] == [(0, [])] * 2
    assert_same(outcome(workers_suffered["folder"]), outcome(place / "two"))


@pytest.mark.slow
def test_a_file_system_without_room(place, straight, tmp_path):
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2600k", "tmpfs", tmp_path], check=False).returncode:
        pytest.skip("may not mount a small file system here")
    try:
        code, [error] = _Run(place, tmp_path / "run").end()
        assert code == 1
        assert "cannot be written (No space left on device)" in error
        kept = newest(tmp_path / "run")
        code, [error] = _Run(place, tmp_path / "run").end()  # still no room
        assert (code, newest(tmp_path / "run")) == (1, kept)
        subprocess.run(["mount", "-o", "remount,size=20m", tmp_path], check=True)
        assert _Run(place, tmp_path / "run").end() == (0, [])
        assert_same(outcome(tmp_path / "run"), straight)
    finally:
        subprocess.run(["umount", tmp_path], check=True)
