"""The dynamic micro-batcher: crops of many requests, grouped into batches for one device.

It is work-conserving. A batch goes out as soon as the device is free, with whatever waits then; while the device is
busy only a full batch is formed, and staged behind the running one, so that late arrivals can still join any other.
There is no timer.

    submit --> queue (interactive | bulk, FIFO) --> _next_batch --> DeviceThread --> _finish --> the caller's future

Everything but the engine's ``run`` happens on the event loop, in plain functions; there is no task that could die.
The engine and the clock are injected, and neither torch nor a web framework is imported.
"""

import asyncio
import enum
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from app.device import DeviceThread, Outcome
from app.metrics import Metrics

Items = NDArray[np.uint8] | NDArray[np.float32]
Rows = NDArray[np.float32]

SLOTS = 2
"""Batches handed to the device: one runs, one is staged."""
ATTEMPTS = 2
"""A crop meets the engine this often: in company, and alone."""
FAILURES_TO_UNHEALTHY = 3
RECOVERY_SECONDS = 30.0
"""An unhealthy engine gets another try after this long without a failure."""
HANG_SECONDS = 120.0
"""A batch that is on the device for this long will not come back."""
RETRY_AFTER_CAP = 30


class Engine(Protocol):
    """What the batcher asks of an engine."""

    @property
    def cap(self) -> int:
        """Crops that fit one batch."""

    def run(self, parts: Sequence[Items], /) -> Rows:
        """Score a batch of at most ``cap`` crops given in parts; one row per crop, in their order."""


class Priority(enum.IntEnum):
    """Classes of requests; the lower one is served first."""

    INTERACTIVE = 0
    BULK = 1


class BatcherError(Exception):
    """A request got no rows."""


class QueueFull(BatcherError):
    """Too much waits already. ``retry_after`` is when to come again, in whole seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(retry_after)
        self.retry_after = retry_after


class DeadlineExceeded(BatcherError):
    """The deadline passed before the rows were there."""


class EngineFailed(BatcherError):
    """The engine failed on this request, also when it was alone."""


class DeviceLost(BatcherError):
    """The device thread has ended; nothing can be computed any more."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Rows of a request's crops.

    Attributes:
        rows_ND: One row per crop, as the engine gives them.
        queue_seconds: From submission until the device began with its first crops.
        compute_seconds: Time of its batches on the device.
    """

    rows_ND: Rows
    queue_seconds: float
    compute_seconds: float


@dataclass(eq=False, kw_only=True)
class _Job:
    key: str
    items: Items
    priority: Priority
    deadline: float
    submitted: float
    future: "asyncio.Future[Answer]"
    taken: int = 0
    started: float = math.inf
    compute_seconds: float = 0.0
    parts: dict[int, Rows] = field(default_factory=dict)

    @property
    def kind(self) -> tuple[object, ...]:
        """What jobs must have in common to share a batch: the engine and the shape of their items."""
        return self.key, self.items.shape[1:]

    @property
    def waiting(self) -> int:
        return len(self.items) - self.taken

    @property
    def over(self) -> bool:
        return self.future.done()


@dataclass(frozen=True, kw_only=True)
class _Segment:
    """Crops ``start`` to ``stop`` of a job, in one batch."""

    job: _Job
    start: int
    stop: int
    attempt: int = 1


@dataclass(frozen=True, eq=False, kw_only=True)
class _Batch:
    key: str
    segments: tuple[_Segment, ...]
    reason: str
    formed: float

    @property
    def crops(self) -> int:
        return sum(segment.stop - segment.start for segment in self.segments)


class _Computed(NamedTuple):
    rows_ND: Rows
    started: float
    seconds: float


class Batcher:
    """Groups crops of concurrent requests; made and used on one event loop.

    Args:
        engines: An engine for each key that requests may name; all share the device.
        device: The thread that they are run on.
        metrics: Where it reports.
        clock: Seconds from a monotonic clock.
        max_queue_crops: Bound on the crops that wait.
    """

    def __init__(
        self,
        engines: Mapping[str, Engine],
        device: DeviceThread,
        metrics: Metrics,
        *,
        clock: Callable[[], float],
        max_queue_crops: int,
    ) -> None:
        self._engines = engines
        self._metrics = metrics
        self._clock = clock
        self._max_queue_crops = max_queue_crops
        self._loop = asyncio.get_running_loop()
        self._device = device
        device.on_death = lambda: self._loop.call_soon_threadsafe(self._lose_device)
        self._queues: dict[Priority, deque[_Job]] = {priority: deque() for priority in Priority}
        self._retries: deque[_Batch] = deque()
        self._queued_crops = 0
        self._on_device: list[_Batch] = []
        self._failures = 0
        self._last_failure = -math.inf
        self._lost = False
        self._rate = math.nan

    @property
    def alive(self) -> bool:
        """Whether the device thread runs, and does not hang."""
        hangs = any(self._clock() - batch.formed > HANG_SECONDS for batch in self._on_device)
        return self._device.alive and not self._lost and not hangs

    @property
    def healthy(self) -> bool:
        """Whether requests are worth sending: false for a while once three have failed in a row."""
        rested = self._clock() - self._last_failure > RECOVERY_SECONDS
        return self.alive and (self._failures < FAILURES_TO_UNHEALTHY or rested)

    def check_room(self, crops: int) -> None:
        """Find out whether a request of that many crops would be taken now.

        Raises:
            QueueFull: It would not.
            DeviceLost: Nothing will be taken any more.
        """
        if not self.alive:
            raise DeviceLost
        if self._queued_crops + crops > self._max_queue_crops:
            raise QueueFull(self._retry_after())

    async def submit(
        self, key: str, items: Items, *, deadline: float, priority: Priority = Priority.INTERACTIVE
    ) -> Answer:
        """Have crops scored. Cancelling the call takes what still waits out of the queue.

        Args:
            key: Names the engine.
            items: At least one work item; only items of one shape share a batch.
            deadline: When the answer is of no use any more, on the batcher's clock.
            priority: Which queue to wait in.

        Raises:
            QueueFull: Too much waits already.
            DeadlineExceeded: The deadline passed.
            EngineFailed: The engine failed on these crops.
            DeviceLost: The device thread has ended.
        """
        self.check_room(len(items))
        job = _Job(
            key=key,
            items=items,
            priority=priority,
            deadline=deadline,
            submitted=self._clock(),
            future=self._loop.create_future(),
        )
        self._queues[priority].append(job)
        self._count(job.waiting)
        expiry = self._loop.call_later(max(deadline - job.submitted, 0), self._fail, job, DeadlineExceeded())
        self._pump()
        try:
            return await job.future
        except asyncio.CancelledError:
            self._metrics.dropped.labels("disconnect").inc()
            self._forget(job)
            raise
        finally:
            expiry.cancel()

    def _pump(self) -> None:
        """Hand batches to the device while it has a slot for them."""
        while len(self._on_device) < SLOTS and (batch := self._next_batch()) is not None:
            self._on_device.append(batch)
            engine = self._engines[batch.key]
            self._metrics.batch_flush.labels(batch.reason).inc()
            self._metrics.batch_crops.observe(batch.crops)
            self._metrics.batch_fill.observe(batch.crops / engine.cap)
            parts = [segment.job.items[segment.start : segment.stop] for segment in batch.segments]
            self._device.run(
                partial(self._timed, engine, parts),
                partial(self._post, batch),
            )

    def _post(self, batch: _Batch, outcome: Outcome[_Computed]) -> None:
        self._loop.call_soon_threadsafe(self._finish, batch, outcome)

    def _timed(self, engine: Engine, parts: list[Items]) -> _Computed:
        started = self._clock()
        return _Computed(engine.run(parts), started, self._clock() - started)

    def _next_batch(self) -> _Batch | None:
        """Take the next batch off the queue; None if nothing waits, or if waiting longer costs nothing."""
        while self._retries:
            batch = self._retries.popleft()
            if not batch.segments[0].job.over:
                return batch
        self._drop_expired()
        head = next(chain.from_iterable(self._queues.values()), None)
        if head is None:
            return None
        cap = self._engines[head.key].cap
        jobs = [job for job in chain.from_iterable(self._queues.values()) if job.kind == head.kind]
        full = sum(job.waiting for job in jobs) >= cap
        if self._on_device and not full:
            return None
        segments: list[_Segment] = []
        room = cap
        for job in jobs:
            if room == 0:
                break
            stop = job.taken + min(room, job.waiting)
            segments.append(_Segment(job=job, start=job.taken, stop=stop))
            room -= stop - job.taken
            self._count(job.taken - stop)
            job.taken = stop
            if not job.waiting:
                self._queues[job.priority].remove(job)
        return _Batch(key=head.key, segments=tuple(segments), reason="full" if full else "idle", formed=self._clock())

    def _drop_expired(self) -> None:
        now = self._clock()
        for job in [job for job in chain.from_iterable(self._queues.values()) if job.deadline <= now]:
            self._fail(job, DeadlineExceeded())

    def _finish(self, batch: _Batch, outcome: Outcome[_Computed]) -> None:
        """Take in what became of a batch."""
        self._on_device.remove(batch)
        error = outcome.error
        if outcome.value is not None:
            if len(outcome.value.rows_ND) != batch.crops:
                error = ValueError("wrong number of rows")
            elif not np.isfinite(outcome.value.rows_ND).all():
                error = ArithmeticError("a row is not a number")
            else:
                self._failures = 0
                self._deliver(batch, outcome.value)
        if error is not None:
            self._metrics.batch_failures.labels(type(error).__name__).inc()
            self._retry_alone(batch)
        self._pump()

    def _deliver(self, batch: _Batch, computed: _Computed) -> None:
        self._metrics.compute_seconds.observe(computed.seconds)
        rate = batch.crops / max(computed.seconds, 1e-6)
        self._rate = rate if math.isnan(self._rate) else 0.8 * self._rate + 0.2 * rate
        self._count(0)
        offset = 0
        for segment in batch.segments:
            job, length = segment.job, segment.stop - segment.start
            job.parts[segment.start] = computed.rows_ND[offset : offset + length]
            job.started = min(job.started, computed.started)
            job.compute_seconds += computed.seconds
            offset += length
            if not job.over and sum(map(len, job.parts.values())) == len(job.items):
                self._metrics.queue_seconds.observe(job.started - job.submitted)
                job.future.set_result(
                    Answer(
                        rows_ND=np.concatenate([job.parts[start] for start in sorted(job.parts)]),
                        queue_seconds=job.started - job.submitted,
                        compute_seconds=job.compute_seconds,
                    )
                )

    def _retry_alone(self, batch: _Batch) -> None:
        """Give every member of a failed batch one more chance, by itself."""
        for segment in batch.segments:
            if segment.job.over:
                continue
            if segment.attempt == ATTEMPTS:
                self._failures += 1
                self._last_failure = self._clock()
                self._fail(segment.job, EngineFailed())
            else:
                alone = _Segment(job=segment.job, start=segment.start, stop=segment.stop, attempt=segment.attempt + 1)
                self._retries.append(_Batch(key=batch.key, segments=(alone,), reason="retry", formed=self._clock()))

    def _fail(self, job: _Job, error: Exception) -> None:
        if job.over:
            return
        if isinstance(error, DeadlineExceeded):
            self._metrics.dropped.labels("deadline").inc()
        job.future.set_exception(error)
        self._forget(job)

    def _forget(self, job: _Job) -> None:
        """Take what a job still has waiting out of the queue."""
        if job.waiting:
            self._queues[job.priority].remove(job)
            self._count(-job.waiting)
            job.taken = len(job.items)

    def _lose_device(self) -> None:
        self._lost = True
        handed_over = [segment.job for batch in (*self._on_device, *self._retries) for segment in batch.segments]
        for job in [*handed_over, *chain.from_iterable(self._queues.values())]:
            self._fail(job, DeviceLost())

    def _count(self, change: int) -> None:
        self._queued_crops += change
        self._metrics.queue_crops.set(self._queued_crops)
        self._metrics.queue_wait.set(self._drain_seconds())

    def _drain_seconds(self) -> float:
        return self._queued_crops / self._rate if self._rate > 0 else 0.0

    def _retry_after(self) -> int:
        return min(max(math.ceil(self._drain_seconds()), 1), RETRY_AFTER_CAP)
