"""``POST /attention``: the score of a picture with its stage weights. ``/attention/overlay``: a drawing of them."""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response

from app.http import openapi, problems, upload
from app.http.deps import AttentionRequestDep, OverlayRequestDep, ServiceDep
from app.http.schemas import AttentionAnswer
from app.scoring.request import ScoreRequest
from app.scoring.service import Service
from model.maps.overlay import render

router = APIRouter(tags=["scores"])

PROBLEMS = {**openapi.PICTURE_PROBLEMS, **problems.responses("attention_not_supported", "stages_not_supported")}
DEPRECATED: Mapping[str, str] = {
    # RFC 9745: since 1 December 2026. The link is relative, for services behind a prefix.
    "Deprecation": "@1796083200",
    "Link": '<attention/overlay>; rel="successor-version"',
}
"""Headers of a drawing that ``/attention`` was asked for by the query."""


@router.post(
    "/attention",
    response_model=AttentionAnswer,
    response_model_exclude_unset=True,
    responses={**PROBLEMS, **openapi.TAGGED},
    openapi_extra=openapi.PICTURE_BODY,
    summary="Score one picture and show the stage weights",
)
async def attention(
    http: Request, response: Response, service: ServiceDep, request: AttentionRequestDep
) -> dict[str, Any] | Response:
    """Score one picture and tell how the model weighed its four stages, from fine detail (1) to content (4)."""
    if request.overlay or request.stage is not None:
        response.headers.update(DEPRECATED)
        return await _drawing(http, response, service, request)
    result = await upload.score(http, response, service, request, "attention", str(request.detail))
    weights = result.score.stage_weights
    assert weights is not None
    stages = [f"stage{number}" for number in range(1, len(weights) + 1)]
    return {**result.to_dict(request.detail), "stage_weights": weights, "stages": stages}


@router.post(
    "/attention/overlay",
    response_class=Response,
    responses={
        **PROBLEMS,
        **openapi.TAGGED,
        200: {
            **openapi.TAGGED[200],
            "content": {"image/png": {"schema": openapi.BINARY}},
            "description": "The drawing.",
        },
    },
    openapi_extra=openapi.PICTURE_BODY,
    summary="Draw what the model looked at",
)
async def overlay(http: Request, response: Response, service: ServiceDep, request: OverlayRequestDep) -> Response:
    """Tint the picture by the stage that weighs most at each place: blue 1, green 2, yellow 3, vermilion 4.

    With `stage`, colour it by how active that stage is.
    """
    return await _drawing(http, response, service, request)


async def _drawing(http: Request, response: Response, service: Service, request: ScoreRequest) -> Response:
    draw: Callable[[], bytes]
    if request.stage is not None:
        draw = await upload.activity(http, response, service, request, "stage", str(request.stage))
    else:
        result = await upload.score(http, response, service, request, "attention", "overlay")
        assert result.preview is not None
        draw = partial(render, result.preview, result.score)
    png = await asyncio.to_thread(draw)
    return Response(png, media_type="image/png", headers=dict(response.headers))
