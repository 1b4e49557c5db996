"""Client connections with limits: slow, broken and surplus clients are cut, which uvicorn alone would not do.

    accepted --> head --------> body --> answer --> idle --> closed
                  |  ^           |         |         |
                  |  `-----------|---------|---------'
                  |              |         `-- not read: aborted after ``unread_seconds``
                  |              `-- answered early: the rest is read and thrown away, within limits, then closed
                  `-- 408 after ``head_seconds``, 431 beyond ``MAX_HEAD_BYTES``, 400 if it is not HTTP

``app/http/upload.py`` limits the time and the size of a body.
"""

import asyncio
import logging
import uuid
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from app.http.connection_limits import ConnectionLimits
from app.http.middleware import HEADER, add_security_headers
from app.http.problems import Problem
from app.observability.access import RequestRecord, address, write
from app.observability.metrics import Metrics
from app.settings import Settings

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application, ASGIReceiveCallable, ASGISendCallable, ASGISendEvent, Scope

MAX_HEAD_BYTES = 2**16
"""Largest head of a request, and most framing bytes in a row in a body (sizes, extensions and trailers of chunks)."""
MAX_HEADERS = 100
REFUSED_SECONDS = 1.0
REFUSED_AT_ONCE = 128
"""Connections beyond the limit that get a 503; further ones are closed without an answer."""

RELIED_ON = (
    "_start_asgi_task",
    "_unset_keepalive_if_required",
    "_unsupported_upgrade_warning",
    "on_body",
    "on_header",
    "on_headers_complete",
    "on_message_begin",
    "on_message_complete",
    "on_response_complete",
    "send_400_response",
    "shutdown",
    "timeout_keep_alive_handler",
)
"""Methods of uvicorn's protocol class that are overridden or called here; checked at start."""

log = logging.getLogger("smart_iqa.connections")


def protocol(settings: Settings, metrics: Metrics) -> type[HttpToolsProtocol] | None:
    """Make the connection class for uvicorn; None if this version of uvicorn lacks one of ``RELIED_ON``.

    Args:
        settings: The limits.
        metrics: Counts connections and refusals.
    """
    missing = [name for name in RELIED_ON if not callable(getattr(HttpToolsProtocol, name, None))]
    if missing:
        log.error(
            "this version of uvicorn has no %s: slow and broken clients are not cut, a proxy should do that",
            ", ".join(missing),
        )
        return None
    bounds = ConnectionLimits.of(settings)
    return type("BoundedConnection", (Connection,), {"bounds": bounds, "metrics": metrics})


def _says_its_length(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    return any(name.lower() == b"content-length" for name, _ in headers)


class _Answering(asyncio.Transport):
    """Transport that an answer is written to. Closing it lets the connection decide: it may have to read on first."""

    def __init__(self, connection: "Connection") -> None:
        super().__init__()
        self._connection = connection

    def write(self, data: bytes | bytearray | memoryview) -> None:
        # uvloop reports a write to a client that has just left as an error.
        if not self.is_closing():
            self._connection.transport.write(data)

    def is_closing(self) -> bool:
        return self._connection.transport.is_closing()

    def close(self) -> None:
        self._connection.finish()


class Connection(HttpToolsProtocol):
    """One client's connection. Not used directly: ``protocol`` makes a subclass with limits and metrics."""

    bounds: ClassVar[ConnectionLimits]
    metrics: ClassVar[Metrics]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._timers: dict[str, asyncio.TimerHandle] = {}
        # When the connection was accepted, or the current head began.
        self._since = self.loop.time()
        self._begun = False
        self._in_body = False
        # Bytes received since the last body byte or the end of the last head.
        self._framing_bytes = 0
        self._head_bytes = 0
        self._too_large = False
        self._current: RequestResponseCycle | None = None
        self._refusal: Problem | None = None
        # Whether incoming bytes are discarded instead of parsed.
        self._deaf = False
        self._lingering = False
        self._ignored_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a request head, or refuse the connection if there are too many."""
        super().connection_made(transport)
        self.metrics.connections.inc()
        surplus = len(self.connections) - self.bounds.connections
        if surplus > REFUSED_AT_ONCE:
            self._report(Problem("too_many_connections", "closed without an answer"), uuid.uuid4().hex, status=0)
            transport.abort()
        elif surplus > 0:
            self._refuse(Problem("too_many_connections", "come again in 1 s", {"Retry-After": "1"}), REFUSED_SECONDS)
        else:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel all timers, and tell the current request that its client has gone."""
        for name in list(self._timers):
            self._disarm(name)
        self.metrics.connections.dec()
        self.pipeline.clear()
        # uvicorn tells only the newest request, which may be queued behind the current one.
        if self._current is not None and not self._current.response_complete:
            self._current.disconnected = True
            self._current.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse the bytes received; after a refusal or an early answer discard them, up to ``drain_bytes``."""
        if self._deaf:
            self._ignored_bytes += len(data)
            if self._ignored_bytes > self.bounds.drain_bytes:
                self.transport.abort()
            return
        # Any bytes outside a body start the head timer, also empty lines between requests, which could go on for ever.
        if not self._in_body:
            self._await_head()
        self._framing_bytes += len(data)
        super().data_received(data)
        if self._framing_bytes > MAX_HEAD_BYTES and not self._deaf:
            self._refuse_size()

    def pause_writing(self) -> None:
        """Start the timer within which the client must read its answer."""
        super().pause_writing()
        self._arm("write", self.bounds.unread_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Stop the timer: the client reads its answer."""
        super().resume_writing()
        self._disarm("write")

    def on_message_begin(self) -> None:
        """Start the timer for a request head."""
        super().on_message_begin()
        self._since = self.loop.time()
        self._begun = True
        self._head_bytes = 0
        self._await_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a header. A trailer only counts towards the size limit: it must not pass for a header."""
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > MAX_HEAD_BYTES or len(self.headers) >= MAX_HEADERS:
            self._too_large = True
            raise ValueError("the head is too large")
        if not self._in_body:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Start the request; refuse an upgrade with a body, which the parser would take for another request."""
        self._disarm("head")
        upgrade = self.parser.should_upgrade()
        if upgrade and any(name in (b"content-length", b"transfer-encoding") for name, _ in self.headers):
            raise ValueError("a body along with an upgrade")
        super().on_headers_complete()
        if upgrade:
            self.cycle.keep_alive = False
        self._in_body = True
        self._framing_bytes = 0

    def on_body(self, body: bytes) -> None:
        """Pass a piece of the body on."""
        self._framing_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note the end of the request."""
        self._begun = self._in_body = False
        self._framing_bytes = 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Go on with the next request of the connection, or send the refusal that waited for this answer."""
        if self._lingering:
            self.server_state.total_requests += 1
            return
        super().on_response_complete()
        if self._begun:
            # The next head has begun to arrive, and the head timer runs for it.
            self._unset_keepalive_if_required()
        if self._refusal is not None and not self.pipeline and not self._answering:
            self._write_refusal(self._refusal, self.bounds.head_seconds)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002
        """Refuse a request that is not valid HTTP, or whose head is too large."""
        if self._too_large:
            self._refuse_size()
        else:
            self._refuse(Problem("malformed_request", "this is not HTTP/1.1"), self.bounds.head_seconds)

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection."""
        self._close()

    def shutdown(self) -> None:
        """Close the connection, after the current answer if there is one."""
        super().shutdown()
        if self.transport.is_closing():
            self._arm("close", self.bounds.unread_seconds, self.transport.abort)

    def finish(self) -> None:
        """Close after the last answer. With unread body bytes, linger first: closing would reset the connection."""
        if self._in_body and not self.transport.is_closing():
            self._linger(self.bounds.head_seconds)
        else:
            self._close()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: "ASGI3Application") -> None:
        self._current = cycle
        cycle.transport = _Answering(self)

        async def announcing(scope: "Scope", receive: "ASGIReceiveCallable", send: "ASGISendCallable") -> None:
            endless = False

            async def announce(message: "ASGISendEvent") -> None:
                nonlocal endless
                if message["type"] == "http.response.start":
                    if cycle.more_body:
                        # The application will not read the rest of the body.
                        cycle.keep_alive = False
                    if cycle.scope["http_version"] == "1.0" and not _says_its_length(message["headers"]):
                        # HTTP/1.0 knows no chunks, whose sizes would be data: the answer ends with the connection.
                        endless = True
                        cycle.chunked_encoding = cycle.keep_alive = False
                elif endless and message["type"] == "http.response.body":
                    cycle.expected_content_length = len(message.get("body", b""))
                await send(message)

            await app(scope, receive, announce)

        super()._start_asgi_task(cycle, announcing)

    def _unsupported_upgrade_warning(self) -> None:
        # The request is answered as plain HTTP. Bytes after it are in the other protocol, or an attack: discard them.
        self._deaf = True

    @property
    def _answering(self) -> bool:
        cycle = self._current
        return cycle is not None and not cycle.response_complete and not cycle.disconnected

    def _await_head(self) -> None:
        if "head" not in self._timers:
            self._arm("head", self.bounds.head_seconds, self._head_is_late)

    def _head_is_late(self) -> None:
        if self._answering:
            # Reading may be paused until the current answer is sent, so the client is not late yet.
            self._await_head()
        elif self._begun:
            detail = f"the head of the request was not complete within {self.bounds.head_seconds:g} s"
            self._refuse(Problem("head_too_slow", detail), REFUSED_SECONDS)
        else:
            self._close()

    def _refuse_size(self) -> None:
        detail = f"a head may have {MAX_HEADERS} headers and {MAX_HEAD_BYTES:,} bytes"
        self._refuse(Problem("head_too_large", detail), self.bounds.head_seconds)

    def _refuse(self, problem: Problem, seconds: float) -> None:
        """Stop parsing, send a problem once the requests before it are answered, and close."""
        self._deaf = True
        self._disarm("head")
        cycle = self.cycle
        if cycle is not None and cycle.more_body and not cycle.response_complete:
            # The body of this request is malformed and will never be complete.
            if self.pipeline and self.pipeline[0][0] is cycle:
                self.pipeline.popleft()
            elif cycle.response_started:
                return
            else:
                cycle.disconnected = True
                cycle.message_event.set()
        if self._answering:
            self._refusal = problem
        else:
            self._write_refusal(problem, seconds)

    def _write_refusal(self, problem: Problem, seconds: float) -> None:
        if self.transport.is_closing():
            return
        request_id = uuid.uuid4().hex
        response = problem.response(request_id)
        response.headers[HEADER] = request_id
        response.headers["Connection"] = "close"
        add_security_headers(response.headers)
        lines = [
            b"HTTP/1.1 %d %s" % (problem.status, HTTPStatus(problem.status).phrase.encode()),
            *(name + b": " + value for name, value in [*self.server_state.default_headers, *response.raw_headers]),
        ]
        self.transport.write(b"\r\n".join([*lines, b"", bytes(response.body)]))
        self._report(problem, request_id, problem.status)
        self._linger(seconds)

    def _report(self, problem: Problem, request_id: str, status: int) -> None:
        """Count and log what never became a request."""
        self.metrics.rejections.labels(problem.code).inc()
        record = RequestRecord(
            request_id=request_id,
            client=address(self.client),
            status=status,
            code=problem.code,
            seconds=self.loop.time() - self._since,
            received=self._framing_bytes,
        )
        write(record)

    def _linger(self, seconds: float) -> None:
        """Close the sending side and discard what arrives for a while: closing at once might lose the answer."""
        self._deaf = self._lingering = True
        self._disarm("head")
        self._unset_keepalive_if_required()
        try:
            if self.transport.can_write_eof():
                self.transport.write_eof()
        except OSError:
            # The client has just left.
            self.transport.abort()
            return
        self.flow.resume_reading()
        self._arm("close", seconds, self.transport.abort)

    def _close(self) -> None:
        if self.transport.is_closing():
            return
        self._disarm("head")
        if self.transport.get_write_buffer_size():
            self._arm("close", self.bounds.unread_seconds, self.transport.abort)
        self.transport.close()

    def _arm(self, name: str, seconds: float, then: Callable[[], object]) -> None:
        self._disarm(name)

        def fire() -> None:
            del self._timers[name]
            then()

        self._timers[name] = self.loop.call_later(seconds, fire)

    def _disarm(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()
