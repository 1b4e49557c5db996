"""Around every request: its id, security headers, metrics, one log line.

Pure ASGI, so that disconnects stay visible.
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
    # A score belongs to who asked for it; nothing on the way may keep it.
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
"""Of every answer unless its route has set them otherwise."""
DOCS_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'unsafe-inline' https://cdn.jsdelivr.net",
        "style-src 'unsafe-inline' https://cdn.jsdelivr.net https://fonts.googleapis.com",
        "font-src https://fonts.gstatic.com",
        "img-src 'self' data: https://fastapi.tiangolo.com https://cdn.redoc.ly",
        "connect-src 'self'",
        "worker-src blob:",
        "frame-ancestors 'none'",
    )
)
"""For FastAPI's own pages, which take their scripts from the internet."""
DOCS = ("/docs", "/redoc")

log = logging.getLogger("smart_iqa.access")


def add_security_headers(headers: MutableHeaders, path: str) -> None:
    """Add the security headers that an answer to a request for that path does not have yet."""
    if path in DOCS:
        headers.setdefault("Content-Security-Policy", DOCS_POLICY)
    for name, value in SECURITY_HEADERS.items():
        headers.setdefault(name, value)


class RequestMiddleware:
    """Gives each request an id (the client's, if it sent a sane one), counts it and logs it.

    Args:
        app: The next application.
        metrics: Where it reports.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics
        # From 0 on: else the first problem of a kind would not count as an increase.
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
        # The name of the key, once it has been checked.
        state["key"] = ""
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                answered = MutableHeaders(scope=message)
                answered[HEADER] = request_id
                add_security_headers(answered, scope["path"])
            await send(message)

        started = time.perf_counter()
        self.metrics.in_flight.inc()
        try:
            await self.app(scope, receive, send_with_id)
        except asyncio.CancelledError:
            # A server that cancels the requests of clients who have left, as Ray's does, may be quicker than we are.
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
            # The template, never the address that was asked for: that one is anybody's text.
            route = getattr(scope.get("route"), "path", "unmatched")
            self.metrics.requests.labels(route, str(status)).inc()
            self.metrics.request_seconds.labels(route).observe(seconds)
            code = state.get("problem")
            if code:
                self.metrics.rejections.labels(code).inc()
            # Probes and scrapes come every few seconds, for ever.
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
