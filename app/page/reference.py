"""``GET /docs``: the reference of the API to try out, by Swagger UI from ``swagger/``; and its OpenAPI document.

``swagger/`` has files of swagger-ui-dist 5.35.0 (npm; Apache-2.0) as they are, and the two of our own that show them.
"""

from pathlib import Path

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles

from app.page import route

router = APIRouter(include_in_schema=False)

FOLDER = Path(__file__).parent / "swagger"
HEADERS = {
    **route.HEADERS,
    # Icons are data in its style sheet, and a picture that a route answers with is a blob.
    "Content-Security-Policy": "; ".join((*route.OWN, "img-src 'self' blob: data:")),
}

_files = StaticFiles(directory=FOLDER, check_dir=False)


@router.get("/openapi.json")
async def document(request: Request) -> Response:
    """Send the OpenAPI document."""
    return JSONResponse(request.app.openapi())


@router.get("/docs")
async def index(request: Request) -> Response:
    """Send the page."""
    return await file("index.html", request)


@router.get("/docs/{name}")
async def file(name: str, request: Request) -> Response:
    """Send one file of the page."""
    return await route.send(_files, name, request, HEADERS)
