"""An exported page in a real browser: what it answers, that it keeps to itself, and how it treats people."""

import base64
import shutil
import statistics

import numpy as np
import onnxruntime
import pytest
import tiny
import web_pages
from browser import new_page, open_browser
from encoded_images import encode
from playwright.sync_api import TimeoutError
from web_pages import answer, answered, fault, loaded, served, until, visited
from web_pictures import CHINA, PICTURES

import keras_mixer
from keras_mixer.data import decode
from keras_mixer.data.pixel_settings import PixelSettings
from keras_mixer.export import web_runtime
from keras_mixer.export.web import web

NAMES = ["ape", "bee", "cat", "dog", "elk"]
TOLERANCE = 1e-3  # of a probability; measured: docs/results/export.md
SMALL = encode(CHINA.resize((64, 43)), "PNG")
WORKING = "navigator.serviceWorker.getRegistration().then(registration => Boolean(registration && registration.active))"
READ = """async text => {
  const { settings } = await classifier;
  const bytes = Uint8Array.from(atob(text), c => c.charCodeAt(0));
  const { width, height, data } = await readPicture(new Blob([bytes]), "it", settings);
  return [width, height, btoa(String.fromCharCode(...data))];
}"""
GIVE = """([name, data, kind]) => {
  const transfer = new DataTransfer();
  if (data !== null) transfer.items.add(new File([Uint8Array.from(atob(data), c => c.charCodeAt(0))], name));
  const event = kind === 'paste' ? new ClipboardEvent(kind, {clipboardData: transfer, bubbles: true})
    : new DragEvent(kind, {dataTransfer: transfer, bubbles: true, cancelable: true});
  document.querySelector('#place').dispatchEvent(event);
}"""


@pytest.fixture(scope="module")
def place(golden, tmp_path_factory):
    """A folder with model.keras, the authors' tiny model with a head of five classes that answers clearly."""
    folder = tmp_path_factory.mktemp("web")
    body = tiny.build()
    keras_mixer.load_checkpoint(body, tiny.write_checkpoint(golden, folder / "tiny.npz"))
    model = tiny.build(classes=len(NAMES), classifier_activation="softmax")
    model.set_weights([*body.get_weights()[:-2], *model.get_weights()[-2:]])
    pre_logits = body.get_layer("pre_logits").output.shape[-1]
    kernel = np.random.default_rng(0).normal(size=(pre_logits, len(NAMES)))
    model.get_layer("head").kernel.assign(kernel)
    model.save(folder / "model.keras")
    return folder


@pytest.fixture(scope="module")
def run(place):
    # A page decodes every picture in full.
    return keras_mixer.load_run(place / "model.keras", pixels=PixelSettings(exact_decoding=True))


@pytest.fixture(scope="module")
def folder(place, run):
    return web(run.model, place / "page", NAMES, runtime=web_pages.runtime_folder())


@pytest.fixture(scope="module")
def browser():
    with open_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def visit(browser, folder):
    """One page for the tests that only give it pictures."""
    with visited(browser, folder) as page:
        yield page
        assert page.heard == []


def test_the_page_answers_as_predict_does(visit, run):
    differences, times, clear = {}, [], 0
    predictions = run.predict([content for _, content in PICTURES.values()])
    for (kind, (name, content)), prediction in zip(PICTURES.items(), predictions, strict=True):
        found, milliseconds = answer(visit, name, content)
        expected = {NAMES[int(p.name)]: p.probability for p in prediction}
        differences[kind] = max(abs(found[name] - expected[name]) for name in NAMES)
        clear += max(expected.values()) > 0.5
        times.append(milliseconds)
        print(f"{kind:28} {differences[kind]:.1e} {max(expected.values()):.2f} {milliseconds:7.1f} ms")
    print(f"median {statistics.median(times):.1f} ms")
    assert len(differences) >= 20
    assert clear > 10  # flat probabilities would agree too easily
    assert max(differences.values()) <= TOLERANCE, differences


def test_of_a_large_photograph_predict_reads_a_fraction_and_answers_nearly_the_same(place, run):
    photograph = PICTURES["JPEG of 12 million pixels"][1]
    found = [
        {p.name: p.probability for p in run.predict(photograph)[0]}
        for run in (run, keras_mixer.load_run(place / "model.keras"))
    ]
    # Measured 9.2e-3, of a tiny model at 64 px.
    assert 0 < max(abs(found[0][name] - found[1][name]) for name in found[0]) < 0.02


def photographs():
    """JPEGs of every subsampling, quality and order of their parts, and of sides that fill no block."""
    for width, height in ((1, 3), (2, 2), (3, 17), (16, 16), (37, 23)):
        yield from (encode(CHINA.resize((width, height)), "JPEG", subsampling=kind) for kind in (0, 1, 2))
    small = CHINA.resize((61, 45))
    for options in (
        *(dict(quality=quality, progressive=order) for quality in (5, 60, 100) for order in (False, True)),
        *(dict(restart_marker_blocks=3, progressive=order) for order in (False, True)),
        dict(optimize=True),
        dict(keep_rgb=True),
    ):
        yield encode(small, "JPEG", **options)
    yield from (encode(small.convert(mode), "JPEG", progressive=True) for mode in ("L", "CMYK"))


def test_a_jpeg_has_the_levels_of_tensorflow_s_decoder(visit):
    for content in photographs():
        width, height, pixels = visit.evaluate(READ, base64.b64encode(content).decode())
        found = np.frombuffer(base64.b64decode(pixels), np.uint8).reshape(height, width, 4)
        np.testing.assert_array_equal(found[:, :, :3], decode.decode_image(content))
        assert (found[:, :, 3] == 255).all()


def test_weights_of_8_bits_answer_here_as_they_do_in_python(browser, place, run):
    page_folder = web(run.model, place / "int8", NAMES, precision="int8", runtime=web_pages.runtime_folder())
    session = onnxruntime.InferenceSession(page_folder / "model.onnx", providers=["CPUExecutionProvider"])
    with visited(browser, page_folder) as page:
        for name, content in list(PICTURES.values())[:4]:
            pixels = decode.decode_image(content).numpy()
            picture = np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])
            expected = session.run(None, {"image": picture})[0]
            found = answer(page, name, content)[0]
            assert max(abs(found[name] - p) for name, p in zip(NAMES, expected, strict=True)) < 1e-3
        assert page.heard == []


def test_no_request_leaves_the_page_and_none_is_made_for_a_picture(visit):
    answer(visit, "a.png", SMALL)
    before = len([url for url in visit.asked if not url.startswith("blob:")])
    answer(visit, "b.png", SMALL)
    outside = [url for url in visit.asked if not url.startswith("blob:")]
    assert len(outside) == before
    assert all(url.startswith(visit.address) for url in outside)


def test_once_loaded_the_page_cannot_send_anything(browser, folder):
    with visited(browser, folder) as page:
        for attempt in (
            "fetch('settings.json', {method: 'POST', body: 'a picture'}).then(() => 'sent', () => 'refused')",
            "new Promise(done => { const image = new Image(); image.onload = () => done('sent');"
            " image.onerror = () => done('refused'); image.src = 'page.css?a_picture'; })",
        ):
            assert page.evaluate(attempt) == "refused"
        assert any("Content Security Policy" in text for text in page.heard)


def test_it_classifies_and_opens_again_without_a_network(browser, folder):
    page = new_page(browser)
    with served(folder) as address:
        page.goto(address)
        loaded(page)
        until(page, WORKING)
        until(page, "caches.keys().then(async names => (await (await caches.open(names[0])).keys()).length === 15)")
        first = answer(page, "a.png", SMALL)[0]  # the server is gone
        page.goto(address)
        loaded(page)
        assert answer(page, "a.png", SMALL)[0] == first
        assert page.heard == []


def test_a_new_version_of_the_page_takes_the_place_of_the_kept_one(browser, folder, run, tmp_path):
    shutil.copytree(folder, tmp_path / "page")
    with served(tmp_path / "page") as address:
        page = new_page(browser)
        page.goto(address)
        loaded(page)
        until(page, WORKING)
        other = web(
            run.model, tmp_path / "page", [name.upper() for name in NAMES], runtime=folder / "runtime", overwrite=True
        )
        version = web_pages.settings_of(other)["version"]
        page.evaluate("navigator.serviceWorker.getRegistration().then(r => r.update())")
        until(page, "version => caches.keys().then(names => names.length === 1 && names[0].endsWith(version))", version)
        page.goto(address)
        loaded(page)
        found = answer(page, "a.png", SMALL)
        assert isinstance(found, tuple), found
        assert set(found[0]) == {name.upper() for name in NAMES}


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_a_picture_can_be_dropped_and_pasted(visit, kind):
    expected = answer(visit, "given.png", SMALL)[0]
    visit.evaluate(GIVE, [f"{kind}.png", base64.b64encode(SMALL).decode(), kind])
    assert answered(visit, f"{kind}.png")[0] == expected


def test_the_camera_gives_a_picture(browser, folder):
    stub = """navigator.mediaDevices.getUserMedia = async () => {
      const canvas = document.createElement('canvas');
      canvas.width = 80; canvas.height = 60;
      const draw = () => { canvas.getContext('2d').fillRect(0, 0, 40, 60); requestAnimationFrame(draw); };
      draw();
      return canvas.captureStream();
    }"""
    with visited(browser, folder, lambda page: page.add_init_script(stub)) as page:
        page.focus("#camera")
        page.keyboard.press("Enter")
        page.wait_for_function("() => find('video').videoWidth === 80")
        assert page.evaluate("document.activeElement.id") == "shoot"
        page.keyboard.press("Enter")
        assert len(answered(page, "The picture, 80 x 60")[0]) == len(NAMES)
        assert not page.is_visible("#film")
        assert page.heard == []


def test_it_is_used_by_keyboard_with_a_ring_around_what_has_the_focus(visit):
    visit.bring_to_front()
    visit.evaluate("document.activeElement.blur()")
    rings = []
    for _ in range(2):
        visit.keyboard.press("Tab")
        ring = "getComputedStyle(e.id === 'file' ? e.nextElementSibling : e)"
        rings.append(visit.evaluate(f"(e => [e.id, {ring}.outlineStyle, {ring}.outlineWidth])(document.activeElement)"))
    assert rings == [["file", "solid", "3px"], ["camera", "solid", "3px"]]
    visit.keyboard.press("Shift+Tab")
    for last in (False, False, True):  # on a busy machine the key may come before the page has the focus
        try:
            with visit.expect_file_chooser(timeout=15_000) as chooser:
                visit.keyboard.press("Enter")
            break
        except TimeoutError:
            if last:
                raise
    chooser.value.set_files({"name": "keys.png", "mimeType": "image/png", "buffer": SMALL})
    assert len(answered(visit, "keys.png")[0]) == len(NAMES)
    assert visit.get_attribute("#answer section", "aria-live") == "polite"
    assert visit.get_by_label("Choose a picture").count() == 1
    assert visit.get_by_role("button", name="Use the camera").count() == 1


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        (
            "notes.txt",
            b"words",
            "notes.txt is no picture that this browser can read. Choose a JPEG, PNG, GIF, WebP or BMP",
        ),
        ("empty.png", b"", "empty.png is empty: it has no bytes."),
        ("half.jpg", PICTURES["JPEG baseline"][1][:300], "half.jpg is no picture that this browser can read."),
        ("none.jpg", b"\xff\xd8\xff\xc0\0\x0b\x08\0\0\0\0\x01\x01\x11\0", "none.jpg has no pixels."),
        ("thin.png", encode(CHINA.resize((606, 6)), "PNG"), "thin.png has 606 x 6 pixels: one side is more than 100"),
        ("thin.jpg", encode(CHINA.resize((606, 6)), "JPEG"), "thin.jpg has 606 x 6 pixels: one side is more than 100"),
    ],
    ids=lambda value: value if isinstance(value, str) and "." in value[:9] else "",
)
def test_what_is_no_picture_is_a_sentence_and_harms_nothing(visit, name, content, sentence):
    assert answer(visit, name, content).startswith(sentence)
    assert visit.get_attribute("#fault", "role") == "alert"
    assert not visit.is_visible("#answer")
    assert len(answer(visit, "a.png", SMALL)[0]) == len(NAMES)
    assert fault(visit) == ""


def test_a_drop_or_paste_without_a_file_is_a_sentence(visit):
    for kind, sentence in (("drop", "That was no file."), ("paste", "There is no picture on the clipboard.")):
        visit.evaluate(GIVE, ["", None, kind])
        assert fault(visit).startswith(sentence)


def test_no_camera_is_a_sentence(visit):
    visit.click("#camera")  # a browser without a window has no camera, and asks nobody
    visit.get_by_text("found no camera that it can use. A picture can be chosen as a file instead.").wait_for()


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        (
            "navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('no', 'NotAllowedError'); }",
            "This browser does not let this page use the camera; allow it in the browser's settings.",
        ),
        (
            "Object.defineProperty(navigator, 'mediaDevices', {value: undefined})",
            "This browser gives the camera only to pages over HTTPS or from localhost.",
        ),
    ],
)
def test_a_camera_that_is_denied_is_a_sentence(browser, folder, script, sentence):
    with visited(browser, folder, lambda page: page.add_init_script(script)) as page:
        page.click("#camera")
        page.get_by_text(sentence).wait_for()
        assert page.heard == []


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("delete window.WebAssembly", "This browser is too old: it lacks WebAssembly"),
        ("WebAssembly.validate = () => false", "This browser is too old: it lacks WebAssembly"),
        ("window.createImageBitmap = undefined", "This browser is too old: it cannot read a picture's pixels"),
    ],
)
def test_an_old_browser_is_told_so(browser, folder, script, sentence):
    with served(folder) as address:
        page = new_page(browser)
        page.add_init_script(script)
        page.goto(address)
        assert fault(page).startswith(sentence)
        assert page.heard == []


def test_a_page_opened_from_disk_says_how_to_serve_it(browser, folder):
    page = new_page(browser)
    page.goto((folder / "index.html").as_uri())
    assert "Serve this folder, for example with python -m http.server" in fault(page)
    assert page.heard == []


@pytest.mark.parametrize("name", ["model.onnx", "classes.json", "runtime/ort-wasm-simd-threaded.wasm"])
def test_a_missing_file_is_named(browser, folder, name, tmp_path):
    shutil.copytree(folder, tmp_path / "page")
    (tmp_path / "page" / name).unlink()
    with visited(browser, tmp_path / "page") as page:
        assert name in fault(page)
        assert "could not be loaded" in fault(page)


def test_the_runtime_comes_from_a_public_host_unless_it_is_another(browser, place, run, tmp_path):
    page_folder = web(run.model, place / "cdn", NAMES)
    assert not (page_folder / "runtime").exists()
    address = f"https://cdn.jsdelivr.net/npm/onnxruntime-web@{web_runtime.VERSION}/dist/"
    assert web_pages.settings_of(page_folder)["runtime"]["base"] == address
    policy = (page_folder / "index.html").read_text("utf-8")
    assert f"connect-src 'self' {address};" in policy
    for file in (web_runtime.SCRIPT.file, web_runtime.WASM.file):
        shutil.copy(web_pages.runtime_folder() / file, tmp_path)
    with served(tmp_path, [("Access-Control-Allow-Origin", "*")]) as other:  # in the place of that host
        for name in ("index.html", "settings.json"):
            text = (page_folder / name).read_text("utf-8")
            (page_folder / name).write_text(text.replace(address, other), "utf-8")
        with visited(browser, page_folder) as page:
            assert len(answer(page, "a.png", SMALL)[0]) == len(NAMES)
            assert sum(url.startswith(other) for url in page.asked) == 2
            assert page.heard == []
        for file in (web_runtime.SCRIPT.file, web_runtime.WASM.file):
            content = (tmp_path / file).read_bytes()
            (tmp_path / file).write_bytes(content + b"\n")
            with visited(browser, page_folder) as page:
                assert f"{file} could not be loaded, or is not the expected one." in fault(page)
            (tmp_path / file).write_bytes(content)


def test_progress_is_told_while_the_model_loads(browser, folder):
    with served(folder) as address:
        page = new_page(browser)
        page.add_init_script(
            "window.said = []; addEventListener('DOMContentLoaded', () => new MutationObserver(() =>"
            " said.push(document.querySelector('#status').textContent)).observe("
            "document.querySelector('#status'), {childList: true}))"
        )
        page.goto(address)
        loaded(page)
        size = web_pages.settings_of(folder)["model"]["bytes"]
        assert f"Loading the model, {round(size / 1000)} of {round(size / 1000)} kB" in page.evaluate("said")
        assert not page.is_visible("progress")


@pytest.mark.parametrize(("width", "height", "dark"), [(390, 844, True), (1200, 900, False)])
def test_it_fits_a_telephone_and_a_dark_room(browser, folder, width, height, dark, tmp_path):
    with visited(browser, folder, width=width, height=height, dark=dark) as page:
        answer(page, f"{'a_long_name_' * 9}.jpg", PICTURES["JPEG baseline"][1])
        assert page.evaluate("document.documentElement.scrollWidth") == width
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, colour[4:-1].split(","))) < 200) == dark
        page.screenshot(path=tmp_path / "page.png", full_page=True)


def test_threads_are_used_where_the_server_isolates_the_page(browser, folder):
    headers = (("Cross-Origin-Opener-Policy", "same-origin"), ("Cross-Origin-Embedder-Policy", "require-corp"))
    with served(folder, headers) as address:
        page = new_page(browser)
        page.goto(address)
        loaded(page)
        assert page.evaluate("crossOriginIsolated")
        assert len(answer(page, "a.png", SMALL)[0]) == len(NAMES)
        assert page.heard == []
