"""``POST /compare``: which of several pictures people prefer, how sure that is, and why."""

import asyncio
from typing import Any

from fastapi import APIRouter, Request

from app.http import openapi, problems
from app.http.deps import CompareRequestDep, ServiceDep
from app.http.problems import Problem
from app.http.schemas import ComparisonAnswer
from app.http.several import Count, UntilAnswered, item, outcomes
from app.http.upload import while_connected
from model import comparison

router = APIRouter(tags=["scores"])


@router.post(
    "/compare",
    response_model=ComparisonAnswer,
    response_model_exclude_unset=True,
    responses={**openapi.PICTURE_PROBLEMS, **problems.responses("comparison_not_supported", "too_few_files")},
    openapi_extra=openapi.pictures_body(f"{comparison.LEAST} to {comparison.MOST}"),
    summary="Tell which of several pictures people prefer",
)
async def compare(
    http: Request, service: ServiceDep, stack: UntilAnswered, request: CompareRequestDep
) -> dict[str, Any]:
    """Score two to sixteen pictures, order them, and tell of each pair how likely people prefer the first.

    The probability follows from both scores and intervals, and holds on photos like those that the model learned from.
    A picture that cannot be scored has a problem of its own, and the others are compared.
    """
    tasks = await outcomes(http, service, stack, request, Count(comparison.LEAST, comparison.MOST))
    done = await while_connected(http, asyncio.gather(*tasks))
    scores = [None if isinstance(outcome, Problem) else outcome.score for outcome in done]
    results = [item(http, index, outcome, request) for index, outcome in enumerate(done)]
    return {**comparison.compare(scores).to_dict(), "results": results}
