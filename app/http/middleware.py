"""Middleware around every request: request id, security headers, metrics, one log line; HEAD as GET without its body.

Pure ASGI, so that routes still see disconnects.
"""

import asyncio
import logging
import re
import time
import uuid
from collections.abc import Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.http.openapi import ID_PATTERN
from app.http.problems import TABLE, Problem
from app.observability.metrics import Metrics

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
log = logging.getLogger("smart_iqa.access")


def add_security_headers(headers: MutableHeaders) -> None:
    """Add the security headers that an answer lacks."""
    for name, value in SECURITY_HEADERS.items():
        headers.setdefault(name, value)


class RequestMiddleware:
    """Gives each request an id (the client's, if that is valid), counts it and logs it.

    Args:
        app: The wrapped ASGI application.
        metrics: Counts requests and problems.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics
        # All series start at 0: Prometheus would not count the first event of a new series as an increase.
        for code in TABLE:
            metrics.rejections.labels(code)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        sent_id = Headers(scope=scope).get(HEADER, "")
        request_id = sent_id if _ID.fullmatch(sent_id) else uuid.uuid4().hex
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        # Name of the key's owner, once the key has been checked.
        state["key"] = ""
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers[HEADER] = request_id
                add_security_headers(headers)
            await send(message)

        started = time.perf_counter()
        self.metrics.in_flight.inc()
        try:
            await self.app(scope, receive, send_with_id)
        except asyncio.CancelledError:
            # Ray's server cancels a request when its client leaves, perhaps before the route has noticed.
            state.setdefault("problem", "client_disconnected")
            raise
        except Exception:
            log.exception("defect id=%s", request_id, extra={"request_id": request_id})
            if not status:
                problem = Problem("internal_error", "the log line with this request id says more")
                state["problem"] = problem.code
                await problem.response(request_id)(scope, receive, send_with_id)
        finally:
            self.metrics.in_flight.dec()
            seconds = time.perf_counter() - started
            # The route template, never the requested URL, which clients can fill with any text.
            route = getattr(scope.get("route"), "path", "unmatched")
            self.metrics.requests.labels(route, str(status)).inc()
            self.metrics.request_seconds.labels(route).observe(seconds)
            code = state.get("problem")
            if code:
                self.metrics.rejections.labels(code).inc()
            # Probes and scrapes, every few seconds, are logged at DEBUG only.
            level = logging.INFO if scope["method"] == "POST" or code else logging.DEBUG
            log.log(
                level,
                "%s %s %d %s %.1fms id=%s key=%s",
                scope["method"],
                route,
                status,
                code or "-",
                seconds * 1e3,
                request_id,
                state["key"] or "-",
                extra={
                    "request_id": request_id,
                    "method": scope["method"],
                    "route": route,
                    "status": status,
                    "code": code,
                    "ms": round(seconds * 1e3, 1),
                    "key": state["key"] or None,
                },
            )


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
