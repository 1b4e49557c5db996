"""The jobs that wait for the device, and whose turn it is.

Interactive jobs go before bulk ones. Within a class, the model that has had the least of the device goes first, so that
a flood for one model does not keep another one's callers waiting; within a model it is first come, first served.
Neither torch nor a web framework is imported here.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain

from app.work import Job, Priority, Segment


class Waiting:
    """Jobs in their queues.

    Args:
        keys: Models that jobs may be for.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        self._queues: dict[Priority, deque[Job]] = {priority: deque() for priority in Priority}
        self._crops = dict.fromkeys(keys, 0)
        self._bytes = 0
        self._used = dict.fromkeys(self._crops, 0.0)
        self._seconds_per_crop = dict.fromkeys(self._crops, 0.0)
        self._turn = 0.0

    def __iter__(self) -> Iterator[Job]:
        """All jobs, the more urgent class first."""
        return chain.from_iterable(self._queues.values())

    @property
    def crops(self) -> int:
        """Crops that wait."""
        return sum(self._crops.values())

    @property
    def bytes(self) -> int:
        """Memory of the items that wait."""
        return self._bytes

    @property
    def drain_seconds(self) -> float:
        """Device time of all that waits, by what its models took lately."""
        return sum(count * self._seconds_per_crop[key] for key, count in self._crops.items())

    def put(self, key: str) -> None:
        """Make a further model known."""
        for account in (self._crops, self._used, self._seconds_per_crop):
            account.setdefault(key, 0)

    def drop(self, key: str) -> None:
        """Forget a model that nothing waits for."""
        for account in (self._crops, self._used, self._seconds_per_crop):
            del account[key]

    def add(self, job: Job) -> None:
        """Queue a job. A model that nobody asked for meanwhile has saved up nothing."""
        if not self._crops[job.key]:
            self._used[job.key] = max(self._used[job.key], self._turn)
        self._queues[job.priority].append(job)
        self._count(job, job.waiting)

    def remove(self, job: Job) -> None:
        """Take what a job still has waiting out of its queue."""
        if job.waiting:
            self._queues[job.priority].remove(job)
            self._count(job, -job.waiting)
            job.taken = len(job.items)

    def head(self) -> Job | None:
        """The job whose turn it is."""
        for queue in self._queues.values():
            if queue:
                # The first of the smallest: among equals, the one who came first.
                return min(queue, key=lambda job: self._used[job.key])
        return None

    def like(self, head: Job) -> int:
        """Crops that could share a batch with that job, its own among them."""
        return sum(job.waiting for job in self if job.kind == head.kind)

    def take(self, head: Job, room: int) -> tuple[Segment, ...]:
        """Take the crops of a batch for that job off the queues: its own kind, in order, at most ``room``."""
        segments = []
        for job in [job for job in self if job.kind == head.kind]:
            if room == 0:
                break
            stop = job.taken + min(room, job.waiting)
            segments.append(Segment(job=job, start=job.taken, stop=stop))
            room -= stop - job.taken
            self._count(job, job.taken - stop)
            job.taken = stop
            if not job.waiting:
                self._queues[job.priority].remove(job)
        return tuple(segments)

    def charge(self, key: str, crops: int) -> float:
        """Note that a model gets the device for a batch of so many crops; the seconds that it will probably take."""
        self._turn = max(self._turn, self._used[key])
        seconds = self._seconds_per_crop[key] * crops
        self._used[key] += seconds
        return seconds

    def settle(self, key: str, crops: int, *, charged: float, seconds: float) -> None:
        """Put what a batch took in the place of what was expected of it."""
        self._used[key] += seconds - charged
        before, now = self._seconds_per_crop[key], max(seconds, 1e-6) / crops
        self._seconds_per_crop[key] = 0.8 * before + 0.2 * now if before else now

    def _count(self, job: Job, crops: int) -> None:
        self._crops[job.key] += crops
        self._bytes += crops * job.item_bytes
