"""A replica that computes: models on the device that Ray gave it, and our batcher before them."""

import asyncio
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from app.batching.errors import BatcherError
from app.batching.jobs import Answer, Items, Priority, Submission
from app.cluster.autoscaling import LOOK_BACK_SECONDS
from app.cluster.metrics_aggregation import Collected, collect
from app.models.loading import LoadedModel, ServedModel, load_models
from app.models.manager import LocalModelManager
from app.observability import logs
from app.observability.metrics import Metrics
from app.settings import Settings

FACTS_SECONDS = 5.0
"""How often an ingress replica asks for the facts of the models."""


class Unknown(NamedTuple):
    """The replica does not have that model, or not any more."""


class RemoteSubmission(NamedTuple):
    """A ``Submission`` on its way to a replica, with times that do not depend on a clock: two machines share none.

    Attributes:
        key: Names the engine.
        items: The work items; in the replica they lie in Ray's object store, and are not copied before the batch.
        seconds: How long the answer will be of use.
        waited: How long the request has stood in line already.
        priority: Class of the request.
        owner: Name of the key that asked.
    """

    key: str
    items: Items
    seconds: float
    waited: float
    priority: Priority
    owner: str


class EngineReplica:
    """Answers submissions of ingress replicas; Ray Serve makes it, looks after it and tells it of changes.

    Args:
        settings: As for ``Settings``; ``device`` is what Ray leaves visible.
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
            if self._manager.trouble is not None:
                raise RuntimeError(self._manager.trouble)
            await asyncio.wait([ready], timeout=0.1)
        self._models = ready.result()

    async def reconfigure(self, config: Mapping[str, Any]) -> None:
        """Exchange the models if the deployment's ``user_config`` names other ``checkpoints``; ours work on meanwhile.

        Raises:
            CheckpointError, GoldenMismatch, ValueError: A checkpoint cannot be used; the models that are there stay.
        """
        folders = [Path(folder) for folder in config.get("checkpoints", ())] or [*self._settings.checkpoints]
        if folders != [*self._configured]:
            await self.reload(folders)
            self._configured = folders

    async def reload(self, folders: Sequence[Path] = ()) -> dict[str, str]:
        """Load and prove checkpoints, then answer for them; for the old ones too, until no ingress can ask for them.

        Args:
            folders: The checkpoints; the configured ones if empty.

        Returns:
            The digests by name.

        Raises:
            CheckpointError, GoldenMismatch, ValueError: A checkpoint cannot be used; the models that are there stay.
        """
        old, self._models = self._models, await self._manager.reload(folders or self._configured, self._models)
        gone = {key for model in old.values() for key in model.keys} - self._keys
        if gone:
            # An ingress that asked for facts just before may still send what it has let in since.
            seconds = 2 * self._settings.deadline_seconds + FACTS_SECONDS
            asyncio.get_running_loop().call_later(seconds, self._forget, gone)
        return {name: model.digest for name, model in self._models.items()}

    def _forget(self, keys: set[str]) -> None:
        # A model may have come back in the meantime.
        self._manager.forget(sorted(keys - self._keys))

    @property
    def _keys(self) -> set[str]:
        return {key for model in self._models.values() for key in model.keys}

    async def submit(self, submission: RemoteSubmission) -> Answer | BatcherError | Unknown:
        """Have crops scored.

        Returns:
            The rows; or why there are none. It is no exception, which Ray would write into its log each time.
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
        """What requests need to know of the models, the default one first."""
        return [model.facts() for model in self._models.values()]

    def collect(self) -> Collected:
        """The replica's metrics."""
        return collect(self._metrics)

    def record_autoscaling_stats(self) -> dict[str, float]:
        """What ``autoscaling.by_queued_crops`` goes by."""
        batcher = self._manager.batcher
        return {
            "queued_crops": float(batcher.waiting_crops),
            "drain_seconds": batcher.drain_seconds,
            "busy": self._busy(),
        }

    def _busy(self) -> float:
        """The share of the last seconds in which it computed, mean of its lanes."""
        now, computed = self._clock(), self._manager.batcher.computed_seconds
        self._samples.append((now, computed))
        while len(self._samples) > 2 and self._samples[1][0] <= now - LOOK_BACK_SECONDS:
            self._samples.popleft()
        began, before = self._samples[0]
        return min((computed - before) / max(now - began, 1e-6) / len(self._manager.workers), 1.0)

    def check_health(self) -> None:
        """Have Ray replace a replica that has lost its device.

        Raises:
            RuntimeError: It has.
        """
        if not self._manager.alive:
            raise RuntimeError("a lane of the device has ended or hangs")
