import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.batching.batcher import RECOVERY_SECONDS, Batcher
from app.batching.errors import DeadlineExceeded, DeviceLost, EngineFailed, QueueFull
from app.batching.submission import Items, Priority, Rows, Submission, SubmissionResult
from app.batching.workers import WorkerThreads, _fault
from app.observability.metrics import Metrics
from tests.app.fakes import Clock, FakeEngine, crops, rows_of, until

FAR = 1e9
LONG = np.full((1, 2, 1, 3), 7, np.uint8)
"""An item of another shape than ``crops``."""


class Bench:
    """A batcher with one fake engine, on the running loop."""

    def __init__(self, cap: int = 4, max_queue_crops: int = 64, max_queue_bytes: int = 2**20) -> None:
        self.engine = FakeEngine(cap)
        self.clock = Clock()
        self.metrics = Metrics()
        self.device = WorkerThreads(clock=self.clock)
        self.batcher = Batcher(
            {"m": [self.engine]},
            self.device,
            self.metrics,
            clock=self.clock,
            max_queue_crops=max_queue_crops,
            max_queue_bytes=max_queue_bytes,
        )

    def submit(
        self, *values: int, deadline: float = FAR, priority: Priority = Priority.INTERACTIVE
    ) -> "asyncio.Task[SubmissionResult]":
        return asyncio.ensure_future(
            self.batcher.submit(Submission(key="m", items=crops(*values), deadline=deadline, priority=priority))
        )

    async def hold(self) -> "asyncio.Task[SubmissionResult]":
        """Keep the device busy with a crop of its own until the gate opens."""
        self.engine.gate.clear()
        task = self.submit(200)
        await until(lambda: self.engine.batches == [[200]])
        return task

    def value(self, name: str, **labels: str) -> float:
        return self.metrics._registry.get_sample_value(f"smartiqa_{name}", labels) or 0.0


def on_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run an async test, and find out that it leaves no work behind."""

    def run(**arguments: Any) -> None:
        async def main() -> None:
            bench = Bench(**arguments)
            await test(bench)
            bench.engine.gate.set()
            await until(lambda: not bench.batcher._on_device or not bench.batcher.alive)
            assert bench.batcher._queue.crops == bench.batcher._queue.bytes == 0
            assert bench.value("queue_crops") == 0
            bench.device.close()

        asyncio.run(main())

    return lambda: run()


@on_loop
async def test_a_lone_request_goes_at_once(bench: Bench) -> None:
    answer = await bench.submit(1, 2, 3)
    assert np.array_equal(answer.rows_ND, rows_of([1, 2, 3]))
    assert bench.engine.batches == [[1, 2, 3]]
    assert bench.value("batch_flush_total", reason="idle") == 1


@on_loop
async def test_requests_that_wait_share_a_batch(bench: Bench) -> None:
    held = await bench.hold()
    tasks = [bench.submit(1), bench.submit(2, 3), bench.submit(4)]
    await until(lambda: len(bench.batcher._on_device) == 2)
    bench.engine.gate.set()
    answers = await asyncio.gather(*tasks)
    assert bench.engine.batches == [[200], [1, 2, 3, 4]]
    assert [answer.rows_ND.tolist() for answer in answers] == [rows_of(part).tolist() for part in ([1], [2, 3], [4])]
    assert bench.value("batch_flush_total", reason="full") == 1
    await held


@on_loop
async def test_a_later_round_keeps_its_requests_place(bench: Bench) -> None:
    held = await bench.hold()
    tasks = [bench.submit(1, 2, 3, 4), bench.submit(5, 6, 7, 8)]
    await asyncio.sleep(0)
    earlier = Submission(key="m", items=crops(9, 10, 11, 12), deadline=FAR, since=bench.clock.now - 1)
    tasks.append(asyncio.ensure_future(bench.batcher.submit(earlier)))
    await asyncio.sleep(0)
    bench.engine.gate.set()
    await asyncio.gather(held, *tasks)
    # The first full batch was staged before it came.
    assert bench.engine.batches == [[200], [1, 2, 3, 4], [9, 10, 11, 12], [5, 6, 7, 8]]


@on_loop
async def test_device_time_is_added_up(bench: Bench) -> None:
    run = bench.engine.run

    def run_for_two_seconds(parts: Sequence[Items]) -> Rows:
        bench.clock.now += 2
        return run(parts)

    bench.engine.run = run_for_two_seconds  # type: ignore[method-assign]
    assert bench.batcher.computed_seconds == 0
    for count in (1, 2):
        await bench.submit(count)
        assert bench.batcher.computed_seconds == 2 * count


@on_loop
async def test_a_part_batch_stays_open_while_the_device_is_busy(bench: Bench) -> None:
    held = await bench.hold()
    first = bench.submit(1)
    await asyncio.sleep(0)
    assert len(bench.batcher._on_device) == 1
    late = bench.submit(2)
    await asyncio.sleep(0)
    bench.engine.gate.set()
    await asyncio.gather(held, first, late)
    assert bench.engine.batches == [[200], [1, 2]]


@on_loop
async def test_a_request_larger_than_a_batch_is_split_and_joined(bench: Bench) -> None:
    answer = await bench.submit(*range(10))
    assert np.array_equal(answer.rows_ND, rows_of(range(10)))
    assert [len(batch) for batch in bench.engine.batches] == [4, 4, 2]


@on_loop
async def test_first_come_first_served_and_bulk_last(bench: Bench) -> None:
    held = await bench.hold()
    tasks = [
        bench.submit(*range(50, 54)),
        bench.submit(1, 2, 3, priority=Priority.BULK),
        bench.submit(4, 5, 6),
        bench.submit(7, 8),
    ]
    await asyncio.sleep(0)
    bench.engine.gate.set()
    await asyncio.gather(held, *tasks)
    assert bench.engine.batches == [[200], [50, 51, 52, 53], [4, 5, 6, 7], [8, 1, 2, 3]]


@on_loop
async def test_never_more_than_two_batches_are_handed_over(bench: Bench) -> None:
    held = await bench.hold()
    tasks = [bench.submit(*range(4)) for _ in range(5)]
    await asyncio.sleep(0)
    assert len(bench.batcher._on_device) == 2
    assert bench.value("queue_crops") == 16
    bench.engine.gate.set()
    await asyncio.gather(held, *tasks)


@on_loop
async def test_times_are_told(bench: Bench) -> None:
    bench.engine.gate.clear()
    held = bench.submit(200)
    await until(lambda: bench.engine.batches == [[200]])
    waiting = bench.submit(1)
    await asyncio.sleep(0)
    bench.clock.now += 2.0
    bench.engine.gate.set()
    answer = await held
    assert answer.queue_seconds == 0
    assert answer.compute_seconds == 2.0
    assert (await waiting).queue_seconds == 2.0


@on_loop
async def test_the_surplus_and_only_the_surplus_is_refused(bench: Bench) -> None:
    held = await bench.hold()
    staged = bench.submit(*range(4))
    await asyncio.sleep(0)
    tasks = [bench.submit(1) for _ in range(66)]
    await until(lambda: sum(task.done() for task in tasks) == 2)
    refused = [task for task in tasks if task.done()]
    assert refused == tasks[-2:]
    for task in refused:
        with pytest.raises(QueueFull) as caught:
            task.result()
        assert caught.value.retry_after == 1
    bench.engine.gate.set()
    await asyncio.gather(held, staged, *tasks[:-2])


@on_loop
async def test_retry_after_follows_the_measured_rate(bench: Bench) -> None:
    bench.engine.gate.clear()
    held = bench.submit(0, 1)
    await until(lambda: len(bench.engine.batches) == 1)
    bench.clock.now += 1.0
    bench.engine.gate.set()
    await held  # two crops in a second
    held = await hold_again(bench)
    staged = bench.submit(*range(4))
    waiting = bench.submit(*range(10))
    await asyncio.sleep(0)
    with pytest.raises(QueueFull) as caught:
        bench.batcher.check(60, 0)
    assert caught.value.retry_after == 5
    assert bench.value("queue_drain_seconds") == 5.0
    rest = [bench.submit(*range(50))]
    await asyncio.sleep(0)
    with pytest.raises(QueueFull) as caught:
        bench.batcher.check(60, 0)
    assert caught.value.retry_after == 30
    bench.engine.gate.set()
    await asyncio.gather(held, staged, waiting, *rest)


def test_memory_of_what_waits_is_bounded() -> None:
    async def main() -> None:
        bench = Bench(max_queue_bytes=24)
        held = await bench.hold()
        tasks = [bench.submit(1, 2), bench.submit(3, 4, 5)]
        long = asyncio.ensure_future(
            bench.batcher.submit(Submission(key="m", items=np.ones((1, 3, 2, 3), np.uint8), deadline=FAR))
        )
        await asyncio.sleep(0)
        # Of five crops of 3 bytes four are staged; the item of 18 bytes fits beside the fifth, a second one does not.
        assert bench.value("queue_bytes") == 3 + 18
        bench.batcher.check(1, 3)
        with pytest.raises(QueueFull):
            await bench.batcher.submit(Submission(key="m", items=np.ones((1, 3, 2, 3), np.uint8), deadline=FAR))
        bench.engine.gate.set()
        await asyncio.gather(held, *tasks, long)
        assert bench.value("queue_bytes") == 0
        bench.device.close()

    asyncio.run(main())


async def hold_again(bench: Bench) -> "asyncio.Task[SubmissionResult]":
    bench.engine.gate.clear()
    before = len(bench.engine.batches)
    task = bench.submit(200)
    await until(lambda: len(bench.engine.batches) == before + 1)
    return task


@on_loop
async def test_a_client_that_leaves_takes_its_crops_along(bench: Bench) -> None:
    held = await bench.hold()
    leaving, staying = bench.submit(1, 2), bench.submit(4)
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.wait([leaving])
    bench.engine.gate.set()
    await asyncio.gather(held, staying)
    assert bench.engine.batches == [[200], [4]]
    assert bench.value("dropped_total", reason="disconnect") == 1


@on_loop
async def test_leaving_while_on_the_device_harms_nobody(bench: Bench) -> None:
    held = await bench.hold()
    leaving, staying = bench.submit(1, 2), bench.submit(3, 4)
    await until(lambda: len(bench.batcher._on_device) == 2)
    leaving.cancel()
    held.cancel()
    await asyncio.wait([leaving, held])
    bench.engine.gate.set()
    assert np.array_equal((await staying).rows_ND, rows_of([3, 4]))
    assert np.array_equal((await bench.submit(5)).rows_ND, rows_of([5]))


@on_loop
async def test_half_of_a_split_request_is_dropped_with_its_client(bench: Bench) -> None:
    held = await bench.hold()
    leaving = bench.submit(*range(10))
    await until(lambda: len(bench.batcher._on_device) == 2)
    leaving.cancel()
    await asyncio.wait([leaving])
    bench.engine.gate.set()
    await held
    await bench.submit(50)
    assert bench.engine.batches == [[200], [0, 1, 2, 3], [50]]


@on_loop
async def test_expired_work_never_reaches_the_device(bench: Bench) -> None:
    held = await bench.hold()
    late = bench.submit(1, deadline=bench.clock.now + 60)
    patient = bench.submit(2, deadline=bench.clock.now + 600)
    await asyncio.sleep(0)
    bench.clock.now += 61
    bench.engine.gate.set()
    with pytest.raises(DeadlineExceeded):
        await late
    await asyncio.gather(held, patient)
    assert bench.engine.batches == [[200], [2]]
    assert bench.value("dropped_total", reason="deadline") == 1


@on_loop
async def test_a_deadline_passes_also_while_the_device_hangs(bench: Bench) -> None:
    bench.engine.gate.clear()
    with pytest.raises(DeadlineExceeded):
        await bench.submit(1, deadline=bench.clock.now)


@on_loop
async def test_one_failure_is_forgiven(bench: Bench) -> None:
    failures = iter([RuntimeError("once")])

    def once(_: list[int]) -> None:
        for error in failures:
            raise error

    bench.engine.misbehave = once
    assert np.array_equal((await bench.submit(1, 2)).rows_ND, rows_of([1, 2]))
    assert bench.engine.batches == [[1, 2], [1, 2]]
    assert bench.batcher.healthy


def poisoned(how: str) -> Callable[[list[int]], Rows | None]:
    def run(batch: list[int]) -> Rows | None:
        if 13 not in batch:
            return None
        if how == "raises":
            raise RuntimeError("no thirteens")
        return rows_of(batch)[1:] if how == "too few" else rows_of(batch) * np.float32("nan")

    return run


@pytest.mark.parametrize("how", ["raises", "too few", "not a number"])
def test_a_poisoned_request_fails_alone(how: str) -> None:
    async def main() -> None:
        bench = Bench()
        bench.engine.misbehave = poisoned(how)
        held = await bench.hold()
        good, bad, other = bench.submit(1, 2), bench.submit(13), bench.submit(3)
        await until(lambda: len(bench.batcher._on_device) == 2)
        bench.engine.gate.set()
        assert np.array_equal((await good).rows_ND, rows_of([1, 2]))
        assert np.array_equal((await other).rows_ND, rows_of([3]))
        with pytest.raises(EngineFailed):
            await bad
        assert bench.engine.batches[1:] == [[1, 2, 13, 3], [1, 2], [13], [3]]
        assert bench.batcher.healthy
        assert np.array_equal((await bench.submit(9)).rows_ND, rows_of([9]))
        await held
        bench.device.close()

    asyncio.run(main())


@on_loop
async def test_an_engine_that_always_fails_is_unhealthy_until_it_works(bench: Bench) -> None:
    def fail(_: list[int]) -> None:
        raise RuntimeError("broken")

    bench.engine.misbehave = fail
    for count in range(3):
        assert bench.batcher.healthy, count
        with pytest.raises(EngineFailed):
            await bench.submit(1)
    assert not bench.batcher.healthy
    assert bench.batcher.alive
    # Without traffic nothing could show that it works again, so it gets another try.
    bench.clock.now += RECOVERY_SECONDS + 1
    assert bench.batcher.healthy
    with pytest.raises(EngineFailed):
        await bench.submit(1)
    assert not bench.batcher.healthy
    bench.engine.misbehave = lambda _: None
    await bench.submit(1)
    assert bench.batcher.healthy


@on_loop
async def test_one_large_request_that_fails_counts_once(bench: Bench) -> None:
    bench.engine.misbehave = poisoned("raises")
    with pytest.raises(EngineFailed):
        await bench.submit(*[13] * 12)
    assert bench.batcher.healthy


@on_loop
async def test_a_device_that_hangs_is_not_alive(bench: Bench) -> None:
    held = await bench.hold()
    assert bench.batcher.alive
    bench.clock.now += 121
    assert not bench.batcher.alive
    assert not bench.batcher.healthy
    bench.engine.gate.set()
    await held
    assert bench.batcher.alive


def test_nobody_waits_for_a_device_that_was_given_up() -> None:
    async def main() -> None:
        bench = Bench()
        held = await bench.hold()
        tasks = [held, bench.submit(*range(4)), bench.submit(1)]
        await asyncio.sleep(0)
        bench.batcher.give_up()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(result, DeviceLost)
        assert not bench.batcher.alive
        # Should it come back after all, nobody is there for its rows.
        bench.engine.gate.set()
        await until(lambda: not bench.batcher._on_device)
        with pytest.raises(DeviceLost):
            await bench.submit(2)
        bench.device.close()

    asyncio.run(main())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_nobody_hangs_when_the_device_thread_ends() -> None:
    async def main() -> None:
        bench = Bench()

        def end(_: list[int]) -> None:
            raise SystemExit

        held = await bench.hold()
        tasks = [held, bench.submit(*range(4)), bench.submit(1), bench.submit(2, priority=Priority.BULK)]
        await asyncio.sleep(0)
        bench.engine.misbehave = end
        bench.engine.gate.set()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(result, DeviceLost)
        assert not bench.batcher.alive
        assert not bench.batcher.healthy
        with pytest.raises(DeviceLost):
            await bench.submit(1)
        bench.device._threads[0].join()

    asyncio.run(main())


def test_several_models_share_a_device_but_no_batch() -> None:
    async def main() -> None:
        first, second, device = FakeEngine(), FakeEngine(2), WorkerThreads()
        batcher = Batcher(
            {"a": [first], "b": [second]}, device, Metrics(), clock=Clock(), max_queue_crops=64, max_queue_bytes=2**20
        )
        first.gate.clear()
        held = asyncio.ensure_future(batcher.submit(Submission(key="a", items=crops(200), deadline=FAR)))
        await until(lambda: len(first.batches) == 1)
        tasks = [
            asyncio.ensure_future(batcher.submit(Submission(key=key, items=crops(value), deadline=FAR)))
            for key, value in (("a", 1), ("b", 2), ("a", 3))
        ]
        await asyncio.sleep(0)
        first.gate.set()
        await asyncio.gather(held, *tasks)
        assert first.batches == [[200], [1, 3]]
        assert second.batches == [[2]]
        device.close()

    asyncio.run(main())


submissions = st.lists(
    st.tuples(st.integers(1, 9), st.sampled_from(list(Priority)), st.sampled_from(["stay", "leave", "poison"])),
    min_size=1,
    max_size=20,
)


@settings(max_examples=60, deadline=None)
@given(submissions, st.integers(1, 6))
def test_every_request_is_answered_once_and_rightly(requests: list[tuple[int, Priority, str]], cap: int) -> None:
    async def main() -> None:
        bench = Bench(cap=cap, max_queue_crops=1000)
        bench.engine.misbehave = poisoned("raises")
        held = await bench.hold()
        tasks = []
        for index, (count, priority, fate) in enumerate(requests):
            value = 13 if fate == "poison" else 20 + index
            tasks.append(bench.submit(*[value] * count, priority=priority))
        await asyncio.sleep(0)
        for task, (_, _, fate) in zip(tasks, requests, strict=True):
            if fate == "leave":
                task.cancel()
        bench.engine.gate.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        await held
        for index, ((count, _, fate), result) in enumerate(zip(requests, results, strict=True)):
            if fate == "stay":
                assert isinstance(result, SubmissionResult)
                assert np.array_equal(result.rows_ND, rows_of([20 + index] * count))
            else:
                assert isinstance(result, asyncio.CancelledError if fate == "leave" else EngineFailed)
        assert all(len(batch) <= cap for batch in bench.engine.batches)
        assert bench.batcher._queue.crops == bench.batcher._queue.bytes == 0
        bench.device.close()

    asyncio.run(main())


def test_the_batcher_imports_neither_torch_nor_a_web_framework() -> None:
    check = "import sys, app.batching.batcher; print({'torch', 'fastapi', 'starlette'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"


@on_loop
async def test_items_of_different_shapes_do_not_share_a_batch(bench: Bench) -> None:
    held = await bench.hold()
    longer = asyncio.ensure_future(bench.batcher.submit(Submission(key="m", items=LONG, deadline=FAR)))
    tasks = [bench.submit(1), longer, bench.submit(2)]
    await asyncio.sleep(0)
    bench.engine.gate.set()
    answers = await asyncio.gather(held, *tasks)
    assert bench.engine.batches == [[200], [7], [1, 2]]
    assert [answer.rows_ND[0, 0] for answer in answers] == [200, 1, 7, 2]


@pytest.mark.parametrize(
    "odd",
    [None, "1", 1.0, [[1.0, 2.0]], np.float32(1), np.ones(1, np.float32), np.ones((1, 2), np.int64), rows_of([1, 2])],
    ids=["nothing", "text", "number", "list", "array number", "one axis", "integers", "too many"],
)
def test_what_is_no_row_for_each_crop_is_a_fault(odd: Any) -> None:
    assert isinstance(_fault(odd, 1), ValueError)
    assert _fault(rows_of([1]), 1) is None


@on_loop
async def test_room_that_is_kept_counts_as_taken(bench: Bench) -> None:
    await bench.hold()
    staged = bench.submit(*range(4))
    await until(lambda: len(bench.batcher._on_device) == 2)
    size = crops(1).nbytes
    with bench.batcher.reserve(40, 40 * size) as reservation:
        bench.batcher.check(24, 0)
        with pytest.raises(QueueFull):
            bench.batcher.check(25, 0)
        with pytest.raises(QueueFull), bench.batcher.reserve(25, 0):
            raise AssertionError("there is no room")
        other = bench.submit(*range(24))
        await until(lambda: bench.batcher._queue.crops == 24)
        with pytest.raises(QueueFull):
            await bench.submit(1)
        # What room was kept for finds it, though nobody else would.
        mine = asyncio.ensure_future(
            bench.batcher.submit(Submission(key="m", items=crops(*range(30)), deadline=FAR, reservation=reservation))
        )
        await until(lambda: bench.batcher._queue.crops == 54)
        assert (reservation.crops, reservation.bytes) == (10, 10 * size)
        with pytest.raises(QueueFull):
            await bench.submit(1)
    # What did not come leaves its room to others.
    last = bench.submit(*range(10))
    bench.engine.gate.set()
    for task, count in ((staged, 4), (other, 24), (mine, 30), (last, 10)):
        assert np.array_equal((await task).rows_ND, rows_of(range(count)))


@on_loop
async def test_kept_room_is_bounded_in_bytes_too(bench: Bench) -> None:
    most = bench.batcher._capacity._max_bytes
    with bench.batcher.reserve(1, most):
        with pytest.raises(QueueFull):
            bench.batcher.check(1, 1)
        bench.batcher.check(1, 0)
    with pytest.raises(QueueFull), bench.batcher.reserve(1, most + 1):
        raise AssertionError("there is no room")
    # Items may turn out larger than what was kept for them.
    with bench.batcher.reserve(1, 1) as reservation:
        await bench.batcher.submit(Submission(key="m", items=crops(1), deadline=FAR, reservation=reservation))
        assert (reservation.crops, reservation.bytes) == (0, 0)
    with bench.batcher.reserve(2, 1) as reservation:
        await bench.batcher.submit(Submission(key="m", items=crops(1), deadline=FAR, reservation=reservation))
        assert (reservation.crops, reservation.bytes) == (1, 0)


@on_loop
async def test_what_a_picture_does_not_use_is_given_back(bench: Bench) -> None:
    size = crops(1).nbytes
    with bench.batcher.reserve(48, 48 * size), bench.batcher.reserve(16, 16 * size) as own:
        mine = Submission(key="m", items=crops(*range(4)), deadline=FAR, reservation=own)
        await bench.batcher.submit(mine)
        with pytest.raises(QueueFull):
            bench.batcher.check(5, 5 * size)
        own.release()
        bench.batcher.check(16, 16 * size)
        with pytest.raises(QueueFull):
            bench.batcher.check(17, 17 * size)
        own.release()
    bench.batcher.check(64, 64 * size)
    with bench.batcher.reserve(4, 8 * size) as own:
        await bench.batcher.submit(Submission(key="m", items=crops(*range(4)), deadline=FAR, reservation=own))
        # Nothing is to come any more, so the bytes are nobody's either.
        assert not bench.batcher._capacity.reservations


@on_loop
async def test_later_rounds_keep_their_place_in_line(bench: Bench) -> None:
    with bench.batcher.reserve(8, 0) as own:
        await bench.batcher.submit(Submission(key="m", items=crops(*range(4)), deadline=FAR, reservation=own))
        bench.clock.now += 1
        bench.engine.batches.clear()
        await bench.hold()
        staged = bench.submit(*range(4))
        await until(lambda: len(bench.batcher._on_device) == 2)
        others = [bench.submit(*[value] * 4) for value in (50, 60)]
        await until(lambda: bench.batcher._queue.crops == 8)
        mine = asyncio.ensure_future(
            bench.batcher.submit(Submission(key="m", items=crops(*range(70, 74)), deadline=FAR, reservation=own))
        )
        await until(lambda: bench.batcher._queue.crops == 12)
        bench.engine.gate.set()
        await asyncio.gather(staged, mine, *others)
    assert bench.engine.batches[-3:] == [[70, 71, 72, 73], [50] * 4, [60] * 4]


@on_loop
async def test_no_room_is_kept_on_a_lost_device(bench: Bench) -> None:
    with bench.batcher.reserve(2, 6) as reservation:
        bench.batcher.give_up()
        with pytest.raises(DeviceLost):
            await bench.batcher.submit(Submission(key="m", items=crops(1), deadline=FAR, reservation=reservation))
    with pytest.raises(DeviceLost), bench.batcher.reserve(1, 1):
        raise AssertionError("there is no device")
