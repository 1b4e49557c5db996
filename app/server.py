"""The uvicorn server: it drains before it closes the listener, and reloads the checkpoints on SIGHUP."""

import asyncio
import contextlib
import errno
import os
import signal
import socket

import uvicorn
from fastapi import FastAPI

from app.batching.errors import DeviceLost
from app.scoring.service import ReloadFailed, Service

TICK_SECONDS = 0.1
BACKLOG = 2048


def listen(host: str, port: int) -> list[socket.socket]:
    """Listen on all addresses of a host. Done before models are loaded, so that a port in use ends the start at once.

    Args:
        host: A name or an address.
        port: The port; 0 takes a free one.

    Raises:
        OSError: There is no such host, or an address cannot be listened on.
    """
    listeners: list[socket.socket] = []
    missing: OSError | None = None
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    try:
        for family, kind, protocol, _, (name, number, *scope) in dict.fromkeys(found):
            listener = socket.socket(family, kind, protocol)
            listeners.append(listener)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                listener.bind((name, number or listeners[0].getsockname()[1], *scope))
            except OSError as error:
                if error.errno != errno.EADDRNOTAVAIL:
                    raise
                # ``localhost`` may have an address of IPv6 where there is no IPv6.
                missing = error
                listeners.pop().close()
                continue
            listener.listen(BACKLOG)
        if missing is not None and not listeners:
            raise missing
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def name_of(listener: socket.socket) -> str:
    """Where a socket listens, as people write it."""
    host, port, *_ = listener.getsockname()
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Server(uvicorn.Server):
    """Serves an application of ``create_app``.

    Args:
        app: The application.
        config: uvicorn's settings for the application.
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

    def give_up(self, after: float) -> None:
        """Stop after a while, without a drain period; accepted requests are still answered.

        For when new ones cannot be served.

        Args:
            after: Seconds for which the listener stays, so that probes and scrapes see why.
        """
        self._drain_seconds = 0.0
        asyncio.get_running_loop().call_later(after, setattr, self, "should_exit", True)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start serving, and handle SIGHUP from then on."""
        await super().startup(sockets)
        # In a terminal SIGHUP means that the window was closed: the service should end with it, not reload.
        if self.started and hasattr(signal, "SIGHUP") and not os.isatty(0):
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._hang_up)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Turn readiness off, wait so that load balancers notice, then close the listener and finish open requests."""
        # Nobody needs to notice that a service is not ready which has never been.
        ticks = round(self._drain_seconds / TICK_SECONDS) if self._service.models else 0
        self._service.drain()
        while ticks > 0 and not self.force_exit:
            await asyncio.sleep(TICK_SECONDS)
            ticks -= 1
        await super().shutdown(sockets)

    def _hang_up(self) -> None:
        # A reference of our own: the event loop keeps only weak references to tasks.
        task = asyncio.get_running_loop().create_task(self._load_again())
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    async def _load_again(self) -> None:
        # The service has already logged the error.
        with contextlib.suppress(ReloadFailed, DeviceLost):
            await self._service.reload()
