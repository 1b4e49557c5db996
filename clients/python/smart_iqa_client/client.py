"""The client for ordinary, blocking code."""

import random as random_numbers
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
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


class _Stopped(Exception):
    """Nobody wants the answer any more."""


class Client(Common):
    """Asks a smart-iqa service. Threads may share one; close it at the end, or use it in a ``with`` statement.

    Args:
        url: Address of the service, such as ``http://localhost:8000``.
        api_key: A key, where the service asks for one.
        timeout: Seconds without a byte after which an attempt is given up.
        retries: When to try again.
        transport: Another way to send requests, such as ``httpx2.HTTPTransport(verify=...)`` for an authority of your
            own.
        clock: Seconds from a monotonic clock, for tests.
        sleep: Waits for an event, a number of seconds at most, and tells whether it came, for tests.
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
        transport: httpx2.BaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[threading.Event, float], bool] = threading.Event.wait,
        random: Callable[[], float] = random_numbers.random,
    ) -> None:
        super().__init__(url, api_key=api_key, timeout=timeout, retries=retries, clock=clock, random=random)
        self._sleep = sleep
        self._http = httpx2.Client(**self._settings(transport))

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def score(self, source: Source, **options: Unpack[ScoreOptions]) -> Score:
        """Score a picture.

        Args:
            source: A path, bytes, or a file in binary mode.
            options: As in ``ScoreOptions``: ``model``, ``crops``, ``detail``, ``priority``, ``deadline``.

        Raises:
            SmartIQAError: There is no answer, also after retries.
            OSError: The file cannot be read.
        """
        return self._run(calls.score(calls.load(source), **options))

    def attention(self, source: Source, **options: Unpack[ScoreOptions]) -> Attention:
        """Score a picture and tell how the model weighed its stages, from fine detail to content.

        Args:
            source: As for ``score``.
            options: As for ``score``.

        Raises:
            SmartIQAError: There is no answer, also after retries.
            OSError: The file cannot be read.
        """
        return self._run(calls.attention(calls.load(source), **options))

    def overlay(self, source: Source, stage: int | None = None, **options: Unpack[Options]) -> bytes:
        """Draw what the model looked at.

        Args:
            source: As for ``score``.
            stage: Draws where this stage, 1 to 4, is active; if None, which stages decided where.
            options: As for ``score``, but for ``detail``.

        Returns:
            A PNG.

        Raises:
            SmartIQAError: There is no answer, also after retries.
            OSError: The file cannot be read.
        """
        return self._run(calls.overlay(calls.load(source), stage, **options))

    def compare(self, sources: Iterable[Source], **options: Unpack[ScoreOptions]) -> Comparison:
        """Tell which of two to sixteen pictures people prefer, how sure that is, and in which defects they differ.

        Args:
            sources: As for ``score``, each.
            options: As for ``score``.

        Raises:
            SmartIQAError: There is no answer, also after retries. A picture's own problem is among the results.
            OSError: A file cannot be read.
        """
        return self._run(calls.compare([calls.load(source) for source in sources], **options))

    def pick(self, sources: Iterable[Source], **options: Unpack[ScoreOptions]) -> Picks:
        """Group two to thirty-two pictures by what they show, and name the best of each group.

        Args:
            sources: As for ``score``, each.
            options: As for ``score``.

        Raises:
            SmartIQAError: There is no answer, also after retries. A picture's own problem is among the results.
            OSError: A file cannot be read.
        """
        return self._run(calls.pick([calls.load(source) for source in sources], **options))

    def score_many(
        self,
        sources: Iterable[S],
        *,
        concurrency: int = 8,
        ordered: bool = True,
        retries: Retries = PATIENT,
        **options: Unpack[ScoreOptions],
    ) -> Generator[Outcome[S], None, None]:
        """Score many pictures, several at a time.

        Sources are taken and files are read as results are: memory does not grow with their number. Whoever stops early
        waits for the requests that are under way.

        Args:
            sources: As for ``score``, each; any iterable.
            concurrency: Requests under way at the same time.
            ordered: Whether outcomes come in the order of their sources, or as they are done.
            retries: When to try again.
            options: As for ``score``; the priority is ``"bulk"`` unless told otherwise.

        Returns:
            An outcome for each source: its score or its error. Errors of single pictures are never raised.

        Raises:
            ValueError: ``concurrency`` is below 1.
        """
        return self._many(sources, concurrency, ordered, retries, common.bulk(sources, concurrency, options))

    def models(self) -> tuple[Model, ...]:
        """Tell which models are loaded; the first is the default.

        Raises:
            SmartIQAError: There is no answer, also after retries.
        """
        return self._run(calls.models())

    def policies(self) -> tuple[Policy, ...]:
        """Tell which policies there are, with their rules.

        Raises:
            SmartIQAError: There is no answer, also after retries.
        """
        return self._run(calls.policies())

    def ready(self) -> bool:
        """Tell whether the service can be reached and takes work. This is asked once.

        Raises:
            SmartIQAError: Something else answered, or the probes ask for a key.
        """
        try:
            return self._run(calls.ready(), Retries(attempts=1))
        except (Unavailable, Unreachable):
            return False

    def _run(self, call: Call[T], retries: Retries | None = None, stopped: threading.Event | None = None) -> T:
        stopped = stopped or threading.Event()
        steps = self._steps(call, retries or self.retries)
        met: Met | None = None
        try:
            while not stopped.is_set():
                step, met = steps.send(met), None
                if isinstance(step, Wait):
                    self._sleep(stopped, step.seconds)
                else:
                    met = self._send(step.arguments)
        except StopIteration as end:
            answer: T = end.value
            return answer
        raise _Stopped

    def _send(self, arguments: dict[str, object]) -> Met:
        try:
            return self._http.request(**arguments)  # type: ignore[arg-type]
        except httpx2.RequestError as error:
            return error

    def _many(
        self, sources: Iterable[S], concurrency: int, ordered: bool, retries: Retries, options: ScoreOptions
    ) -> Generator[Outcome[S], None, None]:
        stopped = threading.Event()
        begun: deque[Future[Outcome[S]]] = deque()

        def one(index: int, source: S) -> Outcome[S]:
            try:
                result = self._run(calls.score(calls.load(source), **options), retries, stopped)
            except (SmartIQAError, OSError) as error:
                return Outcome(index=index, source=source, result=error)
            return Outcome(index=index, source=source, result=result)

        with ThreadPoolExecutor(concurrency, thread_name_prefix="smart-iqa") as pool:
            try:
                for index, source in enumerate(sources):
                    begun.append(pool.submit(one, index, source))
                    if len(begun) >= common.ahead(concurrency):
                        yield _next(begun, ordered).result()
                while begun:
                    yield _next(begun, ordered).result()
            finally:
                stopped.set()
                for future in begun:
                    future.cancel()


def _next(begun: deque[Future[Outcome[S]]], ordered: bool) -> Future[Outcome[S]]:
    """Take out the first one, or one that is done."""
    done = begun[0] if ordered else wait(begun, return_when=FIRST_COMPLETED).done.pop()
    begun.remove(done)
    return done
