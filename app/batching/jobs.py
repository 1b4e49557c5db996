"""What the batcher handles: the jobs of callers, the batches made of them, and how either can end.

Neither torch nor a web framework is imported here.
"""

import asyncio
import enum
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Items = NDArray[np.uint8] | NDArray[np.float32]
Rows = NDArray[np.float32]


class Engine(Protocol):
    """What the batcher asks of an engine."""

    @property
    def device(self) -> str:
        """Name of the device that it computes on."""

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
    """A lane of the device has ended or hangs; nothing can be computed any more."""


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


@dataclass(eq=False)
class Reservation:
    """Room in the queue for crops that have been let in and are still to come.

    Attributes:
        crops: How many.
        bytes: Their memory, at most.
        since: When it was taken; its crops stand in line as if they had come then.
    """

    crops: int
    bytes: int
    since: float

    def take(self, crops: int, size: int) -> None:
        """Give some of the room away, to crops that have come or to another place."""
        assert crops <= self.crops, "more crops than room was kept for"
        self.crops -= crops
        self.bytes = max(self.bytes - size, 0)


class Queue(Protocol):
    """Where work items wait to become rows: a batcher of this process, or the way to those of others.

    ``Batcher`` says what the methods do.
    """

    def check_room(self, crops: int, size: int = 0) -> None:
        """Find out whether a request of that many crops would be taken now."""

    def reserve(self, crops: int, size: int, within: Reservation | None = None) -> AbstractContextManager[Reservation]:
        """Keep room for crops that will be submitted in parts."""

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
        """Have crops scored."""


@dataclass(eq=False, kw_only=True)
class Job:
    """Crops of one caller.

    Attributes:
        key: Names the engine.
        owner: Who asked; "" where nobody is told apart.
        items: The work items, (N, *shape).
        priority: Its class.
        deadline: When the answer is of no use any more, on the batcher's clock.
        submitted: When it came.
        since: From when on it has stood in line; before it came if it goes on with what came then.
        future: Where its caller waits.
        taken: Items that are in batches, from the first one on.
        started: When the device began with its first items.
        compute_seconds: Device time of the batches that it was part of.
        parts: Rows that are there, by the place of their first item.
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
        """What jobs must have in common to share a batch: the engine and the shape of their items."""
        return self.key, self.items.shape[1:]

    @property
    def flow(self) -> tuple[str, str]:
        """What shares the device with others as one: the jobs of one owner for one model."""
        return self.owner, self.key

    @property
    def waiting(self) -> int:
        """Items that are in no batch yet."""
        return len(self.items) - self.taken

    @property
    def item_bytes(self) -> int:
        """Memory of one item."""
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
    """Segments of one kind that go to the device together.

    Attributes:
        key: Names the engine.
        segments: Its crops.
        reason: What sent it off, for the metrics.
        cost: Seconds on the device that its flows were charged with.
    """

    key: str
    segments: tuple[Segment, ...]
    reason: str
    cost: float

    @property
    def crops(self) -> int:
        """How many crops it holds."""
        return sum(segment.crops for segment in self.segments)
