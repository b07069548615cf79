"""A real browser for the tests of pages: Debian's Chromium, headless, which hears every request and error of a page."""

import contextlib
import os
import shutil

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# The machine may have no network: nothing is looked up that the page did not ask for.
QUIET = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"]


@contextlib.contextmanager
def open_browser():
    """Yield a browser, for `new_page`; Playwright runs one at a time in a process."""
    if CHROMIUM is None:
        if os.environ.get("CI"):
            pytest.fail("no Chromium is there; .ci/run is to install it")
        pytest.skip("needs Chromium: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


def new_page(browser, width=1200, height=900, dark=False, offline=False):
    """Return a page that shares nothing with others; `heard` collects console errors and uncaught exceptions, `asked`
    all requests."""
    scheme = "dark" if dark else "light"
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, offline=offline)
    page = context.new_page()
    page.heard, page.asked = [], []
    page.on("console", lambda message: page.heard.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.heard.append(str(error)))
    page.on("request", lambda request: page.asked.append(request.url))
    return page


@contextlib.contextmanager
def open_page(width=1200, height=900, dark=False, offline=False):
    """Yield a page of `new_page` in a browser of its own."""
    with open_browser() as browser:
        yield new_page(browser, width, height, dark, offline)
