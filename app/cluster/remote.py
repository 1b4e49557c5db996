"""Client side of the engine replicas, for an ingress replica: a queue and a model manager that call them."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from app.batching.capacity import QueueCapacity, Reservation
from app.batching.errors import BatcherError, DeadlineExceeded, DeviceLost
from app.batching.submission import Submission, SubmissionResult
from app.cluster import metrics_aggregation
from app.cluster.engine import FACTS_SECONDS, RemoteSubmission, Unknown
from app.models.loading import ServedModel
from app.models.manager import Install
from app.observability.metrics import Rendered
from app.settings import Settings

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle

log = logging.getLogger("smart_iqa.cluster")

INGRESS, ENGINE = "Ingress", "Engine"
"""Names of the deployments."""
AGAIN_SECONDS = 0.05
"""Pause before work items are sent again, after their replica has ended or did not have their model."""
RELOAD_SECONDS = 600.0


class RemoteQueue:
    """Sends work items to the engine replicas and waits for their rows.

    Ray Serve chooses the replica; each has its own queue with its own bounds. This class bounds the items that have
    been sent and not answered, so that surplus requests are shed before they are decoded.

    Args:
        engines: Handle of the engine deployment.
        settings: The bounds.
        clock: Returns seconds of a monotonic clock.
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
        """Raise an error if a submission of that many crops would be refused now; as ``Batcher.check``.

        Raises:
            QueueFull: The queue has no capacity for them.
        """
        self._capacity.check(crops, size)

    def reserve(self, crops: int, size: int) -> Reservation:
        """Reserve capacity for crops that will be submitted later; as ``Batcher.reserve``.

        Raises:
            QueueFull: The queue has no capacity for them.
        """
        return self._capacity.reserve(crops, size)

    async def submit(self, submission: Submission) -> SubmissionResult:
        """Compute the rows of work items; as ``Batcher.submit``.

        If a replica ends before it has answered, the items are sent again: computing is idempotent, and Ray Serve does
        not retry by itself.

        Raises:
            QueueFull, DeadlineExceeded, EngineFailed: As ``Batcher.submit``.
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
                if isinstance(outcome, SubmissionResult):
                    self._waited = outcome.queue_seconds
                    return SubmissionResult(
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

    async def _send(self, submission: RemoteSubmission) -> SubmissionResult | BatcherError | Unknown:
        """Send work items to one replica; cancel them there when the caller leaves."""
        from ray.exceptions import RayError, RayTaskError
        from ray.serve.exceptions import RayServeException

        response = self._engines.submit.remote(submission)
        try:
            async with asyncio.timeout(submission.seconds):
                outcome: SubmissionResult | BatcherError | Unknown = await response
                return outcome
        except TimeoutError:
            response.cancel()
            return DeadlineExceeded()
        except asyncio.CancelledError:
            response.cancel()
            raise
        except RayTaskError:
            # An exception in the replica's code is a defect, and would recur on every replica.
            raise
        except (RayError, RayServeException) as error:
            log.warning("an engine replica did not answer: %s", type(error).__name__)
            return DeviceLost()


class RemoteModelManager:
    """The model manager of an ingress replica: its models are in the engine replicas.

    Args:
        engines: Handle of the engine deployment.
        settings: How to run.
        clock: Returns seconds of a monotonic clock.

    Attributes:
        queue: Sends work items to the engine replicas.
    """

    def __init__(self, engines: "DeploymentHandle", settings: Settings, clock: Callable[[], float]) -> None:
        self._engines = engines
        self._settings = settings
        self._watch: asyncio.Task[None] | None = None
        self._unready_reason: str | None = None
        self.queue = RemoteQueue(engines, settings, clock)

    @property
    def alive(self) -> bool:
        """Always true: Ray Serve replaces failed engine replicas; a restart of this process would not help."""
        return True

    @property
    def alone(self) -> bool:
        """Always false: other ingress replicas answer too."""
        return False

    @property
    def unready_reason(self) -> str | None:
        """Why requests cannot be computed now: no engine replica answers."""
        return self._unready_reason

    def start(self, install: Install) -> None:
        """Poll the engine replicas for their models from now on; call ``install`` whenever they have changed."""
        self._watch = asyncio.get_running_loop().create_task(self._poll(install))

    async def _poll(self, install: Install) -> None:
        known: list[str] = []
        while True:
            try:
                async with asyncio.timeout(FACTS_SECONDS if known else None):
                    models = {model.config.name: model for model in await self._engines.facts.remote()}
                self._unready_reason = None
                if [model.key for model in models.values()] != known:
                    known = [model.key for model in models.values()]
                    install(models)
            except Exception as error:
                # Whatever the error, the next poll may succeed.
                self._unready_reason = f"no engine replica answers ({type(error).__name__})"
                log.warning("%s", self._unready_reason)
            await asyncio.sleep(FACTS_SECONDS)

    async def reload(self, folders: Sequence[Path], current: Mapping[str, ServedModel]) -> Mapping[str, ServedModel]:  # noqa: ARG002
        """Have all engine replicas load the configured checkpoints again.

        Other checkpoints are refused: replicas that start later would load the configured ones.

        Raises:
            ValueError: The folders are not the configured checkpoints.
            Exception: The first error of a replica. Others may have loaded the new files already; a replica that starts
                later loads the files that are there then.
        """
        if folders and tuple(folders) != self._settings.checkpoints:
            raise ValueError("replicas load what the deployment's config says: deploy it with these checkpoints")
        await self._engines.broadcast("reload").results_async(timeout_s=RELOAD_SECONDS)
        return {model.config.name: model for model in await self._engines.facts.remote()}

    async def render(self, accept: str) -> Rendered:
        """The metrics of all replicas, in the format that the header ``Accept`` asks for."""
        from ray import serve

        return metrics_aggregation.render(
            await metrics_aggregation.gather(serve.get_deployment_handle(INGRESS), self._engines), accept
        )

    def forget(self, keys: Iterable[str]) -> None:
        """Do nothing: this process holds no engines."""

    def close(self) -> None:
        """Stop polling."""
        if self._watch is not None:
            self._watch.cancel()
