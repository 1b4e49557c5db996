"""Several lanes behind one queue: work goes to the first that is free, and no answer tells which one it was."""

import asyncio
import threading
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from app.batching.batcher import Batcher
from app.batching.errors import DeadlineExceeded, DeviceLost
from app.batching.submission import Items, Submission, SubmissionResult
from app.batching.workers import WorkerThreads
from app.observability.metrics import Metrics
from tests.app.fakes import Clock, FakeEngine, SteppedLoop, SteppedWorkers, crops, rows_of, until

FAR = 1e9


class Steps:
    """A batcher over stepped lanes."""

    def __init__(self, lanes: int) -> None:
        self.clock, self.metrics = Clock(), Metrics()
        self.lanes = SteppedWorkers(lanes, self.clock)
        self.engines = [FakeEngine(device=f"cuda:{lane // 2}") for lane in range(lanes)]
        self.loop = SteppedLoop(self.clock)
        self.batcher = self.loop.run_until_complete(self._make())

    async def _make(self) -> Batcher:
        return Batcher(
            {"m": self.engines},
            self.lanes,
            self.metrics,
            clock=self.clock,
            max_queue_crops=64,
            max_queue_bytes=2**20,
        )

    def submit(self, items: Items, deadline: float = FAR, key: str = "m") -> "asyncio.Task[SubmissionResult]":
        task = self.loop.create_task(self.batcher.submit(Submission(key=key, items=items, deadline=deadline)))
        self.loop.settle()
        return task

    def finish(self, lane: int) -> None:
        """Let one lane have the next batch, and tell what became of it."""
        self.lanes.run_next(lane)
        self.lanes.report()
        self.loop.settle()

    def value(self, name: str, **labels: str) -> float:
        return self.metrics._registry.get_sample_value(f"smartiqa_{name}", labels) or 0.0


@pytest.fixture
def steps() -> Iterator[Steps]:
    steps = Steps(2)
    yield steps
    while steps.lanes.queued:
        steps.finish(0)
    steps.loop.close()


def test_work_goes_to_the_first_free_lane(steps: Steps) -> None:
    tasks = [steps.submit(crops(value)) for value in (1, 2)]
    assert len(steps.lanes.queued) == 2, "both lanes have work"
    tasks += [steps.submit(crops(3)), steps.submit(crops(4, 5))]
    assert len(steps.lanes.queued) == 2, "a part batch waits while all lanes are busy"
    steps.finish(1)
    assert len(steps.lanes.queued) == 2, "what waited goes out as soon as one is free"
    steps.finish(1)
    steps.finish(0)
    assert [engine.batches for engine in steps.engines] == [[[3, 4, 5]], [[1], [2]]]
    assert [task.result().rows_ND.tolist() for task in tasks] == [
        rows_of(part).tolist() for part in ([1], [2], [3], [4, 5])
    ]
    assert steps.value("device_batches_total", device="cuda:0") == 3


@pytest.mark.parametrize("lanes", [1, 2, 3])
def test_one_full_batch_is_staged_beyond_the_lanes(lanes: int) -> None:
    steps = Steps(lanes)
    task = steps.submit(crops(*range(40)))
    assert len(steps.lanes.queued) == lanes + 1
    assert steps.value("queue_crops") == 40 - 4 * (lanes + 1)
    while steps.lanes.queued:
        steps.finish(0)
    assert np.array_equal(task.result().rows_ND, rows_of(range(40)))
    steps.loop.close()


@pytest.mark.parametrize("order", [(0, 0, 0), (2, 1, 0), (1, 1, 0)])
def test_parts_of_a_request_may_come_back_in_any_order(order: Sequence[int]) -> None:
    steps = Steps(3)
    task = steps.submit(crops(*range(10)))
    for lane in range(3):
        steps.lanes.run_next(lane)
    for place in order:
        steps.lanes.report(place)
    steps.loop.settle()
    assert np.array_equal(task.result().rows_ND, rows_of(range(10)))
    steps.loop.close()


def test_a_second_attempt_may_go_to_another_lane(steps: Steps) -> None:
    def fail(_: list[int]) -> None:
        raise RuntimeError("this lane is out of order")

    steps.engines[0].misbehave = fail
    task = steps.submit(crops(1, 2))
    steps.finish(0)
    steps.finish(1)
    assert np.array_equal(task.result().rows_ND, rows_of([1, 2]))
    assert steps.batcher.healthy


def test_batches_fit_the_lane_with_the_least_memory(steps: Steps) -> None:
    steps.engines[1].cap = 2
    steps.submit(crops(*range(5)))
    steps.finish(0)
    steps.finish(0)
    steps.finish(0)
    assert steps.engines[0].batches == [[0, 1], [2, 3], [4]]


def test_the_expected_wait_is_shared_by_the_lanes(steps: Steps) -> None:
    steps.engines[0].misbehave = lambda _: setattr(steps.clock, "now", steps.clock.now + 8.0)
    steps.submit(crops(1))
    steps.finish(0)
    for _ in range(4):
        steps.submit(crops(1, 2, 3, 4))
    assert steps.value("queue_crops") == 4
    assert steps.value("queue_drain_seconds") == 4 * 8.0 / 2


def test_a_deadline_passes_while_all_lanes_are_busy(steps: Steps) -> None:
    for _ in range(2):
        steps.submit(crops(1))
    late = steps.submit(crops(2), deadline=steps.clock.now + 1.0)
    steps.clock.now += 1.0
    steps.loop.settle()
    assert isinstance(late.exception(), DeadlineExceeded)
    steps.finish(0)
    steps.finish(1)
    assert not steps.lanes.queued


def test_replicas_leave_together_when_no_lane_needs_one(steps: Steps) -> None:
    asked = [steps.submit(crops(value)) for value in (1, 2)]
    steps.batcher.put_engine("new", [FakeEngine(), FakeEngine()])
    steps.batcher.drop_engine("m")
    steps.finish(0)
    assert set(steps.batcher._engines) == {"m", "new"}
    steps.finish(1)
    assert set(steps.batcher._engines) == {"new"}
    assert all(task.done() for task in asked)


def test_a_key_has_an_engine_for_each_lane(steps: Steps) -> None:
    with pytest.raises(AssertionError, match="an engine for each lane"):
        steps.batcher.put_engine("one", [FakeEngine()])


class Bench:
    """A batcher with two real lanes, whose engines are held back one by one."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.lanes = WorkerThreads(clock=self.clock)
        self.engines = [FakeEngine(device="cuda:0"), FakeEngine(device="cuda:1")]
        self.batcher = Batcher({}, self.lanes, Metrics(), clock=self.clock, max_queue_crops=64, max_queue_bytes=2**20)
        self.batcher.put_engine("m", self.engines)

    def submit(self, *values: int) -> "asyncio.Task[SubmissionResult]":
        return asyncio.ensure_future(self.batcher.submit(Submission(key="m", items=crops(*values), deadline=FAR)))

    async def hold(self, value: int) -> tuple["asyncio.Task[SubmissionResult]", FakeEngine]:
        """Keep a lane busy; the request, and the engine that has it."""
        for engine in self.engines:
            engine.gate.clear()
        task = self.submit(value)
        await until(lambda: any([value] in engine.batches for engine in self.engines))
        return task, next(engine for engine in self.engines if [value] in engine.batches)


def test_others_are_served_while_one_lane_is_busy() -> None:
    async def main() -> None:
        bench = Bench()
        held, busy = await bench.hold(200)
        free = next(engine for engine in bench.engines if engine is not busy)
        free.gate.set()
        for value in range(5):
            assert np.array_equal((await bench.submit(value)).rows_ND, rows_of([value]))
        assert busy.batches == [[200]]
        busy.gate.set()
        await held
        bench.lanes.close()
        assert not bench.lanes.alive

    asyncio.run(main())


def test_one_lane_that_hangs_is_named_and_is_the_end() -> None:
    async def main() -> None:
        bench = Bench()
        held, busy = await bench.hold(200)
        bench.clock.now += 100
        other = bench.submit(1)
        await until(lambda: sum(len(engine.batches) for engine in bench.engines) == 2)
        assert bench.batcher.hanging == []
        bench.clock.now += 21
        assert bench.batcher.hanging == [busy.device]
        assert not bench.batcher.alive
        bench.batcher.give_up()
        for result in await asyncio.gather(held, other, return_exceptions=True):
            assert isinstance(result, DeviceLost)
        for engine in bench.engines:
            engine.gate.set()
        bench.lanes.close()

    asyncio.run(main())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_one_lane_that_dies_is_the_end() -> None:
    async def main() -> None:
        bench = Bench()
        held, busy = await bench.hold(200)
        other = bench.submit(1)
        waiting = bench.submit(2)
        await until(lambda: sum(len(engine.batches) for engine in bench.engines) == 2)

        def end(_: list[int]) -> None:
            raise SystemExit

        busy.misbehave = end
        busy.gate.set()
        for result in await asyncio.gather(held, other, waiting, return_exceptions=True):
            assert isinstance(result, DeviceLost)
        with pytest.raises(DeviceLost):
            await bench.submit(3)
        # What the other lane was at comes back to nobody.
        for engine in bench.engines:
            engine.gate.set()
        bench.lanes.close()

    asyncio.run(main())


def test_lanes_are_opened_and_told_apart() -> None:
    lanes, met, barrier = WorkerThreads(), set(), threading.Barrier(3)

    def meet(lane: int) -> None:
        barrier.wait(10)
        met.add(lane)

    lanes.open(3)
    lanes.open(2)
    assert len(lanes) == 3
    for _ in range(3):
        lanes.run(meet)
    lanes.close()
    assert met == {0, 1, 2}
