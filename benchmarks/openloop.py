"""Open-loop load: requests arrive at fixed times, whether or not earlier ones have been answered.

A client that asks again only after its answer slows down with the server, and so does not see the queue that others
would stand in ("coordinated omission"). Here arrivals are drawn beforehand, and a request's latency counts from the
moment that it was due, whatever kept it from being sent.
"""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

LIMIT_SECONDS = 1.0
"""What the 99th percentile of the latency must stay within for a rate to count as sustained."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """The times of one request, in seconds from the start of the load.

    Attributes:
        due: When it was to be sent.
        sent: When it was sent; None if it never was.
        done: When its answer was complete; None if none came, or not 200.
    """

    due: float
    sent: float | None
    done: float | None


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A rate that was tried.

    Attributes:
        rate: Requests per second that were due.
        requests: How many.
        p50_ms: Median latency from the time due; None if more than half were not answered.
        p99_ms: 99th percentile; None if more than a hundredth were not answered.
        late_ms: 99th percentile of how late the requests were sent: the load generator's own fault.
        sustained: Whether the 99th percentile is within the limit.
    """

    rate: float
    requests: int
    p50_ms: float | None
    p99_ms: float | None
    late_ms: float
    sustained: bool


def arrivals(rate: float, seconds: float, seed: int) -> list[float]:
    """Times of arrival of a Poisson process, from 0 on: at every rate the same pattern, stretched."""
    rng = random.Random(seed)
    times, now = [], 0.0
    for _ in range(max(1, round(rate * seconds))):
        times.append(now)
        now += rng.expovariate(1.0) / rate
    return times


def latencies(requests: Sequence[Request]) -> list[float]:
    """Seconds from due to done; infinite for what was not answered."""
    return [math.inf if request.done is None else request.done - request.due for request in requests]


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the values does not exceed."""
    return sorted(values)[math.ceil(share * len(values)) - 1]


def judge(rate: float, requests: Sequence[Request]) -> Trial:
    """Evaluate the requests of a rate."""
    waited = latencies(requests)
    p50, p99 = percentile(waited, 0.5), percentile(waited, 0.99)
    late = [request.sent - request.due for request in requests if request.sent is not None]
    return Trial(
        rate=round(rate, 3),
        requests=len(requests),
        p50_ms=_milliseconds(p50),
        p99_ms=_milliseconds(p99),
        late_ms=round(1e3 * percentile(late, 0.99), 2),
        sustained=p99 <= LIMIT_SECONDS,
    )


def _milliseconds(seconds: float) -> float | None:
    return round(1e3 * seconds, 1) if math.isfinite(seconds) else None


def search(attempt: Callable[[float], Trial], low: float, high: float, steps: int) -> list[Trial]:
    """Look for the highest sustained rate by halving the range in which it must be.

    Args:
        attempt: Tries a rate.
        low: A rate that should be sustained; tried only if nothing above it is.
        high: A rate that should not be; never tried.
        steps: Rates to try between them.

    Returns:
        All trials, in the order in which they were made.
    """
    trials: list[Trial] = []
    lowest = low
    for _ in range(steps):
        trials.append(attempt((low + high) / 2))
        if trials[-1].sustained:
            low = (low + high) / 2
        else:
            high = (low + high) / 2
    if low == lowest:
        trials.append(attempt(low))
    return trials


def best(trials: Sequence[Trial]) -> float:
    """The highest sustained rate of some trials; 0 if there is none."""
    return max((trial.rate for trial in trials if trial.sustained), default=0.0)
