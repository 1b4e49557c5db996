"""Whose turn it is when several models want one device."""

import asyncio
import gc
import weakref
from functools import partial

import pytest

from app.batching.batcher import Batcher
from app.batching.errors import EngineFailed
from app.batching.fair_queue import FairQueue, QueueEntry
from app.batching.submission import Priority, Submission
from app.batching.workers import WorkerThreads
from app.observability.metrics import Metrics
from tests.app.fakes import Clock, FakeEngine, crops

FAR = 1e9


def shared(costs: dict[str, float]) -> tuple[Batcher, dict[str, FakeEngine], WorkerThreads, list[str]]:
    """A batcher whose engines take so many seconds for a batch, and the order in which they got the device."""
    clock = Clock()
    device, order = WorkerThreads(clock=clock), []
    engines = {key: FakeEngine() for key in costs}

    def spend(key: str, _: list[int]) -> None:
        order.append(key)
        clock.now += costs[key]

    for key, engine in engines.items():
        engine.misbehave = partial(spend, key)
    replicas = {key: [engine] for key, engine in engines.items()}
    batcher = Batcher(replicas, device, Metrics(), clock=clock, max_queue_crops=1000, max_queue_bytes=2**20)
    return batcher, engines, device, order


@pytest.mark.parametrize(("costs", "batches"), [((1.0, 1.0), (10, 10)), ((1.0, 3.0), (15, 5)), ((5.0, 1.0), (4, 16))])
def test_models_share_the_device_by_time(costs: tuple[float, float], batches: tuple[int, int]) -> None:
    async def main() -> None:
        batcher, engines, device, order = shared(dict(zip("ab", costs, strict=True)))
        # So that both are known.
        for key in "ab":
            await batcher.submit(Submission(key=key, items=crops(*range(4)), deadline=FAR))
        engines["a"].gate.clear()
        order.clear()
        tasks = [
            asyncio.ensure_future(batcher.submit(Submission(key="a", items=crops(*range(4)), deadline=FAR)))
            for _ in range(40)
        ]
        await asyncio.sleep(0)
        tasks += [
            asyncio.ensure_future(batcher.submit(Submission(key="b", items=crops(*range(4)), deadline=FAR)))
            for _ in range(40)
        ]
        await asyncio.sleep(0)
        engines["a"].gate.set()
        await asyncio.gather(*tasks)
        # The first two were on the device before anybody asked for b.
        shared_turns = order[2:22]
        assert abs(shared_turns.count("a") - batches[0]) <= 2
        assert abs(shared_turns.count("b") - batches[1]) <= 2
        device.close()

    asyncio.run(main())


def test_a_lone_request_for_a_model_overtakes_a_flood_for_another() -> None:
    async def main() -> None:
        batcher, engines, device, order = shared({"a": 1.0, "b": 1.0})
        engines["a"].gate.clear()
        flood = [
            asyncio.ensure_future(batcher.submit(Submission(key="a", items=crops(*range(4)), deadline=FAR)))
            for _ in range(30)
        ]
        await asyncio.sleep(0)
        alone = asyncio.ensure_future(batcher.submit(Submission(key="b", items=crops(1), deadline=FAR)))
        await asyncio.sleep(0)
        engines["a"].gate.set()
        await alone
        assert order.index("b") <= 3
        await asyncio.gather(*flood)
        device.close()

    asyncio.run(main())


def test_a_model_saves_up_no_time_while_nobody_asks_for_it() -> None:
    async def main() -> None:
        batcher, engines, device, order = shared({"a": 1.0, "b": 1.0})
        await batcher.submit(Submission(key="b", items=crops(1), deadline=FAR))
        for _ in range(50):
            await batcher.submit(Submission(key="a", items=crops(1), deadline=FAR))
        engines["a"].gate.clear()
        order.clear()
        tasks = [
            asyncio.ensure_future(batcher.submit(Submission(key=key, items=crops(*range(4)), deadline=FAR)))
            for key in "ab"
            for _ in range(8)
        ]
        await asyncio.sleep(0)
        engines["a"].gate.set()
        await asyncio.gather(*tasks)
        assert order[:8].count("a") >= 3
        device.close()

    asyncio.run(main())


def test_neither_class_shuts_the_other_out() -> None:
    async def main() -> None:
        batcher, engines, device, order = shared({"a": 1.0, "b": 1.0})
        for key in "ab":
            await batcher.submit(Submission(key=key, items=crops(*range(4)), deadline=FAR))
        engines["a"].gate.clear()
        order.clear()
        tasks = []
        for _ in range(60):
            for key, priority in (("a", Priority.BULK), ("b", Priority.INTERACTIVE)):
                entry = batcher.submit(Submission(key=key, items=crops(*range(4)), deadline=FAR, priority=priority))
                tasks.append(asyncio.ensure_future(entry))
        await asyncio.sleep(0)
        engines["a"].gate.set()
        await asyncio.gather(*tasks)
        # Two batches of bulk work were on the device before the first interactive request came.
        contested = order[2:52]
        assert 4 <= contested.count("a") <= 7
        # The interactive ones go first, and bulk work is not far from its tenth at any time.
        assert contested[0] == "b"
        assert all("a" in contested[start : start + 14] for start in range(36))
        device.close()

    asyncio.run(main())


def test_owners_share_a_model() -> None:
    async def main() -> None:
        batcher, engines, device, _ = shared({"m": 1.0})
        engine = engines["m"]
        await batcher.submit(Submission(key="m", items=crops(*range(4)), deadline=FAR))
        engine.gate.clear()
        engine.batches.clear()
        tasks = []
        for owner, value, count in (("greedy", 1, 80), ("modest", 2, 8)):
            for _ in range(count):
                tasks.append(
                    asyncio.ensure_future(
                        batcher.submit(Submission(key="m", items=crops(value), deadline=FAR, owner=owner))
                    )
                )
            await asyncio.sleep(0)
        engine.gate.set()
        await asyncio.gather(*tasks)
        served = [value for batch in engine.batches for value in batch]
        assert served.index(2) <= 9
        assert served[:24].count(2) == 8
        device.close()

    asyncio.run(main())


def test_an_engine_is_dropped_when_its_jobs_are_done() -> None:
    async def main() -> None:
        batcher, engines, device, _ = shared({"old": 1.0})
        engines["old"].gate.clear()
        tasks = [
            asyncio.ensure_future(batcher.submit(Submission(key="old", items=crops(*range(4)), deadline=FAR)))
            for _ in range(5)
        ]
        await asyncio.sleep(0)
        new = FakeEngine()
        batcher.put_engine("new", [new])
        batcher.drop_engine("old")
        tasks.append(asyncio.ensure_future(batcher.submit(Submission(key="new", items=crops(7), deadline=FAR))))
        await asyncio.sleep(0)
        assert "old" in batcher._engines
        engines["old"].gate.set()
        answers = await asyncio.gather(*tasks)
        assert answers[-1].rows_ND[0, 0] == 7
        assert sorted(batcher._engines) == ["new"]
        engine = weakref.ref(engines.pop("old"))
        gc.collect()
        assert engine() is None
        device.close()

    asyncio.run(main())


def test_a_model_that_fails_pays_for_its_time() -> None:
    async def main() -> None:
        batcher, engines, device, order = shared({"good": 1.0, "bad": 1.0})
        spend = engines["bad"].misbehave

        def fail(batch: list[int]) -> None:
            spend(batch)
            raise RuntimeError("broken")

        engines["bad"].misbehave = fail
        await batcher.submit(Submission(key="good", items=crops(*range(4)), deadline=FAR))
        engines["good"].gate.clear()
        order.clear()
        tasks = [
            asyncio.ensure_future(batcher.submit(Submission(key=key, items=crops(*range(4)), deadline=FAR)))
            for key in ("good", "bad")
            for _ in range(20)
        ]
        await asyncio.sleep(0)
        engines["good"].gate.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert sum(isinstance(result, EngineFailed) for result in results) == 20
        # Each failure comes with a second try at once: two turns of the bad one for two of the good one.
        assert order[:24].count("good") >= 10
        device.close()

    asyncio.run(main())


def test_a_waiting_bulk_job_saves_up_no_time_for_interactive_ones() -> None:
    async def main() -> None:
        batcher, engines, device, order = shared({"a": 1.0, "b": 1.0})
        for key in "ab":
            await batcher.submit(Submission(key=key, items=crops(*range(4)), deadline=FAR))
        engines["a"].gate.clear()
        bulk = asyncio.ensure_future(
            batcher.submit(Submission(key="b", items=crops(1), deadline=FAR, priority=Priority.BULK))
        )
        flood = [
            asyncio.ensure_future(batcher.submit(Submission(key="a", items=crops(*range(4)), deadline=FAR)))
            for _ in range(60)
        ]
        await asyncio.sleep(0)
        engines["a"].gate.set()
        await asyncio.gather(*flood[:40])
        order.clear()
        later = [
            asyncio.ensure_future(batcher.submit(Submission(key="b", items=crops(*range(4)), deadline=FAR)))
            for _ in range(20)
        ]
        await asyncio.gather(bulk, *flood, *later)
        assert order[:12].count("a") >= 4
        device.close()

    asyncio.run(main())


def test_an_entry_that_was_put_back_has_its_old_place_and_has_cost_nothing() -> None:
    async def main() -> None:
        queue = FairQueue[QueueEntry]()
        entries = [queued(owner, since) for since, owner in enumerate("aab")]
        for entry in entries:
            queue.add(entry)
        # A crop is known to take a second.
        known = queue.take(entries[0], 1)
        queue.settle(known, 0.0, 1.0)
        queue.put_back(entries[0], 1.0)
        taken = queue.take(entries[0], 1)
        assert (queue.crops, queue.next_entry()) == (2, entries[2])
        queue.put_back(entries[0], queue.cost(taken))
        assert (queue.crops, queue.bytes, queue.next_entry()) == (3, 9, entries[0])
        order = []
        while (following := queue.next_entry()) is not None:
            queue.take(following, 1)
            order.append(following)
        assert order == [entries[0], entries[2], entries[1]]

    asyncio.run(main())


def queued(owner: str, since: float) -> QueueEntry:
    return QueueEntry(
        key="a",
        owner=owner,
        items=crops(1),
        priority=Priority.INTERACTIVE,
        deadline=FAR,
        submitted=since,
        since=since,
        future=asyncio.get_running_loop().create_future(),
    )
