"""Error answers, as RFC 9457 ``application/problem+json``, and the mapping from errors to them.

Code that knows of HTTP raises ``Problem``. All other code raises domain errors, which carry their data; only
``problem_of`` turns them into answers.

Problem
|-- the request
|   |-- 400 malformed_request, malformed_upload, empty_body, missing_file
|   |-- 401 missing_key, invalid_key    with WWW-Authenticate
|   |-- 403 admin_key_required
|   |-- 404 not_found, unknown_model, unknown_policy
|   |-- 405 method_not_allowed
|   |-- 408 head_too_slow, upload_too_slow
|   |-- 409 attention_not_supported, comparison_not_supported, map_not_supported,
|   |       picking_not_supported, policy_not_supported, reload_failed, stages_not_supported
|   |-- 413 body_too_large, too_many_files
|   |-- 415 unsupported_media_type
|   |-- 422 invalid_parameter, too_few_files
|   `-- 431 head_too_large
|-- the picture
|   |-- 415 unsupported_format
|   `-- 422 image_undecodable, image_truncated, too_many_pixels, image_too_small, extreme_aspect,
|           image_quarantined
`-- the service
    |-- 429 queue_full, rate_limited    with Retry-After
    |-- 499 client_disconnected    for logs and metrics; no client receives it
    |-- 500 internal_error, engine_failed
    |-- 503 not_ready, draining, device_lost, too_many_connections
    `-- 504 deadline_exceeded
"""

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from app.batching.errors import BatcherError, DeadlineExceeded, DeviceLost, EngineFailed, QueueFull
from app.decode.errors import DecoderFull
from app.models.reload import FolderNotAllowed
from app.scoring.cache import ImageQuarantined
from app.scoring.rate_limit import RateExceeded
from app.scoring.service import NotReady, ReloadFailed, UnknownModel
from app.settings import did_you_mean
from model import images
from model.policies import UnknownPolicy

MEDIA_TYPE = "application/problem+json"

TABLE: Mapping[str, tuple[int, str]] = {
    "malformed_request": (400, "The request is not well-formed HTTP"),
    "malformed_upload": (400, "The upload is not a well-formed multipart body"),
    "empty_body": (400, "The upload is empty"),
    "missing_file": (400, "The picture is missing"),
    "missing_key": (401, "A key is needed"),
    "invalid_key": (401, "The key is not known"),
    "admin_key_required": (403, "An admin's key is needed"),
    "not_found": (404, "There is nothing at this address"),
    "unknown_model": (404, "No such model is loaded"),
    "unknown_policy": (404, "There is no such policy"),
    "method_not_allowed": (405, "This address does not take this method"),
    "head_too_slow": (408, "The request took too long to begin"),
    "upload_too_slow": (408, "The upload took too long"),
    "attention_not_supported": (409, "The model has no stage weights"),
    "comparison_not_supported": (409, "The model gives no intervals, which comparing needs"),
    "picking_not_supported": (409, "The model or the service cannot tell which pictures are alike"),
    "map_not_supported": (409, "The model sees whole pictures only"),
    "policy_not_supported": (409, "The policy asks for more than the model tells"),
    "stages_not_supported": (409, "The model has no stages to show"),
    "reload_failed": (409, "The models were not exchanged"),
    "body_too_large": (413, "The upload is too large"),
    "too_many_files": (413, "There are too many pictures in one request"),
    "unsupported_media_type": (415, "The body is of a type that is not taken here"),
    "unsupported_format": (415, "The picture's format is not accepted"),
    "invalid_parameter": (422, "A parameter is unknown or out of range"),
    "too_few_files": (422, "There are too few pictures in the request"),
    "image_undecodable": (422, "The picture cannot be decoded"),
    "image_truncated": (422, "The picture is truncated"),
    "too_many_pixels": (422, "The picture has too many pixels"),
    "image_too_small": (422, "The picture is too small"),
    "image_too_costly": (422, "The picture takes too long to decode"),
    "extreme_aspect": (422, "The picture is too long for its width"),
    "image_quarantined": (422, "The model failed on this picture lately"),
    "head_too_large": (431, "The head of the request is too large"),
    "queue_full": (429, "The service is at capacity"),
    "rate_limited": (429, "The key has used up its rate"),
    "client_disconnected": (499, "The client left"),
    "internal_error": (500, "Something went wrong here"),
    "engine_failed": (500, "The model failed on this picture"),
    "not_ready": (503, "The service is not ready"),
    "draining": (503, "The service is draining"),
    "device_lost": (503, "The service has lost its device"),
    "too_many_connections": (503, "The service has too many connections"),
    "deadline_exceeded": (504, "The answer did not come in time"),
}

EVERYWHERE = (
    *("malformed_request", "head_too_slow", "invalid_parameter", "head_too_large", "internal_error"),
    "too_many_connections",
)
"""Problems of any route: from the connection, an unknown parameter, or a defect."""
RETRY_AFTER = {"Retry-After": "5"}
"""Sent while the service is not ready or drains."""

IMAGE_CODES: Mapping[type[images.ImageError], str] = {
    images.UnsupportedFormat: "unsupported_format",
    images.UndecodableImage: "image_undecodable",
    images.TruncatedImage: "image_truncated",
    images.TooManyPixels: "too_many_pixels",
    images.TooSmall: "image_too_small",
    images.AspectTooExtreme: "extreme_aspect",
    images.TooMuchWork: "image_too_costly",
}


class Problem(Exception):
    """An error answer.

    Args:
        code: A key of ``TABLE``.
        detail: What happened this time. The client reads it: never an exception's text or a file name.
        headers: Headers of the answer.
    """

    def __init__(self, code: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.detail = detail
        self.headers = headers
        self.status, self.title = TABLE[code]

    def body(self, request_id: str) -> "ProblemBody":
        """The JSON body of the answer."""
        return ProblemBody(
            type=f"urn:smart-iqa:problem:{self.code}",
            title=self.title,
            status=self.status,
            detail=self.detail,
            code=self.code,
            request_id=request_id,
        )

    def response(self, request_id: str) -> JSONResponse:
        """The HTTP answer."""
        return JSONResponse(self.body(request_id).model_dump(), self.status, self.headers, MEDIA_TYPE)


class NotModified(Exception):
    """The client already has this answer: its ``If-None-Match`` matches the entity tag.

    Args:
        tag: The answer's entity tag.
    """

    def __init__(self, tag: str) -> None:
        super().__init__(tag)
        self.tag = tag


class ProblemBody(BaseModel):
    """An RFC 9457 problem."""

    type: str = Field(examples=["urn:smart-iqa:problem:image_truncated"])
    title: str = Field(examples=["The picture is truncated"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["the picture is truncated: its end is missing"])
    code: str = Field(
        description="Stable name of the problem, for programs.",
        examples=["image_truncated"],
        json_schema_extra={"enum": [*TABLE]},
    )
    request_id: str = Field(description="The same as in the X-Request-ID header.", examples=["5f0c5d9f0a4e4e0c"])


ERRORS = (
    BatcherError,
    DecoderFull,
    FolderNotAllowed,
    ImageQuarantined,
    NotReady,
    RateExceeded,
    ReloadFailed,
    UnknownModel,
    UnknownPolicy,
    images.ImageError,
)
"""Domain errors that ``problem_of`` maps to problems."""


def problem_of(error: Exception) -> Problem | None:
    """The problem that an error is answered with; None if the error is a defect."""
    match error:
        case Problem():
            return error
        case images.ImageError():
            return Problem(IMAGE_CODES[type(error)], str(error))
        case QueueFull():
            detail = f"too much work waits; come again in {error.retry_after} s"
            return Problem("queue_full", detail, {"Retry-After": str(error.retry_after)})
        case DecoderFull():
            detail = f"too many pictures wait to be decoded; come again in {error.retry_after} s"
            return Problem("queue_full", detail, {"Retry-After": str(error.retry_after)})
        case RateExceeded():
            detail = f"this key has asked for too much; come again in {error.retry_after} s"
            return Problem("rate_limited", detail, {"Retry-After": str(error.retry_after)})
        case DeadlineExceeded():
            return Problem("deadline_exceeded", f"there was no answer within {error.seconds:g} s")
        case ImageQuarantined():
            detail = "the model failed on this picture; it is not tried again for five minutes"
            return Problem("image_quarantined", detail)
        case EngineFailed():
            return Problem("engine_failed", "the model failed on this picture twice; others are not affected")
        case DeviceLost():
            return Problem("device_lost", f"nothing can be {error.wanted} until the service is restarted")
        case NotReady():
            return Problem("not_ready", str(error), RETRY_AFTER)
        case UnknownPolicy():
            return Problem("unknown_policy", str(error))
        case UnknownModel():
            return Problem("unknown_model", f"the loaded models are {', '.join(error.loaded)}")
        case ReloadFailed():
            return Problem(
                "reload_failed", f"the models that are loaded stay; the reason is {error}, the log says more"
            )
        case FolderNotAllowed():
            detail = f"checkpoints.{error.place}: not below the parent of a configured checkpoint"
            return Problem("invalid_parameter", detail)
    return None


def unknown(name: str, known: Iterable[str], where: str) -> Problem:
    """The problem of a parameter or field that nobody knows: ignored, it would give another answer than was asked for.

    Args:
        name: The unknown name.
        known: Names that would have been right.
        where: Where it stood.
    """
    return Problem("invalid_parameter", f"there is no {name[:64]!r} {where}{did_you_mean(name, known)}")


def responses(*codes: str) -> dict[int | str, dict[str, Any]]:
    """Describe problems for OpenAPI, grouped by status."""
    described: dict[int | str, dict[str, Any]] = {}
    for code in codes:
        status, title = TABLE[code]
        entry = described.setdefault(status, {"model": ProblemBody, "description": ""})
        entry["description"] += f"{'; ' if entry['description'] else ''}`{code}`: {title}"
    return described


def install(app: FastAPI) -> None:
    """Register handlers that answer the known errors with problems; the middleware answers defects."""

    def answer(request: Request, problem: Problem) -> JSONResponse:
        request.state.problem = problem.code
        return problem.response(request.state.request_id)

    async def on_error(request: Request, error: Exception) -> JSONResponse:
        problem = problem_of(error)
        assert problem is not None, "only errors that are known come here"
        return answer(request, problem)

    for kind in (Problem, *ERRORS):
        app.add_exception_handler(kind, on_error)

    @app.exception_handler(NotModified)
    async def on_not_modified(_: Request, error: NotModified) -> Response:
        return Response(status_code=304, headers={"ETag": error.tag})

    @app.exception_handler(RequestValidationError)
    async def on_validation(request: Request, error: RequestValidationError) -> JSONResponse:
        name = error.errors()[0]["loc"][1]
        # A parameter with a union type has one error for each member of the union.
        messages = [entry["msg"] for entry in error.errors() if entry["loc"][1] == name]
        return answer(request, Problem("invalid_parameter", f"{name}: {', or '.join(messages)}"))

    @app.exception_handler(HTTPException)
    async def on_http(request: Request, error: HTTPException) -> JSONResponse:
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "internal_error")
        detail, headers = HTTPStatus(error.status_code).phrase, dict(error.headers or {})
        if code == "not_found" and request.url.path.endswith("/"):
            detail = "there is nothing at this address; no address here ends with a slash"
        if headers.get("Allow") == "GET":
            # Whatever takes GET takes HEAD.
            headers["Allow"] = "GET, HEAD"
        return answer(request, Problem(code, detail, headers))
