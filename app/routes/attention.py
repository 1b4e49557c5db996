"""``POST /attention``: which stages of the network decided?"""

from typing import Any

from fastapi import APIRouter, Request

from app import errors
from app.errors import Problem
from app.routes import picture
from app.routes.picture import CropsQuery, DetailQuery, ModelQuery, PriorityHeader, ServiceDep
from app.schemas import AttentionAnswer

router = APIRouter(tags=["scores"])


@router.post(
    "/attention",
    response_model=AttentionAnswer,
    response_model_exclude_unset=True,
    responses={**picture.PROBLEMS, **errors.responses("attention_not_supported")},
    openapi_extra=picture.BODY,
    summary="Score one picture and show the stage weights",
)
async def attention(
    request: Request,
    service: ServiceDep,
    model: ModelQuery = None,
    crops: CropsQuery = None,
    detail: DetailQuery = None,
    priority: PriorityHeader = "interactive",
) -> dict[str, Any]:
    """Score one picture and tell how the model weighed its four stages, from fine detail (1) to content (4)."""
    served = service.model(model)
    if not served.stage_attention:
        raise Problem("attention_not_supported", f"{served.config.name} does not weigh its stages")
    result, timing = await picture.score_upload(request, service, served, crops, priority)
    weights = result.stage_weights
    assert weights is not None
    answer = picture.body(result, timing)
    answer |= {"stage_weights": weights, "stages": [f"stage{number}" for number in range(1, len(weights) + 1)]}
    if detail == "crops":
        answer["crop_scores"] = [picture.crop_body(crop) for crop in result.crops]
    return answer
