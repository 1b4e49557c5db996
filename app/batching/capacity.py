"""Room in a queue: who still fits, and who has had a place kept.

Neither torch nor a web framework is imported here.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from app.batching.jobs import QueueFull, Reservation

RETRY_AFTER_CAP = 30


class QueueCapacity:
    """Bounds what waits, with the places that are kept for crops still to come.

    Args:
        max_crops: Bound on the crops.
        max_bytes: Bound on their memory.
        clock: Seconds from a monotonic clock.
        waiting: Tells how many crops wait, and their bytes.
        drain_seconds: Tells how long what waits will take.
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
        self.places: set[Reservation] = set()
        self._max_crops = max_crops
        self._max_bytes = max_bytes
        self._clock = clock
        self._waiting = waiting
        self._drain_seconds = drain_seconds

    def check(self, crops: int, size: int) -> None:
        """Find out whether so many crops of so many bytes in all would fit.

        Raises:
            QueueFull: They would not.
        """
        waiting, held = self._waiting()
        crops += waiting + sum(place.crops for place in self.places)
        size += held + sum(place.bytes for place in self.places)
        if crops > self._max_crops or size > self._max_bytes:
            raise QueueFull(min(max(math.ceil(self._drain_seconds()), 1), RETRY_AFTER_CAP))

    @contextmanager
    def keep(self, crops: int, size: int, within: Reservation | None = None) -> Iterator[Reservation]:
        """Keep a place, and give back at the end what has not come.

        Args:
            crops: How many.
            size: Their bytes, at most.
            within: A place whose room this is to be part of.

        Raises:
            QueueFull: There is no room for all of them.
        """
        if within is not None:
            within.take(crops, size)
        self.check(crops, size)
        place = Reservation(crops, size, self._clock())
        self.places.add(place)
        try:
            yield place
        finally:
            self.places.discard(place)

    def take(self, place: Reservation | None, crops: int, size: int) -> None:
        """Let crops come that a place may have been kept for."""
        if place is not None:
            place.take(crops, size)
            if not place.crops:
                self.places.discard(place)
