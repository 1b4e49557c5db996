"""What holds the models: the worker threads of this process's device, the batcher before them, and their exchange."""

import asyncio
import gc
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Protocol

from app.batching.batcher import Batcher
from app.batching.jobs import Queue
from app.batching.workers import WorkerThreads
from app.models.loading import LoadedModel, ServedModel
from app.models.reload import Load, load_again
from app.observability.metrics import Metrics
from app.settings import Settings
from model.inference.allocator import keep_freed_memory

log = logging.getLogger("smart_iqa.host")

WATCH_SECONDS = 1.0
Install = Callable[[Mapping[str, ServedModel]], object]


class ModelManager(Protocol):
    """Where the models of a service are: in its own process, or elsewhere."""

    @property
    def queue(self) -> Queue:
        """Takes work items to their rows."""

    @property
    def alive(self) -> bool:
        """Whether a restart would not help."""

    @property
    def trouble(self) -> str | None:
        """Why requests should go elsewhere for now; None if nothing is known against them."""

    def start(self, install: Install) -> None:
        """Begin to load the models; ``install`` is called with them, and with those that replace them later."""

    async def reload(self, folders: Sequence[Path], current: Mapping[str, ServedModel]) -> Mapping[str, ServedModel]:
        """Load and prove checkpoints that shall replace the current models; requests go on meanwhile."""

    def forget(self, keys: Iterable[str]) -> None:
        """Let go of what is behind these keys; nothing will be submitted for them any more."""

    async def render(self) -> bytes:
        """The metrics in the Prometheus text format, those of other processes included."""

    def close(self) -> None:
        """End threads; whatever was accepted has been answered by now."""


class LocalModelManager:
    """Holds the models in this process.

    Args:
        settings: How to run.
        metrics: Where it reports.
        load: Makes the models.
        clock: Seconds from a monotonic clock.
        on_loss: Called once when the device is lost; only a new process will have it again.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        *,
        load: Load,
        clock: Callable[[], float],
        on_loss: Callable[[], object] = lambda: None,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._load = load
        self._on_loss = on_loss
        # Before the first thread: a thread that has taken memory stays with the arena that it took it from.
        keep_freed_memory()
        # One until the models are there, which say how many they are made for.
        self.workers = WorkerThreads(clock=clock, hang_seconds=settings.hang_seconds)
        self.batcher = Batcher(
            {},
            self.workers,
            metrics,
            clock=clock,
            max_queue_crops=settings.max_queue_crops,
            max_queue_bytes=settings.max_queue_bytes,
        )
        self._watch: asyncio.Task[None] | None = None
        self._broken = ""

    @property
    def queue(self) -> Batcher:
        """Takes work items to their rows."""
        return self.batcher

    @property
    def alive(self) -> bool:
        """False once a worker thread has ended or hangs: only a restart helps then."""
        return self.batcher.alive

    @property
    def trouble(self) -> str | None:
        """Why requests should go elsewhere for now; None if nothing is known against them."""
        if self._broken:
            return self._broken
        if not self.batcher.alive:
            return "a lane of the device has ended or hangs"
        return None if self.batcher.healthy else "the engine keeps failing"

    def start(self, install: Install) -> None:
        """Begin to load the models; if that fails, ``trouble`` says so and nothing is installed."""
        loop = asyncio.get_running_loop()

        def take(loaded: "Future[Mapping[str, LoadedModel]]") -> None:
            if (error := loaded.exception()) is not None:
                log.error("the models cannot be loaded: the service will not become ready")
                self._broken = f"the models cannot be loaded ({type(error).__name__})"
                return
            self.put(loaded.result())
            install(loaded.result())

        # On a worker thread, like all work of the engines: another thread that computes would take its share of the
        # cores from the CPU's worker thread, for as long as the process lives.
        loading = self.workers.run(lambda _: self._load(self._settings))
        loading.add_done_callback(lambda loaded: loop.call_soon_threadsafe(take, loaded))
        self._watch = loop.create_task(self._watch_device())

    async def _watch_device(self) -> None:
        """Notice a worker thread that has ended or hangs, also when nobody asks."""
        while self.alive:
            await asyncio.sleep(WATCH_SECONDS)
        why = f"{', '.join(hanging)} hangs" if (hanging := self.batcher.hanging) else "a lane has ended"
        log.critical("the device is lost (%s): whoever waits is told, and only a restart will help", why)
        self.batcher.give_up()
        self._on_loss()

    def put(self, models: Mapping[str, LoadedModel]) -> None:
        """Let crops be submitted for these models from now on."""
        for model in models.values():
            for key, replicas in model.replicas.items():
                self.batcher.put_engine(key, replicas)
        self._broken = ""
        self._metrics.lanes.set(len(self.workers))

    async def reload(self, folders: Sequence[Path], current: Mapping[str, ServedModel]) -> Mapping[str, LoadedModel]:
        """Load and prove checkpoints, with batches in between.

        Args:
            folders: The checkpoints; the configured ones if empty.
            current: Models that are loaded; those among the checkpoints are kept as they are.

        Raises:
            CheckpointError, GoldenMismatch, ValueError, DeviceLost: As for ``load_again``.
        """
        loaded = {name: model for name, model in current.items() if isinstance(model, LoadedModel)}
        models = await load_again(
            self._load, self._settings, folders or self._settings.checkpoints, loaded, self.workers
        )
        self.put(models)
        return models

    def forget(self, keys: Iterable[str]) -> None:
        """Let go of the engines behind these keys."""
        for key in keys:
            self.batcher.drop_engine(key)
        # Tracebacks of failed requests may hold a model in a circle, and with torch loaded the collector hardly ever
        # comes to look by itself: there is too much to look at (0.15 s).
        self.workers.run(lambda _: gc.collect())

    async def render(self) -> bytes:
        """The metrics in the Prometheus text format."""
        return self._metrics.render()

    def close(self) -> None:
        """End the threads."""
        if self._watch is not None:
            self._watch.cancel()
        self.workers.close()
