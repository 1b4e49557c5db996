"""Wiring: settings in, application out."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI

from app import errors
from app.metrics import Metrics
from app.middleware import RequestMiddleware
from app.models import load_models
from app.routes import attention, health, metrics, models, score
from app.service import Load, Service
from app.settings import Settings


def create_app(
    settings: Settings,
    *,
    load: Load = load_models,
    clock: Callable[[], float] = time.monotonic,
    on_loss: Callable[[], object] = lambda: None,
) -> FastAPI:
    """Make the application.

    Args:
        settings: How to run.
        load: Makes the models; called once, in a thread, after the start.
        clock: Seconds from a monotonic clock.
        on_loss: Called once when the device is lost, which only a new process will have again.
    """
    measured = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service = app.state.service = Service(settings, measured, load=load, clock=clock, on_loss=on_loss)
        # In the background: probes get their answers while a large model loads.
        service.start()
        yield
        service.close()

    app = FastAPI(
        title="smart-iqa",
        version=version("smart-iqa"),
        summary="Perceptual quality scores for photos.",
        description="POST a photo to `/score`, get its quality from 0 (worst) to 100 (best). "
        "The same bytes get the same score, in any company and at any load.",
        license_info={"name": "MIT", "identifier": "MIT"},
        lifespan=lifespan,
    )
    app.state.metrics = measured
    app.add_middleware(RequestMiddleware, metrics=measured)
    errors.install(app)
    for routes in (score, attention, models, health, metrics):
        app.include_router(routes.router)
    return app
