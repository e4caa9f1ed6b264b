"""Pages in the system's Chromium: nothing on the console, nothing asked for, and what axe finds."""

import contextlib
import os
import shutil

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
MARKS = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed; apt-get install it"),
]


@contextlib.contextmanager
def launched():
    """A browser."""
    sandbox = [] if os.geteuid() else ["--no-sandbox"]  # root can't have one
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=sandbox)
        yield browser
        browser.close()


@contextlib.contextmanager
def opener(browser):
    """What opens files; in the end they must have said nothing and asked for nothing."""
    contexts, events = [], []

    def opened(path, *, width=1280, scheme="light", **options):
        size = {"width": width, "height": 800}
        context = browser.new_context(viewport=size, color_scheme=scheme, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: events.append(message.text))
        page.on("pageerror", lambda error: events.append(str(error)))
        page.on("request", lambda one: None if one.url == path.as_uri() else events.append(one.url))
        page.goto(path.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert events == []


def violations(page):
    """What axe finds, and where."""
    found = axe.Axe().run(page).response["violations"]
    return [(one["id"], node["html"][:200]) for one in found for node in one["nodes"]]
