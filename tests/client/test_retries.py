"""When another attempt is made, after how long, and when no more."""

import httpx2
import pytest

from app.http import problems
from smart_iqa_client import DeadlineExceeded, Overloaded, Problem, Retries, TimedOut, Unavailable, Unreachable
from smart_iqa_client.errors import retry_after
from tests.client.fakes import Scene, good, problem


def test_the_service_says_how_long_to_wait(scene: Scene) -> None:
    scene.answers = [problem(429, "queue_full", Retry_After="7"), problem(503, "draining", Retry_After="5"), good()]
    assert scene.ask("score", b"bytes").score == 71.5
    # And half of 0.25, then half of 0.5, on top: never earlier, and not all at the same instant.
    assert scene.pauses == [7.125, 5.25]
    assert [request.content for request in scene.requests] == [b"bytes"] * 3


def test_pauses_grow_at_random_up_to_a_bound(scene: Scene) -> None:
    scene.retries = Retries(attempts=9, total_seconds=1000)
    scene.answers = [*[httpx2.Response(502) for _ in range(8)], good()]
    scene.ask("score", b"bytes")
    assert scene.pauses == [0.125, 0.25, 0.5, 1, 2, 4, 4, 4]
    scene.chance, scene.pauses = 0.0, []
    scene.answers = [httpx2.Response(503), good()]
    scene.ask("score", b"bytes")
    assert scene.pauses == [0.0]


@pytest.mark.parametrize(
    "error",
    [
        httpx2.ConnectError("x"),
        httpx2.ConnectTimeout("x"),
        httpx2.ReadError("x"),
        httpx2.WriteError("x"),
        httpx2.RemoteProtocolError("x"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_broken_connections_are_tried_again(scene: Scene, error: httpx2.RequestError) -> None:
    scene.answers = [error, good()]
    scene.ask("score", b"bytes")
    assert len(scene.requests) == 2


@pytest.mark.parametrize(
    "error",
    [httpx2.ReadTimeout("x"), httpx2.LocalProtocolError("x"), httpx2.ProxyError("x"), httpx2.DecodingError("x")],
    ids=lambda error: type(error).__name__,
)
def test_what_would_happen_again_is_not_tried_again(scene: Scene, error: httpx2.RequestError) -> None:
    scene.answers = [error]
    with pytest.raises(
        Exception, match=type(error).__name__ if not isinstance(error, httpx2.DecodingError) else "encod"
    ):
        scene.ask("score", b"bytes")
    assert len(scene.requests) == 1


@pytest.mark.parametrize(
    "code", sorted(code for code, (status, _) in problems.TABLE.items() if status not in (429, 503))
)
def test_other_problems_are_not_tried_again(scene: Scene, code: str) -> None:
    # Not even if they ask for it.
    scene.answers = [problem(problems.TABLE[code][0], code, Retry_After="1")]
    with pytest.raises(Problem, match=code):
        scene.ask("score", b"bytes")
    assert (len(scene.requests), scene.pauses) == (1, [])


def test_attempts_are_bounded(scene: Scene) -> None:
    scene.retries = Retries(attempts=3)
    scene.answers = lambda _: httpx2.ConnectError("x")
    with pytest.raises(Unreachable):
        scene.ask("score", b"bytes")
    assert len(scene.requests) == 3


def test_time_is_bounded(scene: Scene) -> None:
    scene.retries = Retries(attempts=100, total_seconds=10)
    scene.answers = lambda _: problem(429, "rate_limited", Retry_After="4")
    with pytest.raises(Overloaded) as caught:
        scene.ask("score", b"bytes")
    # 4.125 and 4.25; a third pause would end after ten seconds, so nobody waits for it.
    assert (len(scene.requests), scene.pauses) == (3, [4.125, 4.25])
    assert caught.value.retry_after == 4


def test_the_time_that_answers_take_counts(scene: Scene) -> None:
    scene.retries = Retries(attempts=100, total_seconds=10)
    scene.seconds = 6
    scene.answers = lambda _: problem(503, "not_ready")
    with pytest.raises(Unavailable):
        scene.ask("score", b"bytes")
    assert len(scene.requests) == 2


def test_a_deadline_bounds_all_attempts_and_the_service_is_told_what_is_left(scene: Scene) -> None:
    scene.seconds = 0.5
    scene.answers = lambda _: problem(429, "queue_full", Retry_After="1")
    with pytest.raises(Overloaded):
        scene.ask("score", b"bytes", deadline=3.0)
    # Each attempt takes 0.5 s; pauses are of 1.125 s and 1.25 s, and the second would end after the deadline.
    assert [request.headers["X-Deadline-Ms"] for request in scene.requests] == ["3000", "1375"]


def test_a_deadline_that_passes_during_a_pause_is_still_a_time(scene: Scene) -> None:
    scene.oversleep = 60
    scene.answers = [problem(429, "queue_full", Retry_After="1"), problem(504, "deadline_exceeded")]
    with pytest.raises(DeadlineExceeded):
        scene.ask("score", b"bytes", deadline=3.0)
    assert scene.requests[1].headers["X-Deadline-Ms"] == "1"
    assert scene.requests[1].extensions["timeout"]["read"] > 0


def test_a_missed_deadline_is_final(scene: Scene) -> None:
    scene.answers = [problem(504, "deadline_exceeded")]
    with pytest.raises(DeadlineExceeded):
        scene.ask("score", b"bytes", deadline=0.01)


def test_one_attempt_is_one(scene: Scene) -> None:
    scene.retries = Retries(attempts=1)
    scene.answers = [httpx2.ConnectTimeout("x")]
    with pytest.raises(TimedOut):
        scene.ask("models")


@pytest.mark.parametrize("wrong", [{"attempts": 0}, {"total_seconds": -1}, {"first_seconds": float("nan")}])
def test_impossible_retries_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="retries"):
        Retries(**wrong)  # type: ignore[arg-type]


NOW = "Mon, 05 Jan 2026 10:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "3"}, 3.0),
        ({"Retry-After": "0"}, 0.0),
        ({"Retry-After": "Mon, 05 Jan 2026 10:00:20 GMT", "Date": NOW}, 20.0),
        ({"Retry-After": "Mon, 05 Jan 2026 10:00:20 -0000", "Date": NOW}, 20.0),
        ({"Retry-After": "Mon, 05 Jan 2026 09:00:00 GMT", "Date": NOW}, 0.0),
        ({"Retry-After": "Mon, 05 Jan 2026 10:00:20 GMT"}, None),
        ({"Retry-After": "soon", "Date": NOW}, None),
        ({"Retry-After": "-3"}, None),
        ({"Retry-After": "1e3"}, None),
        ({"Retry-After": "9" * 10000}, None),
        ({}, None),
    ],
)
def test_retry_after_is_a_number_or_a_date(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(httpx2.Response(503, headers=headers)) == seconds
