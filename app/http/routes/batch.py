"""``POST /score/batch``: the scores of several pictures, as one JSON object or as a line for each."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request
from fastapi.responses import Response, StreamingResponse

from app.http import openapi
from app.http.deps import BatchRequestDep, ServiceDep
from app.http.schemas import BatchAnswer, BatchItem
from app.http.several import Count, Outcome, UntilAnswered, item, outcomes
from app.http.upload import while_connected
from app.scoring.request import ScoreRequest

router = APIRouter(tags=["scores"])

NDJSON = "application/x-ndjson"
AcceptHeader = Annotated[
    # OpenAPI forbids a parameter of this name. Lines are told in words there: an operation has one media type.
    str,
    Header(include_in_schema=False),
]


@router.post(
    "/score/batch",
    response_model=BatchAnswer,
    response_model_exclude_unset=True,
    responses=openapi.PICTURE_PROBLEMS,
    openapi_extra=openapi.pictures_body(),
    summary="Score the quality of several pictures",
)
async def score_batch(
    http: Request,
    service: ServiceDep,
    stack: UntilAnswered,
    request: BatchRequestDep,
    accept: AcceptHeader = "application/json",
) -> dict[str, Any] | Response:
    """Score several pictures. All are taken or none is; then each has a result or a problem of its own.

    A picture's result is what `/score` answers, or the problem that it would answer with. With
    `Accept: application/x-ndjson` there is a line for each picture as soon as it is done, in any order.
    """
    tasks = await outcomes(http, service, stack, request, Count(1, service.settings.max_batch_files))
    if NDJSON in accept:
        return StreamingResponse(_lines(http, tasks, request), media_type=NDJSON, headers={"X-Accel-Buffering": "no"})
    done = await while_connected(http, asyncio.gather(*tasks))
    return {"results": [item(http, index, outcome, request) for index, outcome in enumerate(done)]}


async def _lines(http: Request, tasks: "Sequence[asyncio.Task[Outcome]]", request: ScoreRequest) -> AsyncIterator[str]:
    places = {task: index for index, task in enumerate(tasks)}
    waiting = {*tasks}
    while waiting:
        finished, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in finished:
            # Validated by the schema, as FastAPI does it for the JSON answer.
            line = BatchItem.model_validate(item(http, places[task], task.result(), request))
            yield line.model_dump_json(exclude_unset=True) + "\n"
