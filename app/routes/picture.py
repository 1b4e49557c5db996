"""What the routes that take one picture share: reading it, scoring it, and the words for OpenAPI."""

from typing import Annotated, Any, Literal

from fastapi import Depends, Header, Query, Request

from app import errors
from app.decoding import DecoderFull
from app.errors import Problem
from app.models import ServedModel
from app.rates import RateExceeded
from app.service import Scored, Service
from app.upload import FIELD, read_picture, while_connected
from app.work import DeadlineExceeded, DeviceLost, EngineFailed, Priority, QueueFull
from model.contract import MAX_CROPS

BINARY = {"type": "string", "format": "binary"}
BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": f"The picture: the multipart field `{FIELD}`, or the body itself.",
        "content": {
            "multipart/form-data": {"schema": {"type": "object", "required": [FIELD], "properties": {FIELD: BINARY}}},
            "image/*": {"schema": BINARY},
        },
    }
}
PROBLEMS = errors.responses(
    *(
        code
        for code in errors.TABLE
        if code
        not in {
            "not_found",
            "method_not_allowed",
            "attention_not_supported",
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
    int | None, Query(ge=1, le=MAX_CROPS, description="Crops to score; the model's own count if left out.")
]
DetailQuery = Annotated[
    Literal["crops"] | None, Query(description="`crops` adds each crop's box, score and stage weights.")
]
PriorityHeader = Annotated[
    Literal["interactive", "bulk"], Header(alias="X-Priority", description="`bulk` waits behind interactive requests.")
]


DeadlineHeader = Annotated[
    int | None,
    Header(
        alias="X-Deadline-Ms",
        ge=1,
        description="Milliseconds after which the answer is of no use any more; never longer than the service's own.",
    ),
]


async def score_upload(
    request: Request,
    service: Service,
    model: ServedModel,
    *,
    crops: int | None,
    priority: str,
    deadline_ms: int | None,
    preview: bool = False,
) -> Scored:
    """Read the upload and score it, for as long as the client stays; ``preview`` keeps a small copy of the picture.

    Raises:
        Problem: Whatever stands in the way.
        ImageError: The picture cannot be scored.
    """
    settings = service.settings
    owner = getattr(request.state, "key", "")
    seconds = settings.deadline_seconds
    if deadline_ms is not None:
        seconds = min(seconds, deadline_ms / 1000)
    try:
        service.check_room(model, crops, owner)
        # While crops wait for the device, neither the upload nor the decoded picture is held.
        with service.uploads.hold() as take:
            data = await read_picture(request, settings.max_body_bytes, take, settings.deadline_seconds)
            work = service.decode(data, model, crops=crops, preview=preview, seconds=seconds)
            upload = await while_connected(request, work)
            del data
        scoring = service.score(upload, model, priority=Priority[priority.upper()], owner=owner, seconds=seconds)
        return await while_connected(request, scoring)
    except QueueFull as error:
        detail = f"too much work waits; come again in {error.retry_after} s"
        raise Problem("queue_full", detail, {"Retry-After": str(error.retry_after)}) from error
    except RateExceeded as error:
        detail = f"this key has asked for too much; come again in {error.retry_after} s"
        raise Problem("rate_limited", detail, {"Retry-After": str(error.retry_after)}) from error
    except DecoderFull as error:
        raise Problem(
            "queue_full", "too many pictures are being decoded; come again in 1 s", {"Retry-After": "1"}
        ) from error
    except DeadlineExceeded as error:
        detail = f"there was no answer within {seconds:g} s"
        raise Problem("deadline_exceeded", detail) from error
    except EngineFailed as error:
        raise Problem("engine_failed", "the model failed on this picture twice; others are not affected") from error
    except DeviceLost as error:
        raise Problem("device_lost", "nothing can be computed until the service is restarted") from error


def body(scored: Scored, detail: str | None) -> dict[str, Any]:
    """What every answer with a score holds."""
    timing = scored.timing
    milliseconds = {
        "decode": round(timing.decode * 1e3, 2),
        "queue": round(timing.queue * 1e3, 2),
        "compute": round(timing.compute * 1e3, 2),
    }
    answer = {**scored.score.to_dict(), "timing_ms": milliseconds}
    if detail == "crops":
        answer["crop_scores"] = [
            {"box": crop.box, "score": crop.score, "stage_weights": crop.stage_weights} for crop in scored.score.crops
        ]
    return answer
