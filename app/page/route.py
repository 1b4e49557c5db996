"""``GET /``: the web page and its files. They need no key; the scores that the page requests do, if keys are set."""

from collections.abc import Mapping
from pathlib import Path

from fastapi import APIRouter, Request, Response
from fastapi.staticfiles import StaticFiles

router = APIRouter(include_in_schema=False)

FOLDER = Path(__file__).parent / "static"
OWN = (
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
)
"""Content policy of pages whose scripts, styles and requests are their own."""
POLICY = (
    *OWN,
    # The page shows photos from the browser's memory, as blob URLs.
    "img-src 'self' blob:",
    # The page shows file names; this forbids it to turn any text into markup.
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
)
HEADERS = {
    "Content-Security-Policy": "; ".join(POLICY),
    "Cross-Origin-Opener-Policy": "same-origin",
    # Browsers cache the files but revalidate them by ETag each time: after an update no page mixes old and new files.
    "Cache-Control": "no-cache",
    "Vary": "Accept-Encoding",
}

_files = StaticFiles(directory=FOLDER, check_dir=False)


@router.get("/")
async def index(request: Request) -> Response:
    """Send the page."""
    return await file("index.html", request)


@router.get("/page/{name}")
async def file(name: str, request: Request) -> Response:
    """Send one file of the page."""
    return await send(_files, name, request, HEADERS)


async def send(files: StaticFiles, name: str, request: Request, headers: Mapping[str, str]) -> Response:
    """Send one of the files of a page, with the headers that all of them have."""
    response = await files.get_response(name, request.scope)
    response.headers.update(headers)
    if tag := response.headers.get("ETag"):
        # Weak: the compressed file and the plain one share it.
        response.headers["ETag"] = f"W/{tag}"
    return response
