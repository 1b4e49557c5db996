"""``GET /``: the web page and its files. They need no key; the scores that the page requests do, if keys are set."""

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
        # The page shows photos from the browser's memory, as blob URLs.
        "img-src 'self' blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        # The page shows file names; this forbids it to turn any text into markup.
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    # Browsers cache the files but revalidate them by ETag each time: after an update no page mixes old and new files.
    "Cache-Control": "no-cache",
    "Vary": "Accept-Encoding",
}
METHODS = ["GET", "HEAD"]

_files = StaticFiles(directory=FOLDER, check_dir=False)


@router.api_route("/", methods=METHODS)
async def index(request: Request) -> Response:
    """Send the page."""
    return await file("index.html", request)


@router.api_route("/page/{name}", methods=METHODS)
async def file(name: str, request: Request) -> Response:
    """Send one file of the page."""
    response = await _files.get_response(name, request.scope)
    response.headers.update(HEADERS)
    if tag := response.headers.get("ETag"):
        # Weak: the compressed file and the plain one share it.
        response.headers["ETag"] = f"W/{tag}"
    return response
