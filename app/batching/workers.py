"""The worker threads of the devices: they take calls from one queue, run batches, and are watched for hangs.

Each thread is a lane: it has a number, and its own engine replica of every model. The thread that is free first takes
the next call. An exception in a call is part of its result. If a thread ends unexpectedly, ``on_death`` is called, so
that the batcher can fail all waiting entries.
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

from app.batching.submission import Engine, Items, Rows

log = logging.getLogger("smart_iqa.batcher")

CLOSE_SECONDS = 10.0
T = TypeVar("T")


class BatchResult(NamedTuple):
    """The outcome of a batch.

    Attributes:
        rows_ND: Rows from the engine; empty after an error.
        error: Exception from the engine; None if it succeeded.
        started: When the batch began, on the clock of the worker threads.
        seconds: Device time.
        device: Name of the device.
    """

    rows_ND: Rows
    error: Exception | None
    started: float
    seconds: float
    device: str

    def fault(self, crops: int) -> Exception | None:
        """The engine's exception, or the defect of its rows for that many crops; None if they are valid."""
        return self.error or _fault(self.rows_ND, crops)


def _fault(rows_ND: Rows, crops: int) -> Exception | None:
    # Checks even that it is an array: an exception here, on the event loop, would leave the batch's callers waiting.
    if not isinstance(rows_ND, np.ndarray) or rows_ND.dtype.kind != "f" or rows_ND.ndim != 2 or len(rows_ND) != crops:
        return ValueError("not a row of numbers for each crop")
    return None if np.isfinite(rows_ND).all() else ArithmeticError("a row is not a number")


class _Running(NamedTuple):
    device: str
    began: float


class WorkerThreads:
    """Worker threads that take calls from one queue.

    Args:
        count: Number of threads.
        clock: Returns seconds of a monotonic clock.
        hang_seconds: A batch that runs for longer counts as hanging.

    Attributes:
        on_death: Called on a thread that ends without ``close``.
    """

    def __init__(
        self, count: int = 1, *, clock: Callable[[], float] = time.monotonic, hang_seconds: float = 120.0
    ) -> None:
        self.on_death: Callable[[], object] = lambda: None
        self._clock = clock
        self._hang_seconds = hang_seconds
        self._calls: queue.SimpleQueue[tuple[Callable[[int], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        # The batch that each lane runs; only the lane's own thread writes its entry.
        self._running: list[_Running | None] = []
        self.open(count)

    def __len__(self) -> int:
        return len(self._threads)

    def open(self, count: int) -> None:
        """Start threads until there are that many."""
        for lane in range(len(self), count):
            self._running.append(None)
            thread = threading.Thread(target=self._main, args=(lane,), name=f"lane-{lane}", daemon=True)
            thread.start()
            self._threads.append(thread)

    @property
    def alive(self) -> bool:
        """Whether all threads are running."""
        return all(thread.is_alive() for thread in self._threads)

    @property
    def hanging(self) -> list[str]:
        """Devices of the threads whose batch hangs."""
        now = self._clock()
        return [run.device for run in self._running if run is not None and now - run.began > self._hang_seconds]

    def run(self, call: Callable[[int], T]) -> "Future[T]":
        """Queue a call; its argument is the number of its lane. Callbacks of the future run on the lane's thread."""
        future: Future[T] = Future()
        self._calls.put((call, future))
        return future

    def compute(self, replicas: Sequence[Engine], parts: list[Items]) -> "Future[BatchResult]":
        """Queue a batch; an exception of the engine is part of the result.

        Args:
            replicas: An engine for each lane.
            parts: The work items of the batch.
        """
        return self.run(partial(self._compute, replicas, parts))

    def close(self, *, wait: bool = True) -> None:
        """Finish the queued calls, then end the threads. A thread that hangs is left after ``CLOSE_SECONDS``.

        Args:
            wait: Whether to wait for that.
        """
        for _ in self._threads:
            self._calls.put(None)
        latest = time.monotonic() + (CLOSE_SECONDS if wait else 0)
        for thread in self._threads:
            thread.join(max(latest - time.monotonic(), 0))

    def _compute(self, replicas: Sequence[Engine], parts: list[Items], lane: int) -> BatchResult:
        engine, started = replicas[lane], self._clock()
        self._running[lane] = _Running(engine.device, started)
        # A failed batch has used the device too, so its time is measured as well.
        error: Exception | None = None
        rows_ND: Rows = np.empty((0, 0), np.float32)
        try:
            rows_ND = engine.run(parts)
        except Exception as caught:
            log.exception("a batch failed")
            # Without the traceback, whose frames keep the batch's device memory; the retry needs it.
            error = caught.with_traceback(None)
        finally:
            self._running[lane] = None
        return BatchResult(rows_ND, error, started, self._clock() - started, engine.device)

    def _main(self, lane: int) -> None:
        closed = False
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
            closed = True
        finally:
            if not closed:
                self.on_death()
