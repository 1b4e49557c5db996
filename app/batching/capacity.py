"""Queue capacity in crops and bytes, and reservations of it.

A full queue refuses with ``Retry-After``: the estimated time until the crops in it are computed.
"""

import math
from collections.abc import Callable
from typing import Self

from app.batching.errors import QueueFull

RETRY_AFTER_CAP = 30
"""Longest ``Retry-After``, in seconds."""


class QueueCapacity:
    """Bounds the crops of a queue: those that wait, plus those that are reserved.

    Args:
        max_crops: Bound on the crops.
        max_bytes: Bound on their memory.
        clock: Returns seconds of a monotonic clock.
        waiting: Returns the number of crops that wait, and their bytes.
        drain_seconds: Returns the estimated seconds until the queue is empty.

    Attributes:
        reservations: Reservations that are not used up.
    """

    def __init__(
        self,
        max_crops: int,
        max_bytes: int,
        clock: Callable[[], float],
        *,
        waiting: Callable[[], tuple[int, int]],
        drain_seconds: Callable[[], float],
    ) -> None:
        self.reservations: set[Reservation] = set()
        self._max_crops = max_crops
        self._max_bytes = max_bytes
        self._clock = clock
        self._waiting = waiting
        self._drain_seconds = drain_seconds

    def check(self, crops: int, size: int) -> None:
        """Raise an error if that many crops, of that many bytes in all, do not fit now.

        Raises:
            QueueFull: They do not fit.
        """
        waiting_crops, waiting_bytes = self._waiting()
        crops += waiting_crops + sum(reservation.crops for reservation in self.reservations)
        size += waiting_bytes + sum(reservation.bytes for reservation in self.reservations)
        if crops > self._max_crops or size > self._max_bytes:
            raise QueueFull(min(max(math.ceil(self._drain_seconds()), 1), RETRY_AFTER_CAP))

    def reserve(self, crops: int, size: int) -> "Reservation":
        """Reserve capacity.

        Args:
            crops: Number of crops.
            size: Their bytes, at most.

        Raises:
            QueueFull: They do not fit.
        """
        self.check(crops, size)
        return Reservation(self.reservations, crops, size, self._clock())


class Reservation:
    """Capacity for crops of one picture that will be submitted later. Leaving it as a context releases the rest.

    Args:
        reservations: The set of active reservations; this one stays in it until it is used up or released.
        crops: Number of crops.
        size: Their memory in bytes, at most.
        since: When it was made; its crops queue as if they had arrived then.
    """

    def __init__(self, reservations: "set[Reservation]", crops: int, size: int, since: float) -> None:
        self.crops = crops
        self.bytes = size
        self.since = since
        self._reservations = reservations
        reservations.add(self)

    def take(self, crops: int, size: int) -> None:
        """Use part of the reservation for crops that are being submitted."""
        assert crops <= self.crops, "more crops than were reserved"
        self.crops -= crops
        self.bytes = max(self.bytes - size, 0)
        if not self.crops:
            self.release()

    def release(self) -> None:
        """Release the unused rest."""
        self.crops = self.bytes = 0
        self._reservations.discard(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
