"""Middleware around every request: request id, trace, security headers, metrics, one log line; HEAD as a GET.

Pure ASGI, so that routes still see disconnects.
"""

import asyncio
import logging
import re
import time
import uuid
from collections.abc import Callable, Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.http.openapi import ID_PATTERN
from app.http.problems import TABLE, Problem
from app.observability import access, tracing
from app.observability.access import RequestRecord
from app.observability.metrics import KeyMetrics, Metrics
from app.settings import Settings

HEADER = "X-Request-ID"
_ID = re.compile(ID_PATTERN)

SECURITY_HEADERS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    # A score is for its client alone; no proxy may cache it.
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
"""Headers of every answer, unless its route has set them already."""
log = logging.getLogger("smart_iqa.requests")


def add_security_headers(headers: MutableHeaders) -> None:
    """Add the security headers that an answer lacks."""
    for name, value in SECURITY_HEADERS.items():
        headers.setdefault(name, value)


class RequestMiddleware:
    """Gives each request an id (the client's, if that is valid), counts it and logs it.

    Args:
        app: The wrapped ASGI application.
        metrics: Counts requests and problems.
        settings: From when on a request is slow, and of how many keys requests are counted by name.
        key_names: Returns the names of all keys.
    """

    def __init__(
        self, app: ASGIApp, metrics: Metrics, settings: Settings, key_names: Callable[[], set[str]] = set
    ) -> None:
        self.app = app
        self.metrics = metrics
        self._slow_seconds = settings.slow_seconds
        self._keys = KeyMetrics(metrics, settings.key_metrics, key_names)
        # All series start at 0: Prometheus would not count the first event of a new series as an increase.
        for code in TABLE:
            metrics.rejections.labels(code)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers = Headers(scope=scope)
        sent_id = headers.get(HEADER, "")
        record = RequestRecord(
            request_id=sent_id if _ID.fullmatch(sent_id) else uuid.uuid4().hex,
            client=access.address(scope.get("client")),
            method=scope["method"],
        )
        state = scope.setdefault("state", {})
        state["request_id"] = record.request_id
        state["record"] = record
        # Name of the key's owner, once the key has been checked.
        state["key"] = ""
        token = access.current_id.set(record.request_id)
        self.metrics.in_flight.inc()
        started = time.perf_counter()
        with tracing.joined(headers) as record.trace_id:
            try:
                await self._answer(scope, receive, send, record, started)
            finally:
                self.metrics.in_flight.dec()
                record.seconds = time.perf_counter() - started
                # The route template, never the requested URL, which clients can fill with any text.
                record.route = getattr(scope.get("route"), "path", "unmatched")
                record.code = state.get("problem", "")
                record.key = state["key"]
                self._count(record)
                access.write(record, self._slow_seconds)
                access.current_id.reset(token)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, record: RequestRecord, started: float) -> None:
        state = scope["state"]

        async def receive_counted() -> Message:
            message = await receive()
            if message["type"] == "http.request" and message.get("body"):
                record.received += len(message["body"])
                record.stages["upload"] = time.perf_counter() - started
            return message

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                headers = MutableHeaders(scope=message)
                headers[HEADER] = record.request_id
                add_security_headers(headers)
            await send(message)

        try:
            await self.app(scope, receive_counted, send_with_id)
        except asyncio.CancelledError:
            # Ray's server cancels a request when its client leaves, perhaps before the route has noticed.
            state.setdefault("problem", "client_disconnected")
            raise
        except Exception:
            log.exception("defect id=%s", record.request_id, extra={"request_id": record.request_id})
            if not record.status:
                problem = Problem("internal_error", "the log line with this request id says more")
                state["problem"] = problem.code
                await problem.response(record.request_id)(scope, receive, send_with_id)

    def _count(self, record: RequestRecord) -> None:
        self.metrics.requests.labels(record.route, str(record.status)).inc()
        self.metrics.request_seconds.labels(record.route).observe(record.seconds, tracing.exemplar())
        if record.code:
            self.metrics.rejections.labels(record.code).inc()
        if 0 < self._slow_seconds <= record.seconds:
            self.metrics.slow_requests.inc()
        if record.key:
            self._keys.count(record.key, record.status, record.stages)


class HeadMiddleware:
    """Answers HEAD as GET, without the body (RFC 9110, section 9.3.2), so that no route needs to name both.

    Args:
        app: The wrapped ASGI application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            return await self.app(scope, receive, send)
        # A copy: the server and the log go on seeing the method that was asked with.
        as_get = {**scope, "method": "GET"}

        async def send_without_body(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        try:
            await self.app(as_get, receive, send_without_body)
        finally:
            if "route" in as_get:
                scope["route"] = as_get["route"]
