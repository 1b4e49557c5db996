"""``POST /attention``: which stages of the network decided?"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response

from app.http import deps, problems
from app.http.deps import (
    CropsQuery,
    DeadlineHeader,
    DetailQuery,
    IfNoneMatchHeader,
    ModelQuery,
    PriorityHeader,
    ServiceDep,
)
from app.http.problems import Problem
from app.http.schemas import AttentionAnswer
from model.maps.overlay import render

router = APIRouter(tags=["scores"])

OverlayQuery = Annotated[
    Literal["png"] | None,
    Query(description="`png` answers with the picture, tinted by stage: blue 1, green 2, yellow 3, vermilion 4."),
]
StageQuery = Annotated[
    int | None,
    Query(
        ge=1,
        le=4,
        description="Answers with the picture, coloured by how active that stage is there, whatever its weight: from "
        "dark blue by red to light yellow. It goes with `overlay=png`, and without it means the same.",
    ),
]


@router.post(
    "/attention",
    response_model=AttentionAnswer,
    response_model_exclude_unset=True,
    responses={
        **deps.PROBLEMS,
        **deps.TAGGED,
        **problems.responses("attention_not_supported", "stages_not_supported"),
        200: {
            **deps.TAGGED[200],
            "content": {"image/png": {"schema": deps.BINARY}},
            "description": "The answer, or the overlay.",
        },
    },
    openapi_extra=deps.BODY,
    summary="Score one picture and show the stage weights",
)
async def attention(
    request: Request,
    response: Response,
    service: ServiceDep,
    model: ModelQuery = None,
    crops: CropsQuery = None,
    detail: DetailQuery = None,
    overlay: OverlayQuery = None,
    stage: StageQuery = None,
    priority: PriorityHeader = "interactive",
    deadline_ms: DeadlineHeader = None,
    _if_none_match: IfNoneMatchHeader = None,
) -> dict[str, Any] | Response:
    """Score one picture and tell how the model weighed its four stages, from fine detail (1) to content (4)."""
    served = service.model(model)
    order = partial(deps.order, request, service, served, priority=priority, deadline_ms=deadline_ms)
    if stage is not None:
        if not served.stage_shapes:
            raise Problem("stages_not_supported", f"the network of {served.config.name} has no stages")
        work = partial(service.scoring.activity, stage=stage)
        asked = order(crops=None, extra="stages")
        draw = await deps.work_on_upload(request, response, service, asked, work, "stage", str(stage))
        response.headers["X-Cache"] = "miss"
        return await _png(draw, response)
    if not served.stage_attention:
        raise Problem("attention_not_supported", f"{served.config.name} does not weigh its stages")
    asked = order(crops=crops, extra="overlay" if overlay is not None else "map" if detail == "map" else None)
    scored = await deps.score_upload(request, response, service, asked, "attention", str(detail), str(overlay))
    if scored.preview is not None:
        return await _png(partial(render, scored.preview, scored.score), response)
    weights = scored.score.stage_weights
    assert weights is not None
    stages = [f"stage{number}" for number in range(1, len(weights) + 1)]
    return {**deps.body(scored, detail), "stage_weights": weights, "stages": stages}


async def _png(draw: Callable[[], bytes], response: Response) -> Response:
    png = await asyncio.to_thread(draw)
    return Response(png, media_type="image/png", headers=dict(response.headers))
