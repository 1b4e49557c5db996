"""``GET /metrics`` for Prometheus."""

from fastapi import APIRouter
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST

from app.http.deps import ServiceDep

router = APIRouter(tags=["operations"])


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    summary="Metrics in the Prometheus text format",
)
async def metrics(service: ServiceDep) -> Response:
    """Write all metrics."""
    return Response(await service.manager.render(), media_type=CONTENT_TYPE_LATEST)
