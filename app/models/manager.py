"""The model manager: holds the loaded models, their worker threads and their batcher, and exchanges the models."""

import asyncio
import gc
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Protocol

from app.batching.batcher import Batcher
from app.batching.submission import Queue
from app.batching.workers import WorkerThreads
from app.models.loading import LoadedModel, ServedModel
from app.models.reload import Load, load_again
from app.observability.metrics import Metrics, Rendered
from app.settings import Settings
from model.inference.allocator import keep_freed_memory

log = logging.getLogger("smart_iqa.host")

WATCH_SECONDS = 1.0
Install = Callable[[Mapping[str, ServedModel]], object]


class ModelManager(Protocol):
    """Holds the models of a service, in its own process or in engine replicas."""

    @property
    def queue(self) -> Queue:
        """Computes the rows of work items."""

    @property
    def alive(self) -> bool:
        """False if only a restart of the process can help."""

    @property
    def unready_reason(self) -> str | None:
        """Why the manager cannot compute now, for probes and operators; None if no reason is known."""

    @property
    def alone(self) -> bool:
        """Whether no other process answers for the same service: what is read again here is then the same for all."""

    def start(self, install: Install) -> None:
        """Start to load the models. Calls ``install`` with them, and again when engine replicas have exchanged them."""

    async def reload(self, folders: Sequence[Path], current: Mapping[str, ServedModel]) -> Mapping[str, ServedModel]:
        """Load and check the checkpoints that will replace the current models; requests go on meanwhile."""

    def forget(self, keys: Iterable[str]) -> None:
        """Drop the engines of these keys. Nothing may be submitted for them any more."""

    async def render(self, accept: str) -> Rendered:
        """The metrics, including those of replicas, in the format that the header ``Accept`` asks for."""

    def close(self) -> None:
        """End the threads. All accepted requests have been answered before."""


class LocalModelManager:
    """Holds the models in this process.

    Args:
        settings: How to run.
        metrics: The metrics of the service.
        load: Loads the models.
        clock: Returns seconds of a monotonic clock.
        on_loss: Called once when the device is lost; only a new process can use it again.

    Attributes:
        workers: The worker threads of the devices.
        batcher: Groups submissions into batches for them.
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
        # Before the first thread starts: a thread keeps the memory arena that it first allocated from.
        keep_freed_memory()
        # One thread until the models are loaded; ``put_engine`` then starts one for each lane.
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
        self._loads_first = False
        self._load_error = ""

    @property
    def queue(self) -> Batcher:
        """Computes the rows of work items."""
        return self.batcher

    @property
    def alone(self) -> bool:
        """Always true: the models, and what else is read again, are this process's own."""
        return True

    @property
    def alive(self) -> bool:
        """False once a worker thread has ended or hangs: only a restart helps then."""
        return self.batcher.alive

    @property
    def unready_reason(self) -> str | None:
        """Why the manager cannot compute now: loading failed, the device is lost, or the engine keeps failing."""
        if self._load_error:
            return self._load_error
        if not self.batcher.alive:
            return "a lane of the device has ended or hangs"
        return None if self.batcher.healthy else "the engine keeps failing"

    def start(self, install: Install) -> None:
        """Start to load the models; if that fails, ``unready_reason`` has the error and nothing is installed."""
        loop = asyncio.get_running_loop()

        def take(loaded: "Future[Mapping[str, LoadedModel]]") -> None:
            if (error := loaded.exception()) is not None:
                log.error("the models cannot be loaded: the service will not become ready")
                self._load_error = f"the models cannot be loaded ({type(error).__name__})"
                return
            self.put(loaded.result())
            install(loaded.result())

        # On a worker thread, like all work of the engines: if another thread computed too, it would take cores from the
        # CPU's worker thread for as long as the process lives.
        def end(loaded: Future[Mapping[str, LoadedModel]]) -> None:
            self._loads_first = False
            loop.call_soon_threadsafe(take, loaded)

        self._loads_first = True
        self.workers.run(lambda _: self._load(self._settings)).add_done_callback(end)
        self._watch = loop.create_task(self._watch_device())

    async def _watch_device(self) -> None:
        """Notice a worker thread that has ended or hangs, also without requests or probes."""
        while self.alive:
            await asyncio.sleep(WATCH_SECONDS)
        why = f"{', '.join(hanging)} hangs" if (hanging := self.batcher.hanging) else "a lane has ended"
        log.critical("the device is lost (%s): whoever waits is told, and only a restart will help", why)
        self.batcher.give_up()
        self._metrics.device_lost.set(1)
        self._on_loss()

    def put(self, models: Mapping[str, LoadedModel]) -> None:
        """Give the engines of these models to the batcher; crops may be submitted for them from now on."""
        for model in models.values():
            for key, replicas in model.replicas.items():
                self.batcher.put_engine(key, replicas)
        self._load_error = ""
        self._metrics.lanes.set(len(self.workers))

    async def reload(self, folders: Sequence[Path], current: Mapping[str, ServedModel]) -> Mapping[str, LoadedModel]:
        """Load and check checkpoints; batches run in between.

        Args:
            folders: The checkpoints; the configured ones if empty.
            current: The loaded models; those whose checkpoint is among the folders are kept as they are.

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
        """Drop the engines of these keys."""
        for key in keys:
            self.batcher.drop_engine(key)
        # Tracebacks of failed requests may keep a model alive in a reference cycle. With torch loaded, Python itself
        # hardly ever runs a full collection, since there are too many objects (it takes 0.15 s).
        self.workers.run(lambda _: gc.collect())

    async def render(self, accept: str) -> Rendered:
        """The metrics, in the format that the header ``Accept`` asks for."""
        return self._metrics.render(accept)

    def close(self) -> None:
        """End the threads. One that is still loading the first models, which nobody waits for, is left."""
        if self._watch is not None:
            self._watch.cancel()
        self.workers.close(wait=not self._loads_first)
