"""Fetching, against a real HTTP server on 127.0.0.1: cache, resume, retries, lock, verification, and every failure."""

import hashlib
import json
import logging
import os
import pathlib
import re
import resource
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import tiny
from file_server import FileServer

import keras_mixer
from keras_mixer import models
from keras_mixer.weights import download, layouts, npz, released

PATH = "gsam/Mixer-S_32.npz"
SIZES = models.VARIANTS["s32"]


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """A file of the released name, layout and size."""
    path = tmp_path_factory.mktemp("content") / "Mixer-S_32.npz"
    shapes = layouts.released_shapes(SIZES, tokens=49, classes=1000)
    np.savez(path, **{name: np.full(shape, 0.01, "float32") for name, shape in shapes.items()})
    return path


@pytest.fixture
def server(tmp_path, content, monkeypatch):
    (tmp_path / "served" / "gsam").mkdir(parents=True)
    os.link(content, tmp_path / "served" / PATH)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(download, "FIRST_WAIT", 0.01)
    with FileServer(tmp_path / "served").running() as server:
        monkeypatch.setenv("KERAS_MIXER_WEIGHTS", server.url)
        yield server


@pytest.fixture
def cached(tmp_path):
    return tmp_path / "keras" / "models" / "keras_mixer" / PATH


def get():
    return released.fetch_released("gsam", SIZES)


def serve(server, data):
    (server.folder / PATH).unlink()
    (server.folder / PATH).write_bytes(data)


def names(folder):
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def assert_nothing_to_trust(cached):
    """No file under the final name and no record; at most a partial file, which a later run verifies again."""
    assert names(cached.parent) <= {f"{cached.name}.part", f"{cached.name}.lock"}


def test_first_use_fetches_and_the_second_does_not(server, cached, content):
    assert get() == cached
    assert cached.read_bytes() == content.read_bytes()
    assert server.requests == [(f"/{PATH}", None)]
    assert get() == cached
    assert len(server.requests) == 1
    digest = hashlib.sha256(content.read_bytes()).hexdigest()
    assert cached.with_name(f"{cached.name}.sha256").read_text() == f"{digest}  {cached.name}\n"
    assert names(cached.parent) == {cached.name, f"{cached.name}.sha256", f"{cached.name}.lock"}


def test_model_by_name(server):
    model = keras_mixer.MixerS32(weights="gsam")
    np.testing.assert_array_equal(model.get_layer("head").bias, np.full(1000, 0.01, "float32"))


def test_dropped_connection_is_resumed_where_it_broke(server, cached, content, caplog):
    server.drops = [1_000_000, 2_000_000]
    assert get().read_bytes() == content.read_bytes()
    assert server.requests == [(f"/{PATH}", r) for r in (None, "bytes=1000000-", "bytes=3000000-")]
    assert "attempt 2 of 5" in caplog.text


def test_server_that_sends_no_length_and_drops_is_resumed(server, cached, content):
    server.declare_length = False
    server.drops = [1_000_000]
    assert get().read_bytes() == content.read_bytes()


def test_partial_file_of_an_earlier_run_is_resumed(server, cached, content):
    cached.parent.mkdir(parents=True)
    cached.with_name(f"{cached.name}.part").write_bytes(content.read_bytes()[:5_000_000])
    assert get().read_bytes() == content.read_bytes()
    assert server.requests == [(f"/{PATH}", "bytes=5000000-")]


def test_wrong_partial_file_is_dropped_and_fetched_anew(server, cached, content):
    cached.parent.mkdir(parents=True)
    cached.with_name(f"{cached.name}.part").write_bytes(bytes(5_000_000))
    assert get().read_bytes() == content.read_bytes()
    assert [r for _, r in server.requests] == ["bytes=5000000-", None]


def test_too_long_partial_file_is_dropped(server, cached, content):
    cached.parent.mkdir(parents=True)
    cached.with_name(f"{cached.name}.part").write_bytes(content.read_bytes() + b"more")
    assert get().read_bytes() == content.read_bytes()


def test_server_without_ranges_starts_again(server, cached, content):
    server.ranges = False
    server.drops = [1_000_000]
    assert get().read_bytes() == content.read_bytes()
    assert len(server.requests) == 2


def test_passing_server_errors_are_retried(server, cached, content):
    server.statuses = [503, 500, 429]
    assert get().read_bytes() == content.read_bytes()


@pytest.mark.parametrize("statuses", [[404], [403], [503] * 5])
def test_lasting_server_errors_give_one_sentence(server, cached, statuses):
    server.statuses = list(statuses)
    with pytest.raises(
        OSError, match=f"^weights: {server.url}/{PATH} answers HTTP {statuses[0]} .*KERAS_MIXER_WEIGHTS"
    ) as e:
        get()
    assert "\n" not in str(e.value)
    assert len(server.requests) == len(statuses)
    assert_nothing_to_trust(cached)


def test_no_network_names_url_place_and_variable(server, cached, monkeypatch):
    monkeypatch.setenv("KERAS_MIXER_WEIGHTS", "http://127.0.0.1:9/mirror")
    pattern = (
        f"weights: http://127.0.0.1:9/mirror/{PATH} cannot be fetched .*refused.*put the file at {cached}, or set "
        "KERAS_MIXER_WEIGHTS to a directory or a base URL"
    )
    with pytest.raises(ConnectionError, match=pattern):
        get()
    assert_nothing_to_trust(cached)


def test_connection_that_keeps_dropping_keeps_only_the_part(server, cached, content):
    server.drops = [100_000] * 5
    with pytest.raises(ConnectionError, match="cannot be fetched"):
        get()
    assert_nothing_to_trust(cached)
    assert cached.with_name(f"{cached.name}.part").stat().st_size == 500_000
    assert get().read_bytes() == content.read_bytes()


def test_html_page_is_refused_before_it_is_read(server, cached):
    serve(server, b"<html>Sign in to the network</html>")
    with pytest.raises(ValueError, match=r"offers 35 bytes, the released file has 76,449,368; it is not fetched"):
        get()
    assert_nothing_to_trust(cached)


def _damage(kind, data):
    data = bytearray(data)
    if kind == "html of the right size":
        data[:] = b"<html>" + bytes(len(data) - 6)
    elif kind == "flipped bit":
        data[len(data) // 2] ^= 4
    elif kind == "truncated and padded":
        data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
    return bytes(data)


@pytest.mark.parametrize(("kind", "message"), [
    ("html of the right size", "it is a web page"),
    ("flipped bit", "Bad CRC-32"),
    ("truncated and padded", "is cut off"),
])  # fmt: skip
def test_damaged_file_of_the_right_size_is_not_kept(server, cached, content, kind, message):
    serve(server, _damage(kind, content.read_bytes()))
    with pytest.raises(
        ValueError, match=f"^weights: what {server.url}/{PATH} sent is not the file: .*{message}"
    ) as error:
        get()
    assert "\n" not in str(error.value)
    assert names(cached.parent) == {f"{cached.name}.lock"}
    serve(server, content.read_bytes())
    assert get().read_bytes() == content.read_bytes()


def test_nan_inside_is_not_kept(server, cached, content, tmp_path):
    with np.load(content) as archive:
        arrays = dict(archive)
    arrays["head/bias"][7] = np.nan
    np.savez(tmp_path / "nan.npz", **arrays)
    serve(server, (tmp_path / "nan.npz").read_bytes())
    with pytest.raises(ValueError, match=r"sent is not the file: head/bias of it holds 1 of 1,000 values that are NaN"):
        get()
    assert names(cached.parent) == {f"{cached.name}.lock"}


def test_file_of_another_variant_is_not_kept(server, cached):
    shapes = layouts.released_shapes(models.VARIANTS["s16"], tokens=196, classes=1000)
    path = server.folder / "other.npz"
    npz.write_npz(path, {name: lambda s=shape: np.zeros(s, "float32") for name, shape in shapes.items()})
    serve(server, path.read_bytes())
    with pytest.raises(ValueError, match=r"offers 74,141,888 bytes, the released file has 76,449,368"):
        get()
    assert_nothing_to_trust(cached)


def test_changed_file_in_the_cache_is_noticed_afterwards(server, cached, content):
    get()
    data = bytearray(content.read_bytes())
    data[len(data) // 2] ^= 4
    cached.write_bytes(data)
    with pytest.raises(ValueError, match=r"has the sha256 .* recorded when it was first verified; delete it to fetch"):
        get()
    cached.write_bytes(data[:1000])
    with pytest.raises(ValueError, match=r"has 1,000 bytes, the released file 76,449,368; delete it to fetch it again"):
        get()


def test_mirror_that_changes_is_noticed_by_the_record(server, cached, content, tmp_path):
    get()
    cached.unlink()
    with np.load(content) as archive:
        np.savez(tmp_path / "changed.npz", **{name: archive[name] + 1 for name in archive.files})
    serve(server, (tmp_path / "changed.npz").read_bytes())
    with pytest.raises(ValueError, match=r"but .* was recorded when it was first verified"):
        get()
    assert not cached.exists()


def test_file_put_into_the_cache_by_hand_needs_no_network(server, cached, content, monkeypatch):
    monkeypatch.setenv("KERAS_MIXER_WEIGHTS", "http://127.0.0.1:9")
    cached.parent.mkdir(parents=True)
    os.link(content, cached)
    assert get() == cached


def test_directory_with_a_copy_is_used_in_place(server, cached, monkeypatch):
    monkeypatch.setenv("KERAS_MIXER_WEIGHTS", str(server.folder))
    assert get() == server.folder / PATH
    assert not cached.exists()
    with pytest.raises(FileNotFoundError, match=r"KERAS_MIXER_WEIGHTS is .*, but there is no file .*imagenet1k"):
        keras_mixer.MixerB16(weights="imagenet1k")
    serve(server, b"short")
    with pytest.raises(ValueError, match="has 5 bytes, the released file 76,449,368"):
        get()


@pytest.mark.parametrize("scheme", ["file", "gs"])
def test_other_base_urls(server, cached, content, monkeypatch, scheme):
    if scheme == "file":
        monkeypatch.setenv("KERAS_MIXER_WEIGHTS", server.folder.as_uri())
    else:
        (server.folder / "bucket").mkdir()
        (server.folder / "gsam").rename(server.folder / "bucket" / "gsam")
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
        monkeypatch.setenv("KERAS_MIXER_WEIGHTS", "gs://bucket/")
    assert get().read_bytes() == content.read_bytes()


def test_gs_url_is_the_public_address_of_the_bucket(monkeypatch):
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    assert download.https_url("gs://bucket/a/b.npz") == "https://storage.googleapis.com/bucket/a/b.npz"


def test_any_url_of_a_checkpoint_loads_and_is_cached(server, golden, tmp_path):
    tiny.write_checkpoint(golden, server.folder / "tiny.npz")
    for _ in range(2):
        report = keras_mixer.load_checkpoint(tiny.build(), f"{server.url}/tiny.npz")
        assert len(report.loaded) == 42
    assert len(server.requests) == 1
    (server.folder / "page.npz").write_bytes(b"<html></html>")
    with pytest.raises(
        ValueError, match=r"page.npz sent is not the file: it is no whole .npz archive \(it is a web page"
    ):
        keras_mixer.load_checkpoint(tiny.build(), f"{server.url}/page.npz")
    with pytest.raises(OSError, match="answers HTTP 404"):
        keras_mixer.load_checkpoint(tiny.build(), f"{server.url}/none.npz")
    folder = tmp_path / "keras" / "models" / "keras_mixer" / "urls"
    assert len(list(folder.glob("*/*.npz"))) == 1


@pytest.mark.parametrize("name", ["tiny.npz", "TINY.NPZ", "tiny.keras", "tiny.weights.h5"])
def test_url_with_a_query_is_known_by_the_suffix_of_its_path(server, golden, tmp_path, name):
    model = tiny.build(weights=tiny.write_checkpoint(golden, tmp_path / "tiny.npz"))
    if name.lower() == "tiny.npz":
        tiny.write_checkpoint(golden, tmp_path / "tiny.npz")
    elif name == "tiny.keras":
        model.save(tmp_path / name)
    else:
        model.save_weights(tmp_path / name)
    shutil.copy(tmp_path / name.lower(), server.folder / name)
    report = keras_mixer.load_checkpoint(tiny.build(), f"{server.url}/{name}?signature=1")
    assert len(report.loaded) == 42
    assert report.source.endswith(name)


def test_url_of_a_web_page_instead_of_a_keras_file(server):
    (server.folder / "page.keras").write_bytes(b"<html></html>")
    with pytest.raises(ValueError, match=r"page.keras sent is not the file: it is there, but it is not a Keras file"):
        keras_mixer.load_checkpoint(tiny.build(), f"{server.url}/page.keras")


# ---- other processes

# The module by its path, for it needs the standard library only: importing the package would take seconds.
_GET = """
import importlib.util, os, sys
spec = importlib.util.spec_from_file_location("fetch", sys.argv[1])
fetch = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fetch)
fetch.FIRST_WAIT = 0.01
if sys.argv[5] == "as another user" and os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
try:
    print(fetch.fetch(sys.argv[2], sys.argv[3], lambda path: None, int(sys.argv[4]), "the way out"))
except (OSError, ValueError) as error:
    print(type(error).__name__, error)
"""


def start(server, cached, user="", **kwargs):
    arguments = [download.__file__, f"{server.url}/{PATH}", cached, "76449368", user]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", _GET, *arguments], **pipes, **kwargs)


def wait_for_request(server):
    deadline = time.monotonic() + 30
    while not server.requests and time.monotonic() < deadline:
        time.sleep(0.02)
    assert server.requests


def test_two_processes_fetch_once(server, cached):
    server.delay.clear()
    first = start(server, cached)
    wait_for_request(server)
    second = start(server, cached)
    assert "waiting for another process that fetches" in second.stderr.readline()
    server.delay.set()
    assert [process.communicate(timeout=60)[0].strip() for process in (first, second)] == [str(cached)] * 2
    assert len(server.requests) == 1


def test_killed_process_leaves_a_part_that_the_next_one_resumes(server, cached, content):
    server.delay.clear()
    process = start(server, cached)
    wait_for_request(server)
    process.kill()
    process.communicate()
    server.delay.set()
    assert_nothing_to_trust(cached)
    assert get().read_bytes() == content.read_bytes()  # its lock died with it


def test_full_disk_gives_one_sentence_and_the_part_is_resumed(server, cached, content):
    def limit():  # no file may grow beyond 4 MB: the write fails as on a full disk
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4_000_000, 4_000_000))

    output = start(server, cached, preexec_fn=limit).communicate(timeout=60)[0].strip()
    assert re.fullmatch(r"OSError .*the cache folder \S+ cannot be used \(File too large\) for .*; the way out", output)
    assert_nothing_to_trust(cached)
    assert get().read_bytes() == content.read_bytes()
    assert server.requests[-1][1] == f"bytes={4_000_000}-"


def test_disk_without_room_is_refused_before_the_download(server, cached, monkeypatch):
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9 - 1000, 1000))
    with pytest.raises(OSError, match=r"cannot be used \(No space left on device\)"):
        get()
    assert_nothing_to_trust(cached)


@pytest.fixture
def read_only(tmp_path, server):
    """A KERAS_HOME that a process of another user, or of this one where it is not root, reads and cannot write."""
    home = tmp_path / "keras"
    home.mkdir()
    opened = {}
    for folder in (tmp_path, *tmp_path.parents):  # pytest's folders are private; another user has to get through
        if not folder.stat().st_mode & stat.S_IXOTH:
            opened[folder] = folder.stat().st_mode
            folder.chmod(folder.stat().st_mode | stat.S_IXOTH)
    yield lambda mode: [folder.chmod(mode) for folder in (home, *home.rglob("*")) if folder.is_dir()]
    for folder in (home, *home.rglob("*")):
        if folder.is_dir():
            folder.chmod(0o755)
    for folder, mode in opened.items():
        folder.chmod(mode)


def test_read_only_cache_gives_one_sentence(server, cached, read_only):
    read_only(0o555)
    output = start(server, cached, "as another user").communicate(timeout=60)[0].strip()
    pattern = r"PermissionError .*the cache folder \S+ cannot be used \(Permission denied\) for http\S+; the way out"
    assert re.fullmatch(pattern, output)


def test_read_only_cache_that_has_the_file_is_read(server, cached, read_only):
    get()
    read_only(0o555)
    output, errors = start(server, cached, "as another user").communicate(timeout=60)
    assert output.strip() == str(cached), errors


def test_facts_are_those_that_the_names_give():
    facts = json.loads((pathlib.Path(released.__file__).parents[1] / "assets" / "checkpoints.json").read_text())
    assert facts["base_url"] == "https://storage.googleapis.com/mixer_models/"
    assert len({fact["path"] for fact in facts["files"]}) == 11


def test_waiting_for_another_process_is_said(server, cached, caplog):
    cached.parent.mkdir(parents=True)
    server.delay.clear()
    with caplog.at_level(logging.WARNING, "keras_mixer"):
        threads = [threading.Thread(target=get) for _ in range(2)]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 30
        while "waiting for another process" not in caplog.text and time.monotonic() < deadline:
            time.sleep(0.02)
        server.delay.set()
        for thread in threads:
            thread.join()
    assert "waiting for another process that fetches" in caplog.text
    assert len(server.requests) == 1
