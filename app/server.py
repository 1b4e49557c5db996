"""uvicorn, taught to drain before it closes its doors, and to load checkpoints again on SIGHUP."""

import asyncio
import contextlib
import os
import signal
import socket

import uvicorn
from fastapi import FastAPI

from app.batching.errors import DeviceLost
from app.scoring.service import ReloadFailed, Service

TICK_SECONDS = 0.1


class Server(uvicorn.Server):
    """Serves an application of ``create_app``.

    Args:
        app: The application.
        config: uvicorn's settings for it.
        drain_seconds: Time after SIGTERM in which the listener stays open, with readiness off.
    """

    def __init__(self, app: FastAPI, config: uvicorn.Config, *, drain_seconds: float) -> None:
        super().__init__(config)
        self._app = app
        self._drain_seconds = drain_seconds
        self._reloads: set[asyncio.Task[None]] = set()

    @property
    def _service(self) -> Service:
        service: Service = self._app.state.service
        return service

    def give_up(self) -> None:
        """Stop at once, with what is there to answer: new requests could not be served."""
        self._drain_seconds = 0.0
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and listen to SIGHUP from then on."""
        await super().startup(sockets)
        # In a terminal SIGHUP says that the window was closed: whoever sits there wants the service to end with it.
        if self.started and hasattr(signal, "SIGHUP") and not os.isatty(0):
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._hang_up)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Turn readiness off, give those who ask for it time to see that, then close the listener and finish."""
        self._service.drain()
        ticks = round(self._drain_seconds / TICK_SECONDS)
        while ticks > 0 and not self.force_exit:
            await asyncio.sleep(TICK_SECONDS)
            ticks -= 1
        await super().shutdown(sockets)

    def _hang_up(self) -> None:
        # The event loop itself keeps only weak references to tasks.
        task = asyncio.get_running_loop().create_task(self._load_again())
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    async def _load_again(self) -> None:
        # The service has said in the log what went wrong.
        with contextlib.suppress(ReloadFailed, DeviceLost):
            await self._service.reload()
