"""The page in a real browser. Every test that opens it also sees that it asks the network for nothing, and complains of
nothing."""

import shutil
from urllib.parse import urlencode

import pytest
from playwright import sync_api

from kd_bench.leaderboard.export import as_data
from kd_bench.leaderboard.page import render_page
from tests.leaderboard.page import PATIENCE, measured, until


@pytest.fixture(scope="module")
def data():
    return as_data(measured())


@pytest.fixture(scope="module")
def browser():
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no chromium on the PATH")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"], timeout=PATIENCE)
        yield browser
        browser.close()


@pytest.fixture
def opened(browser, tmp_path):
    """opened(data, task="toy", ...): the page of `data` at this state, when it is ready."""
    contexts, complaints, requests = [], [], []

    def open_page(data, scheme="light", width=1280, **state):
        context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900})
        contexts.append(context)
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: message.type in ("error", "warning") and complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(f"dialog {dialog.message}"))
        file = tmp_path / "index.html"
        file.write_text(render_page(data), encoding="utf-8")
        page.goto(f"{file.as_uri()}#{urlencode(state)}")
        until(page, "window.ready")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []
    assert requests and all(url.startswith(("file:", "data:", "blob:")) for url in requests)
