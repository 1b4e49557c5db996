"""The worker threads of the devices: they take calls from one queue, run batches, and are watched for hangs.

Each thread is a lane: it has a number and, of every model, an engine replica of its own. The thread that is free first
has the next call. A call that raises is a result like any other; should a thread end by itself, the owner is told, who
then answers whoever waits: nobody hangs on a dead device.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np

from app.batching.jobs import Engine, Items, Rows

log = logging.getLogger("smart_iqa.batcher")

CLOSE_SECONDS = 10.0
T = TypeVar("T")


class BatchResult(NamedTuple):
    """What became of a batch.

    Attributes:
        rows_ND: What the engine gave; of no use beside an error.
        error: What it raised, if it did.
        started: When it began, on the clock of the worker threads.
        seconds: How long it took.
        device: Name of the device that it ran on.
    """

    rows_ND: Rows
    error: Exception | None
    started: float
    seconds: float
    device: str

    def fault(self, crops: int) -> Exception | None:
        """What is wrong with it, as the answer to that many crops; None if nothing is."""
        return self.error or _fault(self.rows_ND, crops)


def _fault(rows_ND: Rows, crops: int) -> Exception | None:
    # Not even an array, perhaps: an exception here, on the event loop, would leave all callers of the batch waiting.
    if not isinstance(rows_ND, np.ndarray) or rows_ND.dtype.kind != "f" or rows_ND.ndim != 2 or len(rows_ND) != crops:
        return ValueError("not a row of numbers for each crop")
    return None if np.isfinite(rows_ND).all() else ArithmeticError("a row is not a number")


class _Running(NamedTuple):
    device: str
    began: float


class WorkerThreads:
    """Supervised threads behind one queue.

    Args:
        count: How many.
        clock: Seconds from a monotonic clock.
        hang_seconds: A batch that runs for longer will not come back.

    Attributes:
        on_death: Called on a thread as it ends without having been asked to.
    """

    def __init__(
        self, count: int = 1, *, clock: Callable[[], float] = time.monotonic, hang_seconds: float = 120.0
    ) -> None:
        self.on_death: Callable[[], object] = lambda: None
        self._clock = clock
        self._hang_seconds = hang_seconds
        self._calls: queue.SimpleQueue[tuple[Callable[[int], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        # What each lane runs; each entry is written by its own thread.
        self._running: list[_Running | None] = []
        self.open(count)

    def __len__(self) -> int:
        return len(self._threads)

    def open(self, count: int) -> None:
        """Have at least that many threads."""
        for lane in range(len(self), count):
            self._running.append(None)
            thread = threading.Thread(target=self._main, args=(lane,), name=f"lane-{lane}", daemon=True)
            thread.start()
            self._threads.append(thread)

    @property
    def alive(self) -> bool:
        """Whether all threads still run calls."""
        return all(thread.is_alive() for thread in self._threads)

    @property
    def hanging(self) -> list[str]:
        """Devices of the threads whose batch hangs."""
        now = self._clock()
        return [one.device for one in self._running if one is not None and now - one.began > self._hang_seconds]

    def run(self, call: Callable[[int], T]) -> "Future[T]":
        """Queue a call, which gets the number of its lane. Callbacks of the future run on the lane's thread."""
        future: Future[T] = Future()
        self._calls.put((call, future))
        return future

    def compute(self, replicas: Sequence[Engine], parts: list[Items]) -> "Future[BatchResult]":
        """Queue a batch; what the engine raises is part of the result.

        Args:
            replicas: An engine for each lane.
            parts: The work items of the batch.
        """
        return self.run(partial(self._compute, replicas, parts))

    def close(self) -> None:
        """Let the calls that are queued finish, then end the threads; one that hangs is left behind."""
        for _ in self._threads:
            self._calls.put(None)
        latest = time.monotonic() + CLOSE_SECONDS
        for thread in self._threads:
            thread.join(max(latest - time.monotonic(), 0))

    def _compute(self, replicas: Sequence[Engine], parts: list[Items], lane: int) -> BatchResult:
        engine, started = replicas[lane], self._clock()
        self._running[lane] = _Running(engine.device, started)
        # A batch that fails has had the device too: its time is told as well.
        error: Exception | None = None
        rows_ND: Rows = np.empty((0, 0), np.float32)
        try:
            rows_ND = engine.run(parts)
        except Exception as caught:
            log.exception("a batch failed")
            # The traceback's frames hold the batch's memory on the device, which the retry will need.
            error = caught.with_traceback(None)
        finally:
            self._running[lane] = None
        return BatchResult(rows_ND, error, started, self._clock() - started, engine.device)

    def _main(self, lane: int) -> None:
        asked_to = False
        try:
            while (queued := self._calls.get()) is not None:
                call, future = queued
                if future.set_running_or_notify_cancel():
                    try:
                        result = call(lane)
                    except Exception as error:
                        log.exception("a call on the device failed")
                        future.set_exception(error.with_traceback(None))
                    else:
                        future.set_result(result)
                        del result
                del queued, call, future
            asked_to = True
        finally:
            if not asked_to:
                self.on_death()
