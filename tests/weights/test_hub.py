"""`weights="hf://owner/name"`, with the real client against a server of the hub's API on loopback."""

import contextlib
import hashlib
import http.server
import json
import os
import re
import subprocess
import sys
import threading

import huggingface_hub
import numpy as np
import pytest
import safetensors.numpy
import tiny
from conftest import ROOT
from test_checkpoint import timm_layout

import keras_mixer

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CODE = """
import sys, numpy as np, keras_mixer
sys.path.insert(0, "tests")
import tiny
for weights in sys.argv[1:]:
    try:
        model = tiny.build(weights=weights)
        print("loaded", float(np.sum(model.get_layer("head").kernel)))
    except (ValueError, OSError, ImportError) as error:
        print(f"{type(error).__name__}: {error}")
"""
LOADED = (
    "hf://owner/usual",
    "hf://owner/one",
    "hf://owner/two/a.safetensors",
    f"hf://owner/usual@{COMMIT}/other.safetensors",
)
REFUSED = {
    "hf://owner/nothing": "OSError: weights: the hub has no repository for hf://owner/nothing; check owner and name",
    "hf://owner/gated": "OSError: weights: hf://owner/gated asks for permission; log in with hf auth login",
    "hf://owner/usual@v9": "OSError: weights: hf://owner/usual@v9 has no such revision",
    "hf://owner/private": "the hub answers HTTP 401 to this token, or to none; check owner and name, and log in with",
    "hf://owner/secret": "PermissionError: weights: hf://owner/secret: the hub answers HTTP 401 to this token, or to",
    "hf://owner/busy": "ConnectionError: weights: hf://owner/busy: the hub answers HTTP 503; try again later",
    "hf://owner/-bad": "ValueError: weights: 'hf://owner/-bad' must be hf://owner/name or hf://owner/name/file, with",
    "hf://owner/usual/x.npz": "has no such file; its repository has README.md, model.safetensors, other.safetensors.",
    "hf://owner/one/model.bin": "ValueError: weights: hf://owner/one/model.bin is none of .npz",
    "hf://owner/two": "ValueError: weights: hf://owner/two has several files of weights; add one of a.safetensors",
    "hf://owner/none": "has no file that ends in .npz, .keras, .weights.h5, .safetensors; it has README.md, pytorch",
    "hf://owner": "ValueError: weights: 'hf://owner' must be hf://owner/name or hf://owner/name/file",
    "hf://owner/spoiled": "is not the file that the hub promised for hf://owner/spoiled",
}
ANSWERS = {  # of repositories that do not let everyone in, as the hub gives them
    "owner/gated": (403, b"", {"X-Error-Code": "GatedRepo", "X-Error-Message": "accept it"}),
    "owner/private": (401, b"", {"X-Error-Message": "Invalid username or password."}),
    "owner/secret": (401, b"", {"X-Error-Message": "Invalid credentials in Authorization header"}),
    "owner/busy": (503, b"", {}),
}
WAY_OUT = "without network fetch the file elsewhere and give its path."


class Hub:
    """The endpoints that the client asks: facts of a repository, its tree, and its files with their hashes."""

    def __init__(self):
        self.files = {}  # "owner/name" -> file name -> bytes
        self.requests = []

    @contextlib.contextmanager
    def running(self):
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                hub.requests.append((self.command, self.path))
                parts = self.path.split("?")[0].strip("/").split("/")
                if parts[0] == "api":
                    repo, rest = "/".join(parts[2:4]), parts[4:]
                else:
                    repo, rest = "/".join(parts[:2]), parts[2:]
                if repo in ANSWERS:
                    return self.answer(*ANSWERS[repo])
                if repo not in hub.files:
                    return self.answer(404, b"", {"X-Error-Code": "RepoNotFound"})
                files = hub.files[repo]
                revision = rest[1] if len(rest) > 1 else "main"
                if revision not in ("main", COMMIT):
                    return self.answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
                if parts[0] == "api" and rest[:1] == ["tree"]:
                    tree = [{"type": "file", "path": n, "size": len(d), "oid": COMMIT} for n, d in files.items()]
                    return self.answer(200, json.dumps(tree).encode(), {"Content-Type": "application/json"})
                if parts[0] == "api":
                    facts = {"id": repo, "sha": COMMIT, "siblings": [{"rfilename": name} for name in files]}
                    return self.answer(200, json.dumps(facts).encode(), {"Content-Type": "application/json"})
                name = "/".join(rest[2:])
                if name not in files:
                    return self.answer(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
                data = files[name]
                digest = hashlib.sha256(data).hexdigest()
                if repo == "owner/spoiled":
                    data = data[:-1] + bytes([data[-1] ^ 1])
                headers = {"ETag": f'"{digest}"', "X-Linked-ETag": f'"{digest}"', "X-Linked-Size": str(len(data))}
                return self.answer(200, data, {**headers, "X-Repo-Commit": COMMIT})

            do_HEAD = do_GET

            def answer(self, status, data, headers):
                self.send_response(status)
                for name, value in {"Content-Length": str(len(data)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(data)

            def log_message(self, *args):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()


@pytest.fixture(scope="module")
def arrays(golden, tmp_path_factory):
    """The golden weights."""
    path = tiny.write_checkpoint(golden, tmp_path_factory.mktemp("hub") / "golden.npz")
    with np.load(path) as file:
        return dict(file)


@pytest.fixture(scope="module")
def hub(arrays):
    hub = Hub()
    tensors = safetensors.numpy.save(arrays)
    timm = safetensors.numpy.save(timm_layout(arrays))
    hub.files["owner/usual"] = {"README.md": b"hi", "model.safetensors": tensors, "other.safetensors": tensors}
    hub.files["owner/one"] = {"README.md": b"hi", "pytorch_model.bin": b"pickle", "mixer.safetensors": timm}
    hub.files["owner/two"] = {"a.safetensors": tensors, "b.npz": b""}
    hub.files["owner/none"] = {"README.md": b"hi", "pytorch_model.bin": b"pickle"}
    hub.files["owner/spoiled"] = {"model.safetensors": tensors}
    with hub.running():
        yield hub


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def load(hub, cache):
    """A function that loads weights in a process of its own, and returns what is told of each."""

    def function(*weights, **environment):
        env = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(cache), "HF_HUB_DISABLE_XET": "1", **environment}
        command = [sys.executable, "-c", CODE, *weights]
        process = subprocess.run(command, capture_output=True, text=True, env=env, cwd=ROOT, check=False)
        assert process.returncode == 0, process.stderr
        told = process.stdout.splitlines()
        return dict(zip(weights, told, strict=True))

    return function


@pytest.fixture(scope="module")
def told(load):
    return load(*LOADED, *REFUSED)


@pytest.mark.parametrize("weights", LOADED)
def test_a_file_of_the_hub_is_loaded(told, arrays, weights):
    assert told[weights] == f"loaded {float(np.sum(arrays['head/kernel']))}"


@pytest.mark.parametrize("weights", REFUSED)
def test_what_is_not_there_or_not_whole_is_one_sentence(told, weights):
    assert REFUSED[weights] in told[weights]


def blob_of(cache, name):
    """The file in the cache that a repository's link leads to."""
    return next(path for path in cache.rglob("snapshots/*/*.safetensors") if f"--{name}/" in str(path)).resolve()


def test_what_was_fetched_needs_no_network_and_what_was_not_says_so(told, load, hub, cache):
    blob = blob_of(cache, "one")
    # What huggingface_hub makes of a file that came by hf_xet: repositories share it, under a hash of another kind.
    shared = cache / "hub" / "blobs" / "ab" / ("ab" * 32)
    shared.parent.mkdir(parents=True)
    blob.rename(shared)
    blob.symlink_to(os.path.relpath(shared, blob.parent))
    asked = len(hub.requests)
    cached = ("hf://owner/usual", "hf://owner/usual/model.safetensors", "hf://owner/one/mixer.safetensors")
    found = load(*cached, "hf://owner/one", "hf://owner/new", HF_HUB_OFFLINE="1")
    assert [found[weights] for weights in cached] == [told["hf://owner/usual"]] * 3
    # Only the hub knows that there is no other file.
    assert found["hf://owner/one"].startswith("ConnectionError: weights: hf://owner/one: the hub cannot be asked")
    assert found["hf://owner/one"].endswith("mixer.safetensors, as in hf://owner/one/mixer.safetensors.")
    assert found["hf://owner/new"].endswith(WAY_OUT)
    assert len(hub.requests) == asked


def test_damage_in_the_cache_is_seen_and_a_hub_that_does_not_answer_is_told(told, load, cache):
    blob = blob_of(cache, "two")
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1
    blob.write_bytes(data)
    damaged = "hf://owner/two/a.safetensors"
    found = load(damaged, "hf://owner/usual", "hf://owner/new", HF_ENDPOINT="http://127.0.0.1:1")
    assert found[damaged].startswith(f"ValueError: weights: {blob} is not the file that the hub promised")
    assert found[damaged].endswith("delete it to fetch it again.")
    assert found["hf://owner/usual"] == told["hf://owner/usual"]
    assert "hf://owner/new cannot be fetched ([Errno 111] Connection refused); " in found["hf://owner/new"]
    assert found["hf://owner/new"].endswith(WAY_OUT)


@pytest.mark.parametrize(("error", "kind", "message"), [
    (OSError(28, "No space left on device"), OSError, "cannot be used (No space left on device) for hf://owner/usual/"),
    (PermissionError(13, "Permission denied"), PermissionError, "cannot be used (Permission denied) for hf://owner/us"),
    (OSError("Consistency check failed: 5 bytes\nmore"), ConnectionError, "cannot be fetched (Consistency check fai"),
    (RuntimeError("of hf_xet"), ConnectionError, "cannot be fetched (of hf_xet); without network fetch the file"),
])  # fmt: skip
def test_a_cache_that_cannot_be_used_and_other_failures_are_one_sentence(monkeypatch, error, kind, message):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(kind, match=re.escape(message)) as caught:
        tiny.build(weights="hf://owner/usual/model.safetensors")
    assert "\n" not in str(caught.value)


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r"needs the package huggingface_hub; install it with .*keras_mixer\[hub\]"):
        keras_mixer.MixerS32(weights="hf://owner/name")
