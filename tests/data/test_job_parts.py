"""Jobs in parts, without an engine: what is kept after an end, whose it is, and records that are the same bytes."""

import sys

import numpy as np
import pytest
import tensorflow as tf

from keras_mixer.cli.settings import Elsewhere
from keras_mixer.data import checking, job_parts, record_parts, record_writing, records
from keras_mixer.data.shrinking import Shrinking
from keras_mixer.errors import InputError

NAMES = ["a", "b", "c"]


def do(output, work, of="x", images=("1.png",)):
    with job_parts.open_job(output, of, [(name, list(images)) for name in NAMES]) as job:
        return job_parts.do_parts(job, NAMES, lambda: lambda name: work(job, name), None, "done:")


def folders(place):
    return sorted(path.name for path in place.iterdir())


def test_a_part_that_is_done_is_not_done_again(tmp_path):
    called = []

    def work(job, name):
        called.append(name)
        if name == "b" and called.count("b") == 1:
            raise MemoryError  # a bug, or a kill
        return {"images": job.images(name)}

    with pytest.raises(MemoryError):
        do(tmp_path / "out", work)
    assert folders(tmp_path) == [".out.parts.tmp"]
    assert do(tmp_path / "out", work) == [{"images": ["1.png"]}] * 3
    assert called == ["a", "b", "b", "c"]
    assert folders(tmp_path) == []


def test_bad_input_ends_the_job_and_what_cannot_be_written_costs_its_part(tmp_path):
    called = []

    def bad(job, name):
        called.append(name)
        if name == "b":
            raise ValueError("b: is bad.")
        return {}

    def full(job, name):
        called.append(name)
        if name == "b":
            raise OSError(28, "No space left on device")
        return {}

    with pytest.raises(ValueError, match=r"^b: is bad\.$"):
        do(tmp_path / "out", bad)
    assert called == ["a", "b"]
    with pytest.raises(OSError, match="1 of 3 parts could not be written .No space left on device.; mend that"):
        do(tmp_path / "out", full)
    assert called == ["a", "b", "b", "c"]
    assert do(tmp_path / "out", lambda job, name: {}) == [{}] * 3


@pytest.mark.parametrize("other", [{"of": "y"}, {"images": ("2.png",)}])
def test_another_jobs_parts_are_refused_and_kept(tmp_path, other):
    def work(job, name):
        raise ValueError("bad")

    for kwargs, message in (
        ({}, "bad"),
        (other, "keeps the finished parts of another job for .*/out, of other"),
    ):
        with pytest.raises(ValueError, match=message):
            do(tmp_path / "out", work, **kwargs)
    assert do(tmp_path / "out", lambda job, name: {}) == [{}] * 3


def test_two_processes_do_not_do_one_job(tmp_path):
    lists = [("a", [])]
    with (
        job_parts.open_job(tmp_path / "out", "x", lists),
        pytest.raises(ValueError, match="output: another process writes .*/out; wait for it"),
        job_parts.open_job(tmp_path / "out", "x", lists),
    ):
        pass


def test_parts_that_are_not_seen_are_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(job_parts.Job, "do", lambda self, name, work: None)  # as on another machine's disk
    with pytest.raises(OSError, match="3 of 3 parts could not be written .none is in .*which every process must see"):
        do(tmp_path / "out", lambda job, name: {})


def test_a_whole_bucket_is_no_output():
    with pytest.raises(
        ValueError, match="output: gs://data is a whole bucket; give a folder in it, such as gs://data/"
    ):
        job_parts.folder_of(job_parts.buckets.path_of("gs://data"))


def test_records_by_parts_are_those_of_write_records(tmp_path):
    for name in ("ant", "bee"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(12):
            encoded = tf.io.encode_png(np.full((9, 9, 3), i, np.uint8)).numpy()
            (tmp_path / "images" / name / f"{i:02d}.png").write_bytes(encoded if i != 5 else b"no image")

    def by_parts(policy):
        planned = dict(
            splits=None,
            divided=(3, None),
            seed=2,
            reading=checking.Reading(*policy, Shrinking(6, 80)),
            overwrite=False,
        )
        plan = record_writing.plan_records(tmp_path / "images", tmp_path / "parts", **planned)
        return record_parts.write_records(plan, seed=2, photographs=False)

    with pytest.raises(ValueError, match=r"05.png: image cannot be decoded .* leave it out with --on_bad_image=skip"):
        by_parts(("stop", 0.0))
    with pytest.raises(ValueError, match="2 or more of the 2. images of split train .*above --max_bad_fraction=0.05"):
        by_parts(("skip", 0.05))  # each shard alone is below
    kwargs = dict(on_bad_image="skip", max_bad_fraction=0.5, num_shards=3, seed=2, photographs=False)
    kwargs |= dict(max_side=6, quality=80)  # of 9
    whole = record_writing.write_records(tmp_path / "images", tmp_path / "whole", **kwargs)
    assert by_parts(("skip", 0.5)) == whole == records.verify_records(tmp_path / "parts")
    for path in (tmp_path / "whole").iterdir():
        assert path.read_bytes() == (tmp_path / "parts" / path.name).read_bytes()
    assert folders(tmp_path) == ["images", "parts", "whole"]


# ---- Engines


@pytest.mark.parametrize(
    ("runner", "options", "message"),
    [
        ("DirectRuner", "", "runner: Apache Beam has no runner 'DirectRuner'; use DirectRunner, FlinkRunner,"),
        (None, "--a=b", "beam_options: are for --runner; give --runner, such as DirectRunner."),
        ("DirectRunner", "--direct_num_worker=2", "Beam has no option --direct_num_worker; see Beam's options of"),
        ("DirectRunner", "--direct_num_workers=two", "invalid int value: 'two'); see Beam's options of that runner."),
        ("DirectRunner", "'", 'beam_options: "\'" is no command line (No closing quotation); mend its quotes.'),
        ("DirectRunner", "2", "beam_options: must be options such as --direct_num_workers=2, got '2'; write each"),
    ],
)
def test_what_beam_does_not_know_is_one_sentence(capfd, runner, options, message):
    with pytest.raises(InputError) as error:
        Elsewhere(runner=runner, beam_options=options).engine()
    assert message in error.value.on_command_line()
    assert capfd.readouterr().err == ""


def test_without_beam_the_extra_is_named(monkeypatch):
    monkeypatch.delitem(sys.modules, "keras_mixer.data.beam_engine", raising=False)
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with pytest.raises(ValueError, match=r"needs the package apache-beam; install it with pip install 'keras_mixer"):
        Elsewhere(runner="DirectRunner").engine()
    assert Elsewhere().engine() is None
