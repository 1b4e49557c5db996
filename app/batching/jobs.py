"""What others give the batcher and get from it: submissions and answers; and what it asks of an engine.

Types only. What happens to a submission inside is in ``batcher.py`` and ``fair_queue.py``.
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from app.batching.capacity import Reservation

Items = NDArray[np.uint8] | NDArray[np.float32]
Rows = NDArray[np.float32]


class Engine(Protocol):
    """What the batcher asks of an engine."""

    @property
    def device(self) -> str:
        """Name of the device that it computes on."""

    @property
    def cap(self) -> int:
        """Largest batch, in crops."""

    def run(self, parts: Sequence[Items], /) -> Rows:
        """Score a batch of at most ``cap`` crops given in parts; one row per crop, in their order."""


class Priority(enum.IntEnum):
    """Classes of requests; the lower one is served first."""

    INTERACTIVE = 0
    BULK = 1


@dataclass(frozen=True, eq=False, kw_only=True)
class Submission:
    """Work items of one picture, to be computed by one engine.

    Attributes:
        key: Names the engine.
        items: The work items, (N, *shape), N at least 1; only items of one shape share a batch.
        deadline: When the answer is of no use any more, on the batcher's clock.
        priority: Class of the request.
        owner: Name of the key that asked; owners share the device fairly. "" where nobody is told apart.
        reservation: Capacity that was reserved for these items; without one the queue may be full.
        since: When the request came, if that was before its submission. A reservation says so by itself.
    """

    key: str
    items: Items
    deadline: float
    priority: Priority = Priority.INTERACTIVE
    owner: str = ""
    reservation: Reservation | None = None
    since: float | None = None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Rows of a submission's items.

    Attributes:
        rows_ND: One row per item, as the engine gives them.
        queue_seconds: From submission until the device began with its first items.
        compute_seconds: Time of its batches on the device.
    """

    rows_ND: Rows
    queue_seconds: float
    compute_seconds: float


class Queue(Protocol):
    """Takes work items to their rows: the batcher of this process, or the way to those of others.

    ``Batcher`` says what the methods do.
    """

    def check(self, crops: int, size: int) -> None:
        """Raise what a request of that many crops would be refused with now."""

    def reserve(self, crops: int, size: int) -> Reservation:
        """Reserve capacity for crops that will be submitted later."""

    async def submit(self, submission: Submission) -> Answer:
        """Have work items computed."""
