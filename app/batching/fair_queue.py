"""The fair queue: jobs that wait for the device, and which of them is next.

Start-time fair queueing of device time, on two levels. Between the classes: interactive jobs get nine parts and bulk
jobs one, so that neither can starve the other. Within a class, every flow (the jobs of one owner for one model) gets
the same. Within a flow, jobs are served in order of arrival; the later rounds of a picture keep the arrival time of its
first. An idle flow saves up nothing: the others use its share meanwhile.
"""

import asyncio
import math
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from app.batching.jobs import Answer, Items, Priority, Rows

PARTS = {Priority.INTERACTIVE: 9.0, Priority.BULK: 1.0}
"""Shares of device time of the classes while both have jobs."""
HEAD_START = {Priority.INTERACTIVE: 0.0, Priority.BULK: 0.2}
"""Handicap of bulk jobs, in device seconds per part: a short burst of interactive requests is served before them."""


@dataclass(eq=False, kw_only=True)
class Job:
    """Work items of one submission, in the queue and in batches.

    Attributes:
        key: Names the engine.
        owner: Name of the key that the request came with; "" without keys.
        items: The work items, (N, *shape).
        priority: Class of the request.
        deadline: Time after which the answer is useless, on the batcher's clock.
        submitted: Time of its submission.
        since: Arrival time of its request, which orders the jobs of a flow.
        future: Its caller awaits this.
        taken: Number of items that have been put into batches; always the first ones.
        started: When the device began with its first items.
        compute_seconds: Device time of the batches that it was part of.
        parts: Rows computed so far, by the index of their first item.
    """

    key: str
    owner: str
    items: Items
    priority: Priority
    deadline: float
    submitted: float
    since: float
    future: "asyncio.Future[Answer]"
    taken: int = 0
    started: float = math.inf
    compute_seconds: float = 0.0
    parts: dict[int, Rows] = field(default_factory=dict)

    @property
    def kind(self) -> tuple[object, ...]:
        """Engine key and item shape; only jobs of the same kind share a batch."""
        return self.key, self.items.shape[1:]

    @property
    def flow(self) -> tuple[str, str]:
        """Owner and engine key; each flow gets a fair share of the device."""
        return self.owner, self.key

    @property
    def waiting(self) -> int:
        """Number of items that are in no batch yet."""
        return len(self.items) - self.taken

    @property
    def item_bytes(self) -> int:
        """Memory of one item in bytes."""
        return self.items.nbytes // len(self.items)

    @property
    def over(self) -> bool:
        """Whether its caller has been answered or has left."""
        return self.future.done()


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Crops ``start`` to ``stop`` of a job, in one batch."""

    job: Job
    start: int
    stop: int
    attempt: int = 1

    @property
    def crops(self) -> int:
        """How many crops it holds."""
        return self.stop - self.start


@dataclass(frozen=True, eq=False, kw_only=True)
class Batch:
    """Segments of jobs of one kind, which the device computes together.

    Attributes:
        key: Names the engine.
        segments: Its crops.
        reason: Why it was formed now, for the metrics: full, idle, retry.
        cost: Estimated device seconds that its flows were charged.
    """

    key: str
    segments: tuple[Segment, ...]
    reason: str
    cost: float

    @property
    def crops(self) -> int:
        """How many crops it holds."""
        return sum(segment.crops for segment in self.segments)


@dataclass(eq=False)
class _Flow:
    jobs: deque[Job] = field(default_factory=deque)
    used: float = 0.0

    def first(self, kind: tuple[object, ...] | None) -> Job | None:
        """The first job, of one kind if that is given."""
        return next((job for job in self.jobs if kind is None or job.kind == kind), None)


@dataclass(eq=False)
class _Class:
    parts: float
    behind: float
    flows: dict[tuple[str, str], _Flow] = field(default_factory=dict)
    used: float = 0.0
    turn: float = 0.0
    """Device seconds used by the flow that was served last."""

    @property
    def has_jobs(self) -> bool:
        return any(flow.jobs for flow in self.flows.values())


class FairQueue:
    """Jobs by class and flow, in the order in which they get the device."""

    def __init__(self) -> None:
        self._classes = {priority: _Class(PARTS[priority], HEAD_START[priority]) for priority in Priority}
        self._turn = 0.0
        self._crops: Counter[str] = Counter()
        self._kinds: Counter[tuple[object, ...]] = Counter()
        self._bytes = 0
        self._seconds_per_crop: dict[str, float] = {}

    def __iter__(self) -> Iterator[Job]:
        """All jobs, interactive ones first."""
        for class_ in self._classes.values():
            for flow in class_.flows.values():
                yield from flow.jobs

    @property
    def crops(self) -> int:
        """Number of crops that wait."""
        return self._crops.total()

    @property
    def bytes(self) -> int:
        """Memory of the items that wait, in bytes."""
        return self._bytes

    @property
    def drain_seconds(self) -> float:
        """Estimated device seconds of all crops that wait, from the recent batch times of each model."""
        return sum(count * self._cost(key, 1) for key, count in self._crops.items())

    def add(self, job: Job) -> None:
        """Queue a job."""
        class_ = self._classes[job.priority]
        if not class_.has_jobs:
            class_.used = max(class_.used, self._turn)
        flow = class_.flows.setdefault(job.flow, _Flow())
        if not flow.jobs:
            flow.used = max(flow.used, class_.turn)
        flow.jobs.insert(bisect_right(flow.jobs, job.since, key=lambda other: other.since), job)
        self._count(job, job.waiting)

    def remove(self, job: Job) -> None:
        """Remove the waiting items of a job from the queue."""
        if job.waiting:
            self._count(job, -job.waiting)
            self._leave(job)
            job.taken = len(job.items)

    def next_job(self, kind: tuple[object, ...] | None = None) -> Job | None:
        """The job that is served next, of one kind if that is given; None if none waits."""
        for class_ in sorted(self._classes.values(), key=lambda class_: class_.used + class_.behind):
            # sorted() is stable: among flows with equal time, the oldest is first.
            for flow in sorted(class_.flows.values(), key=lambda flow: flow.used):
                if (job := flow.first(kind)) is not None:
                    return job
        return None

    def compatible_crops(self, job: Job) -> int:
        """Number of waiting crops that could share a batch with this job, its own included."""
        return self._kinds[job.kind]

    def take(self, first: Job, most: int) -> tuple[Segment, ...]:
        """Take the crops of a batch out of the queue, and charge their flows the estimated device time.

        Args:
            first: From ``next_job``; the batch is filled with further jobs of its kind, each the next in turn.
            most: Largest number of crops.
        """
        segments = []
        job: Job | None = first
        while most and job is not None:
            count = min(most, job.waiting)
            segments.append(Segment(job=job, start=job.taken, stop=job.taken + count))
            self._count(job, -count)
            self._serve(job, self._cost(job.key, count))
            job.taken += count
            most -= count
            if not job.waiting:
                self._leave(job)
            job = self.next_job(first.kind)
        return tuple(segments)

    def settle(self, segments: tuple[Segment, ...], charged: float, seconds: float) -> None:
        """Correct the charge of the flows of a batch, now that its device time is known.

        Args:
            segments: The segments of the batch.
            charged: Its ``cost`` when it was formed.
            seconds: Its measured device time.
        """
        crops = sum(segment.crops for segment in segments)
        for segment in segments:
            self._charge(segment.job, (seconds - charged) * segment.crops / crops)
        key = segments[0].job.key
        before, now = self._seconds_per_crop.get(key), max(seconds, 1e-6) / crops
        self._seconds_per_crop[key] = now if before is None else 0.8 * before + 0.2 * now

    def cost(self, segments: tuple[Segment, ...]) -> float:
        """Estimated device seconds of a batch."""
        return sum(self._cost(segment.job.key, segment.crops) for segment in segments)

    def forget(self, key: str) -> None:
        """Drop the statistics and empty flows of a model."""
        self._seconds_per_crop.pop(key, None)
        del self._crops[key]
        for class_ in self._classes.values():
            class_.flows = {name: flow for name, flow in class_.flows.items() if flow.jobs or name[1] != key}

    def _cost(self, key: str, crops: int) -> float:
        return crops * self._seconds_per_crop.get(key, 0.0)

    def _serve(self, job: Job, seconds: float) -> None:
        class_ = self._classes[job.priority]
        self._turn = max(self._turn, class_.used)
        class_.turn = max(class_.turn, class_.flows[job.flow].used)
        self._charge(job, seconds)

    def _charge(self, job: Job, seconds: float) -> None:
        class_ = self._classes[job.priority]
        class_.used += seconds / class_.parts
        if (flow := class_.flows.get(job.flow)) is not None:
            flow.used += seconds

    def _leave(self, job: Job) -> None:
        self._classes[job.priority].flows[job.flow].jobs.remove(job)

    def _count(self, job: Job, crops: int) -> None:
        self._crops[job.key] += crops
        self._kinds[job.kind] += crops
        if not self._kinds[job.kind]:
            del self._kinds[job.kind]
        self._bytes += crops * job.item_bytes
