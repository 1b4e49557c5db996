"""``/admin/*``, for admin keys: drain the service, exchange its models while it serves."""

import asyncio
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import ValidationError
from starlette.requests import ClientDisconnect

from app.http import problems
from app.http.deps import ServiceDep
from app.http.problems import Problem
from app.http.schemas import Drain, Reload, Reloaded
from app.http.upload import media_type
from app.models.reload import check_allowed

router = APIRouter(prefix="/admin", tags=["operations"])

MAX_BODY_BYTES = 2**16
JSON = "application/json"
BODY: dict[str, Any] = {
    "requestBody": {
        "required": False,
        "description": "Checkpoints to serve from now on; the configured ones if left out.",
        "content": {JSON: {"schema": Reload.model_json_schema()}},
    }
}


@router.post(
    "/drain", response_model=Drain, responses=problems.responses("invalid_parameter"), summary="Take no new work"
)
async def drain(
    service: ServiceDep, undo: Annotated[bool, Query(description="Whether to take work again.")] = False
) -> Drain:
    """Turn readiness off and refuse new pictures with 503; what was accepted is finished. SIGTERM does the same."""
    service.drain(undo=undo)
    return Drain(draining=service.draining)


@router.post(
    "/reload",
    response_model=Reloaded,
    responses=problems.responses(
        "reload_failed",
        "upload_too_slow",
        "body_too_large",
        "unsupported_media_type",
        "invalid_parameter",
        "device_lost",
    ),
    openapi_extra=BODY,
    summary="Load the checkpoints again",
)
async def reload(request: Request, service: ServiceDep) -> Reloaded:
    """Load and prove checkpoints, then exchange the models at once; if one fails, the old ones stay. As SIGHUP."""
    seconds = service.settings.deadline_seconds
    try:
        async with asyncio.timeout(seconds):
            body = await _body(request)
    except TimeoutError as error:
        raise Problem("upload_too_slow", f"the body was not complete within {seconds:g} s") from error
    if body and media_type(request) != JSON:
        raise Problem("unsupported_media_type", f"send the checkpoints with Content-Type {JSON}")
    folders = _folders(body)
    if folders:
        check_allowed(folders, service.settings.checkpoints)
    old, new = await service.reload(folders)
    return Reloaded(old=old, new=new)


async def _body(request: Request) -> bytes:
    """Read the JSON body. A body declared to FastAPI would be read before the key is checked."""
    body = b""
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                raise Problem("body_too_large", f"the body is larger than the limit of {MAX_BODY_BYTES:,} bytes")
    except ClientDisconnect as error:
        raise Problem("client_disconnected", "the client left during the upload") from error
    return body


def _folders(body: bytes) -> tuple[Path, ...]:
    if not body:
        return ()
    try:
        return Reload.model_validate_json(body).checkpoints
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "body"
        raise Problem("invalid_parameter", f"{place}: {first['msg']}") from error
