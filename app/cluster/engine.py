"""Engine replica: models on the device that Ray assigned to it, behind a batcher."""

import asyncio
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from app.batching.errors import BatcherError
from app.batching.submission import Items, Priority, Submission, SubmissionResult
from app.cluster.autoscaling import LOOK_BACK_SECONDS
from app.cluster.metrics_aggregation import Collected, collect
from app.models.loading import LoadedModel, ServedModel, load_models
from app.models.manager import LocalModelManager
from app.observability import logs
from app.observability.metrics import Metrics
from app.settings import Settings

FACTS_SECONDS = 5.0
"""Interval at which an ingress replica fetches the facts of the models."""


class Unknown(NamedTuple):
    """Result of a submission for a model that the replica has not loaded, or has dropped."""


class RemoteSubmission(NamedTuple):
    """A ``Submission`` sent to a replica. Its times are durations, since two machines share no clock.

    Attributes:
        key: Names the engine.
        items: The work items. In the replica they lie in Ray's object store, without a copy before the batch.
        seconds: Time left until the deadline.
        waited: Time since the request arrived.
        priority: Class of the request.
        owner: Name of the key that the request came with.
    """

    key: str
    items: Items
    seconds: float
    waited: float
    priority: Priority
    owner: str


class EngineReplica:
    """Computes the submissions of ingress replicas. Ray Serve creates, checks and reconfigures it.

    Args:
        settings: Fields of ``Settings``; of the GPUs, only those that Ray assigned are visible.
    """

    async def __init__(self, settings: Mapping[str, Any]) -> None:  # type: ignore[misc]  # Ray Serve awaits it
        self._settings = Settings(**settings)
        logs.configure(self._settings)
        self._metrics = Metrics()
        self._clock = time.monotonic
        self._models: Mapping[str, LoadedModel] = {}
        self._configured: Sequence[Path] = self._settings.checkpoints
        self._manager = LocalModelManager(self._settings, self._metrics, load=load_models, clock=self._clock)
        self._samples = deque([(self._clock(), 0.0)])
        ready = asyncio.get_running_loop().create_future()
        self._manager.start(ready.set_result)
        while not ready.done():
            if self._manager.unready_reason is not None:
                raise RuntimeError(self._manager.unready_reason)
            await asyncio.wait([ready], timeout=0.1)
        self._models = ready.result()

    async def reconfigure(self, config: Mapping[str, Any]) -> None:
        """Exchange the models if the deployment's ``user_config`` names other ``checkpoints``; requests go on.

        Raises:
            CheckpointError, GoldenMismatch, ValueError: A checkpoint cannot be used; the current models stay.
        """
        folders = [Path(folder) for folder in config.get("checkpoints", ())] or [*self._settings.checkpoints]
        if folders != [*self._configured]:
            await self.reload(folders)
            self._configured = folders

    async def reload(self, folders: Sequence[Path] = ()) -> dict[str, str]:
        """Load and check checkpoints, then serve them. Old models stay until no ingress replica can submit for them.

        Args:
            folders: The checkpoints; the configured ones if empty.

        Returns:
            The digests by name.

        Raises:
            CheckpointError, GoldenMismatch, ValueError: A checkpoint cannot be used; the current models stay.
        """
        old, self._models = self._models, await self._manager.reload(folders or self._configured, self._models)
        gone = {key for model in old.values() for key in model.keys} - self._keys
        if gone:
            # An ingress replica that fetched the old facts just before admits requests for them until its next fetch.
            seconds = 2 * self._settings.deadline_seconds + FACTS_SECONDS
            asyncio.get_running_loop().call_later(seconds, self._forget, gone)
        return {name: model.digest for name, model in self._models.items()}

    def _forget(self, keys: set[str]) -> None:
        # Except models that have been loaded again in the meantime.
        self._manager.forget(sorted(keys - self._keys))

    @property
    def _keys(self) -> set[str]:
        return {key for model in self._models.values() for key in model.keys}

    async def submit(self, submission: RemoteSubmission) -> SubmissionResult | BatcherError | Unknown:
        """Compute the rows of work items.

        Returns:
            The answer, or the error. Errors are returned, not raised, since Ray would log each exception.
        """
        if submission.key not in self._manager.batcher.keys:
            return Unknown()
        now = self._clock()
        try:
            return await self._manager.batcher.submit(
                Submission(
                    key=submission.key,
                    items=submission.items,
                    deadline=now + submission.seconds,
                    priority=submission.priority,
                    owner=submission.owner,
                    since=now - submission.waited,
                )
            )
        except BatcherError as error:
            return error.with_traceback(None)

    def facts(self) -> list[ServedModel]:
        """The facts of the loaded models, the default one first."""
        return [model.facts() for model in self._models.values()]

    def collect(self) -> Collected:
        """The replica's metrics."""
        return collect(self._metrics)

    def record_autoscaling_stats(self) -> dict[str, float]:
        """The numbers for ``autoscaling.by_queued_crops``."""
        batcher = self._manager.batcher
        return {
            "queued_crops": float(batcher.waiting_crops),
            "drain_seconds": batcher.drain_seconds,
            "busy": self._busy(),
        }

    def _busy(self) -> float:
        """Share of the last ``LOOK_BACK_SECONDS`` in which it computed, mean of its lanes."""
        now, computed = self._clock(), self._manager.batcher.computed_seconds
        self._samples.append((now, computed))
        while len(self._samples) > 2 and self._samples[1][0] <= now - LOOK_BACK_SECONDS:
            self._samples.popleft()
        began, before = self._samples[0]
        return min((computed - before) / max(now - began, 1e-6) / len(self._manager.workers), 1.0)

    def check_health(self) -> None:
        """Health check of Ray Serve, which replaces the replica if it fails.

        Raises:
            RuntimeError: A worker thread has ended or hangs.
        """
        if not self._manager.alive:
            raise RuntimeError("a lane of the device has ended or hangs")
