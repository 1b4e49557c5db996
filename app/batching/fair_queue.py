"""The fair queue: entries that wait for the device, or for a decoder thread, and which of them is next.

Start-time fair queueing of their time, on two levels. Between the classes: interactive entries get nine parts and bulk
entries one, so that neither can starve the other. Within a class, every flow gets the same: the entries of one owner
for one model, or in the decoder those of one owner. Within a flow, entries are served in order of arrival; the later
rounds of a picture keep the arrival time of its first. An idle flow saves up nothing: the others use its share
meanwhile.

An entry has items: crops that wait for the device, or one picture that waits to be decoded. The names here are those of
the device.
"""

import asyncio
import math
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from app.batching.submission import Items, Priority, Rows, SubmissionResult
from app.observability import tracing

PARTS = {Priority.INTERACTIVE: 9.0, Priority.BULK: 1.0}
"""Shares of device time of the classes while both have entries."""
HEAD_START = {Priority.INTERACTIVE: 0.0, Priority.BULK: 0.2}
"""Handicap of bulk entries, in device seconds per part: a short burst of interactive requests is served before them."""


class Entry(Protocol):
    """What a fair queue holds.

    Attributes:
        taken: Number of items that have been taken out of the queue; always the first ones.
    """

    taken: int

    @property
    def key(self) -> str:
        """Names what its items cost alike with: times are estimated by key."""

    @property
    def kind(self) -> tuple[object, ...]:
        """Only entries of the same kind are taken together."""

    @property
    def flow(self) -> tuple[str, str]:
        """Owner and key; each flow gets a fair share."""

    @property
    def priority(self) -> Priority:
        """Class of the request."""

    @property
    def since(self) -> float:
        """Arrival time, which orders the entries of a flow."""

    @property
    def waiting(self) -> int:
        """Number of items that have not been taken."""

    @property
    def item_bytes(self) -> int:
        """Memory of one item in bytes."""


E = TypeVar("E", bound=Entry)


@dataclass(eq=False, kw_only=True)
class QueueEntry:
    """Work items of one submission, in the queue and in batches.

    Attributes:
        key: Names the engine.
        owner: Name of the key that the request came with; "" without keys.
        items: The work items, (N, *shape).
        priority: Class of the request.
        deadline: Time after which the result is useless, on the batcher's clock.
        submitted: Time of its submission.
        since: Arrival time of its request, which orders the entries of a flow.
        future: Its caller awaits this.
        taken: Number of items that have been put into batches; always the first ones.
        started: When the device began with its first items.
        compute_seconds: Device time of the batches that it was part of.
        parts: Rows computed so far, by the index of their first item.
        exemplar: Exemplar of what is measured of it; None without a trace.
    """

    key: str
    owner: str
    items: Items
    priority: Priority
    deadline: float
    submitted: float
    since: float
    future: "asyncio.Future[SubmissionResult]"
    taken: int = 0
    started: float = math.inf
    compute_seconds: float = 0.0
    parts: dict[int, Rows] = field(default_factory=dict)
    exemplar: dict[str, str] | None = field(default_factory=tracing.exemplar)

    @property
    def kind(self) -> tuple[object, ...]:
        """Engine key and item shape; only entries of the same kind share a batch."""
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
class Segment(Generic[E]):
    """Crops ``start`` to ``stop`` of an entry, in one batch."""

    entry: E
    start: int
    stop: int
    attempt: int = 1

    @property
    def crops(self) -> int:
        """How many crops it holds."""
        return self.stop - self.start


@dataclass(frozen=True, eq=False, kw_only=True)
class Batch:
    """Segments of entries of one kind, which the device computes together.

    Attributes:
        key: Names the engine.
        segments: Its crops.
        reason: Why it was formed now, for the metrics: full, idle, retry.
        cost: Estimated device seconds that its flows were charged.
    """

    key: str
    segments: tuple[Segment[QueueEntry], ...]
    reason: str
    cost: float

    @property
    def crops(self) -> int:
        """How many crops it holds."""
        return sum(segment.crops for segment in self.segments)


@dataclass(eq=False)
class _Flow(Generic[E]):
    entries: deque[E] = field(default_factory=deque)
    used: float = 0.0

    def first(self, kind: tuple[object, ...] | None) -> E | None:
        """The first entry, of one kind if that is given."""
        return next((entry for entry in self.entries if kind is None or entry.kind == kind), None)


@dataclass(eq=False)
class _Class(Generic[E]):
    parts: float
    behind: float
    flows: dict[tuple[str, str], _Flow[E]] = field(default_factory=dict)
    used: float = 0.0
    turn: float = 0.0
    """Device seconds used by the flow that was served last."""

    @property
    def has_entries(self) -> bool:
        return any(flow.entries for flow in self.flows.values())


class FairQueue(Generic[E]):
    """Jobs by class and flow, in the order in which they get the device."""

    def __init__(self) -> None:
        self._classes: dict[Priority, _Class[E]] = {
            priority: _Class(PARTS[priority], HEAD_START[priority]) for priority in Priority
        }
        self._turn = 0.0
        self._crops: Counter[str] = Counter()
        self._kinds: Counter[tuple[object, ...]] = Counter()
        self._bytes = 0
        self._seconds_per_crop: dict[str, float] = {}

    def __iter__(self) -> Iterator[E]:
        """All entries, interactive ones first."""
        for class_ in self._classes.values():
            for flow in class_.flows.values():
                yield from flow.entries

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

    def add(self, entry: E) -> None:
        """Queue an entry."""
        class_ = self._classes[entry.priority]
        if not class_.has_entries:
            class_.used = max(class_.used, self._turn)
        flow = class_.flows.setdefault(entry.flow, _Flow[E]())
        if not flow.entries:
            flow.used = max(flow.used, class_.turn)
        flow.entries.insert(bisect_right(flow.entries, entry.since, key=lambda other: other.since), entry)
        self._count(entry, entry.waiting)

    def remove(self, entry: E) -> None:
        """Remove the waiting items of an entry from the queue."""
        if entry.waiting:
            self._count(entry, -entry.waiting)
            self._leave(entry)
            entry.taken += entry.waiting

    def next_entry(self, kind: tuple[object, ...] | None = None) -> E | None:
        """The entry that is served next, of one kind if that is given; None if none waits."""
        for class_ in sorted(self._classes.values(), key=lambda class_: class_.used + class_.behind):
            # sorted() is stable: among flows with equal time, the oldest is first.
            for flow in sorted(class_.flows.values(), key=lambda flow: flow.used):
                if (entry := flow.first(kind)) is not None:
                    return entry
        return None

    def compatible_crops(self, entry: E) -> int:
        """Number of waiting crops that could share a batch with this entry, its own included."""
        return self._kinds[entry.kind]

    def take(self, first: E, most: int) -> tuple[Segment[E], ...]:
        """Take the crops of a batch out of the queue, and charge their flows the estimated device time.

        Args:
            first: From ``next_entry``; the batch is filled with further entries of its kind, each the next in turn.
            most: Largest number of crops.
        """
        segments = []
        entry: E | None = first
        while most and entry is not None:
            count = min(most, entry.waiting)
            segments.append(Segment(entry=entry, start=entry.taken, stop=entry.taken + count))
            self._count(entry, -count)
            self._serve(entry, self._cost(entry.key, count))
            entry.taken += count
            most -= count
            if not entry.waiting:
                self._leave(entry)
            entry = self.next_entry(first.kind)
        return tuple(segments)

    def put_back(self, entry: E, charged: float) -> None:
        """Queue an entry again that was taken whole, at its old place, and give its flow the charge back.

        Args:
            entry: The entry.
            charged: Its ``cost`` when it was taken.
        """
        self._charge(entry, -charged)
        entry.taken = 0
        self.add(entry)

    def settle(self, segments: tuple[Segment[E], ...], charged: float, seconds: float) -> None:
        """Correct the charge of the flows of a batch, now that its device time is known.

        Args:
            segments: The segments of the batch.
            charged: Its ``cost`` when it was formed.
            seconds: Its measured device time.
        """
        crops = sum(segment.crops for segment in segments)
        for segment in segments:
            self._charge(segment.entry, (seconds - charged) * segment.crops / crops)
        key = segments[0].entry.key
        before, now = self._seconds_per_crop.get(key), max(seconds, 1e-6) / crops
        self._seconds_per_crop[key] = now if before is None else 0.8 * before + 0.2 * now

    def cost(self, segments: tuple[Segment[E], ...]) -> float:
        """Estimated device seconds of a batch."""
        return sum(self._cost(segment.entry.key, segment.crops) for segment in segments)

    def forget(self, key: str) -> None:
        """Drop the statistics and empty flows of a model."""
        self._seconds_per_crop.pop(key, None)
        del self._crops[key]
        for class_ in self._classes.values():
            class_.flows = {name: flow for name, flow in class_.flows.items() if flow.entries or name[1] != key}

    def _cost(self, key: str, crops: int) -> float:
        return crops * self._seconds_per_crop.get(key, 0.0)

    def _serve(self, entry: E, seconds: float) -> None:
        class_ = self._classes[entry.priority]
        self._turn = max(self._turn, class_.used)
        class_.turn = max(class_.turn, class_.flows[entry.flow].used)
        self._charge(entry, seconds)

    def _charge(self, entry: E, seconds: float) -> None:
        class_ = self._classes[entry.priority]
        class_.used += seconds / class_.parts
        if (flow := class_.flows.get(entry.flow)) is not None:
            flow.used += seconds

    def _leave(self, entry: E) -> None:
        self._classes[entry.priority].flows[entry.flow].entries.remove(entry)

    def _count(self, entry: E, crops: int) -> None:
        self._crops[entry.key] += crops
        self._kinds[entry.kind] += crops
        if not self._kinds[entry.kind]:
            del self._kinds[entry.kind]
        self._bytes += crops * entry.item_bytes
