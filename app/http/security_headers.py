"""Headers that every answer carries unless its route has set them otherwise."""

from collections.abc import Mapping

from starlette.datastructures import MutableHeaders

DEFAULTS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    # A score belongs to who asked for it; nothing on the way may keep it.
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
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


def complete(headers: MutableHeaders, path: str) -> None:
    """Add what is missing to the headers of an answer to a request for that path."""
    if path in DOCS:
        headers.setdefault("Content-Security-Policy", DOCS_POLICY)
    for name, value in DEFAULTS.items():
        headers.setdefault(name, value)
