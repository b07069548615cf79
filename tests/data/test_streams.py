"""Records in streams: the same batches for any number of machines, from any step on, and only their files are read."""

import collections
import itertools
import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_mixer.data import opening, record_layout, record_upgrade, record_writing, records
from keras_mixer.data.source import Rows
from keras_mixer.data.streams import select_blocks, sizes_before, stream_records


def write_numbers(folder, sizes, num_streams):
    """Write shards of records "0", "1", ... of the given sizes; return what the manifest would say of them."""
    number, shards = 0, []
    for i, size in enumerate(sizes):
        path, blocks, offset = folder / f"{i:02d}", [], 0
        with tf.io.TFRecordWriter(str(path)) as writer:
            for k in range(size):
                blocks += [offset] if k % 16 == 0 else []
                record = b"%d" % number
                writer.write(record)
                offset, number = offset + len(record) + 16, number + 1
        shards.append({"file": path.name, "examples": size, "bytes": offset, "blocks": blocks})
    return [str(folder / shard["file"]) for shard in shards], shards, num_streams


@pytest.fixture(scope="module")
def numbers(tmp_path_factory):
    """8 streams of 2 shards each, 20 to 43 records in a shard."""
    sizes = [20 + 37 * i % 24 for i in range(16)]
    return write_numbers(tmp_path_factory.mktemp("numbers"), sizes, 8)


def blocks_of(numbers, start=0, stop=None):
    paths, shards, num_streams = numbers
    return select_blocks(paths, shards, num_streams, start, stop or sum(s["examples"] for s in shards))


def ints(data):
    return [int(record) for record in data.as_numpy_iterator()]


def part(batch_size, index, count):
    return Rows(batch_size, tuple(range(index * batch_size // count, (index + 1) * batch_size // count)))


@pytest.mark.parametrize("batch_size", [32, 24, 4])  # as many rows as streams for each, and fewer
@pytest.mark.parametrize("step", [0, 13])
def test_batches_are_the_same_for_any_number_of_machines(numbers, batch_size, step):
    read = stream_records(blocks_of(numbers))
    batches = lambda rows: np.reshape(ints(read(3, step * batch_size, rows).take(6 * len(rows.own))), (6, -1))
    whole = batches(Rows.whole(batch_size))
    for count in (2, 3, 4):
        if batch_size % count == 0:
            parts = [batches(part(batch_size, i, count)) for i in range(count)]
            np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)
    if batch_size == 24:  # with the neighbours that mixup needs
        np.testing.assert_array_equal(batches(Rows(24, (11, *range(12, 24)))), whole[:, 11:])
        np.testing.assert_array_equal(batches(Rows(24, (*range(12), 23))), whole[:, [*range(12), 23]])


@settings(max_examples=8, deadline=None)
@given(start=st.integers(0, 3000), seed=st.integers(0, 2**31 - 1), batch_size=st.sampled_from([8, 16, 12]))
def test_a_start_anywhere_goes_on_where_a_longer_stream_would_be(numbers, start, seed, batch_size):
    read, rows = stream_records(blocks_of(numbers)), Rows.whole(batch_size)
    before = min(start, 100)
    longer = ints(read(seed, start - before, rows).take(before + 20))
    assert ints(read(seed, start, rows).take(20)) == longer[before:]


def test_a_pass_has_each_record_once_and_every_pass_another_order(numbers):
    _, shards, num_streams = numbers
    read = stream_records(blocks_of(numbers))
    order = np.reshape(ints(read(0, 0, Rows.whole(8)).take(8 * 400)), (-1, 8))
    ends = np.cumsum([0, *(shard["examples"] for shard in shards)])[::2]
    for stream in range(num_streams):
        size = ends[stream + 1] - ends[stream]
        passes = [order[i * size : (i + 1) * size, stream].tolist() for i in range(2)]
        assert all(sorted(one) == list(range(ends[stream], ends[stream + 1])) for one in passes)
        assert passes[0] != passes[1] != sorted(passes[1])
    assert ints(read(1, 0, Rows.whole(8)).take(80)) != order.ravel()[:80].tolist()


def test_a_machine_opens_the_files_of_its_share_alone(numbers, tmp_path):
    paths, shards, num_streams = numbers
    gone = [str(tmp_path / "gone") if 4 <= i < 12 else path for i, path in enumerate(paths)]
    read = stream_records(blocks_of((gone, shards, num_streams)))
    present = stream_records(blocks_of(numbers))
    for index in (0, 3):
        rows = part(16, index, 4)
        assert ints(read(0, 0, rows).take(300)) == ints(present(0, 0, rows).take(300))
    with pytest.raises(tf.errors.NotFoundError):
        ints(read(0, 0, part(16, 1, 4)).take(1))


# ---- In order, and parts of a split ----


def test_a_slice_takes_the_same_share_of_each_stream_and_slices_make_the_whole(numbers):
    total = sum(shard["examples"] for shard in numbers[1])
    parts = [ints(stream_records(blocks_of(numbers, *ends))(None, 0)) for ends in ((0, 400), (400, 401), (401, total))]
    assert [len(one) for one in parts] == [400, 1, total - 401]
    assert sorted(itertools.chain(*parts)) == list(range(total))
    ends = np.cumsum([0, *(shard["examples"] for shard in numbers[1])])[::2]
    assert collections.Counter(np.searchsorted(ends, parts[0], side="right")) == dict.fromkeys(range(1, 9), 50)
    few = blocks_of(numbers, 0, 5)  # fewer than streams
    assert sorted(set(ints(stream_records(few)(1, 0).take(50)))) == sorted(ints(stream_records(few)(None, 0)))


@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.integers(0, 9), min_size=1, max_size=6), data=st.data())
def test_sizes_before_take_one_from_each_in_turn(sizes, data):
    turns = [stream for turn in range(9) for stream, size in enumerate(sizes) if size > turn]
    num = data.draw(st.integers(0, len(turns)))
    assert sizes_before(np.array(sizes), num).tolist() == [turns[:num].count(i) for i in range(len(sizes))]


@settings(max_examples=8, deadline=None)
@given(start=st.integers(0, 600), share=st.integers(1, 40), index=st.integers(0, 3))
def test_a_pass_in_order_gives_the_rows_of_a_part(numbers, start, share, index):
    read = stream_records(blocks_of(numbers, 10, 480))
    rows = part(4 * share, index, 4)
    expected = ints(rows.filter(read(None, 0).skip(start), start))
    assert ints(read(None, start, rows)) == expected
    scattered = Rows(470, (3, 4, 200))
    assert ints(read(None, 0, scattered)) == np.array(ints(read(None, 0)))[[3, 4, 200]].tolist()


# ---- The files ----


@pytest.fixture
def folder(tmp_path):
    for i in range(75):
        path = tmp_path / "images" / "train" / "ab"[i % 2] / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tf.io.encode_png(np.full((4, 4, 3), i, np.uint8)).numpy())
    return tmp_path / "images"


def test_records_are_written_in_streams_and_read_by_them(folder, tmp_path):
    manifest = record_writing.write_records(folder, tmp_path / "records", num_streams=4)
    train = manifest["splits"]["train"]
    assert (train["streams"], len(train["shards"]), manifest["version"]) == (4, 4, 2)
    assert [len(shard["blocks"]) for shard in train["shards"]] == [2, 2, 2, 2]
    text = (tmp_path / "records" / "manifest.json").read_text()
    assert json.loads(text) == manifest
    assert text.count('"blocks": [ 0, ') == 4  # on one line
    source = opening.open_source(str(tmp_path / "records"), training=True)
    pixels = lambda data: [int(tf.io.decode_png(source.parse(record)[0])[0, 0, 0]) for record in data]
    assert sorted(pixels(source.records(None, 0))) == list(range(75))
    first = source.records(0, 0, Rows(8, (0, 1))).take(4 * 18)
    pathlib.Path(tmp_path / "records" / train["shards"][3]["file"]).unlink()
    assert len(set(pixels(first))) == 18
    assert source.fingerprint


def test_records_of_version_1_are_read_as_before_and_upgraded_in_place(folder, tmp_path):
    made = record_writing.write_records(folder, tmp_path / "records", num_streams=4)
    train, path = json.loads(json.dumps(made)), tmp_path / "records" / "manifest.json"
    train["version"] = 1
    train["splits"]["train"].pop("streams")
    for shard in train["splits"]["train"]["shards"]:
        shard.pop("blocks")
    path.write_text(json.dumps(train))
    old = opening.open_source(str(tmp_path / "records"), training=True)
    assert (len(list(old.records(None, 0))), old.fingerprint) == (75, "")
    with pytest.raises(ValueError, match="num_shards: 4 shards cannot be divided into 3 streams"):
        record_upgrade.upgrade_records(tmp_path / "records", 3)
    shard = tmp_path / "records" / made["splits"]["train"]["shards"][2]["file"]
    whole = shard.read_bytes()
    for damaged in (whole[:-3], whole[:99] + b"\0" + whole[100:], b"\xff" * 40):
        shard.write_bytes(damaged)
        with pytest.raises(ValueError, match="train-00002-of-00004.tfrecord is missing or damaged"):
            record_upgrade.upgrade_records(tmp_path / "records", 4)
    assert json.loads(path.read_text()) == train
    shard.write_bytes(whole)
    assert record_upgrade.upgrade_records(tmp_path / "records", 4) == made
    assert record_upgrade.upgrade_records(tmp_path / "records") == made  # nothing more to do
    assert json.loads(path.read_text()) == made


def test_shards_that_streams_cannot_share_are_refused(folder, tmp_path):
    for arguments, message in (
        (
            dict(num_shards=6, num_streams=4),
            "num_shards: 6 shards cannot be divided into 4 streams; use a multiple of 4.",
        ),
        (dict(num_streams=0), "num_streams: must be a positive number, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            record_writing.write_records(folder, tmp_path / "records", **arguments)
    assert not (tmp_path / "records").exists()
    assert record_layout.layout(3, 100, None, 4) == (1, 1)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda split: split.update(streams=3), "4 shards are not divided into 3 streams"),
        (lambda split: split["shards"][1]["blocks"].pop(), "must be the offset of each 16th record"),
        (lambda split: split["shards"][1]["blocks"].__setitem__(1, 0), "must be the offset of each 16th record"),
        (lambda split: split.pop("streams"), "a value is missing"),
    ],
)
def test_a_damaged_layout_is_refused(folder, tmp_path, change, fault):
    manifest = record_writing.write_records(folder, tmp_path / "records", num_streams=4)
    change(manifest["splits"]["train"])
    (tmp_path / "records" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=fault):
        records.read_manifest(tmp_path / "records")
