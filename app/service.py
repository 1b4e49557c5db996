"""The service itself, without HTTP: its models and threads, and the state that probes tell of."""

import asyncio
import gc
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from opentelemetry import trace

from app.batcher import Batcher
from app.device import Lanes, Outcome
from app.errors import Problem
from app.generations import Generations
from app.metrics import Metrics
from app.models import ServedModel
from app.reload import Load, load_again
from app.scoring import Scoring
from app.settings import Settings
from app.work import DeviceLost
from model.allocator import keep_freed_memory
from model.contract import PERCENTILE_STEP
from model.images import Warning

log = logging.getLogger("smart_iqa.service")

WATCH_SECONDS = 1.0


class Service:
    """Holds the models, the lanes and what takes pictures to it.

    Args:
        settings: How to run.
        metrics: Where it reports.
        load: Makes the models.
        clock: Seconds from a monotonic clock.
        on_loss: Called once when the device is lost; only a new process will have it again.
        tracer: Takes spans of where the time of answers went.

    Attributes:
        draining: Whether new work is refused.
        generations: The models, and who may hold them.
        scoring: Takes pictures to their scores.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        *,
        load: Load,
        clock: Callable[[], float],
        on_loss: Callable[[], object] = lambda: None,
        tracer: trace.Tracer | None = None,
    ) -> None:
        self.settings = settings
        self.draining = False
        self.generations = Generations(self._forget)
        self._reloading = asyncio.Lock()
        self._metrics = metrics
        self._load = load
        # Before the first thread: a thread that has taken memory stays with the arena that it took it from.
        keep_freed_memory()
        # One until the models are there, which say how many they are made for.
        self._lanes = Lanes()
        self._batcher = Batcher(
            {},
            self._lanes,
            metrics,
            clock=clock,
            max_queue_crops=settings.max_queue_crops,
            max_queue_bytes=settings.max_queue_bytes,
            hang_seconds=settings.hang_seconds,
        )
        self.scoring = Scoring(settings, metrics, self._batcher, clock=clock, tracer=tracer or trace.NoOpTracer())
        self._on_loss = on_loss
        self._watch: asyncio.Task[None] | None = None
        self._broken = ""
        self._loaded = False
        metrics.ready.set_function(lambda: float(self.unready_because() is None))

    def start(self) -> None:
        """Begin to load the models; until then, and if that fails, the service is alive but not ready."""
        loop = asyncio.get_running_loop()
        # On a lane, like all work of the engines: a further thread that computes would cost that of the CPU its share
        # of the cores, for as long as the process lives.
        self._lanes.run(
            lambda _: self._load(self.settings), lambda outcome: loop.call_soon_threadsafe(self._take, outcome)
        )
        self._watch = loop.create_task(self._watch_device())

    async def _watch_device(self) -> None:
        """Notice a lane that has ended, or hangs, also when nobody asks."""
        while self.alive:
            await asyncio.sleep(WATCH_SECONDS)
        why = f"{', '.join(hanging)} hangs" if (hanging := self._batcher.hanging) else "a lane has ended"
        log.critical("the device is lost (%s): whoever waits is told, and only a restart will help", why)
        self._batcher.give_up()
        self._on_loss()

    def _take(self, outcome: Outcome[Mapping[str, ServedModel]]) -> None:
        models = outcome.value
        if models is None:
            log.error("the models cannot be loaded: the service will not become ready")
            self._broken = f"the models cannot be loaded ({type(outcome.error).__name__})"
            return
        self._install(models)

    def _install(self, models: Mapping[str, ServedModel]) -> None:
        """Let requests have these models from now on."""
        for model in models.values():
            for key, replicas in model.replicas.items():
                self._batcher.put_engine(key, replicas)
        self._broken, self._loaded = "", True
        self._report(models)
        self.generations.replace(models)

    def _report(self, models: Mapping[str, ServedModel]) -> None:
        metrics = self._metrics
        metrics.lanes.set(len(self._lanes))
        metrics.model_info.clear()
        metrics.training_score.clear()
        for model in models.values():
            name, contract = model.config.name, model.config.contract
            metrics.model_info.labels(name, model.digest, contract.id, ",".join(model.devices), model.precision).set(1)
            for step, score in enumerate(contract.percentiles):
                metrics.training_score.labels(name, f"{step * PERCENTILE_STEP / 100:g}").set(score)
            # From 0 on, as in the metrics: else the first answers would not count as an increase.
            metrics.score.labels(name)
            for warning in Warning:
                metrics.image_warnings.labels(name, warning)

    def _forget(self, keys: list[str]) -> None:
        for key in keys:
            self._batcher.drop_engine(key)
        # Tracebacks of failed requests may hold a model in a circle, and with torch loaded the collector hardly ever
        # comes to look by itself: there is too much to look at (0.15 s).
        self._lanes.run(lambda _: gc.collect(), lambda _: None)

    async def reload(self, folders: Sequence[Path] = ()) -> tuple[dict[str, str], dict[str, str]]:
        """Load checkpoints, prove them, and exchange the models at once while requests go on.

        Args:
            folders: The checkpoints; the configured ones if empty.

        Returns:
            The digests by name, before and after.

        Raises:
            Problem: A checkpoint cannot be used; the models that were there stay.
        """
        async with self._reloading:
            old = {name: model.digest for name, model in self.models.items()}
            folders = folders or self.settings.checkpoints
            try:
                models = await load_again(self._load, self.settings, folders, self.models, self._lanes)
            except DeviceLost as error:
                self._metrics.reloads.labels("failed").inc()
                raise Problem("device_lost", "nothing can be loaded until the service is restarted") from error
            except Exception as error:
                self._metrics.reloads.labels("failed").inc()
                log.error("the models that are loaded stay: %s: %s", type(error).__name__, error)
                detail = f"the models that are loaded stay; the reason is {type(error).__name__}, the log says more"
                raise Problem("reload_failed", detail) from error
            self._install(models)
            self._metrics.reloads.labels("done").inc()
            new = {name: model.digest for name, model in models.items()}
            log.info("the models are now %s", ", ".join(f"{name} {digest[:19]}" for name, digest in new.items()))
            return old, new

    def drain(self, *, undo: bool = False) -> None:
        """Take no new work, or take it again; what was accepted is finished."""
        if self.draining == undo:
            log.info("new work is %s", "taken again" if undo else "refused")
        self.draining = not undo

    def close(self) -> None:
        """End the threads and processes; whatever was accepted has been answered by now."""
        if self._watch is not None:
            self._watch.cancel()
        self.scoring.close()
        self._lanes.close()

    @property
    def models(self) -> Mapping[str, ServedModel]:
        """The loaded models by name, the default one first."""
        return self.generations.current

    @property
    def alive(self) -> bool:
        """Whether a restart would not help: false once a lane has ended or hangs."""
        return self._batcher.alive

    def unready_because(self) -> str | None:
        """Why requests should go elsewhere; None if they are welcome."""
        if self.draining:
            return "the service is about to stop"
        if self._broken:
            return self._broken
        if not self._batcher.alive:
            return "a lane of the device has ended or hangs"
        if not self.models:
            return "no model is loaded" if self._loaded else "the models are being loaded"
        return None if self._batcher.healthy else "the engine keeps failing"

    def model(self, name: str | None) -> ServedModel:
        """Find a model by name, the default one for None.

        Raises:
            Problem: There is none of that name, or none yet.
        """
        if not self.models:
            raise Problem("not_ready", self.unready_because() or "no model is loaded", {"Retry-After": "5"})
        if name is None:
            return next(iter(self.models.values()))
        if name not in self.models:
            raise Problem("unknown_model", f"the loaded models are {', '.join(self.models)}")
        return self.models[name]
