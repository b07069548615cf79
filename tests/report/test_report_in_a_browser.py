"""The page in a real browser, from disk: quiet, without a request, sorted by mouse and keyboard, on a phone, dark."""

import pytest
from browser import open_page
from synthetic_run import NAMES, write_run

from keras_mixer.cli import pages
from keras_mixer.report import page, run_files

CONTRAST = """() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const rgb = (colour) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = (colour) => colour.slice(0, 3)
    .map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const found = [];
  const texts = "h1,h2,h3,p,li,dt,dd,th,td,caption,figcaption,summary,a,pre,svg text,.note,button,data,b,code";
  for (const element of document.querySelectorAll(texts)) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    const style = getComputedStyle(element);
    if (!own || !element.getClientRects().length || element.classList.contains("none")) continue;
    let behind = element, back = [0, 0, 0, 0];
    for (; behind && back[3] === 0; behind = behind.parentElement) back = rgb(getComputedStyle(behind).backgroundColor);
    const front = rgb(element instanceof SVGElement ? style.fill : style.color);
    const [a, b] = [light(front), light(back)];
    found.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), element.tagName, element.textContent.slice(0, 40)]);
  }
  return found.sort((a, b) => a[0] - b[0]);
}"""


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return pages.write(str(write_run(tmp_path_factory.mktemp("browser") / "run")))


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    root = tmp_path_factory.mktemp("compared")
    runs = [run_files.read(write_run(root / name, with_images=name == "a", seed=i)) for i, name in enumerate("ab")]
    page.write(root / "reports.html", page.side_by_side(runs, ["a", "b"]))
    return root / "reports.html"


def _quiet(opened, path):
    assert opened.heard == []
    assert [url for url in opened.asked if not url.startswith("data:")] == [path.as_uri()]


def test_it_opens_from_disk_without_an_error_and_asks_for_nothing_else(written, compared):
    with open_page(offline=True) as opened:
        for path in (written, compared):
            opened.goto(path.as_uri())
            assert opened.evaluate("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
            _quiet(opened, path)
            opened.asked.clear()


def test_the_checks_hear_an_error_and_a_request(tmp_path):
    (tmp_path / "bad.html").write_text("<img src='other.png'><script>throw new Error('planted')</script>")
    with open_page() as opened:
        opened.goto((tmp_path / "bad.html").as_uri())
        opened.wait_for_timeout(200)
        assert any("planted" in text for text in opened.heard)
        assert len(opened.asked) == 2


def _column(opened, index):
    return opened.evaluate(
        f"[...document.querySelectorAll('table.sortable tbody tr')].map((row) => row.cells[{index}].textContent)"
    )


def test_classes_are_sorted_by_a_click_and_by_the_keyboard(written):
    with open_page() as opened:
        opened.goto(written.as_uri())
        heads = opened.locator("table.sortable thead th")
        titles = heads.all_text_contents()
        images, recall = titles.index("evaluated"), titles.index("recall")
        before = _column(opened, images)
        numbers = sorted(map(int, before))
        heads.nth(images).locator("button").click()
        assert list(map(int, _column(opened, images))) == numbers != list(map(int, before))
        assert heads.nth(images).get_attribute("aria-sort") == "ascending"
        opened.keyboard.press("Enter")  # the button has the focus
        assert list(map(int, _column(opened, images))) == numbers[::-1]
        assert heads.nth(images).get_attribute("aria-sort") == "descending"
        assert opened.locator("#said").text_content() == "Sorted by evaluated, descending."
        for _ in range(images - recall):
            opened.keyboard.press("Shift+Tab")
        opened.keyboard.press("Space")
        values = [float(text.rstrip("%")) for text in _column(opened, recall)]
        assert values == sorted(values)
        assert [heads.nth(i).get_attribute("aria-sort") for i in (images, recall)] == ["none", "ascending"]
        heads.nth(0).locator("button").click()
        assert {*_column(opened, 0)} == {*NAMES}
        _quiet(opened, written)


def test_a_value_is_read_where_the_pointer_is(written):
    with open_page() as opened:
        opened.goto(written.as_uri())
        chart = opened.locator("figure.chart").first
        box = chart.locator("svg").first.bounding_box()
        opened.mouse.move(box["x"] + box["width"] - 30, box["y"] + box["height"] / 2)
        assert "step 40: " in chart.locator(".readout").text_content()
        opened.mouse.move(0, 0)
        assert chart.locator(".readout").text_content() == "Point at a line to read its values."


@pytest.fixture
def unfolded(written, compared):
    """Both pages one after the other in one browser, with nothing folded."""

    def open_both():
        with open_page(width=390, height=844) as opened:
            for path in (written, compared):
                opened.goto(path.as_uri())
                opened.evaluate("document.querySelectorAll('details').forEach((folded) => { folded.open = true; })")
                yield opened

    return open_both


def test_a_phone_scrolls_down_only(unfolded):
    for opened in unfolded():
        for width in (390, 320):
            opened.set_viewport_size({"width": width, "height": 844})
            assert opened.evaluate("document.documentElement.scrollWidth") <= width
        opened.evaluate("document.querySelector('h1').style.width = '500px'")  # the check would see it
        assert opened.evaluate("document.documentElement.scrollWidth") > 320


def test_every_text_is_readable_in_both_schemes(unfolded):
    for opened in unfolded():
        for scheme, paper in (("light", "rgb(255, 255, 255)"), ("dark", "rgb(18, 22, 27)")):
            opened.emulate_media(color_scheme=scheme)
            assert opened.evaluate("getComputedStyle(document.body).backgroundColor") == paper
            found = opened.evaluate(CONTRAST)
            assert len(found) > 100
            assert found[0][0] >= 4.5, found[:5]
        opened.evaluate("document.querySelector('h1').style.color = getComputedStyle(document.body).backgroundColor")
        assert opened.evaluate(CONTRAST)[0][1] == "H1"


def test_on_paper_nothing_is_folded_and_every_row_is_there(written):
    with open_page() as opened:
        opened.goto(written.as_uri())
        assert not opened.locator("details.print").get_attribute("open")
        opened.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert opened.locator("details.print").get_attribute("open") is not None
        opened.emulate_media(media="print")
        assert opened.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
        assert opened.pdf()[:4] == b"%PDF"
