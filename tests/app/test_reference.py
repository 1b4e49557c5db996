"""``/docs``: Swagger UI from files of the service itself, closed where keys are asked for."""

import hashlib
import re

import pytest
from fastapi.testclient import TestClient

from app.page.reference import FOLDER
from tests.app.test_keys import bearer
from tests.app.test_page import locked  # noqa: F401  # a fixture
from tests.app.test_pictures import problem

PUBLISHED = {
    "swagger-ui-bundle.js": "e6a898692f2d768e807c3ba4626068a69a2c5dd960dd6c76f3e4d3a3de180af2",
    "swagger-ui.css": "5ed08757e53da3e026d6cbecc61fe5d43585c9560b302d534ad56692519a273d",
}
"""SHA-256 of the files of swagger-ui-dist 5.35.0."""
PATHS = ("/docs", "/openapi.json", *(f"/docs/{file.name}" for file in FOLDER.iterdir()))


@pytest.mark.parametrize("path", PATHS)
def test_it_is_closed_with_the_keys(locked: TestClient, path: str) -> None:  # noqa: F811
    problem(locked.get(path), 401, "missing_key")
    assert locked.get(path, headers=bearer("a-key")).status_code == 200


def test_it_is_open_without_keys(client: TestClient) -> None:
    assert {client.get(path).status_code for path in PATHS} == {200}
    assert {client.get(path).status_code for path in ("/redoc", "/docs/nothing.js")} == {404}


def test_nothing_from_elsewhere_and_nothing_inline_may_run(client: TestClient) -> None:
    for path in PATHS:
        if path == "/openapi.json":
            continue
        policy = client.get(path).headers["Content-Security-Policy"]
        sources = dict(part.split(" ", 1) for part in policy.split("; "))
        assert sources.pop("default-src") == "'none'"
        assert sources.pop("img-src") == "'self' blob: data:"
        assert {value for name, value in sources.items() if name.endswith("-src")} == {"'self'"}
    page = client.get("/docs").text
    assert re.findall(r'(?:src|href)="([^"]+)"', page)
    assert not re.search(r'(?:src|href)="(?:https?:)?/', page), "all is relative, for services behind a prefix"
    assert re.findall(r"<script[^>]*>([^<]*)</script>", page) == ["", ""]


def test_a_file_and_its_compressed_form_share_a_weak_etag(client: TestClient) -> None:
    plain, packed = (
        client.get("/docs/swagger-ui.css", headers={"Accept-Encoding": coding}).headers
        for coding in ("identity", "gzip")
    )
    assert packed["Content-Encoding"] == "gzip"
    assert plain["ETag"] == packed["ETag"]
    assert plain["ETag"].startswith('W/"')


def test_its_files_are_those_that_were_published_with_their_licences() -> None:
    for name, digest in PUBLISHED.items():
        assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == digest
    assert "Apache License" in (FOLDER / "LICENSE").read_text(encoding="utf-8")
    assert "swagger-ui" in (FOLDER / "NOTICE").read_text(encoding="utf-8")
    assert "MIT License" in (FOLDER / "swagger-ui-bundle.js.LICENSE.txt").read_text(encoding="utf-8")
