"""The tests of the book: `make test-book`. They need the packages of `[test-book]` and a Chromium.
One line says what is missing.
"""

import functools
import importlib.util
import os
import shutil
from pathlib import Path

import pytest

SLOW = 600_000  # ms: a busy machine is no failure
SITE = Path(__file__).parents[2] / "book/site"
PACKAGES = ("jinja2", "pygments", "markdown_it", "latex2mathml", "playwright",
            "axe_playwright_python")  # fmt: skip
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


@functools.cache
def chromium():
    """The path of a Chromium, or None: the one that CHROMIUM names, one of the system's, or the one
    that `python -m playwright install chromium` has installed.
    """
    if named := os.environ.get("CHROMIUM"):
        return shutil.which(named)
    if path := next(filter(None, map(shutil.which, BROWSERS)), None):
        return path
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        return shutil.which(playwright.chromium.executable_path)


def missing():
    absent = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if absent:
        return f"packages are missing ({', '.join(absent)}): pip install -e '.[test-book]'"
    if chromium() is None:
        return "there is no Chromium: .venv/bin/python -m playwright install chromium"
    return "" if (SITE / "index.html").exists() else "there is no book yet: make book"


def pytest_configure():
    if wrong := missing():
        pytest.exit(f"the tests of the book cannot run: {wrong}", returncode=2)


@pytest.fixture(scope="session")
def site():
    """The book, as `make book` has written it."""
    return SITE


@pytest.fixture(scope="session")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=chromium(), args=["--no-sandbox"], timeout=SLOW
        )
        yield running
        running.close()


@pytest.fixture(scope="session")
def tab(browser):
    """One tab for all tests, and what has been wrong in it since the list was cleared."""
    page, wrong = browser.new_context().new_page(), []
    page.set_default_timeout(SLOW)
    page.on("console", lambda m: wrong.append(m.text) if m.type in ("error", "warning") else 0)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    root = SITE.as_uri() + "/"
    page.on("request", lambda r: None if r.url.startswith((root, "data:")) else wrong.append(r.url))
    return page, wrong


@pytest.fixture
def open_page(tab):
    """open_page("grpo.html#eq-grpo-3", width=390) -> a page of the book. The test fails if there
    is an error on the console or a request to anywhere but the site.
    """
    page, wrong = tab

    def open_(address, width=1440, height=1000, color_scheme="light"):
        page.goto("about:blank")  # of the page before nothing is left
        page.emulate_media(media="screen", color_scheme=color_scheme)
        page.set_viewport_size({"width": width, "height": height})
        page.mouse.move(0, 0)
        wrong.clear()
        page.goto(f"{SITE.as_uri()}/{address}")
        return page

    yield open_
    assert not wrong
