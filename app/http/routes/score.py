"""``POST /score``: how good is this picture?"""

from typing import Any

from fastapi import APIRouter, Request, Response

from app.http import deps
from app.http.deps import (
    CropsQuery,
    DeadlineHeader,
    DetailQuery,
    IfNoneMatchHeader,
    ModelQuery,
    PriorityHeader,
    ServiceDep,
)
from app.http.schemas import ScoreAnswer

router = APIRouter(tags=["scores"])


@router.post(
    "/score",
    response_model=ScoreAnswer,
    response_model_exclude_unset=True,
    responses={**deps.PROBLEMS, **deps.TAGGED},
    openapi_extra=deps.BODY,
    summary="Score the quality of one picture",
)
async def score(
    request: Request,
    response: Response,
    service: ServiceDep,
    model: ModelQuery = None,
    crops: CropsQuery = None,
    detail: DetailQuery = None,
    priority: PriorityHeader = "interactive",
    deadline_ms: DeadlineHeader = None,
    _if_none_match: IfNoneMatchHeader = None,
) -> dict[str, Any]:
    """Score one picture from 0 (worst) to 100 (best). The same bytes always get the same score."""
    asked = deps.order(
        request,
        service,
        service.model(model),
        crops=crops,
        priority=priority,
        deadline_ms=deadline_ms,
        extra="map" if detail == "map" else None,
    )
    scored = await deps.score_upload(request, response, service, asked, "score", str(detail))
    return deps.body(scored, detail)
