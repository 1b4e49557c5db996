"""Headers of every answer, and pages of other origins."""

from typing import Any

from fastapi import Response
from fastapi.testclient import TestClient

from app.main import create_app
from app.settings import Settings
from tests.app.conftest import wait_ready
from tests.app.test_pictures import post


def test_every_answer_has_safe_headers(client: TestClient, jpeg: bytes) -> None:
    answers = [
        post(client, jpeg),
        post(client, b"no picture"),
        client.get("/nowhere"),
        client.get("/health/live"),
        client.get("/metrics"),
        client.options("/score"),
    ]
    for answer in answers:
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Cache-Control"] == "no-store"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    assert "script-src" not in answers[0].headers["Content-Security-Policy"]


def test_a_route_may_decide_otherwise(load: Any) -> None:
    app = create_app(Settings(), load=load)

    @app.get("/own")
    async def own() -> Response:
        return Response(headers={"Cache-Control": "max-age=60", "Content-Security-Policy": "default-src 'self'"})

    with TestClient(app) as client:
        answer = client.get("/own")
    assert answer.headers["Cache-Control"] == "max-age=60"
    assert answer.headers["Content-Security-Policy"] == "default-src 'self'"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_no_other_origin_may_call_by_default(client: TestClient, jpeg: bytes) -> None:
    answer = post(client, jpeg, headers={"Origin": "https://a.example"})
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]


def test_origins_can_be_allowed(load: Any, jpeg: bytes) -> None:
    settings = Settings(cors_origins=("https://a.example",), api_keys=("ann:" + "0" * 64,))
    preflight = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key"}
    with TestClient(create_app(settings, load=load)) as client:
        wait_ready(client)
        asked = client.options("/score", headers={"Origin": "https://a.example", **preflight})
        assert asked.status_code == 200, "a preflight carries no key"
        assert asked.headers["Access-Control-Allow-Origin"] == "https://a.example"
        for header in ("traceparent", "tracestate"):
            assert header in asked.headers["Access-Control-Allow-Headers"]
        assert "X-API-Key" in asked.headers["Access-Control-Allow-Headers"]
        assert "X-Request-ID" in asked.headers
        refused = post(client, jpeg, headers={"Origin": "https://a.example"})
        assert refused.status_code == 401
        assert refused.headers["Access-Control-Allow-Origin"] == "https://a.example"
        assert "Retry-After" in refused.headers["Access-Control-Expose-Headers"]
        other = client.options("/score", headers={"Origin": "https://b.example", **preflight})
        assert "Access-Control-Allow-Origin" not in other.headers


def test_large_answers_are_compressed_for_those_who_can_read_them(client: TestClient, jpeg: bytes) -> None:
    for path in ("/metrics", "/openapi.json", "/page/page.js"):
        packed = client.get(path, headers={"Accept-Encoding": "gzip"})
        plain = client.get(path, headers={"Accept-Encoding": "identity"})
        assert packed.headers["Content-Encoding"] == "gzip"
        assert "Content-Encoding" not in plain.headers
        assert "Accept-Encoding" in packed.headers["Vary"]
        assert "Accept-Encoding" in plain.headers["Vary"]
        assert packed.headers.get("ETag") == plain.headers.get("ETag")
    # One tag for two encodings has to be a weak one, and is still found again.
    assert packed.headers["ETag"].startswith('W/"')
    again = client.get(path, headers={"Accept-Encoding": "gzip", "If-None-Match": packed.headers["ETag"]})
    assert again.status_code == 304
    small = client.get("/health/live", headers={"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in small.headers
    lines = client.post(
        "/score/batch",
        files=[("file", jpeg)] * 8,
        headers={"Accept-Encoding": "gzip", "Accept": "application/x-ndjson"},
    )
    assert len(lines.text.splitlines()) == 8
    assert "Content-Encoding" not in lines.headers, "each line is sent when it is there"
