"""Runs, records and exports in a bucket, by TensorFlow's own client against a server of its protocol on loopback."""

import io
import json
import signal
import time

import bucket_server
import numpy as np
import pytest
from PIL import Image
from trained import environment, run_recipe, start_recipe

from keras_mixer import buckets as places

QUICK = ("--total_steps=12", "--batch_size=32", "--warmup_steps=2", "--checkpoint_steps=4", "--log_steps=2")


@pytest.fixture(scope="module")
def buckets(tmp_path_factory):
    with bucket_server.serve(tmp_path_factory.mktemp("server")) as served:
        served.create("data")
        yield served


@pytest.fixture(scope="module")
def run(buckets, tmp_path_factory):
    """Call a recipe that finds the server, with a home of its own."""
    env = environment(**buckets.environment, HOME=str(tmp_path_factory.mktemp("home")))
    return lambda *arguments, **kwargs: run_recipe(*arguments, env=env, **kwargs)


@pytest.fixture(scope="module")
def trained(run):
    """A run in the bucket, on records there."""
    run("make_records", "--output=gs://data/records", "--num_shards=3")
    run("pretrain", "--dataset=gs://data/records", "--workdir=gs://data/run", *QUICK)
    return "gs://data/run"


def test_a_run_in_a_bucket_is_the_run_on_disk(buckets, run, trained, tmp_path):
    names = sorted(name for name in buckets.objects["data"] if name.startswith("records/"))
    assert "records/manifest.json" in names
    assert len([name for name in names if name.endswith(".tfrecord")]) == 6
    run("make_records", f"--output={tmp_path / 'records'}", "--num_shards=3")
    for name in names:
        if name != "records/":
            assert buckets.objects["data"][name] == (tmp_path / name).read_bytes(), name

    run("pretrain", f"--dataset={tmp_path}/records", f"--workdir={tmp_path}/run", *QUICK)
    files = {
        name.removeprefix("run/"): content
        for name, content in buckets.objects["data"].items()
        if name.startswith("run/")
    }
    there, here = json.loads(files["result.json"]), json.loads((tmp_path / "run" / "result.json").read_text())
    for key in ("top1", "top5", "loss", "steps"):
        assert there[key] == here[key]
    assert not any(name.endswith((".tmp", ".lock")) for name in files)
    assert any(name.startswith("tensorboard/events") for name in files)
    assert {"report.html", "report.json", "metrics.csv"} <= files.keys()
    run("evaluate", f"--weights={trained}", "--workdir=gs://data/evaluation")
    assert "evaluation/report.html" in buckets.objects["data"]
    assert json.loads(buckets.objects["data"]["evaluation/result.json"])["top1"] == here["top1"]


def test_killed_at_any_moment_a_run_in_a_bucket_goes_on_bit_for_bit(buckets, run, tmp_path):
    env = environment(**buckets.environment, HOME=str(tmp_path))
    flags = ("--workdir=gs://data/killed", *QUICK, "--total_steps=3000", "--checkpoint_steps=5")
    process = start_recipe("pretrain", *flags, env=env)
    while "killed/checkpoints/step_00000010.npz" not in buckets.objects["data"]:
        assert process.poll() is None, process.errors_so_far()
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert "killed/.lock" in buckets.objects["data"]
    # The claim of the dead is taken over once it has been silent for long enough.
    began = time.monotonic()
    last = max(name for name in buckets.objects["data"] if name.startswith("killed/checkpoints/step_"))
    step = int(last[-12:-4])
    process = start_recipe("pretrain", *flags, env=env)
    newer = f"killed/checkpoints/step_{step + 5:08}.npz"
    while (resumed := buckets.objects["data"].get(newer)) is None:  # it is removed when there are newer ones
        assert process.poll() is None, process.errors_so_far()
        time.sleep(0.01)
    assert time.monotonic() - began > 30
    waited, refused = run("pretrain", *flags, check=False).stderr.splitlines()
    assert waited == "INFO: gs://data/killed/.lock is claimed; waiting up to 35 s for a sign of life of its holder."
    assert refused == (
        "error: workdir: another process is running in gs://data/killed; wait for it or choose another --workdir."
    )
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 143
    assert "killed/.lock" not in buckets.objects["data"]

    here = tmp_path / "here" / "checkpoints" / f"step_{step + 5:08}.npz"
    process = start_recipe("pretrain", f"--workdir={tmp_path / 'here'}", *flags[1:], env=env)
    while not here.exists():
        assert process.poll() is None, process.errors_so_far()
        time.sleep(0.002)
    straight = here.read_bytes()
    process.send_signal(signal.SIGTERM)
    process.wait()
    with np.load(io.BytesIO(resumed)) as ours, np.load(io.BytesIO(straight)) as theirs:
        assert ours.files == theirs.files
        assert all(np.array_equal(ours[name], theirs[name]) for name in ours.files)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("gs://nothing/run", "error: workdir: cannot write to gs://nothing/run ("),
        ("gs://sealed/run", "error: workdir: cannot write to gs://sealed/run ("),
        ("s3://data/run", "error: workdir: 's3://data/run' is neither a local path nor one of a bucket; write gs://"),
    ],
)
def test_a_place_that_cannot_be_written_is_one_sentence(buckets, run, place, message):
    buckets.create("sealed")
    buckets.read_only.add("sealed")
    process = run("pretrain", f"--workdir={place}", *QUICK, check=False)
    assert (process.returncode, len(process.stderr.splitlines())) == (2, 1), process.stderr
    assert process.stderr.startswith(message)
    assert not buckets.objects["sealed"]


def test_records_that_may_not_be_read_are_one_sentence(buckets, run):
    buckets.fault("GET .*secret", 403, count=1000)
    process = run("pretrain", "--dataset=gs://data/secret", "--workdir=gs://data/other", *QUICK, check=False)
    assert (process.returncode, process.stderr.splitlines()) == (
        2,
        [
            "error: dataset: gs://data/secret cannot be read (HTTP response code 403); the account that this machine "
            "runs as needs the right to read the bucket."
        ],
    )


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (("predict", "--weights=gs://data/absent"), "error: weights: gs://data/absent cannot be read (HTTP response"),
        (("make_records", "--output=gs://data/new"), "error: output: cannot write gs://data/new (HTTP response"),
    ],
)
def test_missing_credentials_are_one_sentence(buckets, run, command, told):
    buckets.fault(".", 401, count=10**6)
    try:
        refused = run(*command, check=False)
    finally:
        buckets.faults.clear()
    assert refused.returncode == 2
    (line,) = refused.stderr.strip().splitlines()
    assert line.startswith(told)
    assert "code 401, without valid credentials" in line


def test_what_the_network_does_is_outlived(buckets, run, trained):
    """Errors that pass, dropped connections and late answers cost time, and nothing else."""
    for pattern, status in (("POST", 503), ("PUT", 429), ("GET /data/run/check", 500), ("GET .*run.json", "drop")):
        buckets.fault(pattern, status, count=2)
    buckets.fault("PUT", "wait 2")
    process = run("pretrain", "--dataset=gs://data/records", "--workdir=gs://data/through", *QUICK)
    assert not process.stderr or "error" not in process.stderr
    objects = buckets.objects["data"]
    through, straight = (json.loads(objects[f"{name}/result.json"]) for name in ("through", "run"))
    assert (through["top1"], through["loss"]) == (straight["top1"], straight["loss"])
    assert not any(fault.count for fault in buckets.faults if fault.pattern in ("POST", "PUT"))


def test_an_export_and_images_in_a_bucket(buckets, run, trained, tmp_path):
    picture = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)).save(picture)
    for name in ("photos/a.png", "photos/deep/b.png", "photos/notes.txt"):
        buckets.put("data", name, picture.read_bytes())
    run("export", "--weights=gs://data/run", "--output=gs://data/served", "--formats=saved_model,onnx")
    served = [name for name in buckets.objects["data"] if name.startswith("served/")]
    assert {"served/1/saved_model.pb", "served/1/export.json", "served/model.onnx"} <= set(served)
    asked = [r for r in buckets.asked if r.startswith("POST") and "served/1/" in r and not r.endswith("/")]
    assert asked[-1].endswith("name=served/1/saved_model.pb")
    assert run("export", "--weights=gs://data/run", "--output=gs://data/served", check=False).returncode == 2

    found = [
        run("predict", f"--weights=gs://data/{weights}", "--json", *places).stdout.splitlines()
        for weights, places in (("run", ["gs://data/photos"]), ("served", ["gs://data/photos/*.png", str(picture)]))
    ]
    assert [json.loads(line)["image"] for line in found[0]] == ["gs://data/photos/a.png", "gs://data/photos/deep/b.png"]
    assert [json.loads(line)["image"] for line in found[1]] == ["gs://data/photos/a.png", str(picture)]
    names = {tuple(p["name"] for p in json.loads(line)["predictions"]) for lines in found for line in lines}
    assert len(names) == 1
    assert "nothing is called 'gs://data/none'" in run("predict", "gs://data/none", check=False).stderr


def test_a_claim_is_kept_given_back_and_taken_over(tmp_path, monkeypatch, caplog):
    """Any place that reads and writes will do."""
    monkeypatch.setattr(places, "BEAT", 0.05)
    monkeypatch.setattr(places, "STALE", 0.5)
    path = tmp_path / "claim"
    with places.claim(path, "busy"), pytest.raises(ValueError, match="^busy$"):
        places.claim(path, "busy")
    assert not path.exists()

    path.write_text("of one that was killed")
    with places.claim(path, "busy"):
        path.write_text("of one that came while this process stood still")
        end = time.monotonic() + 60  # on a busy machine; else a twentieth of a second
        while "is another process's now" not in caplog.text:
            assert time.monotonic() < end
            time.sleep(0.01)
    assert path.read_text() == "of one that came while this process stood still"


def test_records_through_beam_are_the_same_objects(buckets, run, trained):
    beam = ("--runner=DirectRunner", "--beam_options=--direct_num_workers=2")
    run("make_records", "--output=gs://data/beam", "--num_shards=3", *beam)
    objects = buckets.objects["data"]
    names = [name.removeprefix("records/") for name in objects if name.startswith("records/") and name != "records/"]
    assert len(names) >= 7
    assert {name: objects[f"beam/{name}"] for name in names} == {name: objects[f"records/{name}"] for name in names}
    assert not [name for name in objects if name.startswith(".")]
