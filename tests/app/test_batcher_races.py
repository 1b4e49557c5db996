"""A batcher step by step: events that meet within one turn of the loop, and what it writes down about each."""

import asyncio
import math
from collections.abc import Iterator

import numpy as np
import pytest

from app.batching.batcher import Batcher
from app.batching.errors import DeadlineExceeded, EngineFailed, QueueFull
from app.batching.submission import Items, Priority, Submission, SubmissionResult
from app.observability.metrics import Metrics
from tests.app.fakes import Clock, FakeEngine, SteppedLoop, SteppedWorkers, crops

FAR = 1e9
LONG = np.full((1, 2, 1, 3), 7, np.uint8)
"""An item of another shape than ``crops``."""


class Steps:
    """A batcher whose loop turns and whose device computes when a test says so."""

    def __init__(self) -> None:
        self.clock, self.engine, self.metrics = Clock(), FakeEngine(), Metrics()
        self.device = SteppedWorkers(1, self.clock)
        self.loop = SteppedLoop(self.clock)
        self.errors: list[str] = []
        self.loop.set_exception_handler(lambda _, context: self.errors.append(str(context)))
        self.batcher = self.loop.run_until_complete(self._make())

    async def _make(self) -> Batcher:
        return Batcher(
            {"m": [self.engine]},
            self.device,
            self.metrics,
            clock=self.clock,
            max_queue_crops=64,
            max_queue_bytes=90,
        )

    def submit(
        self,
        items: Items,
        deadline: float = FAR,
        owner: str = "",
        key: str = "m",
        priority: Priority = Priority.INTERACTIVE,
    ) -> "asyncio.Task[SubmissionResult]":
        entry = self.batcher.submit(Submission(key=key, items=items, deadline=deadline, owner=owner, priority=priority))
        task = self.loop.create_task(entry)
        task.add_done_callback(lambda task: task.cancelled() or task.exception())
        self.loop.settle()
        return task

    def takes(self, seconds: float, error: Exception | None = None) -> None:
        """Say how long a batch takes from now on, and whether it fails."""

        def spend(_: list[int]) -> None:
            self.clock.now += seconds
            if error is not None:
                raise error

        self.engine.misbehave = spend

    def value(self, name: str, **labels: str) -> float:
        return self.metrics._registry.get_sample_value(f"smartiqa_{name}", labels) or 0.0

    def finish(self) -> None:
        """Let the device compute and tell all that it has."""
        self.loop.settle()
        while self.device.queued or self.device.computed:
            if not self.device.computed:
                self.device.run_next()
            self.device.report()
            self.loop.settle()


@pytest.fixture
def steps() -> Iterator[Steps]:
    steps = Steps()
    yield steps
    steps.finish()
    steps.loop.close()
    assert not steps.errors


def test_who_leaves_as_a_batch_ends_is_not_in_the_next_one(steps: Steps) -> None:
    held, leaving, staying = steps.submit(crops(200)), steps.submit(crops(1)), steps.submit(crops(2))
    steps.device.run_next()
    steps.device.report()
    leaving.cancel()
    steps.finish()
    assert steps.engine.batches == [[200], [2]]
    assert leaving.cancelled()
    assert held.done()
    assert staying.done()


def test_a_second_attempt_is_not_made_after_the_deadline(steps: Steps) -> None:
    steps.takes(2.0, RuntimeError("slow, and broken"))
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
    assert steps.batcher._queue.crops == 0


def test_those_behind_one_who_has_left_get_their_second_attempt(steps: Steps) -> None:
    steps.submit(crops(200))
    leaving, staying = steps.submit(crops(1, 2)), steps.submit(crops(3, 4))
    steps.takes(0.0, RuntimeError("broken"))
    steps.device.run_next()
    leaving.cancel()
    steps.device.run_next()
    steps.takes(0.0)
    steps.finish()
    assert steps.engine.batches == [[200], [1, 2, 3, 4], [200], [3, 4]]
    assert staying.result().rows_ND[:, 0].tolist() == [3, 4]


def test_memory_is_bounded_to_the_byte(steps: Steps) -> None:
    steps.submit(crops(200))
    steps.submit(crops(1, 2, 3))
    assert steps.value("queue_bytes") == 9
    steps.batcher.check(1, 81)
    with pytest.raises(QueueFull):
        steps.batcher.check(1, 82)
    assert isinstance(steps.submit(np.ones((1, 7, 4, 3), np.uint8)).exception(), QueueFull)
    steps.submit(np.ones((1, 9, 3, 3), np.uint8))
    assert steps.value("queue_bytes") == 90
    steps.batcher.check(1, 0)


def test_a_model_that_comes_back_while_it_leaves_stays(steps: Steps) -> None:
    steps.submit(crops(200))
    steps.batcher.drop_engine("m")
    again = FakeEngine()
    steps.batcher.put_engine("m", [again])
    steps.finish()
    steps.submit(crops(1))
    steps.finish()
    assert again.batches == [[1]]


def test_what_is_written_down(steps: Steps) -> None:
    steps.takes(2.0)
    first, second = steps.submit(crops(*range(7))), steps.submit(crops(9))
    steps.finish()
    assert steps.engine.batches == [[0, 1, 2, 3], [4, 5, 6, 9]]
    assert (first.result().queue_seconds, first.result().compute_seconds) == (0.0, 4.0)
    assert (second.result().queue_seconds, second.result().compute_seconds) == (2.0, 2.0)
    steps.submit(crops(1))
    steps.finish()
    assert steps.value("batch_fill_ratio_sum") == 2.25
    assert steps.value("queue_seconds_sum") == 2.0
    assert steps.value("compute_seconds_sum") == 6.0


@pytest.mark.parametrize("kind", ["RuntimeError", "ValueError", "ArithmeticError"])
def test_failures_are_told_by_their_kind(steps: Steps, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    if kind == "RuntimeError":
        steps.takes(0.0, RuntimeError("broken"))
    else:
        rows = [] if kind == "ValueError" else [[math.nan]]
        steps.engine.misbehave = lambda _: np.array(rows, np.float32)
    failed = steps.submit(crops(1))
    steps.finish()
    assert isinstance(failed.exception(), EngineFailed)
    assert steps.value("batch_failures_total", kind=kind) == 2
    assert steps.value("batch_flush_total", reason="retry") == 1
    assert caplog.messages == (["a batch failed"] * 2 if kind == "RuntimeError" else [])


def used(steps: Steps) -> dict[str, float]:
    """Seconds that each owner has had the device, by the books."""
    flows = steps.batcher._queue._classes[Priority.INTERACTIVE].flows
    return {owner: flow.used for (owner, _), flow in flows.items()}


@pytest.mark.parametrize(("error", "books"), [(None, (2.0, 1.0)), (RuntimeError("broken"), (5.0, 4.0))])
def test_owners_are_charged_for_their_part_of_what_a_batch_took(
    steps: Steps, error: Exception | None, books: tuple[float, float]
) -> None:
    # By the first batch a crop takes nine seconds; what is expected of the next one is far too much.
    steps.takes(9.0)
    steps.submit(crops(200))
    steps.submit(crops(1, 2), owner="a")
    steps.submit(crops(3), owner="b")
    steps.device.run_next()
    # Together they take three seconds; where that fails, another three each by themselves.
    steps.takes(3.0, error)
    steps.finish()
    assert used(steps) == {"": 9.0, "a": books[0], "b": books[1]}


def test_what_others_have_used_is_kept_when_a_model_goes(steps: Steps) -> None:
    steps.batcher.put_engine("other", [FakeEngine()])
    steps.takes(4.0)
    steps.submit(crops(1), owner="a")
    steps.submit(crops(2), owner="b", key="other")
    steps.finish()
    for _ in range(2):
        steps.batcher.drop_engine("other")
    assert used(steps) == {"a": 4.0}
    assert steps.batcher._queue._seconds_per_crop == {"m": 4.0}


@pytest.mark.parametrize(
    ("priority", "turns"),
    [(Priority.INTERACTIVE, [2, 1, 2, 1]), (Priority.BULK, [1, 2, 1, 2])],
    ids=["owner", "class"],
)
def test_who_comes_back_has_saved_up_no_time(steps: Steps, priority: Priority, turns: list[int]) -> None:
    steps.takes(1.0)
    for _ in range(50):
        steps.submit(crops(1, 1, 1, 1), owner="a")
        steps.finish()
    for _ in range(2):
        steps.submit(crops(1, 1, 1, 1), owner="a")
    # Each a single submission, so that nothing but its coming can set its books right.
    steps.submit(crops(*[2] * 8), owner="b", priority=priority)
    steps.submit(crops(*[1] * 8), owner="a")
    steps.finish()
    assert steps.engine.batches[52:] == [[turn] * 4 for turn in turns]


def test_a_batch_that_goes_well_makes_up_for_all_failures(steps: Steps) -> None:
    for _ in range(2):
        for error in (RuntimeError("broken"), RuntimeError("broken"), None):
            assert steps.batcher.healthy
            steps.takes(0.0, error)
            steps.submit(crops(1))
            steps.finish()
    assert steps.batcher.healthy


def test_a_model_that_leaves_makes_its_second_attempt_first(steps: Steps) -> None:
    steps.takes(0.0, RuntimeError("broken"))
    asked = steps.submit(crops(1))
    steps.batcher.drop_engine("m")
    steps.device.run_next()
    steps.takes(0.0)
    steps.finish()
    assert asked.result().rows_ND[0, 0] == 1
    assert not steps.batcher._engines


def test_no_time_left_is_too_late_on_a_free_device_and_on_a_full_one(steps: Steps) -> None:
    assert isinstance(steps.submit(crops(1), deadline=steps.clock.now).exception(), DeadlineExceeded)
    assert not steps.device.queued
    for _ in range(2):
        steps.submit(crops(1, 2, 3, 4))
    assert isinstance(steps.submit(crops(1), deadline=steps.clock.now).exception(), DeadlineExceeded)


def test_the_expected_time_follows_what_crops_take(steps: Steps) -> None:
    for seconds in (1.0, 6.0):
        steps.takes(seconds)
        steps.submit(crops(1))
        steps.finish()
    steps.submit(crops(1))
    steps.submit(crops(1, 2, 3))
    assert steps.value("queue_drain_seconds") == pytest.approx(3 * (0.8 * 1.0 + 0.2 * 6.0))
