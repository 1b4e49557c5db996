"""How much each owner may ask for: a bucket of crops that fills at a steady rate."""

import math
from collections.abc import Callable
from dataclasses import dataclass

BURST_SECONDS = 10.0
"""What an owner has not asked for is saved up for so long."""
MOST = 4096
"""Owners that are remembered; beyond that, those with full buckets are forgotten."""


class RateExceeded(Exception):
    """An owner asked for too much. ``retry_after`` is when to come again, in whole seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(retry_after)
        self.retry_after = retry_after


@dataclass
class _Bucket:
    crops: float
    filled: float


class TokenBuckets:
    """A bucket for each owner.

    Args:
        crops_per_second: At which buckets fill; 0 for no limit.
        clock: Seconds from a monotonic clock.
    """

    def __init__(self, crops_per_second: float, clock: Callable[[], float]) -> None:
        self._rate = crops_per_second
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}

    def take(self, owner: str, crops: int) -> None:
        """Take crops out of an owner's bucket. A request larger than a bucket may empty a full one.

        Raises:
            RateExceeded: There are not enough in it.
        """
        if not self._rate:
            return
        now, full = self._clock(), self._rate * BURST_SECONDS
        bucket = self._buckets.setdefault(owner, _Bucket(full, now))
        bucket.crops = min(full, bucket.crops + (now - bucket.filled) * self._rate)
        bucket.filled = now
        wanted = min(crops, full)
        if bucket.crops < wanted:
            raise RateExceeded(max(math.ceil((wanted - bucket.crops) / self._rate), 1))
        bucket.crops -= wanted
        if len(self._buckets) > MOST:
            self._buckets = {name: one for name, one in self._buckets.items() if not self._is_full(one, now)}

    def give_back(self, owner: str, taken: int, used: int) -> None:
        """Put back what was taken for a request and not used."""
        if (bucket := self._buckets.get(owner)) is not None:
            full = self._rate * BURST_SECONDS
            bucket.crops = min(full, bucket.crops + min(taken, full) - min(used, full))

    def _is_full(self, bucket: _Bucket, now: float) -> bool:
        return bucket.crops + (now - bucket.filled) * self._rate >= self._rate * BURST_SECONDS
