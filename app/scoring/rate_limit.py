"""Rate limits: a token bucket of crops for each owner, filled at a steady rate."""

import math
from collections.abc import Callable
from dataclasses import dataclass

BURST_SECONDS = 10.0
"""Burst size: seconds of unused allowance that are kept."""
MAX_BUCKETS = 4096
"""Number of buckets beyond which full ones are dropped; their owners notice nothing, as a new bucket is full."""


class RateExceeded(Exception):
    """The owner's bucket has too few crops for the request.

    Attributes:
        retry_after: Whole seconds until it has enough.
    """

    def __init__(self, retry_after: int) -> None:
        super().__init__(retry_after)
        self.retry_after = retry_after


@dataclass
class _Bucket:
    crops: float
    filled: float


class TokenBuckets:
    """A token bucket for each owner.

    Args:
        crops_per_second: Rate at which buckets fill, above 0.
        clock: Returns seconds of a monotonic clock.
    """

    def __init__(self, crops_per_second: float, clock: Callable[[], float]) -> None:
        self._rate = crops_per_second
        self._full = crops_per_second * BURST_SECONDS
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}

    def take(self, owner: str, crops: int) -> None:
        """Take crops out of an owner's bucket. A request for more crops than a bucket holds needs a full one.

        Raises:
            RateExceeded: The bucket has too few.
        """
        now = self._clock()
        bucket = self._buckets.setdefault(owner, _Bucket(self._full, now))
        bucket.crops = min(self._full, bucket.crops + (now - bucket.filled) * self._rate)
        bucket.filled = now
        wanted = min(crops, self._full)
        if bucket.crops < wanted:
            raise RateExceeded(max(math.ceil((wanted - bucket.crops) / self._rate), 1))
        bucket.crops -= wanted
        if len(self._buckets) > MAX_BUCKETS:
            self._buckets = {name: kept for name, kept in self._buckets.items() if not self._is_full(kept, now)}

    def refund(self, owner: str, taken: int, used: int) -> None:
        """Put the unused part of the crops of a request back into the owner's bucket."""
        if (bucket := self._buckets.get(owner)) is not None:
            bucket.crops = min(self._full, bucket.crops + min(taken, self._full) - min(used, self._full))

    def _is_full(self, bucket: _Bucket, now: float) -> bool:
        return bucket.crops + (now - bucket.filled) * self._rate >= self._full
