"""``POST /attention``: the score of a picture with its stage weights, an overlay, or a stage's activity."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response

from app.http import openapi, problems, upload
from app.http.deps import AttentionRequestDep, ServiceDep
from app.http.schemas import AttentionAnswer
from model.maps.overlay import render

router = APIRouter(tags=["scores"])


@router.post(
    "/attention",
    response_model=AttentionAnswer,
    response_model_exclude_unset=True,
    responses={
        **openapi.PICTURE_PROBLEMS,
        **openapi.TAGGED,
        **problems.responses("attention_not_supported", "stages_not_supported"),
        200: {
            **openapi.TAGGED[200],
            "content": {"image/png": {"schema": openapi.BINARY}},
            "description": "The answer, or the overlay.",
        },
    },
    openapi_extra=openapi.PICTURE_BODY,
    summary="Score one picture and show the stage weights",
)
async def attention(
    http: Request, response: Response, service: ServiceDep, request: AttentionRequestDep
) -> dict[str, Any] | Response:
    """Score one picture and tell how the model weighed its four stages, from fine detail (1) to content (4)."""
    if request.stage is not None:
        draw = await upload.activity(http, response, service, request, "stage", str(request.stage))
        return await _png(draw, response)
    overlay = "png" if request.overlay else None
    result = await upload.score(http, response, service, request, "attention", str(request.detail), str(overlay))
    if result.preview is not None:
        return await _png(partial(render, result.preview, result.score), response)
    weights = result.score.stage_weights
    assert weights is not None
    stages = [f"stage{number}" for number in range(1, len(weights) + 1)]
    return {**result.to_dict(request.detail), "stage_weights": weights, "stages": stages}


async def _png(draw: Callable[[], bytes], response: Response) -> Response:
    png = await asyncio.to_thread(draw)
    return Response(png, media_type="image/png", headers=dict(response.headers))
