"""``POST /score/batch``: the scores of several pictures, as one JSON object or as a line for each."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request
from fastapi.responses import Response, StreamingResponse

from app.batching.capacity import Reservation
from app.http import openapi
from app.http.deps import BatchRequestDep, ServiceDep
from app.http.problems import Problem, problem_of
from app.http.schemas import BatchAnswer, BatchItem
from app.http.upload import Take, read_pictures, while_connected
from app.scoring.request import ScoreRequest
from app.scoring.service import Service

router = APIRouter(tags=["scores"])
log = logging.getLogger("smart_iqa.batch")

NDJSON = "application/x-ndjson"
AcceptHeader = Annotated[
    # OpenAPI forbids a parameter of this name; the responses list the media types.
    str,
    Header(include_in_schema=False),
]


async def _until_answered() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


UntilAnswered = Annotated[AsyncExitStack, Depends(_until_answered)]


@router.post(
    "/score/batch",
    response_model=BatchAnswer,
    response_model_exclude_unset=True,
    responses={
        **openapi.PICTURE_PROBLEMS,
        200: {"content": {NDJSON: {"schema": {"$ref": "#/components/schemas/BatchItem"}}}},
    },
    openapi_extra=openapi.PICTURES_BODY,
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
    pipeline, settings = service.pipeline, service.settings
    pipeline.shed(request)
    take = stack.enter_context(http.app.state.uploads.hold())
    files = await read_pictures(http, settings, take)
    crops = len(files) * request.max_crops
    size = crops * request.model.config.contract.most_item_bytes
    if crops > settings.max_queue_crops or size > settings.max_queue_bytes:
        raise Problem("too_many_files", f"the queue never has room for {crops} crops")
    reservations = stack.enter_context(pipeline.reserve(request, len(files)))
    batch = _Batch(http, service, request, files, reservations, take)
    tasks = [asyncio.create_task(batch.item(index)) for index in range(len(files))]
    stack.callback(_cancel, tasks)
    if NDJSON in accept:
        return StreamingResponse(_lines(tasks), media_type=NDJSON, headers={"X-Accel-Buffering": "no"})
    return {"results": await while_connected(http, asyncio.gather(*tasks))}


class _Batch:
    """The pictures of one request: decoded one after the other, scored together.

    Args:
        http: The HTTP request.
        service: Scores the pictures.
        request: The parameters, the same for each picture.
        files: The encoded pictures; each is freed when it is decoded.
        reservations: Queue capacity, one reservation for each picture.
        take: From ``UploadBudget.hold``; returns the bytes of each decoded picture to the budget.
    """

    def __init__(
        self,
        http: Request,
        service: Service,
        request: ScoreRequest,
        files: list[bytes],
        reservations: Sequence[Reservation],
        take: Take,
    ) -> None:
        self._http = http
        self._pipeline = service.pipeline
        self._max_bytes = service.settings.max_body_bytes
        self._request = request
        self._files = files
        self._reservations = reservations
        self._take = take
        self._decoding = asyncio.Lock()
        self._deadline = self._pipeline.deadline(request)

    async def item(self, index: int) -> dict[str, Any]:
        """Score one picture. An error becomes the problem of this picture and does not affect the others."""
        try:
            with self._reservations[index] as reservation:
                return {"index": index, "status": 200, "result": await self._score(index, reservation)}
        except Exception as error:
            problem = problem_of(error)
            if problem is None:
                log.exception("defect id=%s", self._http.state.request_id)
                problem = Problem("internal_error", "the log line with this request id says more")
        self._http.app.state.metrics.rejections.labels(problem.code).inc()
        body = problem.body(self._http.state.request_id).model_dump()
        return {"index": index, "status": problem.status, "problem": body}

    async def _score(self, index: int, reservation: Reservation) -> dict[str, Any]:
        async with self._decoding:
            data, self._files[index] = self._files[index], b""
            if not data:
                raise Problem("empty_body", "there are no bytes in the picture")
            if len(data) > self._max_bytes:
                raise Problem("body_too_large", f"the picture is larger than the limit of {self._max_bytes:,} bytes")
            key = await self._pipeline.cache_key(data, self._request)
            picture = await self._pipeline.prepare(data, self._request, key, self._deadline, reservation)
            self._take(-len(data))
            del data
        return (await self._pipeline.score(picture)).to_dict(self._request.detail)


def _cancel(tasks: Sequence["asyncio.Task[dict[str, Any]]"]) -> None:
    for task in tasks:
        task.cancel()


async def _lines(tasks: Sequence["asyncio.Task[dict[str, Any]]"]) -> AsyncIterator[str]:
    for done in asyncio.as_completed(tasks):
        # Validated by the schema, as FastAPI does it for the JSON answer.
        yield BatchItem.model_validate(await done).model_dump_json(exclude_unset=True) + "\n"
