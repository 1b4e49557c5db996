"""Probes: ``/health/live`` fails if the process must be restarted, ``/health/ready`` if it should get no requests."""

from fastapi import APIRouter

from app.http import problems
from app.http.deps import ServiceDep
from app.http.problems import Problem
from app.http.schemas import Health

router = APIRouter(prefix="/health", tags=["operations"])


@router.get("/live", response_model=Health, responses=problems.responses("device_lost"), summary="Liveness")
async def live(service: ServiceDep) -> Health:
    """Answer 200 unless only a restart can help."""
    if not service.alive:
        raise Problem("device_lost", "a lane of the device has ended or hangs")
    return Health(status="ok")


@router.get("/ready", response_model=Health, responses=problems.responses("not_ready", "draining"), summary="Readiness")
async def ready(service: ServiceDep) -> Health:
    """Answer 200 once all models are loaded, warmed and proven, the engine works and the service does not drain."""
    if (reason := service.unready_because()) is not None:
        raise Problem("draining" if service.draining else "not_ready", reason)
    return Health(status="ready")
