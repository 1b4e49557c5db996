"""The service itself, without HTTP: where its models are, what takes pictures to them, and what probes are told."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from opentelemetry import trace

from app.batching.jobs import DeviceLost
from app.http.problems import Problem
from app.models.generations import Generations
from app.models.loading import ServedModel
from app.models.manager import ModelManager
from app.observability.metrics import Metrics
from app.scoring.pipeline import Scoring
from app.settings import Settings
from model.contract import PERCENTILE_STEP
from model.images import ImageWarning

log = logging.getLogger("smart_iqa.service")


class Service:
    """Knows the models, and takes pictures to them.

    Args:
        settings: How to run.
        metrics: Where it reports.
        host: Where the models are.
        clock: Seconds from a monotonic clock.
        tracer: Takes spans of where the time of answers went.

    Attributes:
        draining: Whether new work is refused.
        generations: The models, and who may hold them.
        host: Where the models are.
        scoring: Takes pictures to their scores.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        host: ModelManager,
        *,
        clock: Callable[[], float],
        tracer: trace.Tracer | None = None,
    ) -> None:
        self.settings = settings
        self.draining = False
        self.host = host
        self.generations = Generations(host.forget)
        self.scoring = Scoring(settings, metrics, host.queue, clock=clock, tracer=tracer or trace.NoOpTracer())
        self._reloading = asyncio.Lock()
        self._metrics = metrics
        self._loaded = False
        metrics.ready.set_function(lambda: float(self.unready_because() is None))

    def start(self) -> None:
        """Begin to load the models; until then, and if that fails, the service is alive but not ready."""
        self.host.start(self._install)

    def _install(self, models: Mapping[str, ServedModel]) -> None:
        """Let requests have these models from now on."""
        self._loaded = True
        self._report(models)
        self.generations.replace(models)

    def _report(self, models: Mapping[str, ServedModel]) -> None:
        metrics = self._metrics
        metrics.model_info.clear()
        metrics.training_score.clear()
        for model in models.values():
            name, contract = model.config.name, model.config.contract
            metrics.model_info.labels(name, model.digest, contract.id, ",".join(model.devices), model.precision).set(1)
            for step, score in enumerate(contract.percentiles):
                metrics.training_score.labels(name, f"{step * PERCENTILE_STEP / 100:g}").set(score)
            # From 0 on, as in the metrics: else the first answers would not count as an increase.
            metrics.score.labels(name)
            for warning in ImageWarning:
                metrics.image_warnings.labels(name, warning)

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
            try:
                models = await self.host.reload(folders, self.models)
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
        self.scoring.close()
        self.host.close()

    @property
    def models(self) -> Mapping[str, ServedModel]:
        """The loaded models by name, the default one first."""
        return self.generations.current

    @property
    def alive(self) -> bool:
        """Whether a restart would not help."""
        return self.host.alive

    def unready_because(self) -> str | None:
        """Why requests should go elsewhere; None if they are welcome."""
        if self.draining:
            return "the service is about to stop"
        trouble = self.host.trouble
        if trouble is None and not self.models:
            return "no model is loaded" if self._loaded else "the models are being loaded"
        return trouble

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
