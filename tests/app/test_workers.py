import threading
from concurrent.futures import Future

import pytest

from app.batching.workers import WorkerThreads


def test_calls_run_in_order_and_failures_stay_their_own() -> None:
    workers, deaths = WorkerThreads(), list[str]()
    workers.on_death = lambda: deaths.append("a thread that was closed has not died")
    futures: list[Future[int]] = [workers.run(call) for call in (lambda _: 1, lambda lane: 1 // lane, lambda _: 3)]
    workers.close()
    assert [future.result() for future in (futures[0], futures[2])] == [1, 3]
    assert isinstance(futures[1].exception(), ZeroDivisionError)
    assert not workers.alive
    assert not deaths


def test_a_call_that_nobody_waits_for_any_more_does_not_run() -> None:
    workers, gate = WorkerThreads(), threading.Event()
    ran: list[int] = []
    workers.run(lambda _: gate.wait(10))
    late = workers.run(ran.append)
    assert late.cancel()
    gate.set()
    workers.close()
    assert not ran


def test_a_thread_that_hangs_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.batching.workers.CLOSE_SECONDS", 0.05)
    workers, gate = WorkerThreads(), threading.Event()
    workers.run(lambda _: gate.wait(10))
    workers.close()
    assert workers.alive
    gate.set()
    workers._threads[0].join(10)
    assert not workers.alive


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_the_owner_is_told_when_the_thread_ends() -> None:
    told = threading.Event()
    workers = WorkerThreads()
    workers.on_death = told.set

    def end(_: int) -> None:
        raise SystemExit

    workers.run(end)
    assert told.wait(10)
    workers._threads[0].join()
