"""The site of the documents: it builds without a complaint, tells all of the API, and asks for nothing elsewhere."""

import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from playwright.sync_api import TimeoutError as PlaywrightTimeoutError
from playwright.sync_api import sync_playwright

from app.http.problems import TABLE
from tests.conftest import ROOT

CHROMIUM = shutil.which("chromium")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert built.returncode == 0, built.stderr
    return folder


def test_every_page_is_in_it(site: Path) -> None:
    pages = {file.stem for file in (ROOT / "docs").glob("*.md")} - {"index"}
    assert pages == {file.parent.name for file in site.glob("*/index.html")}
    assert (site / "inside.ipynb").is_file()
    assert not (site / "hooks").exists()


def test_the_reference_tells_every_route_and_problem(site: Path) -> None:
    html = (site / "api" / "index.html").read_text(encoding="utf-8")
    text = re.sub(r"<[^>]+>", "", html)
    document = json.loads((ROOT / "docs" / "openapi.json").read_text(encoding="utf-8"))
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert f"{method.upper()} {path}" in text
            for parameter in operation.get("parameters", ()):
                assert f"<code>{parameter['name']}</code>" in html
    for name in document["components"]["schemas"]:
        assert f'id="{name.lower()}"' in html
    never_told = {"client_disconnected", "not_found", "method_not_allowed"}
    for code in set(TABLE) - never_told:
        assert f"<code>{code}</code>" in html, code


def test_diagrams_are_drawn(site: Path) -> None:
    shown = set()
    for page, count in (("models", 6), ("architecture", 1)):
        html = (site / page / "index.html").read_text(encoding="utf-8")
        assert "mermaid" not in html
        drawings = re.findall(r'src="\.\./images/diagrams/([^"]+)"', html)
        assert len(drawings) == count
        shown |= set(drawings)
    # Nothing lies about that no page shows.
    assert {file.name for file in (ROOT / "docs" / "images" / "diagrams").iterdir()} == shown


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address(site: Path) -> Iterator[str]:
    handler = functools.partial(_Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.skipif(not CHROMIUM and "CI" not in os.environ, reason="chromium is not installed")
def test_its_pages_ask_for_nothing_elsewhere(site: Path, address: str) -> None:
    asked: list[str] = []
    wrong: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.on("response", lambda answer: wrong.append(answer.url) if answer.status >= 400 else None)
        for file in site.glob("**/index.html"):
            page.goto(f"{address}/{file.parent.relative_to(site).as_posix()}/")
        # Its search is its own as well.
        page.goto(address)
        for _ in range(24):
            # The page listens for keys, and not before its scripts run.
            page.locator("[name=query]").fill("")
            page.locator("[name=query]").press_sequentially("percentile")
            with suppress(PlaywrightTimeoutError):
                page.locator(".md-search-result__item").first.wait_for(state="attached", timeout=5000)
                break
        else:
            pytest.fail("the search finds nothing")
        page.wait_for_load_state("networkidle")
        browser.close()
    assert len(asked) > 20
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
    assert wrong == []
