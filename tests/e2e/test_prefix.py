"""The web page and the page of the API in a browser, behind a proxy that strips a prefix."""

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, sync_playwright

from tests.app.serving import behind, serving
from tests.conftest import EXAMPLES

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(not CHROMIUM and "CI" not in os.environ, reason="chromium is not installed")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serving(root_path="/iqa") as url, behind(url, "/iqa") as address:
        yield address


@pytest.fixture
def page(address: str) -> Iterator[Page]:
    """A page that may ask for nothing outside the prefix, and complain of nothing."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(60_000)
        wrong: list[str] = []
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        yield page
        browser.close()
    assert wrong == []
    assert [url for url in asked if not url.startswith((f"{address}/", "data:", "blob:"))] == []


def test_the_page_scores(page: Page, address: str) -> None:
    page.goto(f"{address}/")
    page.set_input_files("#files", EXAMPLES[0])
    page.get_by_text("excellent").first.wait_for()


def test_the_page_of_the_api_scores(page: Page, address: str) -> None:
    page.goto(f"{address}/docs")
    page.locator("#operations-scores-score").get_by_role("button").first.click()
    page.get_by_role("button", name="Try it out").click()
    page.set_input_files("input[type=file]", EXAMPLES[0])
    with page.expect_response("**/score") as answered:
        page.get_by_role("button", name="Execute").click()
    assert answered.value.status == 200
    page.locator(".live-responses-table").get_by_text('"raw_score"').first.wait_for()
