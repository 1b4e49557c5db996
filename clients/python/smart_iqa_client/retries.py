"""When to try again, without sending or sleeping: both clients do what ``exchange`` asks for."""

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass
from itertools import count
from typing import Any, TypeVar

import httpx2

from smart_iqa_client import errors
from smart_iqa_client.calls import Call
from smart_iqa_client.errors import Overloaded, Problem, SmartIQAError, Unavailable

T = TypeVar("T")

PASSING = (
    httpx2.NetworkError,
    httpx2.RemoteProtocolError,
    httpx2.ConnectTimeout,
)
"""Failures of a connection that another attempt may not meet. A service that keeps silent is not asked again."""


@dataclass(frozen=True, kw_only=True)
class Retries:
    """How patient to be.

    The pause before another attempt is what the service asks for by ``Retry-After``, plus a random part whose bound
    doubles each time, so that clients that were sent away together do not come back together.

    Attributes:
        attempts: Most attempts, the first included; 1 never tries again.
        total_seconds: Time from the first attempt after which no further one begins.
        first_seconds: Bound of the random part of the first pause.
        longest_seconds: Where the doubling ends.

    Raises:
        ValueError: There is no attempt, or a time is negative.
    """

    attempts: int = 6
    total_seconds: float = 60.0
    first_seconds: float = 0.25
    longest_seconds: float = 8.0

    def __post_init__(self) -> None:
        times = (self.total_seconds, self.first_seconds, self.longest_seconds)
        if self.attempts < 1 or not all(seconds >= 0 for seconds in times):
            raise ValueError("retries: there must be an attempt, and no time may be negative")

    def pause(self, failed: int, asked: float | None, chance: float) -> float:
        """Seconds to wait after a failure.

        Args:
            failed: Attempts that have failed, from 1.
            asked: What ``Retry-After`` says, if anything.
            chance: A random number from 0 to 1.
        """
        # Two to the power of 30 is beyond any bound, and far from overflow.
        return (asked or 0.0) + chance * min(self.first_seconds * 2.0 ** min(failed - 1, 30), self.longest_seconds)


PROMPT = Retries()
"""For a picture that somebody waits for."""
PATIENT = Retries(attempts=50, total_seconds=600.0)
"""For many pictures, which nobody waits for one by one."""


@dataclass(frozen=True)
class Send:
    """Send a request with these arguments; what it gives, or the error that it met, is to be handed back."""

    arguments: dict[str, Any]


@dataclass(frozen=True)
class Wait:
    """Wait so many seconds."""

    seconds: float


Met = httpx2.Response | httpx2.RequestError
Steps = Generator[Send | Wait, Met | None, T]


def exchange(
    call: Call[T],
    retries: Retries,
    timeout: float,
    *,
    clock: Callable[[], float],
    random: Callable[[], float],
) -> Steps[T]:
    """Take a call to its answer.

    Args:
        call: What to ask.
        retries: How often.
        timeout: Bounds each attempt.
        clock: Seconds from a monotonic clock.
        random: Numbers from 0 to 1.

    Yields:
        What to do next.

    Returns:
        The answer.

    Raises:
        SmartIQAError: There is none; the last attempt's error.
    """
    began = clock()
    end = began + min(retries.total_seconds, math.inf if call.deadline is None else call.deadline)
    for attempt in count(1):
        left = None if call.deadline is None else began + call.deadline - clock()
        met = yield Send(call.arguments(left, timeout))
        assert met is not None, "a request has been asked for"
        if isinstance(met, httpx2.Response) and met.is_success:
            return call.read(met)
        error, cause = _error(met)
        pause = retries.pause(attempt, error.retry_after if isinstance(error, Problem) else None, random())
        if not _passes(error, cause) or attempt == retries.attempts or clock() + pause >= end:
            raise error from cause
        yield Wait(pause)
    raise AssertionError("counting has no end")


def _error(met: httpx2.Response | httpx2.RequestError) -> tuple[SmartIQAError, httpx2.RequestError | None]:
    if isinstance(met, httpx2.Response):
        return errors.of_response(met), None
    return errors.of_transport(met), met


def _passes(error: SmartIQAError, cause: httpx2.RequestError | None) -> bool:
    """Whether another attempt may do better. Scoring changes nothing in the service, so that any may be repeated."""
    return isinstance(error, (Overloaded, Unavailable)) or isinstance(cause, PASSING)
