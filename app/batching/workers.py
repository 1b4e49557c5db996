"""The threads that may touch a device: lanes, one or more, that take calls from one queue.

Whichever lane is free first has the next call, and is told its number: what a call needs of its own on each lane is
chosen no sooner. A call that raises is an outcome like any other; should a thread end by itself, the owner is told, who
then answers whoever waits: nobody hangs on a dead device.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

log = logging.getLogger("smart_iqa.device")

CLOSE_SECONDS = 10.0
T = TypeVar("T")


class Outcome(NamedTuple, Generic[T]):
    """What became of a call: its value, or the exception in ``error``."""

    value: T | None
    error: Exception | None


class _Call(NamedTuple):
    work: Callable[[int], object]
    done: Callable[[Outcome[object]], object]


class WorkerThreads:
    """Supervised worker threads behind one queue.

    Args:
        count: How many.

    Attributes:
        on_death: Called on a thread as it ends without having been asked to.
    """

    def __init__(self, count: int = 1) -> None:
        self.on_death: Callable[[], object] = lambda: None
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self.open(count)

    def __len__(self) -> int:
        return len(self._threads)

    def open(self, count: int) -> None:
        """Have at least that many lanes."""
        for lane in range(len(self), count):
            thread = threading.Thread(target=self._main, args=(lane,), name=f"lane-{lane}", daemon=True)
            thread.start()
            self._threads.append(thread)

    @property
    def alive(self) -> bool:
        """Whether calls are still being run, on every lane."""
        return all(thread.is_alive() for thread in self._threads)

    def run(self, work: Callable[[int], T], done: Callable[[Outcome[T]], object]) -> None:
        """Queue a call; ``work`` gets the number of its lane, and ``done`` the outcome, both on the lane's thread."""
        self._calls.put(_Call(work, done))  # type: ignore[arg-type]  # work and done agree on T

    def close(self) -> None:
        """Let the calls that are queued finish, then end the threads; one that hangs is left behind."""
        for _ in self._threads:
            self._calls.put(None)
        latest = time.monotonic() + CLOSE_SECONDS
        for thread in self._threads:
            thread.join(max(latest - time.monotonic(), 0))

    def _main(self, lane: int) -> None:
        asked_to = False
        try:
            while (call := self._calls.get()) is not None:
                try:
                    outcome = Outcome(call.work(lane), None)
                except Exception as error:
                    log.exception("a call on the device failed")
                    # The traceback's frames hold the batch's memory on the device, which the retry will need.
                    outcome = Outcome(None, error.with_traceback(None))
                call.done(outcome)
                del call, outcome
            asked_to = True
        finally:
            if not asked_to:
                self.on_death()
