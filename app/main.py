"""Builds the application from its settings: routes, middleware, models, pipeline."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import Depends, FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import DEFAULT_EXCLUDED_CONTENT_TYPES, GZipMiddleware

from app.http import auth, openapi, problems
from app.http.deps import known_parameters
from app.http.middleware import HEADER, HeadMiddleware, RequestMiddleware
from app.http.routes import admin, attention, batch, compare, health, metrics, pick, score
from app.http.routes import models as model_routes
from app.http.routes import policies as policy_routes
from app.http.upload import UploadBudget
from app.models.loading import load_models
from app.models.manager import LocalModelManager, ModelManager
from app.models.reload import Load
from app.observability import tracing
from app.observability.metrics import Metrics
from app.page import reference
from app.page import route as page
from app.scoring.service import Service
from app.settings import Settings, blaming, variable
from model.policies import SHIPPED, Policies

GZIP_BYTES = 1024
"""Smaller answers are not compressed: they fit into one packet anyway."""


def create_app(
    settings: Settings,
    *,
    load: Load = load_models,
    clock: Callable[[], float] = time.monotonic,
    on_loss: Callable[[], object] = lambda: None,
    manager: Callable[[Metrics], ModelManager] | None = None,
) -> FastAPI:
    """Make the application.

    Args:
        settings: How to run.
        load: Loads the models; called on a worker thread, after the start and when models are exchanged.
        clock: Returns seconds of a monotonic clock.
        on_loss: Called once when the device is lost; only a new process can use it again.
        manager: Makes the model manager, once the event loop runs; by default a ``LocalModelManager`` with ``load``.

    Raises:
        ValueError: A key's entry is malformed, or the file of policies cannot be used.
        OSError: A file of keys, or that of policies, cannot be read.
        ModuleNotFoundError: Traces are enabled, but OpenTelemetry's SDK is not installed.
    """
    measured = Metrics()
    measured.build_info.labels(version("smart-iqa")).set(1)
    telemetry = tracing.telemetry(settings)
    with blaming(variable("policies")):
        policies = Policies.load(settings.policies or SHIPPED)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        if manager is not None:
            models = manager(measured)
        else:
            models = LocalModelManager(settings, measured, load=load, clock=clock, on_loss=on_loss)
        service = Service(
            settings,
            measured,
            models,
            policies,
            clock=clock,
            tracer=tracing.tracer(telemetry),
            key_names=app.state.access.names,
        )
        app.state.service = service
        # Models load in the background, so that probes are answered while a large one loads.
        service.start()
        for route, status in openapi.answers(app):
            measured.answer(route, status)
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
        telemetry=telemetry,
        # A redirect would send clients to the address of the Host header, by http.
        redirect_slashes=False,
        # Those of app/page ask for the key too, and load nothing from elsewhere.
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        # Generated clients name their functions by it.
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.metrics = measured
    app.state.telemetry = telemetry
    app.state.access = auth.Access(settings, clock)
    app.state.uploads = UploadBudget(settings.max_upload_bytes)
    # No answer holds a secret, so its length betrays none (BREACH). Lines that are streamed are sent as they come.
    app.add_middleware(
        GZipMiddleware,
        minimum_size=GZIP_BYTES,
        compresslevel=5,
        exclude_content_types=(*DEFAULT_EXCLUDED_CONTENT_TYPES, batch.NDJSON),
    )
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "HEAD", "POST"],
            allow_headers=[
                *("Authorization", "X-API-Key", "X-Priority", "X-Deadline-Ms", "If-None-Match", HEADER),
                *("traceparent", "tracestate"),
            ],
            expose_headers=[HEADER, "Retry-After", "ETag", "X-Cache"],
        )
    app.add_middleware(HeadMiddleware)
    app.add_middleware(RequestMiddleware, metrics=measured, settings=settings, key_names=app.state.access.names)
    problems.install(app)
    # The key is checked first, so that a request without one learns nothing about the service. Admission comes last: it
    # keeps the current models for the request, before its body is read.
    known = Depends(known_parameters)
    for routes in (score, batch, compare, pick, attention):
        app.include_router(
            routes.router,
            dependencies=[Depends(auth.need_key), known, Depends(auth.admit)],
            responses=problems.responses(*auth.PROBLEMS, "draining"),
        )
    for listing in (model_routes, policy_routes):
        app.include_router(
            listing.router, dependencies=[Depends(auth.need_key), known], responses=problems.responses(*auth.PROBLEMS)
        )
    app.include_router(
        admin.router, dependencies=[Depends(auth.need_admin), known], responses=problems.responses(*auth.ADMIN_PROBLEMS)
    )
    for routes, locked in ((health, settings.probes_key), (metrics, settings.metrics_key)):
        app.include_router(
            routes.router,
            dependencies=[Depends(auth.need_key_always), known] if locked else [known],
            responses=problems.responses(*auth.PROBLEMS) if locked else {},
        )
    app.include_router(reference.router, dependencies=[Depends(auth.need_key)])
    app.include_router(page.router)
    openapi.install(
        app,
        open_to_all=not app.state.access.keys_needed,
        max_files=settings.max_batch_files,
        root_path=settings.root_path,
    )
    return app
