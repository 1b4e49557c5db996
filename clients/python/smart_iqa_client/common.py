"""What both clients share besides their calls: how they are set up, and what ``score_many`` gives."""

import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import httpx2

from smart_iqa_client.answers import Score
from smart_iqa_client.calls import Call, ScoreOptions, Source
from smart_iqa_client.errors import SmartIQAError
from smart_iqa_client.retries import Retries, Steps, exchange

__version__ = "0.1.0"

T = TypeVar("T")
S = TypeVar("S", bound=Source)


@dataclass(frozen=True, kw_only=True)
class Outcome(Generic[S]):
    """What became of one of many pictures.

    Attributes:
        index: Its place among them, from 0.
        source: The picture as it was handed over.
        result: Its score, or the error that it met.
    """

    index: int
    source: S
    result: Score | SmartIQAError | OSError


class Common:
    """Settings of a client.

    Args:
        url: Address of the service.
        api_key: Sent along with every request.
        timeout: Seconds without a byte after which an attempt is given up.
        retries: When to try again.
        clock: Seconds from a monotonic clock.
        random: Numbers from 0 to 1.

    Raises:
        ValueError: The address is not one of HTTP, or the timeout is not positive.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None,
        timeout: float,
        retries: Retries,
        clock: Callable[[], float],
        random: Callable[[], float],
    ) -> None:
        if httpx2.URL(url).scheme not in ("http", "https") or not httpx2.URL(url).host:
            raise ValueError("the address must begin with http:// or https:// and name a host")
        if not timeout > 0:
            raise ValueError(f"timeout must be positive, not {timeout}")
        self.url = url
        self.retries = retries
        self._api_key = api_key
        self._timeout = timeout
        self._clock = clock
        self._random = random

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    def _settings(self, transport: object) -> dict[str, Any]:
        """Arguments for httpx2's clients; with a transport of the caller's, that one is used and no proxy."""
        headers = {"User-Agent": f"smart-iqa-client/{__version__}"}
        if self._api_key:
            # Keys are often read from files, with the end of the line.
            headers["Authorization"] = f"Bearer {self._api_key.strip()}"
        # Whoever asks for much concurrency is to have its connections, and to keep them.
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=5.0)
        return {
            "base_url": self.url,
            "headers": headers,
            "limits": limits,
            "transport": transport,
            "proxy": None if transport else _proxy(httpx2.URL(self.url)),
            # Of the environment only what holds for this address: httpx2 would set up all proxies that are named there,
            # and fail on one of SOCKS that is not even asked.
            "verify": httpx2.create_ssl_context(),
            "trust_env": False,
        }

    def _steps(self, call: Call[T], retries: Retries) -> Steps[T]:
        return exchange(call, retries, self._timeout, clock=self._clock, random=self._random)


def _proxy(url: httpx2.URL) -> str | None:
    """The proxy for an address, by the usual environment variables; None for none."""
    if urllib.request.proxy_bypass(url.netloc.decode()):
        return None
    proxies = urllib.request.getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    return proxy if not proxy or "://" in proxy else f"http://{proxy}"


def bulk(sources: object, concurrency: int, options: Mapping[str, Any]) -> ScoreOptions:
    """Options of many pictures: they wait behind interactive ones, unless told otherwise.

    Raises:
        TypeError: It is one picture; its letters would be taken for many.
        ValueError: Nothing may be under way.
    """
    if isinstance(sources, (str, bytes)):
        raise TypeError("score_many takes several pictures; for one there is score")
    if concurrency < 1:
        raise ValueError(f"concurrency must be at least 1, not {concurrency}")
    made: ScoreOptions = {"priority": "bulk", **options}  # type: ignore[typeddict-item]
    return made


def ahead(concurrency: int) -> int:
    """Most pictures that are begun and not handed over: twice as many, so that a slow one does not hold up the rest."""
    return 2 * concurrency
