"""The dynamic micro-batcher: crops of many requests, grouped into batches for the worker threads of the devices.

It is work-conserving, without a timer. A batch goes out as soon as a worker thread is free, with whatever waits then.
While all are busy only a full batch is formed, and staged for the thread that is free first, so that late arrivals can
still join any other.

    submit --> FairQueue (fair_queue.py) --> _next_batch --> WorkerThreads (workers.py) --> _finish --> caller's future

Everything but the engine's ``run`` happens on the event loop, in plain functions; there is no task that could die.
The engine and the clock are injected.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence, Set
from concurrent.futures import Future
from functools import partial

import numpy as np

from app.batching.capacity import QueueCapacity, Reservation
from app.batching.errors import DeadlineExceeded, DeviceLost, EngineFailed
from app.batching.fair_queue import Batch, FairQueue, Job, Segment
from app.batching.jobs import Answer, Engine, Submission
from app.batching.workers import BatchResult, WorkerThreads
from app.observability.metrics import Metrics

STAGED = 1
"""Batches handed over beyond those that the worker threads run."""
ATTEMPTS = 2
"""How often a crop is given to the engine: with others, and alone."""
FAILURES_TO_UNHEALTHY = 3
RECOVERY_SECONDS = 30.0
"""An unhealthy engine gets another try after this long without a failure."""


class Batcher:
    """Groups crops of concurrent requests; made and used on one event loop.

    Args:
        engines: The replicas behind each key that requests may name, one for each worker thread.
        workers: The threads that run them, shared by all keys.
        metrics: Where it reports.
        clock: Seconds from a monotonic clock.
        max_queue_crops: Bound on the crops that wait.
        max_queue_bytes: Bound on their memory.

    Attributes:
        computed_seconds: Time of all batches on the device so far.
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
        self._queue = FairQueue()
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
        """Whether requests are worth sending: false for a while once three have failed in a row."""
        rested = self._clock() - self._last_failure > RECOVERY_SECONDS
        return self.alive and (self._failures < FAILURES_TO_UNHEALTHY or rested)

    def give_up(self) -> None:
        """Answer whoever waits with ``DeviceLost``, and take nothing further."""
        self._lose_device()

    def put_engine(self, key: str, replicas: Sequence[Engine]) -> None:
        """Make a further key known, or exchange all that is behind one.

        Args:
            key: Its name.
            replicas: An engine for each worker thread, as many for every key; missing threads are started.
        """
        self._workers.open(len(replicas))
        assert len(replicas) == len(self._workers), "not an engine for each lane"
        self._leaving.discard(key)
        self._engines[key] = replicas

    def _cap(self, key: str) -> int:
        # A batch may go to any thread, also to one whose device is short of memory.
        return min(engine.cap for engine in self._engines[key])

    def drop_engine(self, key: str) -> None:
        """Forget a key, now or once none of its jobs waits or runs. Nothing may be submitted for it any more."""
        self._leaving.add(key)
        self._report()

    def _forget_leaving(self) -> None:
        busy = {job.key for job in self._queue} | {batch.key for batch in (*self._on_device, *self._retries)}
        for key in self._leaving - busy:
            self._leaving.remove(key)
            self._engines.pop(key, None)
            self._queue.forget(key)

    @property
    def keys(self) -> Set[str]:
        """What may be submitted for."""
        return self._engines.keys() - self._leaving

    @property
    def waiting_crops(self) -> int:
        """Crops that wait."""
        return self._queue.crops

    @property
    def drain_seconds(self) -> float:
        """How long what waits will take, by what its models took lately."""
        return self._queue.drain_seconds / len(self._workers)

    def check(self, crops: int, size: int) -> None:
        """Raise what a request of that many crops would be refused with now.

        Args:
            crops: How many.
            size: Their bytes, as far as they are known.

        Raises:
            QueueFull: Too much waits already.
            DeviceLost: Nothing will be taken any more.
        """
        self._check_alive()
        self._capacity.check(crops, size)

    def reserve(self, crops: int, size: int) -> Reservation:
        """Reserve capacity for crops of one picture that will be submitted later, in one part or several.

        Args:
            crops: How many.
            size: Their bytes, at most.

        Raises:
            QueueFull: They do not fit.
            DeviceLost: Nothing will be taken any more.
        """
        self._check_alive()
        return self._capacity.reserve(crops, size)

    async def submit(self, submission: Submission) -> Answer:
        """Have work items computed. Cancelling the call takes what still waits out of the queue.

        Raises:
            QueueFull: Too much waits already; never where capacity was reserved.
            DeadlineExceeded: The deadline passed.
            EngineFailed: The engine failed on these items.
            DeviceLost: A worker thread has ended or hangs.
        """
        job = self._job(submission)
        self._queue.add(job)
        expiry = self._loop.call_later(max(job.deadline - job.submitted, 0), self._expire, job)
        self._pump()
        try:
            return await job.future
        except asyncio.CancelledError:
            self._metrics.dropped.labels("disconnect").inc()
            self._queue.remove(job)
            # It may have been its turn, with too few crops for a batch to be staged.
            self._pump()
            raise
        finally:
            expiry.cancel()

    def _job(self, submission: Submission) -> Job:
        """Admit a submission: against its reservation if it has one, else against the capacity that is left."""
        items, reservation, now = submission.items, submission.reservation, self._clock()
        self._check_alive()
        if reservation is None:
            self._capacity.check(len(items), items.nbytes)
            since = now if submission.since is None else submission.since
        else:
            reservation.take(len(items), items.nbytes)
            since = reservation.since
        return Job(
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
        """Hand batches to the worker threads while there is a slot for them."""
        while len(self._on_device) < len(self._workers) + STAGED and (batch := self._next_batch()) is not None:
            self._on_device[batch] = None
            self._metrics.batch_flush.labels(batch.reason).inc()
            self._metrics.batch_crops.observe(batch.crops)
            self._metrics.batch_fill.observe(batch.crops / self._cap(batch.key))
            parts = [segment.job.items[segment.start : segment.stop] for segment in batch.segments]
            self._workers.compute(self._engines[batch.key], parts).add_done_callback(partial(self._post, batch))
        self._report()

    def _post(self, batch: Batch, future: "Future[BatchResult]") -> None:
        self._loop.call_soon_threadsafe(self._finish, batch, future.result())

    def _next_batch(self) -> Batch | None:
        """Take the next batch off the queue.

        None if the queue is empty, or if all worker threads are busy and the batch would not be full.
        """
        self._drop_what_is_over()
        if self._retries:
            return self._retries.popleft()
        first = self._queue.next_job()
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

    def _drop_what_is_over(self) -> None:
        """Drop jobs whose caller has left or whose deadline has passed, also before their own timers say so."""
        now = self._clock()
        for job in [*self._queue, *(batch.segments[0].job for batch in self._retries)]:
            if job.over:
                self._queue.remove(job)
            elif job.deadline <= now:
                self._fail(job, DeadlineExceeded())
        self._retries = deque(batch for batch in self._retries if not batch.segments[0].job.over)

    def _expire(self, job: Job) -> None:
        self._fail(job, DeadlineExceeded())
        self._pump()

    def _finish(self, batch: Batch, result: BatchResult) -> None:
        """Deliver the rows of a batch, or retry its members."""
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
        self._metrics.compute_seconds.observe(result.seconds)
        offset = 0
        for segment in batch.segments:
            job, length = segment.job, segment.crops
            job.parts[segment.start] = result.rows_ND[offset : offset + length]
            job.started = min(job.started, result.started)
            job.compute_seconds += result.seconds
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

    def _retry_alone(self, batch: Batch) -> None:
        """Give every member of a failed batch one more chance, by itself."""
        for segment in batch.segments:
            if segment.job.over:
                continue
            if segment.attempt == ATTEMPTS:
                self._failures += 1
                self._last_failure = self._clock()
                self._fail(segment.job, EngineFailed())
            else:
                alone = Segment(job=segment.job, start=segment.start, stop=segment.stop, attempt=segment.attempt + 1)
                retry = Batch(key=batch.key, segments=(alone,), reason="retry", cost=0.0)
                self._retries.append(retry)

    def _fail(self, job: Job, error: Exception) -> None:
        if job.over:
            return
        if isinstance(error, DeadlineExceeded):
            self._metrics.dropped.labels("deadline").inc()
        job.future.set_exception(error)
        self._queue.remove(job)
        self._report()

    def _lose_device(self) -> None:
        self._lost = True
        handed_over = [segment.job for batch in (*self._on_device, *self._retries) for segment in batch.segments]
        for job in [*handed_over, *self._queue]:
            self._fail(job, DeviceLost())
        self._report()

    def _report(self) -> None:
        """Update the gauges, and forget models that nobody needs any more."""
        if self._leaving:
            self._forget_leaving()
        self._metrics.queue_crops.set(self._queue.crops)
        self._metrics.queue_bytes.set(self._queue.bytes)
        self._metrics.queue_wait.set(self.drain_seconds)
