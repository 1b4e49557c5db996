"""An engine and a clock that tests drive by hand."""

import asyncio
import threading
from collections.abc import Callable, Sequence

import numpy as np

from app.work import Items, Rows


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

    def __init__(self, cap: int = 4) -> None:
        self.cap = cap
        self.batches: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.misbehave: Callable[[list[int]], Rows | None] = lambda _: None

    def run(self, parts: Sequence[Items], /) -> Rows:
        batch = [int(crop[0, 0, 0]) for part in parts for crop in part]
        self.batches.append(batch)
        assert self.gate.wait(10)
        return odd if (odd := self.misbehave(batch)) is not None else rows_of(batch)


async def until(condition: Callable[[], bool]) -> None:
    """Let the event loop turn until something has happened."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)
