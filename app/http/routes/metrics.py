"""``GET /metrics`` for Prometheus."""

from typing import Annotated

from fastapi import APIRouter, Header
from fastapi.responses import Response

from app.http.deps import ServiceDep

router = APIRouter(tags=["operations"])

TEXT = {"schema": {"type": "string"}}
AcceptHeader = Annotated[
    # OpenAPI forbids a parameter of this name, and generated clients make do with one media type.
    str,
    Header(include_in_schema=False),
]


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": TEXT}}},
    summary="Metrics in the Prometheus text format, or in OpenMetrics",
)
async def metrics(service: ServiceDep, accept: AcceptHeader = "") -> Response:
    """Write all metrics; in OpenMetrics, with the ids of traces as exemplars, if `Accept` names it."""
    text, media_type = await service.manager.render(accept)
    return Response(text, headers={"Content-Type": media_type, "Vary": "Accept"})
