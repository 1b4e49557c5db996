"""``POST /score``: how good is this picture?"""

from typing import Any

from fastapi import APIRouter, Request, Response

from app.routes import picture
from app.routes.picture import (
    CropsQuery,
    DeadlineHeader,
    DetailQuery,
    IfNoneMatchHeader,
    ModelQuery,
    PriorityHeader,
    ServiceDep,
)
from app.schemas import ScoreAnswer

router = APIRouter(tags=["scores"])


@router.post(
    "/score",
    response_model=ScoreAnswer,
    response_model_exclude_unset=True,
    responses={**picture.PROBLEMS, **picture.TAGGED},
    openapi_extra=picture.BODY,
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
    asked = picture.order(
        request,
        service,
        service.model(model),
        crops=crops,
        priority=priority,
        deadline_ms=deadline_ms,
        extra="map" if detail == "map" else None,
    )
    scored = await picture.score_upload(request, response, service, asked, "score", str(detail))
    return picture.body(scored, detail)
