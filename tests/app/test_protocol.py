import asyncio
import inspect
import resource

import pytest
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from app.http.protocol import RELIED_ON, Connection, protocol
from app.observability.metrics import Metrics
from app.settings import Settings
from cli.serve import serve


def test_uvicorn_is_built_as_expected() -> None:
    made = protocol(Settings(), Metrics())
    assert made is not None
    assert issubclass(made, Connection)
    # What is overridden or called here, and what uvicorn itself calls of it.
    ours = {name for name in vars(Connection) if callable(getattr(HttpToolsProtocol, name, None))}
    protocol_methods = {"__init__", "connection_made", "connection_lost", "data_received", "pause_writing"}
    assert ours - protocol_methods - {"resume_writing"} <= set(RELIED_ON)
    source = inspect.getsource(HttpToolsProtocol)
    for call in ("_start_asgi_task(self.cycle, app)", "_start_asgi_task(cycle, app)", "send_400_response(msg)"):
        assert f"self.{call}" in source
    assert "on_response=self.on_response_complete" in source
    assert "self.pipeline.appendleft(" in source
    assert "self.pipeline.pop()" in source


@pytest.mark.anyio
async def test_uvicorns_connections_and_cycles_hold_what_is_relied_on() -> None:
    config = Config(_nothing, log_config=None, ws="none")
    connection = HttpToolsProtocol(config, ServerState(), {}, asyncio.get_running_loop())
    held = {"connections", "cycle", "flow", "headers", "loop", "parser", "pipeline", "server_state", "transport"}
    assert held <= set(vars(connection))
    source = inspect.getsource(RequestResponseCycle)
    for name in ("disconnected", "keep_alive", "message_event", "more_body", "response_complete", "response_started"):
        assert f"self.{name} = " in source
    assert "self.chunked_encoding is None and" in source
    assert "if num_bytes > self.expected_content_length" in source
    assert {call.split("(")[0] for call in source.split("self.transport.")[1:]} == {"write", "close", "is_closing"}


async def _nothing(scope: object, receive: object, send: object) -> None: ...


def test_another_uvicorn_is_used_as_it_is_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delattr(HttpToolsProtocol, "_start_asgi_task")
    assert protocol(Settings(), Metrics()) is None
    assert "has no _start_asgi_task: slow and broken clients are not cut" in caplog.text


def test_the_command_uses_it() -> None:
    assert 'http=protocol.protocol(settings, app.state.metrics) or "auto"' in inspect.getsource(serve)


@pytest.mark.parametrize(
    ("soft", "hard", "raised", "allowed"),
    [
        (65536, 65536, None, 2048),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, None, 2048),
        (1024, 65536, 2304, 2048),
        (1024, resource.RLIM_INFINITY, 2304, 2048),
        (1024, 1024, None, 768),
        (256, 1024, 1024, 768),
        (256, 256, None, 128),
    ],
)
def test_connections_leave_files_for_the_rest(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, raised: int | None, allowed: int
) -> None:
    limits: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: limits.append(pair))
    made = protocol(Settings(), Metrics())
    assert made is not None
    assert issubclass(made, Connection)
    assert made.bounds.connections == allowed
    assert limits == ([] if raised is None else [(raised, hard)])
