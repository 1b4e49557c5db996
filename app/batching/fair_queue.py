"""The jobs that wait for the device, and whose turn it is.

Shares are of device time, by start-time fair queueing on two levels. Between the classes, interactive jobs get nine
parts and bulk ones one, so that neither a flood of interactive requests nor one of bulk work shuts the other out.
Within a class every flow, the jobs of one owner for one model, gets the same. Within a flow it is first come, first
served, and the later rounds of a picture count as come with its first. Who asked for nothing has saved up nothing,
and time that one does not want goes to the others.

Neither torch nor a web framework is imported here.
"""

from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from app.batching.jobs import Job, Priority, Segment

PARTS = {Priority.INTERACTIVE: 9.0, Priority.BULK: 1.0}
"""Device time of the classes, in proportion, while both want it for long."""
HEAD_START = {Priority.INTERACTIVE: 0.0, Priority.BULK: 0.2}
"""Device seconds per part that the other class may take first: a short burst of interactive requests is not mixed with
bulk work."""


@dataclass(eq=False)
class _Flow:
    jobs: deque[Job] = field(default_factory=deque)
    used: float = 0.0

    def first(self, kind: tuple[object, ...] | None) -> Job | None:
        """The job that came first, of one kind if that is given."""
        return next((job for job in self.jobs if kind is None or job.kind == kind), None)


@dataclass(eq=False)
class _Class:
    parts: float
    behind: float
    flows: dict[tuple[str, str], _Flow] = field(default_factory=dict)
    used: float = 0.0
    turn: float = 0.0
    """What the flow had used that was served last."""

    @property
    def wanted(self) -> bool:
        return any(flow.jobs for flow in self.flows.values())


class FairQueue:
    """Jobs in their flows."""

    def __init__(self) -> None:
        self._classes = {one: _Class(PARTS[one], HEAD_START[one]) for one in Priority}
        self._turn = 0.0
        self._crops: Counter[str] = Counter()
        self._kinds: Counter[tuple[object, ...]] = Counter()
        self._bytes = 0
        self._seconds_per_crop: dict[str, float] = {}

    def __iter__(self) -> Iterator[Job]:
        """All jobs, the more urgent class first."""
        for one in self._classes.values():
            for flow in one.flows.values():
                yield from flow.jobs

    @property
    def crops(self) -> int:
        """Crops that wait."""
        return self._crops.total()

    @property
    def bytes(self) -> int:
        """Memory of the items that wait."""
        return self._bytes

    @property
    def drain_seconds(self) -> float:
        """Device time of all that waits, by what its models took lately."""
        return sum(count * self._cost(key, 1) for key, count in self._crops.items())

    def add(self, job: Job) -> None:
        """Queue a job."""
        one = self._classes[job.priority]
        if not one.wanted:
            one.used = max(one.used, self._turn)
        flow = one.flows.setdefault(job.flow, _Flow())
        if not flow.jobs:
            flow.used = max(flow.used, one.turn)
        flow.jobs.insert(bisect_right(flow.jobs, job.since, key=lambda other: other.since), job)
        self._count(job, job.waiting)

    def remove(self, job: Job) -> None:
        """Take what a job still has waiting out of its queue."""
        if job.waiting:
            self._count(job, -job.waiting)
            self._leave(job)
            job.taken = len(job.items)

    def head(self, kind: tuple[object, ...] | None = None) -> Job | None:
        """The job whose turn it is, of one kind if that is given."""
        for one in sorted(self._classes.values(), key=lambda one: one.used + one.behind):
            # The first of the smallest: among equals, the flow that came first.
            for flow in sorted(one.flows.values(), key=lambda flow: flow.used):
                if (job := flow.first(kind)) is not None:
                    return job
        return None

    def like(self, head: Job) -> int:
        """Crops that could share a batch with that job, its own among them."""
        return self._kinds[head.kind]

    def take(self, head: Job, room: int) -> tuple[Segment, ...]:
        """Take the crops of a batch out of the queues: of that job's kind, in turn, at most ``room``.

        Their flows are charged with what the model's crops took lately.
        """
        segments = []
        job: Job | None = head
        while room and job is not None:
            count = min(room, job.waiting)
            segments.append(Segment(job=job, start=job.taken, stop=job.taken + count))
            self._count(job, -count)
            self._serve(job, self._cost(job.key, count))
            job.taken += count
            room -= count
            if not job.waiting:
                self._leave(job)
            job = self.head(head.kind)
        return tuple(segments)

    def settle(self, segments: tuple[Segment, ...], charged: float, seconds: float) -> None:
        """Put what a batch took in the place of what was expected of it.

        Args:
            segments: The batch.
            charged: What ``cost`` said when it was formed.
            seconds: What it took.
        """
        crops = sum(segment.crops for segment in segments)
        for segment in segments:
            self._correct(segment.job, (seconds - charged) * segment.crops / crops)
        key = segments[0].job.key
        before, now = self._seconds_per_crop.get(key), max(seconds, 1e-6) / crops
        self._seconds_per_crop[key] = now if before is None else 0.8 * before + 0.2 * now

    def cost(self, segments: tuple[Segment, ...]) -> float:
        """Seconds that a batch will probably take."""
        return sum(self._cost(segment.job.key, segment.crops) for segment in segments)

    def forget(self, key: str) -> None:
        """Keep nothing of a model that is gone."""
        self._seconds_per_crop.pop(key, None)
        del self._crops[key]
        for one in self._classes.values():
            one.flows = {name: flow for name, flow in one.flows.items() if flow.jobs or name[1] != key}

    def _cost(self, key: str, crops: int) -> float:
        return crops * self._seconds_per_crop.get(key, 0.0)

    def _serve(self, job: Job, seconds: float) -> None:
        one = self._classes[job.priority]
        self._turn = max(self._turn, one.used)
        one.turn = max(one.turn, one.flows[job.flow].used)
        self._correct(job, seconds)

    def _correct(self, job: Job, seconds: float) -> None:
        one = self._classes[job.priority]
        one.used += seconds / one.parts
        if (flow := one.flows.get(job.flow)) is not None:
            flow.used += seconds

    def _leave(self, job: Job) -> None:
        self._classes[job.priority].flows[job.flow].jobs.remove(job)

    def _count(self, job: Job, crops: int) -> None:
        self._crops[job.key] += crops
        self._kinds[job.kind] += crops
        if not self._kinds[job.kind]:
            del self._kinds[job.kind]
        self._bytes += crops * job.item_bytes
