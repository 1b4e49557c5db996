"""The dynamic micro-batcher: crops of many requests, grouped into batches for the lanes of a device, or of several.

It is work-conserving. A batch goes out as soon as a lane is free, with whatever waits then; while all lanes are busy
only a full batch is formed, and staged for the lane that is free first, so that late arrivals can still join any other.
There is no timer.

    submit --> FairQueue (fair_queue.py) --> _next_batch --> WorkerThreads (workers.py) --> _finish --> caller's future

Everything but the engine's ``run`` happens on the event loop, in plain functions; there is no task that could die.
The engine and the clock are injected, and neither torch nor a web framework is imported.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from functools import partial

import numpy as np

from app.batching.capacity import QueueCapacity
from app.batching.fair_queue import FairQueue
from app.batching.jobs import (
    Answer,
    Batch,
    DeadlineExceeded,
    DeviceLost,
    Engine,
    EngineFailed,
    Items,
    Job,
    Priority,
    Reservation,
    Segment,
)
from app.batching.runner import Computed, Runner
from app.batching.workers import Outcome, WorkerThreads
from app.observability.metrics import Metrics

STAGED = 1
"""Batches handed over beyond those that the lanes run."""
ATTEMPTS = 2
"""A crop meets the engine this often: in company, and alone."""
FAILURES_TO_UNHEALTHY = 3
RECOVERY_SECONDS = 30.0
"""An unhealthy engine gets another try after this long without a failure."""


class Batcher:
    """Groups crops of concurrent requests; made and used on one event loop.

    Args:
        engines: The replicas behind each key that requests may name, one for each lane; all keys share the lanes.
        lanes: The threads that they are run on.
        metrics: Where it reports.
        clock: Seconds from a monotonic clock.
        max_queue_crops: Bound on the crops that wait.
        max_queue_bytes: Bound on their memory.
        hang_seconds: A batch that is on the device for this long will not come back.

    Attributes:
        room: What bounds the queue.
        computed_seconds: Time of all batches on the device so far.
    """

    def __init__(
        self,
        engines: Mapping[str, Sequence[Engine]],
        lanes: WorkerThreads,
        metrics: Metrics,
        *,
        clock: Callable[[], float],
        max_queue_crops: int,
        max_queue_bytes: int,
        hang_seconds: float = 120.0,
    ) -> None:
        self._metrics = metrics
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._lanes = lanes
        lanes.on_death = lambda: self._loop.call_soon_threadsafe(self._lose_device)
        self._waiting = FairQueue()
        self.room = QueueCapacity(
            max_queue_crops,
            max_queue_bytes,
            clock,
            waiting=lambda: (self._waiting.crops, self._waiting.bytes),
            drain_seconds=lambda: self.drain_seconds,
        )
        self._retries: deque[Batch] = deque()
        self._on_device: dict[Batch, None] = {}
        self._leaving: set[str] = set()
        self._runner = Runner(clock, hang_seconds)
        self.computed_seconds = 0.0
        self._failures = 0
        self._last_failure = -math.inf
        self._lost = False
        self._engines: dict[str, Sequence[Engine]] = {}
        for key, replicas in engines.items():
            self.put_engine(key, replicas)

    @property
    def alive(self) -> bool:
        """Whether all lanes run, and none of them hangs."""
        return self._lanes.alive and not self._lost and not self.hanging

    @property
    def hanging(self) -> list[str]:
        """Devices of the lanes that hang."""
        return self._runner.hanging

    @property
    def healthy(self) -> bool:
        """Whether requests are worth sending: false for a while once three have failed in a row."""
        rested = self._clock() - self._last_failure > RECOVERY_SECONDS
        return self.alive and (self._failures < FAILURES_TO_UNHEALTHY or rested)

    def give_up(self) -> None:
        """Answer whoever waits that nothing will be computed any more, and take nothing further."""
        self._lose_device()

    def put_engine(self, key: str, replicas: Sequence[Engine]) -> None:
        """Make a further key known, or exchange all that is behind one.

        Args:
            key: Its name.
            replicas: An engine for each lane, as many for every key; lanes that are missing are opened.
        """
        self._lanes.open(len(replicas))
        assert len(replicas) == len(self._lanes), "not an engine for each lane"
        self._runner.open(len(replicas))
        self._leaving.discard(key)
        self._engines[key] = replicas

    def _cap(self, key: str) -> int:
        # A batch may go to any lane, also to one that is short of memory.
        return min(engine.cap for engine in self._engines[key])

    def drop_engine(self, key: str) -> None:
        """Forget a key, now or once none of its jobs waits or runs. Nothing may be submitted for it any more."""
        self._leaving.add(key)
        self._tell()

    def _let_go(self) -> None:
        busy = {job.key for job in self._waiting} | {batch.key for batch in (*self._on_device, *self._retries)}
        for key in self._leaving - busy:
            self._leaving.remove(key)
            self._engines.pop(key, None)
            self._waiting.forget(key)

    def check_room(self, crops: int, size: int = 0) -> None:
        """Find out whether a request of that many crops would be taken now.

        Args:
            crops: How many.
            size: Their bytes, if they are known.

        Raises:
            QueueFull: It would not.
            DeviceLost: Nothing will be taken any more.
        """
        if not self.alive:
            raise DeviceLost
        self.room.check(crops, size)

    @property
    def keys(self) -> Set[str]:
        """What may be submitted for."""
        return self._engines.keys() - self._leaving

    @property
    def waiting_crops(self) -> int:
        """Crops that wait."""
        return self._waiting.crops

    @property
    def drain_seconds(self) -> float:
        """How long what waits will take, by what its models took lately."""
        return self._waiting.drain_seconds / len(self._lanes)

    @contextmanager
    def reserve(self, crops: int, size: int, within: Reservation | None = None) -> Iterator[Reservation]:
        """Keep room in the queue for crops that will be submitted in parts, so that all or none are taken.

        What has not come when this ends is given back.

        Args:
            crops: How many.
            size: Their bytes, at most.
            within: A place whose room this is to be part of.

        Raises:
            QueueFull: There is no room for all of them.
            DeviceLost: Nothing will be taken any more.
        """
        if not self.alive:
            raise DeviceLost
        with self.room.keep(crops, size, within) as place:
            yield place

    async def submit(
        self,
        key: str,
        items: Items,
        *,
        deadline: float,
        priority: Priority = Priority.INTERACTIVE,
        owner: str = "",
        place: Reservation | None = None,
    ) -> Answer:
        """Have crops scored. Cancelling the call takes what still waits out of the queue.

        Args:
            key: Names the engine.
            items: At least one work item; only items of one shape share a batch.
            deadline: When the answer is of no use any more, on the batcher's clock.
            priority: Its class.
            owner: Who asks; owners share the device fairly.
            place: From ``reserve``, if there is room kept for these crops.

        Raises:
            QueueFull: Too much waits already.
            DeadlineExceeded: The deadline passed.
            EngineFailed: The engine failed on these crops.
            DeviceLost: A lane has ended or hangs.
        """
        self.room.take(place, len(items), items.nbytes)
        self.check_room(len(items), items.nbytes)
        now = self._clock()
        job = Job(
            key=key,
            owner=owner,
            items=items,
            priority=priority,
            deadline=deadline,
            submitted=now,
            since=now if place is None else place.since,
            future=self._loop.create_future(),
        )
        self._waiting.add(job)
        expiry = self._loop.call_later(max(deadline - job.submitted, 0), self._expire, job)
        self._pump()
        try:
            return await job.future
        except asyncio.CancelledError:
            self._metrics.dropped.labels("disconnect").inc()
            self._waiting.remove(job)
            # It may have been its turn, with too few crops for a batch to be staged.
            self._pump()
            raise
        finally:
            expiry.cancel()

    def _pump(self) -> None:
        """Hand batches to the lanes while there is a slot for them."""
        while len(self._on_device) < len(self._lanes) + STAGED and (batch := self._next_batch()) is not None:
            self._on_device[batch] = None
            self._metrics.batch_flush.labels(batch.reason).inc()
            self._metrics.batch_crops.observe(batch.crops)
            self._metrics.batch_fill.observe(batch.crops / self._cap(batch.key))
            parts = [segment.job.items[segment.start : segment.stop] for segment in batch.segments]
            self._lanes.run(partial(self._runner.run, self._engines[batch.key], parts), partial(self._post, batch))
        self._tell()

    def _post(self, batch: Batch, outcome: Outcome[Computed]) -> None:
        self._loop.call_soon_threadsafe(self._finish, batch, outcome)

    def _next_batch(self) -> Batch | None:
        """Take the next batch off the queue; None if nothing waits, or if waiting longer costs nothing."""
        self._drop_what_is_over()
        if self._retries:
            return self._retries.popleft()
        head = self._waiting.head()
        if head is None:
            return None
        cap = self._cap(head.key)
        full = self._waiting.like(head) >= cap
        if len(self._on_device) >= len(self._lanes) and not full:
            return None
        segments = self._waiting.take(head, cap)
        return Batch(
            key=head.key,
            segments=segments,
            reason="full" if full else "idle",
            cost=self._waiting.cost(segments),
        )

    def _drop_what_is_over(self) -> None:
        """Keep from the device what nobody wants any more, also where its caller or its timer has yet to wake up."""
        now = self._clock()
        for job in [*self._waiting, *(batch.segments[0].job for batch in self._retries)]:
            if job.over:
                self._waiting.remove(job)
            elif job.deadline <= now:
                self._fail(job, DeadlineExceeded())
        self._retries = deque(batch for batch in self._retries if not batch.segments[0].job.over)

    def _expire(self, job: Job) -> None:
        self._fail(job, DeadlineExceeded())
        self._pump()

    def _finish(self, batch: Batch, outcome: Outcome[Computed]) -> None:
        """Take in what became of a batch."""
        del self._on_device[batch]
        computed = outcome.value
        assert computed is not None, "whatever the engine raises is part of what was computed"
        self.computed_seconds += computed.seconds
        self._waiting.settle(batch.segments, batch.cost, computed.seconds)
        self._metrics.device_batches.labels(computed.device).inc()
        error = computed.fault(batch.crops)
        if error is None:
            self._failures = 0
            self._deliver(batch, computed)
        else:
            self._metrics.batch_failures.labels(type(error).__name__).inc()
            self._retry_alone(batch)
        self._pump()

    def _deliver(self, batch: Batch, computed: Computed) -> None:
        self._metrics.compute_seconds.observe(computed.seconds)
        offset = 0
        for segment in batch.segments:
            job, length = segment.job, segment.crops
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
        self._waiting.remove(job)
        self._tell()

    def _lose_device(self) -> None:
        self._lost = True
        handed_over = [segment.job for batch in (*self._on_device, *self._retries) for segment in batch.segments]
        for job in [*handed_over, *self._waiting]:
            self._fail(job, DeviceLost())
        self._tell()

    def _tell(self) -> None:
        if self._leaving:
            self._let_go()
        self._metrics.queue_crops.set(self._waiting.crops)
        self._metrics.queue_bytes.set(self._waiting.bytes)
        self._metrics.queue_wait.set(self.drain_seconds)
