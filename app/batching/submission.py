"""Types at the batcher's interface: submissions, their results and the engine protocol.

Inside the batcher a submission becomes a ``QueueEntry`` (``fair_queue.py``).
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
    """The part of an engine that the batcher uses."""

    @property
    def device(self) -> str:
        """Name of the device that it computes on."""

    @property
    def cap(self) -> int:
        """Largest batch, in crops."""

    def run(self, parts: Sequence[Items], /) -> Rows:
        """Score a batch of at most ``cap`` crops given in parts; one row per crop, in their order."""


class Priority(enum.IntEnum):
    """Priority classes of requests; interactive ones get most of the device time."""

    INTERACTIVE = 0
    BULK = 1


@dataclass(frozen=True, eq=False, kw_only=True)
class Submission:
    """Work items of one picture, to be computed by one engine.

    Attributes:
        key: Names the engine.
        items: The work items, (N, *shape), N at least 1; only items of one shape share a batch.
        deadline: Time after which the result is useless, on the batcher's clock.
        priority: Class of the request.
        owner: Name of the key that the request came with; owners share the device fairly. "" without keys.
        reservation: Capacity that was reserved for these items; without one the queue may refuse them.
        since: Arrival time of the request, if before the submission. Ignored with a reservation, which has its own.
    """

    key: str
    items: Items
    deadline: float
    priority: Priority = Priority.INTERACTIVE
    owner: str = ""
    reservation: Reservation | None = None
    since: float | None = None


@dataclass(frozen=True, kw_only=True)
class SubmissionResult:
    """Rows of a submission's items.

    Attributes:
        rows_ND: One row per item, in the order of the items.
        queue_seconds: From submission until the device began with its first items.
        compute_seconds: Device time of its batches.
    """

    rows_ND: Rows
    queue_seconds: float
    compute_seconds: float


class Queue(Protocol):
    """Computes the rows of work items: the ``Batcher`` of this process, or a ``RemoteQueue`` of engine replicas.

    ``Batcher`` documents the methods.
    """

    def check(self, crops: int, size: int) -> None:
        """Raise an error if a submission of that many crops would be refused now."""

    def reserve(self, crops: int, size: int) -> Reservation:
        """Reserve capacity for crops that will be submitted later."""

    async def submit(self, submission: Submission) -> SubmissionResult:
        """Compute the rows of work items."""
