import threading

import pytest

from app.batching.workers import Outcome, WorkerThreads


def test_calls_run_in_order_and_failures_stay_their_own() -> None:
    outcomes: list[Outcome[int]] = []
    device = WorkerThreads()
    device.on_death = pytest.fail
    for work in (lambda _: 1, lambda lane: 1 // lane, lambda _: 3):
        device.run(work, outcomes.append)
    device.close()
    assert [outcome.value for outcome in outcomes] == [1, None, 3]
    assert isinstance(outcomes[1].error, ZeroDivisionError)
    assert not device.alive


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_the_owner_is_told_when_the_thread_ends() -> None:
    told = threading.Event()
    device = WorkerThreads()
    device.on_death = told.set

    def end(_: int) -> None:
        raise SystemExit

    device.run(end, lambda _: None)
    assert told.wait(10)
    device._threads[0].join()
