"""Traces, by the real SDK into memory."""

import sys
from typing import Any

import pytest
from fastapi.testclient import TestClient
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from app.main import create_app
from app.observability import tracing
from app.settings import Settings
from cli.main import EXTRAS
from tests.app.conftest import wait_ready
from tests.app.test_pictures import post


def test_a_request_is_a_span_with_its_phases_below_it(load: Any, jpeg: bytes) -> None:
    app = create_app(Settings(otel=True), load=load)
    exporter = InMemorySpanExporter()
    provider = app.state.telemetry["tracer_provider"]
    assert isinstance(provider, TracerProvider)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    parent = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    with TestClient(app) as client:
        wait_ready(client)
        client.get("/metrics")
        timing = post(client, jpeg, params={"crops": 3}, headers={"traceparent": parent}).json()
        client.post("/nowhere/confidential", params={"word": "secret"})
    spans = exporter.get_finished_spans()
    assert [span.name for span in spans] == ["decode_wait", "decode", "queue", "compute", "POST /score", "POST"]
    *parts, request, _ = spans
    assert f"{request.context.trace_id:032x}" == "a" * 32
    for part in parts:
        assert part.parent is not None
        assert part.parent.span_id == request.context.span_id
        assert dict(part.attributes or {}) == {"smartiqa.crops": 3}
        assert part.start_time is not None
        assert part.end_time is not None
        milliseconds = (part.end_time - part.start_time) / 1e6
        assert milliseconds == pytest.approx(timing["timing_ms"][part.name], abs=0.01)
    assert (request.attributes or {})["http.route"] == "/score"
    text = "".join(span.to_json() for span in spans)
    for leak in ("secret", "confidential", "photo.jpg"):
        assert leak not in text


def test_traces_are_off_unless_they_are_asked_for(client: TestClient) -> None:
    assert client.app.state.telemetry == tracing.OFF  # type: ignore[attr-defined]
    assert not client.app._native_telemetry.enabled()  # type: ignore[attr-defined]


def test_without_the_sdk_the_start_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("opentelemetry.exporter")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter", None)
    with pytest.raises(ModuleNotFoundError) as caught:
        create_app(Settings(otel=True))
    assert caught.value.name in EXTRAS["otel"]
