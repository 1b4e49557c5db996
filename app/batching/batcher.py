"""The dynamic micro-batcher: crops of many requests, grouped into batches for the worker threads of the devices.

It is work-conserving and has no timer. As soon as a worker thread is free, a batch is formed of the crops that wait,
however few. While all threads are busy, only a full batch is formed, and staged for the thread that is free first;
crops that do not fill a batch stay in the queue, where later ones can join them.

    submit --> FairQueue (fair_queue.py) --> _next_batch --> WorkerThreads (workers.py) --> _finish --> caller's future

Everything but the engine's ``run`` happens on the event loop, in plain functions; there is no background task that
could die. The engine and the clock are injected.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence, Set
from concurrent.futures import Future
from dataclasses import replace
from functools import partial

import numpy as np

from app.batching.capacity import QueueCapacity, Reservation
from app.batching.errors import DeadlineExceeded, DeviceLost, EngineFailed
from app.batching.fair_queue import Batch, FairQueue, QueueEntry
from app.batching.submission import Engine, Submission, SubmissionResult
from app.batching.workers import BatchResult, WorkerThreads
from app.observability.metrics import Metrics

STAGED = 1
"""Batches that wait at the worker threads, beyond those that they run."""
ATTEMPTS = 2
"""Attempts for a crop whose batch fails: once with others, once with its own submission alone."""
FAILURES_TO_UNHEALTHY = 3
RECOVERY_SECONDS = 30.0
"""Time without a failure after which an unhealthy engine counts as healthy again."""


class Batcher:
    """Groups crops of concurrent requests into batches; created and used on one event loop.

    Args:
        engines: Engine replicas by key, one for each worker thread.
        workers: The threads that run the batches of all keys.
        metrics: Counts batches, failures and queued crops.
        clock: Returns seconds of a monotonic clock.
        max_queue_crops: Bound on the crops that wait.
        max_queue_bytes: Bound on their memory.

    Attributes:
        computed_seconds: Device time of all batches so far.
    """

    def __init__(
        self,
        engines: Mapping[str, Sequence[Engine]],
        workers: WorkerThreads,
        metrics: Metrics,
        *,
        clock: Callable[[], float],
        max_queue_crops: int,
        max_queue_bytes: int,
    ) -> None:
        self._metrics = metrics
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._workers = workers
        workers.on_death = lambda: self._loop.call_soon_threadsafe(self._lose_device)
        self._queue = FairQueue[QueueEntry]()
        self._capacity = QueueCapacity(
            max_queue_crops,
            max_queue_bytes,
            clock,
            waiting=lambda: (self._queue.crops, self._queue.bytes),
            drain_seconds=lambda: self.drain_seconds,
        )
        self._retries: deque[Batch] = deque()
        self._on_device: dict[Batch, None] = {}
        self._leaving: set[str] = set()
        self.computed_seconds = 0.0
        self._failures = 0
        self._last_failure = -math.inf
        self._lost = False
        self._engines: dict[str, Sequence[Engine]] = {}
        for key, replicas in engines.items():
            self.put_engine(key, replicas)

    @property
    def alive(self) -> bool:
        """Whether all worker threads run, and none of them hangs."""
        return self._workers.alive and not self._lost and not self.hanging

    @property
    def hanging(self) -> list[str]:
        """Devices of the worker threads that hang."""
        return self._workers.hanging

    @property
    def healthy(self) -> bool:
        """False after three failures in a row, until a batch succeeds or ``RECOVERY_SECONDS`` pass without one."""
        rested = self._clock() - self._last_failure > RECOVERY_SECONDS
        return self.alive and (self._failures < FAILURES_TO_UNHEALTHY or rested)

    def give_up(self) -> None:
        """Fail all waiting entries with ``DeviceLost``, and refuse new ones."""
        self._lose_device()

    def put_engine(self, key: str, replicas: Sequence[Engine]) -> None:
        """Add a key, or replace the engines of one.

        Args:
            key: Names the engine in submissions.
            replicas: An engine for each worker thread, as many for every key; missing threads are started.
        """
        self._workers.open(len(replicas))
        assert len(replicas) == len(self._workers), "not an engine for each lane"
        self._leaving.discard(key)
        self._engines[key] = replicas

    def _cap(self, key: str) -> int:
        # Any thread may get the batch, also the one whose device has the least memory.
        return min(engine.cap for engine in self._engines[key])

    def drop_engine(self, key: str) -> None:
        """Drop the engines of a key once nothing of it waits or runs. Nothing may be submitted for it any more."""
        self._leaving.add(key)
        self._report()

    def _forget_leaving(self) -> None:
        busy = {entry.key for entry in self._queue} | {batch.key for batch in (*self._on_device, *self._retries)}
        for key in self._leaving - busy:
            self._leaving.remove(key)
            self._engines.pop(key, None)
            self._queue.forget(key)

    @property
    def keys(self) -> Set[str]:
        """Keys that submissions may name."""
        return self._engines.keys() - self._leaving

    @property
    def waiting_crops(self) -> int:
        """Number of crops in the queue."""
        return self._queue.crops

    @property
    def drain_seconds(self) -> float:
        """Estimated seconds until the queue is empty, from the recent batch times of each model."""
        return self._queue.drain_seconds / len(self._workers)

    def check(self, crops: int, size: int) -> None:
        """Raise an error if a submission of that many crops would be refused now.

        Args:
            crops: Number of crops.
            size: Their bytes, or a lower bound.

        Raises:
            QueueFull: The queue has no capacity for them.
            DeviceLost: A worker thread has ended or hangs.
        """
        self._check_alive()
        self._capacity.check(crops, size)

    def reserve(self, crops: int, size: int) -> Reservation:
        """Reserve capacity for crops of one picture that will be submitted later, in one part or several.

        Args:
            crops: Number of crops.
            size: Their bytes, at most.

        Raises:
            QueueFull: The queue has no capacity for them.
            DeviceLost: A worker thread has ended or hangs.
        """
        self._check_alive()
        return self._capacity.reserve(crops, size)

    async def submit(self, submission: Submission) -> SubmissionResult:
        """Compute the rows of work items. Cancelling the call removes its waiting items from the queue.

        Raises:
            QueueFull: The queue has no capacity for them; never with a reservation.
            DeadlineExceeded: The deadline passed.
            EngineFailed: The engine failed on these items.
            DeviceLost: A worker thread has ended or hangs.
        """
        entry = self._admit(submission)
        self._queue.add(entry)
        expiry = self._loop.call_later(max(entry.deadline - entry.submitted, 0), self._expire, entry)
        self._pump()
        try:
            return await entry.future
        except asyncio.CancelledError:
            self._metrics.dropped.labels("disconnect").inc()
            self._queue.remove(entry)
            # This entry may have been next, with too few crops for a full batch; the entry after it may have enough.
            self._pump()
            raise
        finally:
            expiry.cancel()

    def _admit(self, submission: Submission) -> QueueEntry:
        """Admit a submission: charged to its reservation if it has one, else to the free capacity."""
        items, reservation, now = submission.items, submission.reservation, self._clock()
        self._check_alive()
        if reservation is None:
            self._capacity.check(len(items), items.nbytes)
            since = now if submission.since is None else submission.since
        else:
            reservation.take(len(items), items.nbytes)
            since = reservation.since
        return QueueEntry(
            key=submission.key,
            owner=submission.owner,
            items=items,
            priority=submission.priority,
            deadline=submission.deadline,
            submitted=now,
            since=since,
            future=self._loop.create_future(),
        )

    def _check_alive(self) -> None:
        if not self.alive:
            raise DeviceLost

    def _pump(self) -> None:
        """Hand batches to the worker threads, up to ``STAGED`` more than there are threads."""
        while len(self._on_device) < len(self._workers) + STAGED and (batch := self._next_batch()) is not None:
            self._on_device[batch] = None
            self._metrics.batch_flush.labels(batch.reason).inc()
            self._metrics.batch_crops.observe(batch.crops)
            self._metrics.batch_fill.observe(batch.crops / self._cap(batch.key))
            parts = [segment.entry.items[segment.start : segment.stop] for segment in batch.segments]
            self._workers.compute(self._engines[batch.key], parts).add_done_callback(partial(self._post, batch))
        self._report()

    def _post(self, batch: Batch, future: "Future[BatchResult]") -> None:
        self._loop.call_soon_threadsafe(self._finish, batch, future.result())

    def _next_batch(self) -> Batch | None:
        """Take the next batch off the queue.

        None if the queue is empty, or if all worker threads are busy and the batch would not be full.
        """
        self._drop_finished()
        if self._retries:
            return self._retries.popleft()
        first = self._queue.next_entry()
        if first is None:
            return None
        cap = self._cap(first.key)
        full = self._queue.compatible_crops(first) >= cap
        if len(self._on_device) >= len(self._workers) and not full:
            return None
        segments = self._queue.take(first, cap)
        return Batch(
            key=first.key,
            segments=segments,
            reason="full" if full else "idle",
            cost=self._queue.cost(segments),
        )

    def _drop_finished(self) -> None:
        """Drop entries whose caller has left or whose deadline has passed, even if their timers have not fired yet."""
        now = self._clock()
        for entry in [*self._queue, *(batch.segments[0].entry for batch in self._retries)]:
            if entry.over:
                self._queue.remove(entry)
            elif entry.deadline <= now:
                self._fail(entry, DeadlineExceeded())
        self._retries = deque(batch for batch in self._retries if not batch.segments[0].entry.over)

    def _expire(self, entry: QueueEntry) -> None:
        self._fail(entry, DeadlineExceeded())
        self._pump()

    def _finish(self, batch: Batch, result: BatchResult) -> None:
        """Deliver the rows of a batch, or retry its entries."""
        del self._on_device[batch]
        self.computed_seconds += result.seconds
        self._queue.settle(batch.segments, batch.cost, result.seconds)
        self._metrics.device_batches.labels(result.device).inc()
        error = result.fault(batch.crops)
        if error is None:
            self._failures = 0
            self._deliver(batch, result)
        else:
            self._metrics.batch_failures.labels(type(error).__name__).inc()
            self._retry_alone(batch)
        self._pump()

    def _deliver(self, batch: Batch, result: BatchResult) -> None:
        traced = (segment.entry.exemplar for segment in batch.segments)
        self._metrics.compute_seconds.observe(result.seconds, next(filter(None, traced), None))
        offset = 0
        for segment in batch.segments:
            entry, length = segment.entry, segment.crops
            entry.parts[segment.start] = result.rows_ND[offset : offset + length]
            entry.started = min(entry.started, result.started)
            entry.compute_seconds += result.seconds
            offset += length
            if not entry.over and sum(map(len, entry.parts.values())) == len(entry.items):
                self._metrics.queue_seconds.observe(entry.started - entry.submitted, entry.exemplar)
                entry.future.set_result(
                    SubmissionResult(
                        rows_ND=np.concatenate([entry.parts[start] for start in sorted(entry.parts)]),
                        queue_seconds=entry.started - entry.submitted,
                        compute_seconds=entry.compute_seconds,
                    )
                )

    def _retry_alone(self, batch: Batch) -> None:
        """Retry each entry of a failed batch in a batch of its own; fail those that were alone already."""
        for segment in batch.segments:
            if segment.entry.over:
                continue
            if segment.attempt == ATTEMPTS:
                self._failures += 1
                self._last_failure = self._clock()
                self._fail(segment.entry, EngineFailed())
            else:
                alone = replace(segment, attempt=segment.attempt + 1)
                retry = Batch(key=batch.key, segments=(alone,), reason="retry", cost=0.0)
                self._retries.append(retry)

    def _fail(self, entry: QueueEntry, error: Exception) -> None:
        if entry.over:
            return
        if isinstance(error, DeadlineExceeded):
            self._metrics.dropped.labels("deadline").inc()
        entry.future.set_exception(error)
        self._queue.remove(entry)
        self._report()

    def _lose_device(self) -> None:
        self._lost = True
        handed_over = [segment.entry for batch in (*self._on_device, *self._retries) for segment in batch.segments]
        for entry in [*handed_over, *self._queue]:
            self._fail(entry, DeviceLost())
        self._report()

    def _report(self) -> None:
        """Update the gauges, and drop the engines of leaving keys without entries."""
        if self._leaving:
            self._forget_leaving()
        self._metrics.queue_crops.set(self._queue.crops)
        self._metrics.queue_bytes.set(self._queue.bytes)
        self._metrics.queue_wait.set(self.drain_seconds)
