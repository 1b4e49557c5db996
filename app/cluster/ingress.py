"""Ingress replica: the HTTP application, with its models in engine replicas."""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.cluster.metrics_aggregation import Collected, collect
from app.cluster.remote import RemoteModelManager
from app.http.middleware import HEADER
from app.main import create_app
from app.observability import logs
from app.observability.start import log_start
from app.settings import Settings

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle


class IngressReplica:
    """Decodes pictures, cuts their crops and sends them to the engine replicas.

    Args:
        settings: Fields of ``Settings``.
        engines: Handle of the engine deployment.
    """

    def __init__(self, settings: Mapping[str, Any], engines: "DeploymentHandle") -> None:
        self._settings = Settings(**settings)
        self._engines = engines
        logs.configure(self._settings)

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Build the ASGI application; Ray Serve calls this."""
        clock = time.monotonic
        app = create_app(
            self._settings, clock=clock, manager=lambda _: RemoteModelManager(self._engines, self._settings, clock)
        )
        app.add_middleware(_WithoutId)
        log_start(
            self._settings,
            who=str(app.state.access),
            addresses=["Ray's proxies"],
            models=[str(folder) for folder in self._settings.checkpoints],
            device="of the engine replicas",
        )
        self._app = app
        return app

    def collect(self) -> Collected:
        """The replica's metrics."""
        return collect(self._app.state.metrics)

    def drain(self) -> None:
        """Take no new work."""
        self._app.state.service.drain()


class _WithoutId:
    """Removes the request id from answers, since Ray's proxy always adds the same one."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_without_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                del MutableHeaders(scope=message)[HEADER]
            await send(message)

        await self.app(scope, receive, send_without_id)
