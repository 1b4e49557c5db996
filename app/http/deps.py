"""What the routes that take pictures share: reading one, scoring it, and the words for OpenAPI."""

import hashlib
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, Literal, TypeVar

from fastapi import Depends, Header, Query, Request, Response
from pydantic import Field

from app.batching.jobs import Priority
from app.http import problems
from app.http.problems import NotModified, Problem
from app.http.upload import FIELD, read_picture, while_connected
from app.models.loading import ServedModel
from app.scoring.request import REFUSALS, Extra, PreparedPicture, ScoreRequest, ScoreResult, refusal
from app.scoring.service import Service
from model.contract import MAX_CROPS
from model.crop_rounds import TOLERANCE, Crops
from model.maps import map_crops

T = TypeVar("T")
BINARY = {"type": "string", "format": "binary"}
FORM: dict[str, Any] = {"type": "object", "required": [FIELD], "additionalProperties": False}
"""A few other fields do no harm; how many and how large they may be is nobody's business."""
BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": f"The picture: the multipart field `{FIELD}`, or the body itself.",
        "content": {
            "multipart/form-data": {"schema": {**FORM, "properties": {FIELD: BINARY}}},
            "image/*": {"schema": BINARY},
            "application/octet-stream": {"schema": BINARY},
        },
    }
}
PROBLEMS = problems.responses(
    *(
        code
        for code in problems.TABLE
        if code
        not in {
            "not_found",
            "method_not_allowed",
            "attention_not_supported",
            "stages_not_supported",
            "client_disconnected",
            "admin_key_required",
            "reload_failed",
        }
    )
)


def get_service(request: Request) -> Service:
    """The service that this application holds."""
    service: Service = request.app.state.service
    return service


ServiceDep = Annotated[Service, Depends(get_service)]
ModelQuery = Annotated[str | None, Query(description="Name of a loaded model; the default one if left out.")]
CropsQuery = Annotated[
    Annotated[int, Field(ge=1, le=MAX_CROPS)] | Literal["auto"] | None,
    Query(
        description="Crops to score; the model's own count if left out. `auto` scores as many of those as it needs "
        f"for a standard error of {TOLERANCE:g} points."
    ),
]
Detail = Literal["crops", "map"]
DetailQuery = Annotated[
    Detail | None,
    Query(
        description="`crops` adds each crop's box, score and stage weights; `map` also where the picture is good and "
        f"where it is bad, for up to {map_crops.MAX_CROPS} crops more, which have no part in the score."
    ),
]
PriorityHeader = Annotated[
    Literal["interactive", "bulk"], Header(alias="X-Priority", description="`bulk` waits behind interactive requests.")
]


IfNoneMatchHeader = Annotated[
    str | None,
    Header(alias="If-None-Match", description="`ETag` of an earlier answer: 304 if it would be the same again."),
]
_TAG = {
    "description": "Names what the answer follows from; for `If-None-Match`.",
    "required": True,
    "schema": {"type": "string", "pattern": '^W/"[0-9a-f]{32}"$'},
}
TAGGED: dict[int | str, dict[str, Any]] = {
    200: {
        "headers": {
            "ETag": _TAG,
            "X-Cache": {
                "description": "Whether the score was in memory.",
                "required": True,
                "schema": {"type": "string", "enum": ["hit", "miss"]},
            },
        }
    },
    304: {"description": "The score is what it was.", "headers": {"ETag": _TAG}},
}


DeadlineHeader = Annotated[
    int | None,
    Header(
        alias="X-Deadline-Ms",
        ge=1,
        description="Milliseconds after which the answer is of no use any more; never longer than the service's own.",
    ),
]


def order(
    request: Request,
    service: Service,
    model: ServedModel,
    *,
    crops: Crops | None,
    priority: str,
    deadline_ms: int | None,
    extra: Extra | None = None,
) -> ScoreRequest:
    """Put together what is asked of the pictures of a request.

    Raises:
        Problem: The model cannot give that.
    """
    if extra == "map" and model.config.contract.view != "crops":
        raise Problem("map_not_supported", f"{model.config.name} sees whole pictures, so it has no local scores")
    seconds = service.settings.deadline_seconds
    if deadline_ms is not None:
        # Compared as they are: a float has no room for some of these integers.
        seconds = min(deadline_ms, seconds * 1000) / 1000
    asked = ScoreRequest(
        model=model,
        crops=crops,
        priority=Priority[priority.upper()],
        owner=getattr(request.state, "key", ""),
        seconds=seconds,
        extra=extra,
    )
    if asked.count > service.settings.max_queue_crops:
        # 429 would have the client come again for ever.
        raise Problem(
            "invalid_parameter", f"crops: the queue never has room for {asked.count}, those of the map included"
        )
    return asked


async def score_upload(
    request: Request, response: Response, service: Service, asked: ScoreRequest, *variant: str
) -> ScoreResult:
    """Read the upload and score it, for as long as the client stays.

    Args:
        request: Holds the upload.
        response: Is given the headers that go with the answer.
        service: Does the work.
        asked: What is asked of the picture.
        variant: What else the answer's form depends on.

    Raises:
        Problem: Whatever stands in the way.
        NotModified: The client has that answer.
        ImageError: The picture cannot be scored.
    """
    scored = await work_on_upload(request, response, service, asked, service.scoring.score, *variant)
    response.headers["X-Cache"] = "hit" if scored.cached else "miss"
    return scored


async def work_on_upload(
    request: Request,
    response: Response,
    service: Service,
    asked: ScoreRequest,
    work: Callable[[PreparedPicture, ScoreRequest], Coroutine[Any, Any, T]],
    *variant: str,
) -> T:
    """Read the upload, and have something done with it; otherwise like ``score_upload``."""
    scoring, settings = service.scoring, service.settings
    try:
        scoring.check_room(asked)
        # While crops wait for the device, neither the upload nor the decoded picture is held.
        with scoring.uploads.hold() as take:
            data = await read_picture(request, settings, take)
            deadline = scoring.deadline(asked)
            name = await scoring.name(data, asked)
            variant = (*variant, map_crops.MAP_ID) if asked.spots else variant
            response.headers["ETag"] = tag = entity_tag(*map(str, name), *variant)
            if tag in request.headers.get("if-none-match", ""):
                raise NotModified(tag)
            upload = await while_connected(request, scoring.decode(data, asked, name, deadline))
            del data
        return await while_connected(request, work(upload, asked))
    except REFUSALS as error:
        raise refusal(error, asked) from error


def entity_tag(*parts: str) -> str:
    """Tag the answer that follows from these parts: weak, since the time that it took is told beside the score."""
    return f'W/"{hashlib.sha256(" ".join(parts).encode()).hexdigest()[:32]}"'


def body(scored: ScoreResult, detail: Detail | None) -> dict[str, Any]:
    """What every answer with a score holds."""
    timing = scored.timing
    milliseconds = {
        "decode": round(timing.decode * 1e3, 2),
        "queue": round(timing.queue * 1e3, 2),
        "compute": round(timing.compute * 1e3, 2),
    }
    answer = {**scored.score.to_dict(), "timing_ms": milliseconds}
    if detail is not None:
        answer["crop_scores"] = [
            {"box": crop.box, "score": crop.score, "stage_weights": crop.stage_weights} for crop in scored.score.crops
        ]
    if scored.score_map is not None:
        answer["map"] = scored.score_map.to_dict()
    return answer
