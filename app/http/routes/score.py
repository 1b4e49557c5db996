"""``POST /score``: the score of one picture."""

from typing import Any

from fastapi import APIRouter, Request, Response

from app.http import openapi, upload
from app.http.deps import ScoreRequestDep, ServiceDep
from app.http.schemas import ScoreAnswer

router = APIRouter(tags=["scores"])


@router.post(
    "/score",
    response_model=ScoreAnswer,
    response_model_exclude_unset=True,
    responses={**openapi.PICTURE_PROBLEMS, **openapi.TAGGED},
    openapi_extra=openapi.PICTURE_BODY,
    summary="Score the quality of one picture",
)
async def score(http: Request, response: Response, service: ServiceDep, request: ScoreRequestDep) -> dict[str, Any]:
    """Score one picture from 0 (worst) to 100 (best). The same bytes always get the same score."""
    result = await upload.score(http, response, service, request, "score", str(request.detail))
    return result.to_dict(request.detail)
