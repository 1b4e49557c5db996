"""``GET /policies``: what may decide about pictures."""

from typing import Any

from fastapi import APIRouter

from app.http.deps import ServiceDep
from app.http.schemas import PolicyList

router = APIRouter(prefix="/policies", tags=["models"])


@router.get("", response_model=PolicyList, summary="List the policies")
async def policies(service: ServiceDep) -> dict[str, Any]:
    """List the policies with their rules, in the order of their file."""
    return {"policies": [policy.describe() for policy in service.policies]}
