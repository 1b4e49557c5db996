"""The client for asyncio."""

import asyncio
import random as random_numbers
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from types import TracebackType
from typing import TypeVar, Unpack

import httpx2

from smart_iqa_client import calls, common
from smart_iqa_client.answers import Attention, Model, Policy, Score
from smart_iqa_client.calls import Call, Options, ScoreOptions, Source
from smart_iqa_client.common import Common, Outcome
from smart_iqa_client.errors import SmartIQAError, Unavailable, Unreachable
from smart_iqa_client.retries import PATIENT, PROMPT, Met, Retries, Wait
from smart_iqa_client.together import Comparison, Picks

T = TypeVar("T")
S = TypeVar("S", bound=Source)


class AsyncClient(Common):
    """Asks a smart-iqa service from asyncio; all as in ``Client``, to be awaited.

    Args:
        url: As for ``Client``.
        api_key: As for ``Client``.
        timeout: As for ``Client``.
        retries: As for ``Client``.
        transport: Another way to send requests, such as ``httpx2.AsyncHTTPTransport(verify=...)``.
        clock: Seconds from a monotonic clock, for tests.
        sleep: Waits a number of seconds, for tests.
        random: Numbers from 0 to 1, for tests.

    Raises:
        ValueError: The address is not one of HTTP, or the timeout is not positive.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout: float = 60.0,
        retries: Retries = PROMPT,
        transport: httpx2.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        random: Callable[[], float] = random_numbers.random,
    ) -> None:
        super().__init__(url, api_key=api_key, timeout=timeout, retries=retries, clock=clock, random=random)
        self._sleep = sleep
        self._http = httpx2.AsyncClient(**self._settings(transport))

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def score(self, source: Source, **options: Unpack[ScoreOptions]) -> Score:
        """Score a picture; as ``Client.score``."""
        return await self._run(calls.score(await _load(source), **options))

    async def attention(self, source: Source, **options: Unpack[ScoreOptions]) -> Attention:
        """Score a picture and tell how the model weighed its stages; as ``Client.attention``."""
        return await self._run(calls.attention(await _load(source), **options))

    async def overlay(self, source: Source, stage: int | None = None, **options: Unpack[Options]) -> bytes:
        """Draw what the model looked at; as ``Client.overlay``."""
        return await self._run(calls.overlay(await _load(source), stage, **options))

    async def compare(self, sources: Iterable[Source], **options: Unpack[ScoreOptions]) -> Comparison:
        """Tell which of several pictures people prefer; as ``Client.compare``."""
        return await self._run(calls.compare([await _load(source) for source in sources], **options))

    async def pick(self, sources: Iterable[Source], **options: Unpack[ScoreOptions]) -> Picks:
        """Name the best of nearly equal pictures; as ``Client.pick``."""
        return await self._run(calls.pick([await _load(source) for source in sources], **options))

    def score_many(
        self,
        sources: Iterable[S] | AsyncIterable[S],
        *,
        concurrency: int = 8,
        ordered: bool = True,
        retries: Retries = PATIENT,
        **options: Unpack[ScoreOptions],
    ) -> AsyncGenerator[Outcome[S], None]:
        """Score many pictures, several at a time; as ``Client.score_many``.

        Whoever stops early cancels the requests that are under way, at once within ``contextlib.aclosing``.
        """
        return self._many(sources, concurrency, ordered, retries, common.bulk(sources, concurrency, options))

    async def models(self) -> tuple[Model, ...]:
        """Tell which models are loaded; as ``Client.models``."""
        return await self._run(calls.models())

    async def policies(self) -> tuple[Policy, ...]:
        """Tell which policies there are; as ``Client.policies``."""
        return await self._run(calls.policies())

    async def ready(self) -> bool:
        """Tell whether the service can be reached and takes work; as ``Client.ready``."""
        try:
            return await self._run(calls.ready(), Retries(attempts=1))
        except (Unavailable, Unreachable):
            return False

    async def _run(self, call: Call[T], retries: Retries | None = None) -> T:
        steps = self._steps(call, retries or self.retries)
        met: Met | None = None
        try:
            while True:
                step, met = steps.send(met), None
                if isinstance(step, Wait):
                    await self._sleep(step.seconds)
                else:
                    met = await self._send(step.arguments)
        except StopIteration as end:
            answer: T = end.value
            return answer

    async def _send(self, arguments: dict[str, object]) -> Met:
        try:
            return await self._http.request(**arguments)  # type: ignore[arg-type]
        except httpx2.RequestError as error:
            return error

    async def _many(
        self,
        sources: Iterable[S] | AsyncIterable[S],
        concurrency: int,
        ordered: bool,
        retries: Retries,
        options: ScoreOptions,
    ) -> AsyncGenerator[Outcome[S], None]:
        room = asyncio.Semaphore(concurrency)
        begun: deque[asyncio.Task[Outcome[S]]] = deque()

        async def one(index: int, source: S) -> Outcome[S]:
            async with room:
                try:
                    result = await self._run(calls.score(await _load(source), **options), retries)
                except (SmartIQAError, OSError) as error:
                    return Outcome(index=index, source=source, result=error)
                return Outcome(index=index, source=source, result=result)

        try:
            index = 0
            async for source in _each(sources):
                begun.append(asyncio.create_task(one(index, source)))
                index += 1
                if len(begun) >= common.ahead(concurrency):
                    yield await _next(begun, ordered)
            while begun:
                yield await _next(begun, ordered)
        finally:
            for task in begun:
                task.cancel()
            await asyncio.gather(*begun, return_exceptions=True)


async def _load(source: Source) -> bytes:
    return source if isinstance(source, bytes) else await asyncio.to_thread(calls.load, source)


async def _each(sources: Iterable[S] | AsyncIterable[S]) -> AsyncIterator[S]:
    if isinstance(sources, AsyncIterable):
        async for source in sources:
            yield source
    else:
        for source in sources:
            yield source


async def _next(begun: deque[asyncio.Task[Outcome[S]]], ordered: bool) -> Outcome[S]:
    """Take out the first one, or one that is done."""
    if ordered:
        return await begun.popleft()
    done = (await asyncio.wait(begun, return_when=asyncio.FIRST_COMPLETED))[0].pop()
    begun.remove(done)
    return done.result()
