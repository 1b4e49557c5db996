"""``GET /``: the web page, and the files it is made of. Needs no key; what it asks the service for does."""

from pathlib import Path

from fastapi import APIRouter, Request, Response
from fastapi.staticfiles import StaticFiles

router = APIRouter(include_in_schema=False)

FOLDER = Path(__file__).parent / "static"
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        # Photos are shown from memory.
        "img-src 'self' blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        # Names of files are shown: no text ever becomes markup.
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    # Kept, and asked for again by its ETag each time: after an update nobody is left with half of the old page.
    "Cache-Control": "no-cache",
}
METHODS = ["GET", "HEAD"]

_files = StaticFiles(directory=FOLDER, check_dir=False)


@router.api_route("/", methods=METHODS)
async def index(request: Request) -> Response:
    """Send the page."""
    return await file("index.html", request)


@router.api_route("/page/{name}", methods=METHODS)
async def file(name: str, request: Request) -> Response:
    """Send one of its files."""
    response = await _files.get_response(name, request.scope)
    response.headers.update(HEADERS)
    return response
