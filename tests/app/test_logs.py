"""What is written about requests, and above all what is not."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.main import create_app
from app.observability import access, logs
from app.settings import Settings
from tests.app.conftest import wait_ready
from tests.app.test_keys import bearer, entry
from tests.app.test_pictures import post


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Everything that is logged, in JSON."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.JsonFormatter())
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield stream
    root.removeHandler(handler)
    root.setLevel(before)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_one_object_per_request(load: Any, jpeg: bytes, stream: io.StringIO) -> None:
    with TestClient(create_app(Settings(api_keys=(entry("ann", "a-key"),)), load=load)) as client:
        wait_ready(client)
        post(client, jpeg, headers={**bearer("a-key"), "X-Request-ID": "abc"})
        post(client, b"no picture", headers=bearer("a-key"))
        post(client, jpeg)
    found = [line for line in lines(stream) if line.get("route") == "/score"]
    assert [(line["status"], line["code"], line["key"]) for line in found] == [
        (200, None, "ann"),
        (415, "unsupported_format", "ann"),
        (401, "missing_key", None),
    ]
    first = found[0]
    assert set(first) == {"time", "level", "logger", "message", *access.FIELDS}
    assert (first["request_id"], first["method"], first["level"]) == ("abc", "POST", "INFO")
    assert first["logger"] == "smart_iqa.access"
    assert first["ms"] > 0
    assert first["time"].endswith("+00:00")


def test_nothing_of_the_upload_is_logged(client: TestClient, jpeg: bytes, stream: io.StringIO) -> None:
    logging.getLogger("python_multipart").setLevel(logging.INFO)
    post(client, jpeg, params={"crops": 4, "secret": "word"})
    client.post("/score", files={"file": ("holiday-in-rome.jpg", jpeg)}, params={"model": "spy"})
    client.post("/nowhere/confidential?token=abc")
    text = stream.getvalue()
    assert '"route": "/score"' in text
    for leak in ("holiday", "secret", "spy", "confidential", "token=abc", "JFIF"):
        assert leak not in "".join(line for line in text.splitlines(True) if '"smart_iqa' in line)
    assert "unmatched" in text


def test_a_defect_is_one_object_with_its_traceback(client: TestClient, jpeg: bytes, stream: io.StringIO) -> None:
    def break_down(*_: object) -> None:
        raise RuntimeError("first\nsecond")

    client.app.state.service.pipeline.shed = break_down  # type: ignore[attr-defined]
    response = post(client, jpeg)
    (defect,) = [line for line in lines(stream) if "exception" in line]
    assert defect["request_id"] == response.headers["X-Request-ID"]
    assert "RuntimeError: first\nsecond" in defect["exception"]


@pytest.mark.parametrize("format_", ["text", "json"])
def test_configure(format_: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    logs.configure(Settings(log_format=format_, log_level="warning"))
    logging.getLogger("smart_iqa.test").warning("a \u201cword\u201d\nand another")
    logging.getLogger("smart_iqa.test").info("not shown")
    written = capsys.readouterr().err
    if format_ == "json":
        (line,) = written.splitlines()
        assert json.loads(line)["message"] == "a \u201cword\u201d\nand another"
    else:
        assert "WARNING smart_iqa.test a" in written
    assert "not shown" not in written
