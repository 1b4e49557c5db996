"""Several pictures of one request: all are taken or none is, then each has a result or a problem of its own.

``/score/batch`` and ``/compare`` take pictures so.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from typing import Annotated, Any, NamedTuple

from fastapi import Depends, Request

from app.batching.capacity import Reservation
from app.http.problems import Problem, problem_of
from app.http.upload import Take, read_pictures
from app.scoring.request import ScoreRequest, ScoreResult
from app.scoring.service import Service

log = logging.getLogger("smart_iqa.several")


async def _until_answered() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


UntilAnswered = Annotated[AsyncExitStack, Depends(_until_answered)]


class Count(NamedTuple):
    """How many pictures a request may have.

    Attributes:
        least: The fewest.
        most: The most.
    """

    least: int
    most: int


Outcome = ScoreResult | Problem
"""What became of a picture."""


async def outcomes(
    http: Request, service: Service, stack: AsyncExitStack, request: ScoreRequest, count: Count
) -> "list[asyncio.Task[Outcome]]":
    """Read the pictures of a request, reserve capacity for all of them, and begin to score them.

    Args:
        http: The HTTP request; its body has not been read yet.
        service: Scores the pictures.
        stack: Gives back what is held, when the request has been answered.
        request: The parameters, the same for each picture.
        count: How many pictures it may have.

    Returns:
        A task for each picture; an error becomes the problem of its picture.

    Raises:
        Problem, BatcherError, and the other errors of ``problems.ERRORS``: None of the pictures is taken.
    """
    pipeline, settings = service.pipeline, service.settings
    pipeline.shed(request)
    take = stack.enter_context(http.app.state.uploads.hold())
    files = await read_pictures(http, settings, take, count.most)
    if len(files) < count.least:
        raise Problem("too_few_files", f"{count.least} pictures at least are needed here")
    crops = len(files) * request.max_crops
    size = crops * request.model.config.contract.most_item_bytes
    if crops > settings.max_queue_crops or size > settings.max_queue_bytes:
        raise Problem("too_many_files", f"the queue never has room for {crops} crops")
    reservations = stack.enter_context(pipeline.reserve(request, len(files)))
    pictures = _Pictures(http, service, request, files, reservations, take)
    tasks = [asyncio.create_task(pictures.outcome(index)) for index in range(len(files))]
    stack.callback(_cancel, tasks)
    return tasks


def item(http: Request, index: int, outcome: Outcome, request: ScoreRequest) -> dict[str, Any]:
    """What became of a picture, as a JSON object."""
    if isinstance(outcome, Problem):
        body = outcome.body(http.state.request_id).model_dump()
        return {"index": index, "status": outcome.status, "problem": body}
    return {"index": index, "status": 200, "result": outcome.to_dict(request.detail)}


class _Pictures:
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

    async def outcome(self, index: int) -> Outcome:
        """Score one picture. An error becomes the problem of this picture and does not affect the others."""
        try:
            with self._reservations[index] as reservation:
                return await self._score(index, reservation)
        except Exception as error:
            problem = problem_of(error)
            if problem is None:
                log.exception("defect id=%s", self._http.state.request_id)
                problem = Problem("internal_error", "the log line with this request id says more")
        self._http.app.state.metrics.rejections.labels(problem.code).inc()
        return problem

    async def _score(self, index: int, reservation: Reservation) -> ScoreResult:
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
        return await self._pipeline.score(picture)


def _cancel(tasks: "Sequence[asyncio.Task[Outcome]]") -> None:
    for task in tasks:
        task.cancel()
