"""The service without HTTP: its models and their exchange, the pipeline, and its state for probes.

Models are exchanged while requests go on. Old models are dropped only when every request that came before the exchange
has ended: a request keeps the model that it has found, however long its upload takes, and its whole answer comes from
that model.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from opentelemetry import trace

from app.batching.errors import DeviceLost
from app.models.loading import ServedModel
from app.models.manager import ModelManager
from app.observability.metrics import Metrics
from app.scoring.pipeline import Pipeline
from app.settings import Settings
from model.contract import PERCENTILE_STEP
from model.images import ImageWarning
from model.policies import OUTCOMES, SHIPPED, Policies, PolicyError

log = logging.getLogger("smart_iqa.service")


class NotReady(Exception):
    """No model is loaded. The text is the reason."""


class UnknownModel(Exception):
    """No model of that name is loaded.

    Attributes:
        loaded: Names of the loaded models.
    """

    def __init__(self, loaded: Sequence[str]) -> None:
        super().__init__(loaded)
        self.loaded = loaded


class ReloadFailed(Exception):
    """The models and policies were not exchanged. The text is the reason."""


class Service:
    """Holds the model generations and the pipeline, and answers the probes.

    Args:
        settings: How to run.
        metrics: The metrics of the service.
        manager: Holds the models.
        policies: Decide about pictures.
        clock: Returns seconds of a monotonic clock.
        tracer: Records a span for each phase of an answer; None records none.
        key_names: Returns the names of all keys, which policies may be bound to.

    Attributes:
        draining: Whether new work is refused.
        generations: The current models, and older ones that requests still use.
        manager: Holds the models.
        pipeline: Scores pictures.
        policies: Decide about pictures.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        manager: ModelManager,
        policies: Policies,
        *,
        clock: Callable[[], float],
        tracer: trace.Tracer | None = None,
        key_names: Callable[[], set[str]] = set,
    ) -> None:
        self.settings = settings
        self.draining = False
        self.manager = manager
        self.policies = policies
        self._key_names = key_names
        self.generations = Generations(manager.forget)
        self.pipeline = Pipeline(settings, metrics, manager.queue, clock=clock, tracer=tracer)
        self._reloading = asyncio.Lock()
        self._metrics = metrics
        self._loaded = False
        metrics.ready.set_function(lambda: float(self.unready_because() is None))

    def start(self) -> None:
        """Start to load the models. Until they are loaded, and if that fails, the service is alive but not ready."""
        self.manager.start(self._install)

    def _install(self, models: Mapping[str, ServedModel]) -> None:
        """Make these the current models for new requests."""
        self._loaded = True
        self._report(models)
        self._report_policies(models)
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
            # All series start at 0: Prometheus would not count the first event of a new series as an increase.
            metrics.score.labels(name)
            for warning in ImageWarning:
                metrics.image_warnings.labels(name, warning)

    def _report_policies(self, models: Mapping[str, ServedModel]) -> None:
        for policy in self.policies:
            for key in sorted({*policy.keys} - self._key_names()):
                log.warning("policy %s is bound to the key %s, which does not exist", policy.name, key)
            for outcome in OUTCOMES:
                self._metrics.decisions.labels(policy.name, outcome)
            for rule in policy.rules:
                self._metrics.decision_reasons.labels(policy.name, rule.outcome, rule.code)
            for name, model in models.items():
                lacking = policy.lacking(model.config.contract, model.digest)
                if lacking is not None and policy.keys:
                    log.warning("policy %s asks for %s, which %s does not tell", policy.name, lacking, name)

    async def reload(self, folders: Sequence[Path] = ()) -> tuple[dict[str, str], dict[str, str]]:
        """Load and check checkpoints and policies, then exchange all at once while requests go on.

        On a Ray cluster the policies stay: each of its ingress replicas has read them when it started.

        Args:
            folders: The checkpoints; the configured ones if empty.

        Returns:
            The digests by name, before and after.

        Raises:
            ReloadFailed: A checkpoint, or the file of policies, cannot be used; what is current stays.
            DeviceLost: A worker thread has ended or hangs.
        """
        async with self._reloading:
            old = {name: model.digest for name, model in self.models.items()}
            try:
                policies = self.policies
                if self.manager.alone:
                    policies = await asyncio.to_thread(Policies.load, self.settings.policies or SHIPPED)
                models = await self.manager.reload(folders, self.models)
            except DeviceLost as error:
                self._metrics.reloads.labels("failed").inc()
                raise DeviceLost("loaded") from error
            except Exception as error:
                self._metrics.reloads.labels("failed").inc()
                log.error("the models and policies that are loaded stay: %s: %s", type(error).__name__, error)
                # What a checkpoint's error says may name folders.
                reason = str(error) if isinstance(error, PolicyError) else type(error).__name__
                raise ReloadFailed(reason) from error
            self.policies = policies
            self._install(models)
            self._metrics.reloads.labels("done").inc()
            new = {name: model.digest for name, model in models.items()}
            log.info("the models are now %s", ", ".join(f"{name} {digest[:19]}" for name, digest in new.items()))
            return old, new

    def drain(self, *, undo: bool = False) -> None:
        """Refuse new work, or with ``undo`` accept it again. Accepted requests are finished."""
        if self.draining == undo:
            log.info("new work is %s", "taken again" if undo else "refused")
        self.draining = not undo

    def close(self) -> None:
        """End the threads and processes. All accepted requests have been answered before."""
        self.pipeline.close()
        self.manager.close()

    @property
    def models(self) -> Mapping[str, ServedModel]:
        """The loaded models by name, the default one first."""
        return self.generations.current

    @property
    def alive(self) -> bool:
        """False if only a restart of the process can help."""
        return self.manager.alive

    def unready_because(self) -> str | None:
        """Why the service is not ready for requests; None if it is ready."""
        if self.draining:
            return "the service is about to stop"
        reason = self.manager.unready_reason
        if reason is None and not self.models:
            return "no model is loaded" if self._loaded else "the models are being loaded"
        return reason

    def model(self, name: str | None) -> ServedModel:
        """Find a model by name, the default one for None.

        Raises:
            NotReady: No model is loaded.
            UnknownModel: No loaded model has that name.
        """
        if not self.models:
            raise NotReady(self.unready_because() or "no model is loaded")
        if name is None:
            return next(iter(self.models.values()))
        if name not in self.models:
            raise UnknownModel(list(self.models))
        return self.models[name]


@dataclass(eq=False)
class _Generation:
    models: Mapping[str, ServedModel]
    holders: int = 0

    @property
    def keys(self) -> set[str]:
        """Keys of its models in the batcher."""
        return {key for model in self.models.values() for key in model.keys}


class Generations:
    """The current models, and older ones that requests still use.

    Args:
        forget: Called with the keys of models that no request can use any more.
    """

    def __init__(self, forget: Callable[[list[str]], object]) -> None:
        self._forget = forget
        self._generations = deque([_Generation({})])

    @property
    def current(self) -> Mapping[str, ServedModel]:
        """The models by name, the default one first."""
        return self._generations[-1].models

    def replace(self, models: Mapping[str, ServedModel]) -> None:
        """Make these the current models."""
        self._generations.append(_Generation(models))
        self._retire()

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Keep the current models and all newer ones until the context ends."""
        generation = self._generations[-1]
        generation.holders += 1
        try:
            yield
        finally:
            generation.holders -= 1
            self._retire()

    def _retire(self) -> None:
        # Oldest first: a request that holds an early generation may use a model of any later one.
        while len(self._generations) > 1 and not self._generations[0].holders:
            gone = self._generations.popleft().keys
            if keys := gone.difference(*(kept.keys for kept in self._generations)):
                self._forget(sorted(keys))
