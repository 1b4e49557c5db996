"""How much may wait in a queue, and who has capacity reserved.

A full queue says when to come again (``Retry-After``): when what waits now will have been computed.
"""

import math
from collections.abc import Callable
from typing import Self

from app.batching.errors import QueueFull

RETRY_AFTER_CAP = 30
"""Longest ``Retry-After``, in seconds."""


class QueueCapacity:
    """Bounds the crops that wait and those that capacity is reserved for.

    Args:
        max_crops: Bound on the crops.
        max_bytes: Bound on their memory.
        clock: Seconds from a monotonic clock.
        waiting: Returns how many crops wait, and their bytes.
        drain_seconds: Returns how long the device will take for what waits.

    Attributes:
        reservations: Those that are not used up.
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
        """Raise if so many crops of so many bytes in all do not fit now.

        Raises:
            QueueFull: They do not.
        """
        waiting, held = self._waiting()
        crops += waiting + sum(reservation.crops for reservation in self.reservations)
        size += held + sum(reservation.bytes for reservation in self.reservations)
        if crops > self._max_crops or size > self._max_bytes:
            raise QueueFull(min(max(math.ceil(self._drain_seconds()), 1), RETRY_AFTER_CAP))

    def reserve(self, crops: int, size: int) -> "Reservation":
        """Reserve capacity.

        Args:
            crops: How many.
            size: Their bytes, at most.

        Raises:
            QueueFull: They do not fit.
        """
        self.check(crops, size)
        return Reservation(self.reservations, crops, size, self._clock())


class Reservation:
    """Capacity for crops of one picture that are still to come. Leaving it as a context releases what is left.

    Args:
        reservations: Where it counts for as long as something of it is left.
        crops: How many.
        size: Their memory in bytes, at most.
        since: When it was made; its crops stand in line as if they had come then.
    """

    def __init__(self, reservations: "set[Reservation]", crops: int, size: int, since: float) -> None:
        self.crops = crops
        self.bytes = size
        self.since = since
        self._reservations = reservations
        reservations.add(self)

    def take(self, crops: int, size: int) -> None:
        """Use some of it, for crops that have come."""
        assert crops <= self.crops, "more crops than were reserved"
        self.crops -= crops
        self.bytes = max(self.bytes - size, 0)
        if not self.crops:
            self.release()

    def release(self) -> None:
        """Give back what is left."""
        self.crops = self.bytes = 0
        self._reservations.discard(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
