"""Rate limits: a token bucket of crops for each owner, which fills at a steady rate."""

import math
from collections.abc import Callable
from dataclasses import dataclass

BURST_SECONDS = 10.0
"""Burst size: seconds of unused allowance that are kept."""
MAX_BUCKETS = 4096
"""Buckets that are kept; beyond that, full ones are dropped, which changes nothing for their owners."""


class RateExceeded(Exception):
    """An owner asked for too much.

    Attributes:
        retry_after: When to come again, in whole seconds.
    """

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
        crops_per_second: Rate at which buckets fill, above 0.
        clock: Seconds from a monotonic clock.
    """

    def __init__(self, crops_per_second: float, clock: Callable[[], float]) -> None:
        self._rate = crops_per_second
        self._full = crops_per_second * BURST_SECONDS
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}

    def take(self, owner: str, crops: int) -> None:
        """Take crops out of an owner's bucket. A request larger than a bucket may empty a full one.

        Raises:
            RateExceeded: There are not enough in it.
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
            self._buckets = {name: one for name, one in self._buckets.items() if not self._is_full(one, now)}

    def refund(self, owner: str, taken: int, used: int) -> None:
        """Put back what was taken for a request and not used."""
        if (bucket := self._buckets.get(owner)) is not None:
            bucket.crops = min(self._full, bucket.crops + min(taken, self._full) - min(used, self._full))

    def _is_full(self, bucket: _Bucket, now: float) -> bool:
        return bucket.crops + (now - bucket.filled) * self._rate >= self._full
