import math

import pytest

from benchmarks import openloop
from benchmarks.openloop import Request, Trial


def answered(due: float, sent: float, done: float | None) -> Request:
    return Request(due=due, sent=sent, done=done)


def test_a_request_that_was_sent_late_has_waited_since_it_was_due() -> None:
    trial = openloop.judge(1.0, [answered(2.0, 2.5, 2.6)])
    assert (trial.p99_ms, trial.late_ms) == (600.0, 500.0)


def test_one_unanswered_request_in_a_hundred_is_borne_and_two_are_not() -> None:
    good = [answered(n, n, n + 0.5) for n in range(99)]
    lost = answered(99.0, 99.0, None)
    assert openloop.judge(1.0, [*good, lost]).sustained
    trial = openloop.judge(1.0, [*good[1:], lost, lost])
    assert (trial.sustained, trial.p50_ms, trial.p99_ms) == (False, 500.0, None)


def test_a_request_that_never_left_counts_as_unanswered() -> None:
    gone = Request(due=1.0, sent=None, done=None)
    assert openloop.latencies([answered(0.0, 0.0, 0.25), gone]) == [0.25, math.inf]


@pytest.mark.parametrize(("share", "value"), [(0.5, 2.0), (0.51, 3.0), (0.99, 4.0), (0.01, 1.0)])
def test_percentiles_are_values_that_occurred(share: float, value: float) -> None:
    assert openloop.percentile([4.0, 2.0, 3.0, 1.0], share) == value


def test_arrivals_keep_their_pattern_at_every_rate() -> None:
    slow, fast = openloop.arrivals(50.0, 20.0, seed=1), openloop.arrivals(100.0, 10.0, seed=1)
    assert len(slow) == len(fast) == 1000
    assert slow == pytest.approx([2 * time for time in fast])
    assert fast == sorted(fast)
    assert fast[-1] == pytest.approx(10.0, rel=0.1)
    assert fast != openloop.arrivals(100.0, 10.0, seed=2)


class Capacity:
    """A server that sustains rates up to some point."""

    def __init__(self, most: float) -> None:
        self.most = most

    def attempt(self, rate: float) -> Trial:
        sustained = rate <= self.most
        return Trial(rate=rate, requests=1, p50_ms=1.0, p99_ms=1.0, late_ms=0.0, sustained=sustained)


def test_the_search_closes_in_on_the_highest_sustained_rate() -> None:
    trials = openloop.search(Capacity(70.0).attempt, 0.0, 128.0, steps=5)
    assert [trial.rate for trial in trials] == [64.0, 96.0, 80.0, 72.0, 68.0]
    assert openloop.best(trials) == 68.0


def test_the_lowest_rate_is_tried_only_when_nothing_above_it_held() -> None:
    trials = openloop.search(Capacity(10.0).attempt, 10.0, 50.0, steps=2)
    assert [trial.rate for trial in trials] == [30.0, 20.0, 10.0]
    assert openloop.best(trials) == 10.0
    assert openloop.best(openloop.search(Capacity(1.0).attempt, 10.0, 50.0, steps=2)) == 0.0
