"""``GET /models``: the loaded models, their contracts, training data and figures."""

from typing import Any

from fastapi import APIRouter

from app.http import problems
from app.http.deps import ServiceDep
from app.http.schemas import ModelFacts, ModelList

router = APIRouter(prefix="/models", tags=["models"])


@router.get("", response_model=ModelList, summary="List the loaded models")
async def models(service: ServiceDep) -> dict[str, Any]:
    """List the loaded models; the first is the default. The list is empty until they are loaded."""
    return {"models": [model.describe() for model in service.models.values()]}


@router.get(
    "/{name}",
    response_model=ModelFacts,
    responses=problems.responses("unknown_model", "not_ready"),
    summary="Describe one loaded model",
)
async def model(name: str, service: ServiceDep) -> dict[str, Any]:
    """Describe one model: digest, contract, figures, licence."""
    return service.model(name).describe()
