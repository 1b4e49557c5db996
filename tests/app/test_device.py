import threading

import pytest

from app.device import DeviceThread, Outcome


def test_calls_run_in_order_and_failures_stay_their_own() -> None:
    outcomes: list[Outcome[int]] = []
    device = DeviceThread("test")
    device.on_death = pytest.fail
    for work in (lambda: 1, lambda: 1 // 0, lambda: 3):
        device.run(work, outcomes.append)
    device.close()
    assert [outcome.value for outcome in outcomes] == [1, None, 3]
    assert isinstance(outcomes[1].error, ZeroDivisionError)
    assert not device.alive


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_the_owner_is_told_when_the_thread_ends() -> None:
    told = threading.Event()
    device = DeviceThread("test")
    device.on_death = told.set

    def end() -> None:
        raise SystemExit

    device.run(end, lambda _: None)
    assert told.wait(10)
    device._thread.join()
