"""Runs, records and exports in a bucket, by TensorFlow's own client against a server of its protocol on loopback."""

import json

import bucket_server
import pytest
from trained import environment, run_recipe

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


def test_a_run_in_a_bucket_is_the_run_on_disk(buckets, run, tmp_path):
    run("make_records", "--output=gs://data/records", "--num_shards=3")
    names = sorted(buckets.objects["data"])
    assert "records/manifest.json" in names
    assert len([name for name in names if name.endswith(".tfrecord")]) == 6
    run("make_records", f"--output={tmp_path / 'records'}", "--num_shards=3")
    for name in names:
        if name.startswith("records/") and name != "records/":
            assert buckets.objects["data"][name] == (tmp_path / name).read_bytes(), name

    for place in ("gs://data", tmp_path):
        run("pretrain", f"--dataset={place}/records", f"--workdir={place}/run", *QUICK)
    files = {name.removeprefix("run/"): content for name, content in buckets.objects["data"].items()}
    there, here = json.loads(files["result.json"]), json.loads((tmp_path / "run" / "result.json").read_text())
    for key in ("top1", "top5", "loss", "steps"):
        assert there[key] == here[key]
    assert not any(name.endswith((".tmp", ".lock")) for name in files)
    assert any(name.startswith("tensorboard/events") for name in files)
    print(run("evaluate", "--weights=gs://data/run", "--workdir=gs://data/evaluation").stdout)
    assert json.loads(buckets.objects["data"]["evaluation/result.json"])["top1"] == here["top1"]
