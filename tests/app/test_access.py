"""The access line: what it tells of a request, and of what never became one."""

import asyncio
import logging
from typing import Any

import pytest
from fastapi.testclient import TestClient
from uvicorn import Config
from uvicorn.server import ServerState

from app.http.protocol import Connection, protocol
from app.main import create_app
from app.observability import access
from app.observability.access import RequestRecord
from app.observability.metrics import Metrics
from app.settings import Settings
from tests.app.conftest import wait_ready
from tests.app.test_keys import bearer, entry
from tests.app.test_metrics import samples
from tests.app.test_pictures import post

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
KEYS = (entry("ann", "a-key"), entry("bob", "b-key"))


def told(caplog: pytest.LogCaptureFixture, route: str | None = "/score") -> list[dict[str, Any]]:
    """The fields of the access lines of a route."""
    lines = [record.__dict__ for record in caplog.records if record.name == "smart_iqa.access"]
    return [line for line in lines if line["route"] == route]


def test_a_score_tells_its_way_through_the_service(load: Any, jpeg: bytes, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "smart_iqa.access")
    app = create_app(Settings(api_keys=KEYS), load=load)
    with TestClient(app, client=("203.0.113.7", 50000)) as client:
        wait_ready(client)
        timing = post(client, jpeg, headers={**bearer("a-key"), "traceparent": TRACEPARENT}).json()["timing_ms"]
        post(client, jpeg, headers=bearer("b-key"))
    first, second = told(caplog)
    assert (first["client"], first["key"], first["model"], first["cache"]) == ("203.0.113.7", "ann", "fake", "miss")
    assert first["bytes"] > len(jpeg), "the form around it counts too"
    assert first["trace_id"] == TRACE
    assert first["warnings"] == []
    for stage in ("queue", "compute"):
        assert first[f"{stage}_ms"] == pytest.approx(timing[stage], abs=0.06)
    assert first["decode_ms"] > 0
    assert sum(first[f"{stage}_ms"] for stage in access.STAGES) <= first["ms"] + 0.5
    assert (second["cache"], second["decode_ms"], second["trace_id"], second["key"]) == ("hit", None, None, "bob")
    text = caplog.messages[-2]
    assert " key=ann client=203.0.113.7 " in text
    assert text.endswith(f" trace={TRACE}")
    assert "decode=" not in caplog.messages[-1]


def test_a_batch_tells_the_sums_over_its_pictures() -> None:
    record = RequestRecord()
    record.look_up(hit=True)
    record.spend(decode=0.25, compute=1.0)
    record.look_up(hit=False)
    record.spend(decode=0.5)
    record.warn(["grayscale"])
    fields = record.fields()
    assert (fields["cache"], fields["decode_ms"], fields["compute_ms"], fields["queue_ms"]) == ("part", 750, 1000, None)
    assert fields["warnings"] == ["grayscale"]


def test_a_refused_request_tells_its_model_and_how_long_it_waited(
    load: Any, jpeg: bytes, caplog: pytest.LogCaptureFixture, engine: Any
) -> None:
    caplog.set_level(logging.INFO, "smart_iqa.access")
    engine.gate.clear()
    with TestClient(create_app(Settings(), load=load)) as client:
        wait_ready(client)
        assert post(client, jpeg, headers={"X-Deadline-Ms": "3000"}).status_code == 504
        engine.gate.set()
    (line,) = told(caplog)
    assert (line["code"], line["model"], line["cache"]) == ("deadline_exceeded", "fake", "miss")
    assert 0 < line["queue_ms"] < line["ms"]


@pytest.mark.parametrize(
    ("peer", "client"),
    [(("2001:db8::1", 1), "2001:db8::1"), (("testclient", 1), ""), (("1.2.3.4 key=root", 0), ""), (None, "")],
)
def test_only_addresses_are_told(peer: Any, client: str) -> None:
    assert access.address(peer) == client


def test_slow_requests_are_warnings(load: Any, jpeg: bytes, caplog: pytest.LogCaptureFixture) -> None:
    for slow, level in ((0.0, "INFO"), (60.0, "INFO"), (0.000001, "WARNING")):
        caplog.clear()
        with TestClient(create_app(Settings(slow_seconds=slow), load=load)) as client:
            wait_ready(client)
            caplog.set_level(logging.INFO, "smart_iqa.access")
            post(client, jpeg)
            counted = samples(client, "smartiqa_slow_requests_total")[()]
        (line,) = told(caplog)
        assert line["levelname"] == level
        assert line["message"].startswith("slow: POST /score") == (level == "WARNING")
        assert (counted > 0) == (level == "WARNING")


class _Transport(asyncio.Transport):
    """Remembers what was written to it, for a client at 198.51.100.9."""

    def __init__(self) -> None:
        super().__init__({"peername": ("198.51.100.9", 1234), "socket": None})
        self.written = b""
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def abort(self) -> None:
        self.closed = True

    close = abort

    def is_closing(self) -> bool:
        return self.closed

    def can_write_eof(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


async def _nothing(scope: object, receive: object, send: object) -> None: ...


async def _connect(data: bytes, state: ServerState, settings: Settings) -> tuple[_Transport, Metrics]:
    metrics = Metrics()
    made = protocol(settings, metrics)
    assert made is not None
    connection = made(Config(_nothing, log_config=None, ws="none"), state, {}, asyncio.get_running_loop())
    assert isinstance(connection, Connection)
    transport = _Transport()
    connection.connection_made(transport)
    if data:
        connection.data_received(data)
    await asyncio.sleep(1.2 if data.startswith(b"POST") else 0)
    connection.connection_lost(None)
    return transport, metrics


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "malformed_request"),
        (b"NOT HTTP AT ALL\r\n\r\n", 400, "malformed_request"),
        (b"GET / HTTP/1.1\r\nA: " + b"a" * 70000, 431, "head_too_large"),
        (b"POST /score HTTP/1.1\r\nHost:", 408, "head_too_slow"),
    ],
    ids=["TLS", "noise", "large", "slow"],
)
@pytest.mark.anyio
async def test_what_never_became_a_request_has_the_same_line(
    data: bytes, status: int, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "smart_iqa.access")
    transport, _ = await _connect(data, ServerState(), Settings(header_seconds=1))
    assert transport.written.startswith(b"HTTP/1.1 %d " % status)
    (line,) = told(caplog, None)
    assert (line["client"], line["status"], line["code"], line["method"]) == ("198.51.100.9", status, code, None)
    assert line["request_id"].encode() in transport.written
    assert line["bytes"] == len(data)
    assert line["ms"] >= (900 if code == "head_too_slow" else 0)


@pytest.mark.parametrize(("others", "status"), [(1, 503), (129, 0)])
@pytest.mark.anyio
async def test_connections_beyond_the_bound_are_told_and_counted(
    others: int, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "smart_iqa.access")
    state = ServerState()
    state.connections.update(object() for _ in range(others))  # type: ignore[misc]  # only their number matters
    _, metrics = await _connect(b"", state, Settings(max_connections=1))
    (line,) = told(caplog, None)
    assert (line["status"], line["code"]) == (status, "too_many_connections")
    assert b'smartiqa_rejections_total{reason="too_many_connections"} 1.0' in metrics.render().text
