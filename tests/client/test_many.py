"""Many pictures: all are answered for, few are under way, and stopping leaves nothing behind."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path

import httpx2
import pytest

from smart_iqa_client import AsyncClient, Client, Overloaded, PictureProblem, Retries, Score
from tests.client.fakes import SCORE, Scene, good, problem


def numbered(request: httpx2.Request) -> httpx2.Response:
    """Scores a picture by the number that it consists of."""
    return httpx2.Response(200, json={**SCORE, "score": float(request.content)})


def pictures(count: int) -> list[bytes]:
    return [str(number).encode() for number in range(count)]


def test_outcomes_come_in_order(scene: Scene) -> None:
    scene.answers = numbered
    outcomes = scene.many(iter(pictures(50)), concurrency=3)
    assert [(one.index, one.source) for one in outcomes] == list(enumerate(pictures(50)))
    assert [one.result.score for one in outcomes if isinstance(one.result, Score)] == list(range(50))
    assert {request.headers["X-Priority"] for request in scene.requests} == {"bulk"}


def test_in_any_order_all_come(scene: Scene) -> None:
    scene.answers = numbered
    outcomes = scene.many(pictures(50), ordered=False, priority="interactive", detail="crops")
    assert sorted(one.index for one in outcomes) == list(range(50))
    assert all(isinstance(one.result, Score) and one.result.score == one.index for one in outcomes)
    assert {request.headers["X-Priority"] for request in scene.requests} == {"interactive"}
    assert {request.url.query for request in scene.requests} == {b"detail=crops"}


def test_each_picture_has_its_own_error(scene: Scene, tmp_path: Path) -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        return problem(422, "image_truncated") if request.content == b"broken" else good()

    scene.answers = answer
    outcomes = scene.many([b"fine", b"broken", tmp_path / "missing.jpg", b"fine"])
    assert [type(one.result) for one in outcomes] == [Score, PictureProblem, FileNotFoundError, Score]


def test_many_are_retried_with_patience(scene: Scene) -> None:
    refusals = 7
    scene.answers = [*[problem(429, "rate_limited", Retry_After="9") for _ in range(refusals)], good()]
    (outcome,) = scene.many([b"picture"])
    assert isinstance(outcome.result, Score)
    assert sum(scene.pauses) > scene.retries.total_seconds
    scene.answers = [problem(429, "rate_limited", Retry_After="9")]
    (outcome,) = scene.many([b"picture"], retries=Retries(attempts=1))
    assert isinstance(outcome.result, Overloaded)


def test_no_picture_is_no_work(scene: Scene) -> None:
    assert scene.many([]) == []


def test_sources_are_taken_as_outcomes_are() -> None:
    taken = 0

    def sources() -> Iterator[bytes]:
        nonlocal taken
        for picture in pictures(1000):
            taken += 1
            yield picture

    with Scene("Client", numbered).client() as client:
        outcomes = client.score_many(sources(), concurrency=2)
        assert taken == 0
        for given in range(1, 20):
            next(outcomes)
            assert taken <= given + 4
        outcomes.close()


@pytest.mark.parametrize("concurrency", [1, 3])
def test_no_more_requests_are_under_way_than_may_be(concurrency: int) -> None:
    under_way = most = 0

    async def answer(request: httpx2.Request) -> httpx2.Response:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        for _ in range(5):
            await asyncio.sleep(0)
        under_way -= 1
        return numbered(request)

    async def run() -> int:
        async with AsyncClient("http://service", transport=httpx2.MockTransport(answer)) as client:
            return len([one async for one in client.score_many(pictures(30), concurrency=concurrency)])

    assert asyncio.run(run()) == 30
    assert most == concurrency


def test_requests_of_threads_meet() -> None:
    # Each waits for the other: one alone would break the barrier.
    barrier = threading.Barrier(2, timeout=20)

    def answer(request: httpx2.Request) -> httpx2.Response:
        barrier.wait()
        return numbered(request)

    with Client("http://service", transport=httpx2.MockTransport(answer)) as client:
        assert len(list(client.score_many(pictures(10), concurrency=2))) == 10


def test_one_that_is_done_does_not_wait_for_one_that_is_not() -> None:
    release = threading.Event()

    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.content == b"0":
            assert release.wait(20)
        return numbered(request)

    with Client("http://service", transport=httpx2.MockTransport(answer)) as client:
        outcomes = client.score_many(pictures(8), concurrency=2, ordered=False)
        first = [next(outcomes).index for _ in range(7)]
        release.set()
        assert sorted(first) == list(range(1, 8))
        assert [one.index for one in outcomes] == [0]


def test_in_order_a_slow_one_does_not_hold_up_those_behind_it() -> None:
    behind = threading.Event()

    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.content == b"3":
            behind.set()
        if request.content == b"0":
            assert behind.wait(20)
        return numbered(request)

    with Client("http://service", transport=httpx2.MockTransport(answer)) as client:
        assert [one.index for one in client.score_many(pictures(8), concurrency=2)] == list(range(8))


def test_any_order_in_asyncio() -> None:
    async def run() -> None:
        release = asyncio.Event()

        async def answer(request: httpx2.Request) -> httpx2.Response:
            if request.content == b"0":
                await release.wait()
            return numbered(request)

        async with AsyncClient("http://service", transport=httpx2.MockTransport(answer)) as client:
            outcomes = client.score_many(pictures(8), concurrency=2, ordered=False)
            first = [(await anext(outcomes)).index for _ in range(7)]
            release.set()
            assert sorted(first) == list(range(1, 8))
            assert [one.index async for one in outcomes] == [0]

    asyncio.run(asyncio.wait_for(run(), 20))


def test_whoever_stops_early_ends_pauses_and_begins_nothing() -> None:
    waiting = threading.Event()
    asked = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.content)
        return numbered(request) if request.content == b"0" else problem(429, "rate_limited", Retry_After="500")

    def sleep(event: threading.Event, seconds: float) -> bool:
        waiting.set()
        # Not for long, if it works: a wait of 500 s ends as soon as the caller leaves.
        return event.wait(seconds)

    with Client("http://service", transport=httpx2.MockTransport(answer), sleep=sleep) as client:
        for outcome in client.score_many(pictures(100), concurrency=2):
            assert isinstance(outcome.result, Score)
            assert waiting.wait(20)
            break
    assert len(asked) <= 3


def test_whoever_stops_early_cancels_in_asyncio() -> None:
    cancelled = []

    async def answer(request: httpx2.Request) -> httpx2.Response:
        if request.content != b"0":
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(request.content)
                raise
        return numbered(request)

    async def sources() -> AsyncIterator[bytes]:
        for picture in pictures(100):
            yield picture

    async def run() -> None:
        before = len(asyncio.all_tasks())
        async with AsyncClient("http://service", transport=httpx2.MockTransport(answer)) as client:
            async with aclosing(client.score_many(sources(), concurrency=3)) as outcomes:
                async for outcome in outcomes:
                    assert outcome.index == 0
                    while len(asyncio.all_tasks()) < before + 3:
                        await asyncio.sleep(0)
                    break
            assert len(asyncio.all_tasks()) == before

    asyncio.run(asyncio.wait_for(run(), 20))
    assert cancelled


def test_sources_that_break_stop_the_work(scene: Scene) -> None:
    def sources() -> Iterator[bytes]:
        yield from pictures(3)
        raise RuntimeError("no more")

    scene.answers = numbered
    with pytest.raises(RuntimeError, match="no more"):
        scene.many(sources())


def test_one_picture_is_not_many(scene: Scene) -> None:
    for one in ("photo.jpg", b"bytes"):
        with pytest.raises(TypeError, match="several"):
            scene.many(one)
    with pytest.raises(ValueError, match="concurrency"):
        scene.many([], concurrency=0)
