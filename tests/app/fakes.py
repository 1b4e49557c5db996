"""An engine and a clock that tests drive by hand."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np

from app.batching.submission import Items, Rows
from app.batching.workers import WorkerThreads
from app.decode.sandbox import Resized


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def crops(*values: int) -> Items:
    """Tiny crops that say which they are."""
    return np.array(values, np.uint8).reshape(-1, 1, 1, 1).repeat(3, axis=3)


def rows_of(batch: Sequence[int]) -> Rows:
    return np.array([[value, value / 100] for value in batch], np.float32)


class FakeEngine:
    """Answers each crop with its own value; records its batches, and can be held back or told to misbehave."""

    def __init__(self, cap: int = 4, device: str = "cpu", columns: int = 2) -> None:
        self.cap = cap
        self.columns = columns
        self.device = device
        self.batches: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.misbehave: Callable[[list[int]], Rows | None] = lambda _: None

    def run(self, parts: Sequence[Items], /) -> Rows:
        batch = [int(crop[0, 0, 0]) for part in parts for crop in part]
        self.batches.append(batch)
        assert self.gate.wait(10)
        if (odd := self.misbehave(batch)) is not None:
            return odd
        return np.pad(rows_of(batch), ((0, 0), (0, self.columns - 2)), constant_values=0.5)


class FakeSandbox:
    """Stands in for decoder processes: a picture's bytes are its name, and it is done when the test says so.

    Attributes:
        pixels: Pixels of pictures by name; 1 for others.
        seconds: What the clock goes on by when a picture is done, by name; 1 for others.
        asked: Names in the order in which their headers were read.
        begun: Names in the order in which they had room.
        finished: Names of those that may be done.
    """

    def __init__(self, resized: Resized, clock: Clock) -> None:
        self.pixels: dict[str, int] = {}
        self.seconds: dict[str, float] = {}
        self.asked: list[str] = []
        self.begun: list[str] = []
        self.finished: set[str] = set()
        self._resized = resized
        self._clock = clock
        self._changed = threading.Condition()
        self._stopped = False

    def finish(self, *names: str) -> None:
        """Have these pictures be done, now or as soon as they begin; all of them if none is named."""
        with self._changed:
            self.finished.update(names)
            self._stopped |= not names
            self._changed.notify_all()

    def decode(self, data: bytes, _: object, admit: Callable[[int], object]) -> Resized:
        name = data.decode()
        self.asked.append(name)
        admit(self.pixels.get(name, 1))
        self.begun.append(name)
        with self._changed:
            assert self._changed.wait_for(lambda: self._stopped or name in self.finished, 10)
            self._clock.now += self.seconds.get(name, 1.0)
        return self._resized

    def stop(self) -> None:
        self.finish()

    def close(self) -> None:
        """Nothing to end."""


async def until(condition: Callable[[], bool]) -> None:
    """Let the event loop turn until something has happened."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


class SteppedLoop(asyncio.SelectorEventLoop):
    """An event loop that goes by a test's clock and turns when the test says so."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        super().__init__()

    def time(self) -> float:
        return self._clock()

    def settle(self) -> None:
        """Turn until whatever can happen now has happened."""
        for _ in range(8):
            self.call_soon(self.stop)
            self.run_forever()


class SteppedWorkers(WorkerThreads):
    """Worker threads without threads: a call runs when the test says so, and its result is told when it says so."""

    alive = True

    def __init__(self, count: int, clock: Clock, hang_seconds: float = 120.0) -> None:
        self.count = 0
        self.queued: deque[tuple[Callable[[int], Any], Future[Any]]] = deque()
        self.computed: list[Callable[[], object]] = []
        super().__init__(count, clock=clock, hang_seconds=hang_seconds)

    def __len__(self) -> int:
        return self.count

    def open(self, count: int) -> None:
        self.count = max(self.count, count)
        self._running += [None] * (self.count - len(self._running))

    def run(self, call: Callable[[int], Any]) -> "Future[Any]":
        future: Future[Any] = Future()
        self.queued.append((call, future))
        return future

    def run_next(self, lane: int = 0) -> None:
        """Run the first call on a lane, and keep its result back."""
        call, future = self.queued.popleft()
        result = call(lane)
        self.computed.append(lambda: future.set_result(result))

    def report(self, place: int = 0) -> None:
        """Tell one of the results that were kept back, the first one if none is named."""
        self.computed.pop(place)()

    def die(self) -> None:
        self.alive = False
        self.queued.clear()
        self.on_death()
