"""``POST /score/batch``: how good are these pictures?"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Request
from fastapi.responses import Response, StreamingResponse

from app.batching.jobs import Reservation
from app.http import deps, problems
from app.http.deps import CropsQuery, DeadlineHeader, Detail, DetailQuery, ModelQuery, ServiceDep
from app.http.problems import Problem
from app.http.schemas import BatchAnswer, BatchItem
from app.http.upload import FIELD, Take, read_pictures, while_connected
from app.scoring.pipeline import Scoring
from app.scoring.request import REFUSALS, ScoreRequest, refusal
from model.images import ImageError

router = APIRouter(tags=["scores"])
log = logging.getLogger("smart_iqa.batch")

NDJSON = "application/x-ndjson"
BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": f"The pictures: the multipart field `{FIELD}`, once for each.",
        "content": {
            "multipart/form-data": {
                "schema": {
                    **deps.FORM,
                    "properties": {FIELD: {"type": "array", "minItems": 1, "items": deps.BINARY}},
                }
            }
        },
    }
}
PriorityHeader = Annotated[
    Literal["interactive", "bulk"],
    Header(alias="X-Priority", description="`bulk`, the default here, waits behind interactive requests."),
]
AcceptHeader = Annotated[
    # OpenAPI has no parameter of this name: media types stand with the answers.
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
        **deps.PROBLEMS,
        200: {"content": {NDJSON: {"schema": {"$ref": "#/components/schemas/BatchItem"}}}},
    },
    openapi_extra=BODY,
    summary="Score the quality of several pictures",
)
async def score_batch(
    request: Request,
    service: ServiceDep,
    stack: UntilAnswered,
    model: ModelQuery = None,
    crops: CropsQuery = None,
    detail: DetailQuery = None,
    priority: PriorityHeader = "bulk",
    deadline_ms: DeadlineHeader = None,
    accept: AcceptHeader = "application/json",
) -> dict[str, Any] | Response:
    """Score several pictures. All are taken or none is; then each has a result or a problem of its own.

    A picture's result is what `/score` answers, or the problem that it would answer with. With
    `Accept: application/x-ndjson` there is a line for each picture as soon as it is done, in any order.
    """
    asked = deps.order(
        request,
        service,
        service.model(model),
        crops=crops,
        priority=priority,
        deadline_ms=deadline_ms,
        extra="map" if detail == "map" else None,
    )
    scoring, settings = service.scoring, service.settings
    try:
        scoring.check_room(asked)
        take = stack.enter_context(scoring.uploads.hold())
        files = await read_pictures(request, settings, take)
        crops_in_all = len(files) * asked.count
        size = crops_in_all * asked.model.config.contract.most_item_bytes
        if crops_in_all > settings.max_queue_crops or size > settings.max_queue_bytes:
            raise Problem("too_many_files", f"the queue never has room for {crops_in_all} crops")
        place = stack.enter_context(scoring.reserve(asked, len(files)))
    except REFUSALS as error:
        raise refusal(error, asked) from error
    batch = _Batch(request, scoring, settings.max_body_bytes, asked, place, take, detail)
    tasks = [asyncio.create_task(batch.item(index, files)) for index in range(len(files))]
    stack.callback(_cancel, tasks)
    if NDJSON in accept:
        return StreamingResponse(_lines(tasks), media_type=NDJSON, headers={"X-Accel-Buffering": "no"})
    return {"results": await while_connected(request, asyncio.gather(*tasks))}


class _Batch:
    """The pictures of one request, decoded one after the other, and scored together."""

    def __init__(
        self,
        request: Request,
        scoring: Scoring,
        max_bytes: int,
        asked: ScoreRequest,
        place: Reservation,
        take: Take,
        detail: Detail | None,
    ) -> None:
        self._request = request
        self._scoring = scoring
        self._max_bytes = max_bytes
        self._asked = asked
        self._place = place
        self._take = take
        self._detail = detail
        self._decoding = asyncio.Lock()
        self._deadline = scoring.deadline(asked)

    async def item(self, index: int, files: list[bytes]) -> dict[str, Any]:
        """Score one picture, and drop its bytes once it is decoded."""
        try:
            return {"index": index, "status": 200, "result": await self._score(index, files)}
        except Problem as error:
            problem = error
        except ImageError as error:
            problem = problems.of_image(error)
        except REFUSALS as error:
            problem = refusal(error, self._asked)
        except Exception:
            log.exception("defect id=%s", self._request.state.request_id)
            problem = Problem("internal_error", "the log line with this request id says more")
        self._request.app.state.metrics.rejections.labels(problem.code).inc()
        body = problem.body(self._request.state.request_id).model_dump()
        return {"index": index, "status": problem.status, "problem": body}

    async def _score(self, index: int, files: list[bytes]) -> Mapping[str, Any]:
        async with self._decoding:
            data, files[index] = files[index], b""
            if not data:
                raise Problem("empty_body", "there are no bytes in the picture")
            if len(data) > self._max_bytes:
                raise Problem("body_too_large", f"the picture is larger than the limit of {self._max_bytes:,} bytes")
            name = await self._scoring.name(data, self._asked)
            upload = await self._scoring.decode(data, self._asked, name, self._deadline, self._place)
            self._take(-len(data))
            del data
        return deps.body(await self._scoring.score(upload, self._asked, self._place), self._detail)


def _cancel(tasks: Sequence["asyncio.Task[dict[str, Any]]"]) -> None:
    for task in tasks:
        task.cancel()


async def _lines(tasks: Sequence["asyncio.Task[dict[str, Any]]"]) -> AsyncIterator[str]:
    for done in asyncio.as_completed(tasks):
        # Through the model, as FastAPI does it for the other form.
        yield BatchItem.model_validate(await done).model_dump_json(exclude_unset=True) + "\n"
