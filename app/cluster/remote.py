"""The way from an ingress replica to the engine replicas: a host of models that are elsewhere."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from app.batching.capacity import QueueCapacity, Reservation
from app.batching.errors import BatcherError, DeadlineExceeded, DeviceLost
from app.batching.jobs import Answer, Submission
from app.cluster import metrics_aggregation
from app.cluster.engine import FACTS_SECONDS, RemoteSubmission, Unknown
from app.models.loading import ServedModel
from app.models.manager import Install
from app.settings import Settings

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle

log = logging.getLogger("smart_iqa.cluster")

INGRESS, ENGINE = "Ingress", "Engine"
"""Names of the deployments."""
AGAIN_SECONDS = 0.05
"""Pause before crops are sent once more, when the replica that had them is gone or has not got their model."""
RELOAD_SECONDS = 600.0


class RemoteQueue:
    """Takes work items to the engine replicas.

    Which replica has them is Ray Serve's choice; each has a queue of its own with its own bounds. What has been sent
    and not been answered is bounded here, so that work which could not be taken is shed before it is decoded.

    Args:
        engines: Handle of the engine deployment.
        settings: The bounds.
        clock: Seconds from a monotonic clock.
    """

    def __init__(self, engines: "DeploymentHandle", settings: Settings, clock: Callable[[], float]) -> None:
        self._engines = engines
        self._clock = clock
        self._crops = self._bytes = 0
        self._waited = 0.0
        self._capacity = QueueCapacity(
            settings.max_queue_crops,
            settings.max_queue_bytes,
            clock,
            waiting=lambda: (self._crops, self._bytes),
            drain_seconds=lambda: self._waited,
        )

    def check(self, crops: int, size: int) -> None:
        """Raise what a request of that many crops would be refused with now; as ``Batcher.check``.

        Raises:
            QueueFull: Too much waits already.
        """
        self._capacity.check(crops, size)

    def reserve(self, crops: int, size: int) -> Reservation:
        """Reserve capacity for crops that will be submitted later; as ``Batcher.reserve``.

        Raises:
            QueueFull: They do not fit.
        """
        return self._capacity.reserve(crops, size)

    async def submit(self, submission: Submission) -> Answer:
        """Have work items computed; as ``Batcher.submit``.

        They are sent again when their replica ends before it has answered: that changes nothing, and Ray Serve leaves
        it to who asked.

        Raises:
            QueueFull, DeadlineExceeded, EngineFailed: As there.
        """
        items, reservation, began = submission.items, submission.reservation, self._clock()
        if reservation is None:
            self._capacity.check(len(items), items.nbytes)
        else:
            reservation.take(len(items), items.nbytes)
        since = began if reservation is None else reservation.since
        self._crops += len(items)
        self._bytes += items.nbytes
        try:
            while (now := self._clock()) < submission.deadline:
                remote = RemoteSubmission(
                    submission.key, items, submission.deadline - now, now - since, submission.priority, submission.owner
                )
                outcome = await self._send(remote)
                if isinstance(outcome, Answer):
                    self._waited = outcome.queue_seconds
                    return Answer(
                        rows_ND=outcome.rows_ND,
                        queue_seconds=self._clock() - began - outcome.compute_seconds,
                        compute_seconds=outcome.compute_seconds,
                    )
                if isinstance(outcome, BatcherError) and not isinstance(outcome, DeviceLost):
                    raise outcome
                await asyncio.sleep(AGAIN_SECONDS)
            raise DeadlineExceeded
        finally:
            self._crops -= len(items)
            self._bytes -= items.nbytes

    async def _send(self, submission: RemoteSubmission) -> Answer | BatcherError | Unknown:
        """Send crops to one replica, and cancel them there when the caller leaves."""
        from ray.exceptions import RayError, RayTaskError
        from ray.serve.exceptions import RayServeException

        response = self._engines.submit.remote(submission)
        try:
            async with asyncio.timeout(submission.seconds):
                outcome: Answer | BatcherError | Unknown = await response
                return outcome
        except TimeoutError:
            response.cancel()
            return DeadlineExceeded()
        except asyncio.CancelledError:
            response.cancel()
            raise
        except RayTaskError:
            # A defect, which would be one on every replica.
            raise
        except (RayError, RayServeException) as error:
            log.warning("an engine replica did not answer: %s", type(error).__name__)
            return DeviceLost()


class RemoteModelManager:
    """Knows the models of the engine replicas; otherwise like ``LocalHost``.

    Args:
        engines: Handle of the engine deployment.
        settings: How to run.
        clock: Seconds from a monotonic clock.
    """

    def __init__(self, engines: "DeploymentHandle", settings: Settings, clock: Callable[[], float]) -> None:
        self._engines = engines
        self._settings = settings
        self._watch: asyncio.Task[None] | None = None
        self._trouble: str | None = None
        self.queue = RemoteQueue(engines, settings, clock)

    @property
    def alive(self) -> bool:
        """Always: what fails elsewhere is mended elsewhere."""
        return True

    @property
    def trouble(self) -> str | None:
        """Why requests should go elsewhere for now."""
        return self._trouble

    def start(self, install: Install) -> None:
        """Ask for the models from now on, and install them when they have changed."""
        self._watch = asyncio.get_running_loop().create_task(self._ask(install))

    async def _ask(self, install: Install) -> None:
        known: list[str] = []
        while True:
            try:
                async with asyncio.timeout(FACTS_SECONDS if known else None):
                    models = {model.config.name: model for model in await self._engines.facts.remote()}
                self._trouble = None
                if [model.key for model in models.values()] != known:
                    known = [model.key for model in models.values()]
                    install(models)
            except Exception as error:
                # Whatever it is, the next one may answer.
                self._trouble = f"no engine replica answers ({type(error).__name__})"
                log.warning("%s", self._trouble)
            await asyncio.sleep(FACTS_SECONDS)

    async def reload(self, folders: Sequence[Path], current: Mapping[str, ServedModel]) -> Mapping[str, ServedModel]:  # noqa: ARG002
        """Have all engine replicas load the configured checkpoints again.

        Replicas that start later load what the deployment is configured with, so nothing else can be asked for here.

        Raises:
            ValueError: Other folders are asked for.
            Exception: A replica's reason not to take one; those that took it will go back to it when they are replaced.
        """
        if folders and tuple(folders) != self._settings.checkpoints:
            raise ValueError("replicas load what the deployment's config says: deploy it with these checkpoints")
        await self._engines.broadcast("reload").results_async(timeout_s=RELOAD_SECONDS)
        return {model.config.name: model for model in await self._engines.facts.remote()}

    async def render(self) -> bytes:
        """The metrics of all replicas, in the Prometheus text format."""
        from ray import serve

        return metrics_aggregation.render(
            await metrics_aggregation.gather(serve.get_deployment_handle(INGRESS), self._engines)
        )

    def forget(self, keys: Iterable[str]) -> None:
        """Nothing is held here."""

    def close(self) -> None:
        """Ask no more."""
        if self._watch is not None:
            self._watch.cancel()
