"""Events that meet within one turn of the event loop, in an order that the test chooses."""

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest

from app.batcher import Batcher
from app.metrics import Metrics
from app.work import Answer, DeadlineExceeded, Items
from tests.app.fakes import Clock, FakeEngine, SteppedDevice, SteppedLoop, crops

FAR = 1e9
LONG = np.full((1, 2, 1, 3), 7, np.uint8)
"""An item of another shape than ``crops``."""


class Steps:
    """A batcher whose loop turns and whose device computes when a test says so."""

    def __init__(self) -> None:
        self.clock, self.engine, self.device, self.metrics = Clock(), FakeEngine(), SteppedDevice(), Metrics()
        self.loop = SteppedLoop(self.clock)
        self.batcher = self.loop.run_until_complete(self._make())

    async def _make(self) -> Batcher:
        return Batcher(
            {"m": self.engine},
            self.device,
            self.metrics,
            clock=self.clock,
            max_queue_crops=64,
            max_queue_bytes=2**20,
        )

    def submit(self, items: Items, deadline: float = FAR) -> "asyncio.Task[Answer]":
        task = self.loop.create_task(self.batcher.submit("m", items, deadline=deadline))
        task.add_done_callback(lambda task: task.cancelled() or task.exception())
        self.loop.settle()
        return task

    def finish(self) -> None:
        """Let the device compute and tell all that it has."""
        self.loop.settle()
        while self.device.queued or self.device.computed:
            if not self.device.computed:
                self.device.compute()
            self.device.report()
            self.loop.settle()


@pytest.fixture
def steps() -> Iterator[Steps]:
    steps = Steps()
    yield steps
    steps.finish()
    steps.loop.close()


def test_who_leaves_as_a_batch_ends_is_not_in_the_next_one(steps: Steps) -> None:
    held, leaving, staying = steps.submit(crops(200)), steps.submit(crops(1)), steps.submit(crops(2))
    steps.device.compute()
    steps.device.report()
    leaving.cancel()
    steps.finish()
    assert steps.engine.batches == [[200], [2]]
    assert held.done()
    assert staying.done()


def test_a_second_attempt_is_not_made_after_the_deadline(steps: Steps) -> None:
    def fail(_: list[int]) -> None:
        steps.clock.now += 2.0
        raise RuntimeError("slow, and broken")

    steps.engine.misbehave = fail
    late = steps.submit(crops(1), deadline=steps.clock.now + 1.0)
    steps.finish()
    assert isinstance(late.exception(), DeadlineExceeded)
    assert steps.engine.batches == [[1]]


@pytest.mark.parametrize("how", ["leaves", "expires"])
def test_a_full_batch_is_staged_when_the_job_before_it_goes(steps: Steps, how: str) -> None:
    steps.submit(crops(200))
    first = steps.submit(LONG, deadline=steps.clock.now + 1.0)
    steps.submit(crops(1, 2, 3, 4))
    assert len(steps.device.queued) == 1
    if how == "leaves":
        first.cancel()
    else:
        steps.clock.now += 1.0
    steps.loop.settle()
    assert len(steps.device.queued) == 2
    assert steps.batcher._waiting.crops == 0
