"""An exported page as a visitor has it: served on this machine, opened in Chromium, given pictures."""

import contextlib
import fcntl
import functools
import http.server
import json
import os
import pathlib
import shutil
import subprocess
import tarfile
import tempfile
import threading
import time

import pytest
from browser import new_page

from keras_mixer.export import web_runtime

PACKAGE = f"onnxruntime-web@{web_runtime.VERSION}"


def runtime_folder():
    """The folder dist/ of the npm package, fetched once for all tests of this machine."""
    place = pathlib.Path(tempfile.gettempdir()) / f"keras_mixer_tests_{os.getuid()}"
    place.mkdir(mode=0o700, exist_ok=True)
    folder = place / PACKAGE
    with open(place / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            fault = _fetch(place, folder)
            if fault and os.environ.get("CI"):
                pytest.fail(fault)
            if fault:
                pytest.skip(fault)
    return folder / "package" / "dist"


def _fetch(place, folder):
    """Unpack the package as `folder`, or return why that cannot be."""
    if shutil.which("npm") is None:
        return "needs npm: apt-get install npm"
    packed = subprocess.run(["npm", "pack", PACKAGE], cwd=place, capture_output=True, text=True, check=False)
    if packed.returncode:
        return f"npm pack {PACKAGE} failed: {packed.stderr[-300:]}"
    with tarfile.open(place / packed.stdout.split()[-1]) as archive:
        archive.extractall(f"{folder}.part", filter="data")
    os.replace(f"{folder}.part", folder)
    return ""


@contextlib.contextmanager
def served(folder, headers=()):
    """Serve a folder, and yield its address; `headers` are sent with every file."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def end_headers(self):
            for header in headers:
                self.send_header(*header)
            super().end_headers()

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def opened(browser, address, prepare=lambda page: None, **options):
    """Open a page in a browser, wait until its model is loaded, and yield it."""
    page = new_page(browser, **options)
    prepare(page)
    page.address = address
    page.goto(address)
    loaded(page)
    yield page
    page.context.close()


@contextlib.contextmanager
def visited(browser, folder, prepare=lambda page: None, **options):
    """Serve a folder, and yield the page in it."""
    with served(folder) as address, opened(browser, address, prepare, **options) as page:
        yield page


def loaded(page):
    """Wait until the model is loaded, or the page says why it is not."""
    # A function, since the policy of the page lets nobody evaluate a text in it.
    page.wait_for_function("() => !find('status').textContent || !find('fault').hidden")


def until(page, promise, *arguments):
    """Wait until a promise of the page gives what is true."""
    for _ in range(200):
        if page.evaluate(promise, *arguments):
            return
        time.sleep(0.1)
    raise AssertionError(promise)


def fault(page):
    """The sentence about what is wrong, "" where nothing is."""
    return page.inner_text("#fault") if page.is_visible("#fault") else ""


def answer(page, name, content):
    """Give a file by the file input, and return its probabilities by name and the milliseconds, or a sentence."""
    page.set_input_files("#file", {"name": name, "mimeType": "", "buffer": content})
    return answered(page, name)


def answered(page, name):
    """What the page says of a picture that it was given."""
    page.wait_for_function(
        "name => !find('fault').hidden || (!find('answer').hidden && find('time').textContent.startsWith(name))",
        arg=name,
    )
    if fault(page):
        return fault(page)
    rows = page.evaluate(
        "[...document.querySelectorAll('#classes li')].map("
        "row => [row.querySelector('span').textContent, Number(row.dataset.probability)])"
    )
    milliseconds = float(page.inner_text("#time").split(" in ")[1].split()[0])
    return dict(rows), milliseconds


def settings_of(folder):
    return json.loads((folder / "settings.json").read_text("utf-8"))
