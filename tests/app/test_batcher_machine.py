"""The batcher against a model of it, through sequences of events that hypothesis makes up.

Clock, device and event loop move only by the rules, so a sequence that fails does so every time. What a rule leaves
for the event loop may wait there while others come: outcomes, cancellations and deadlines meet in any order. The
model knows what was asked, handed over and told; everything else is concluded from it.

``MACHINE_EXAMPLES=20000 pytest tests/app/test_batcher_machine.py`` searches further, by chance.
"""

import asyncio
import logging
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from app.batching.batcher import ATTEMPTS, STAGED, Batcher
from app.batching.capacity import RETRY_AFTER_CAP
from app.batching.errors import DeadlineExceeded, DeviceLost, EngineFailed, QueueFull
from app.batching.submission import Items, Priority, Rows, Submission, SubmissionResult
from app.observability.metrics import Metrics
from tests.app.fakes import Clock, SteppedLoop, SteppedWorkers

EXAMPLES = int(os.environ.get("MACHINE_EXAMPLES", "0"))
# A mutant of the batcher need only be caught, not be explained by a short example: see docs/reliability.md.
MUTANT = "MUTANT_UNDER_TEST" in os.environ
HANG = 20.0
SHAPES = ((1, 1, 3), (2, 1, 3), (1, 2, 3))
WARMED = {"one": SHAPES[:1], "two": SHAPES[:1], "long": SHAPES}
CAPS = {"one": 4, "two": 3, "long": 5}
FATES = ("fine", "fine", "fine", "raises", "short", "nan")
DURATIONS = (0.0, 0.5, 2.0, 32.0)
SHORT_OF_MEMORY = (9, 9, 2, 1)
Shape = tuple[int, ...]
Kind = tuple[str, Shape]


@dataclass(eq=False)
class WarmedEngine:
    """Rows are a function of the item and the key, so that one that went to somebody else is seen."""

    key: str
    cap: int
    run: Callable[[Sequence[Items]], Rows]
    device: str


@dataclass(eq=False)
class Handed:
    """A batch as the lanes got it: the submissions and the numbers of their items."""

    key: str
    parts: list[tuple["Asked", list[int]]]
    lane: int = -1
    started: float = 0.0
    seconds: float = 0.0
    fine: bool = False

    @property
    def crops(self) -> int:
        return sum(len(numbers) for _, numbers in self.parts)


@dataclass(eq=False)
class Asked:
    """A submission as its caller knows it. ``numbers`` are its items; they count on through all submissions."""

    key: str
    shape: Shape
    flow: tuple[Priority, str]
    deadline: float
    submitted: float
    numbers: range
    task: "asyncio.Task[SubmissionResult]"
    left: bool = False
    handed: int = 0
    told: set[int] = field(default_factory=set)
    failed: dict[int, int] = field(default_factory=dict)
    started: float = math.inf
    seconds: float = 0.0

    @property
    def kind(self) -> Kind:
        return self.key, self.shape

    @property
    def spoilt(self) -> bool:
        return ATTEMPTS in self.failed.values()

    @property
    def complete(self) -> bool:
        return len(self.told) == len(self.numbers)


def rows_of(key: str, numbers: Sequence[int]) -> Rows:
    return np.array([[number, number * 3 + len(key) + ord(key[0])] for number in numbers], np.float32)


class BatcherMachine(RuleBasedStateMachine):
    """Rules are what can happen to a batcher; invariants are what it promises."""

    def __init__(self, lanes: int) -> None:
        super().__init__()
        self.lanes = lanes

    @initialize(max_crops=st.sampled_from([14, 60]), max_bytes=st.sampled_from([300, 10**6]))
    def begin(self, max_crops: int, max_bytes: int) -> None:
        self.clock, self.metrics = Clock(), Metrics()
        self.device = SteppedWorkers(self.lanes, self.clock, HANG)
        self.max_crops, self.max_bytes = max_crops, max_bytes
        self.loop = SteppedLoop(self.clock)
        self.errors: list[str] = []
        self.loop.set_exception_handler(lambda _, context: self.errors.append(str(context)))
        self.entries: list[Asked] = []
        self.by_number: dict[int, Asked] = {}
        self.numbers = self.steps = 0
        self.handed: list[Handed] = []
        self.computed: list[Handed] = []
        self.batches: list[Handed] = []
        self.rates: dict[str, float] = {}
        self.fate, self.duration = "fine", 0.0
        self.lost = self.settled = False
        self.accepted = {key: self._replicas(key) for key in ("one", "long")}
        hand_over = self.device.compute

        def watched(replicas: Any, parts: Any) -> Any:
            self._take_over(replicas, parts)
            return hand_over(replicas, parts)

        self.device.compute = watched  # type: ignore[method-assign]

        async def make() -> Batcher:
            return Batcher(
                self.accepted,
                self.device,
                self.metrics,
                clock=self.clock,
                max_queue_crops=max_crops,
                max_queue_bytes=max_bytes,
            )

        self.batcher = self.loop.run_until_complete(make())
        self._settle()

    def _replicas(self, key: str) -> list[WarmedEngine]:
        runs = [partial(self._run, key, lane) for lane in range(self.lanes)]
        return [WarmedEngine(key, CAPS[key], run, f"lane {lane}") for lane, run in enumerate(runs)]

    def _cap(self, key: str) -> int:
        return min(engine.cap for engine in self.batcher._engines[key])

    # The device

    def _expect(self, fine: bool, what: str) -> None:
        """Note what went wrong where an exception would be caught by the batcher."""
        if not fine:
            self.errors.append(what)

    def _take_over(self, replicas: list[WarmedEngine], parts: list[Items]) -> None:
        """Look at a batch at the moment in which it is handed over."""
        numbers = [[int(item.flat[0]) for item in part] for part in parts]
        key, cap = replicas[0].key, min(engine.cap for engine in replicas)
        batch = Handed(key, [(self.by_number[part[0]], part) for part in numbers])
        first = batch.parts[0][0]
        self._expect(len(self.handed) < self.lanes + STAGED, "more batches than slots")
        self._expect(all(entry.kind == first.kind for entry, _ in batch.parts), "kinds are mixed")
        self._expect(key == first.key and first.shape in WARMED[key], "an engine was not made for it")
        self._expect(len({id(entry) for entry, _ in batch.parts}) == len(parts), "an entry is twice in a batch")
        for entry, part in batch.parts:
            self._expect(self._wanted(entry), "work for somebody who has left, or too late")
            self._expect(part == list(range(part[0], part[0] + len(part))), "items out of order")
            self._expect(part[0] >= entry.numbers.start and part[-1] < entry.numbers.stop, "items of others")
        if first.failed.get(numbers[0][0]):
            self._expect(len(parts) == 1, "a second attempt in company")
            self._expect({first.failed.get(number) for number in numbers[0]} == {1}, "a third attempt")
        else:
            waiting = self._waiting().get(first.kind, 0)
            self._expect(batch.crops == min(waiting, cap), "a batch that is not as full as it can be")
            free = len(self.handed) < self.lanes
            self._expect(free or batch.crops == cap, "a part batch while all lanes are busy")
            for entry, part in batch.parts:
                self._expect(part[0] == entry.numbers[entry.handed], "items are skipped or repeated")
                before = [other for other in self.entries if (other.flow, other.kind) == (entry.flow, entry.kind)]
                for other in before[: before.index(entry)]:
                    self._expect(not self._rest(other), "a later entry of a flow came first")
                entry.handed += len(part)
        self.handed.append(batch)
        self.batches.append(batch)

    def _run(self, key: str, lane: int, parts: Sequence[Items]) -> Rows:
        """What an engine does."""
        self._expect(self.lane == lane, "the engine of another lane")
        numbers = [int(item.flat[0]) for part in parts for item in part]
        self.clock.now += self.duration
        alive = not self.lost and self.duration <= HANG
        self._expect(self.batcher.alive == alive, "a hang is not seen, or no hang")
        if self.fate == "raises":
            raise RuntimeError("no")
        rows_ND = rows_of(key, numbers)
        return {"fine": rows_ND, "short": rows_ND[1:], "nan": rows_ND * np.float32("nan")}[self.fate]

    # The model

    def _wanted(self, entry: Asked) -> bool:
        return not entry.left and entry.deadline > self.clock.now and not entry.task.done() and not self.lost

    def _rest(self, entry: Asked) -> int:
        return len(entry.numbers) - entry.handed if self._wanted(entry) and not entry.spoilt else 0

    def _waiting(self) -> dict[Kind, int]:
        waiting: dict[Kind, int] = {}
        for entry in self.entries:
            if rest := self._rest(entry):
                waiting[entry.kind] = waiting.get(entry.kind, 0) + rest
        return waiting

    def _bytes(self) -> int:
        return sum(math.prod(shape) * 4 * count for (_, shape), count in self._waiting().items())

    def _drain(self) -> float:
        return sum(count * self.rates.get(key, 0.0) for (key, _), count in self._waiting().items()) / self.lanes

    def _settle(self, really: bool = True) -> None:
        self.steps += 1
        self.settled = really
        if really:
            self.loop.settle()
            for key in self.rates.keys() - self.batcher._engines.keys():
                del self.rates[key]

    def _value(self, name: str, **labels: str) -> float:
        return self.metrics._registry.get_sample_value(f"smartiqa_{name}", labels) or 0.0

    # The rules

    @rule(
        key=st.sampled_from(list(WARMED)),
        shape=st.sampled_from(SHAPES),
        count=st.integers(1, 11),
        owner=st.sampled_from(["", "b"]),
        priority=st.sampled_from(list(Priority)),
        patience=st.sampled_from([0.0, 1.0, 4.0, 1e6, 1e6]),
    )
    def submit(self, key: str, shape: Shape, count: int, owner: str, priority: Priority, patience: float) -> None:
        if key not in self.accepted:
            return
        self._settle()
        shape = shape if shape in WARMED[key] else SHAPES[0]
        numbers = range(self.numbers, self.numbers + count)
        items = np.array(numbers, np.float32).reshape(-1, 1, 1, 1) * np.ones(shape, np.float32)
        deadline = self.clock.now + patience
        full = sum(self._waiting().values()) + count > self.max_crops or self._bytes() + items.nbytes > self.max_bytes
        later, lost = min(max(math.ceil(self._drain()), 1), RETRY_AFTER_CAP), self.lost
        coroutine = self.batcher.submit(
            Submission(key=key, items=items, deadline=deadline, priority=priority, owner=owner)
        )
        task = self.loop.create_task(coroutine)
        entry = Asked(key, shape, (priority, owner), deadline, self.clock.now, numbers, task)
        if not (full or lost):
            self.numbers += count
            self.entries.append(entry)
            self.by_number |= dict.fromkeys(numbers, entry)
        self._settle()
        if lost:
            assert isinstance(task.exception(), DeviceLost)
        elif full:
            error = task.exception()
            assert isinstance(error, QueueFull)
            assert error.retry_after == later

    @precondition(lambda self: self.device.queued)
    @rule(fate=st.sampled_from(FATES), duration=st.sampled_from(DURATIONS), lane=st.integers(0, 2))
    def compute(self, fate: str, duration: float, lane: int) -> None:
        batch = next(batch for batch in self.handed if batch not in self.computed)
        self.fate, self.duration, self.lane = fate, duration, lane % self.lanes
        batch.started, batch.seconds, batch.fine, batch.lane = self.clock.now, duration, fate == "fine", self.lane
        self.device.run_next(self.lane)
        self.computed.append(batch)
        self._settle(False)

    @precondition(lambda self: self.device.computed)
    @rule(settle=st.booleans(), cap=st.sampled_from(SHORT_OF_MEMORY), pick=st.integers(0, 2))
    def report(self, settle: bool, cap: int, pick: int) -> None:
        # What one lane has computed is told in order; between lanes there is none.
        first = {batch.lane: place for place, batch in reversed(list(enumerate(self.computed)))}
        place = first[sorted(first)[pick % len(first)]]
        batch = self.computed.pop(place)
        self.handed.remove(batch)
        # An engine that ran out of memory goes on with smaller batches, one that did not with larger ones.
        if batch.key in self.accepted:
            self.accepted[batch.key][batch.lane].cap = min(CAPS[batch.key], cap)
        self.device.report(place)
        rate = max(batch.seconds, 1e-6) / batch.crops
        before = self.rates.get(batch.key)
        self.rates[batch.key] = rate if before is None else 0.8 * before + 0.2 * rate
        for entry, numbers in batch.parts:
            if batch.fine:
                entry.told.update(numbers)
                entry.started = min(entry.started, batch.started)
                entry.seconds += batch.seconds
            else:
                entry.failed |= {number: entry.failed.get(number, 0) + 1 for number in numbers}
        self._settle(settle)

    @precondition(lambda self: self.device.queued and not self.device.computed)
    @rule(
        fate=st.sampled_from(FATES),
        duration=st.sampled_from(DURATIONS),
        lane=st.integers(0, 2),
        cap=st.sampled_from(SHORT_OF_MEMORY),
    )
    def compute_and_report(self, fate: str, duration: float, lane: int, cap: int) -> None:
        """As most batches end: before the event loop has seen what else happened meanwhile."""
        self.compute(fate, duration, lane)
        self.report(True, cap, 0)

    @rule(seconds=st.sampled_from([0.5, 1.0, 4.0]), settle=st.booleans())
    def pass_time(self, seconds: float, settle: bool) -> None:
        self.clock.now += seconds
        self._settle(settle)

    @rule(pick=st.integers(0, 40), settle=st.booleans())
    def leave(self, pick: int, settle: bool) -> None:
        if here := [entry for entry in self.entries if not entry.task.done() and not entry.left]:
            entry = here[pick % len(here)]
            entry.left = entry.task.cancel()
            self._settle(settle)

    @rule(key=st.sampled_from(list(WARMED)))
    def put(self, key: str) -> None:
        if key not in self.accepted:
            self.accepted[key] = self._replicas(key)
            self.batcher.put_engine(key, self.accepted[key])
            self._settle()

    @rule(key=st.sampled_from(list(WARMED)))
    def drop(self, key: str) -> None:
        if self.accepted.pop(key, None):
            self.batcher.drop_engine(key)
            self._settle()

    @precondition(lambda self: self.steps > 25 and not self.lost)
    @rule(dies=st.booleans())
    def lose(self, dies: bool) -> None:
        self._settle()
        self.lost = True
        if dies:
            self.device.die()
        else:
            self.batcher.give_up()
        self._settle()

    # The promises

    @invariant()
    def nothing_went_wrong(self) -> None:
        assert not self.errors, self.errors

    @invariant()
    def answers_are_right(self) -> None:
        for entry in self.entries:
            if not entry.task.done():
                continue
            if entry.task.cancelled():
                assert entry.left
            elif (error := entry.task.exception()) is None:
                answer = entry.task.result()
                assert entry.complete
                assert np.array_equal(answer.rows_ND, rows_of(entry.key, entry.numbers))
                assert answer.queue_seconds == entry.started - entry.submitted
                assert answer.compute_seconds == entry.seconds
            elif isinstance(error, DeadlineExceeded):
                assert entry.deadline <= self.clock.now
            elif isinstance(error, EngineFailed):
                assert entry.spoilt
            else:
                assert isinstance(error, DeviceLost)
                assert self.lost

    @invariant()
    def nobody_waits_without_need(self) -> None:
        if not self.settled:
            return
        for entry in self.entries:
            over = entry.left or entry.complete or entry.spoilt or entry.deadline <= self.clock.now or self.lost
            assert entry.task.done() == over
        waiting = self._waiting()
        if len(self.handed) < self.lanes:
            assert not waiting
        elif len(self.handed) < self.lanes + STAGED and waiting:
            # Not the kind whose turn it is, at least, would fill a batch.
            assert any(count < self._cap(key) for (key, _), count in waiting.items())

    @invariant()
    def gauges_tell_what_waits(self) -> None:
        if self.settled:
            assert self._value("queue_crops") == sum(self._waiting().values())
            assert self._value("queue_bytes") == self._bytes()
            assert self._value("queue_drain_seconds") == pytest.approx(self._drain())

    def teardown(self) -> None:
        try:
            if not self.errors:
                self._finish()
        finally:
            for entry in self.entries:
                entry.task.cancel()
            self.loop.settle()
            self.loop.close()

    def _finish(self) -> None:
        """Let all that was begun come to its end, and find nothing left of it."""
        self._settle()
        while self.device.computed or self.device.queued:
            if not self.device.computed:
                self.compute("fine", 0.0, 0)
            self.report(True, 9, 0)
        for check in (self.nothing_went_wrong, self.answers_are_right, self.nobody_waits_without_need):
            check()
        assert all(entry.task.done() for entry in self.entries)
        self.gauges_tell_what_waits()
        self._counters()
        batcher, waiting = self.batcher, self.batcher._queue
        assert not list(waiting)
        assert not waiting._kinds
        assert waiting.crops == waiting.bytes == waiting.drain_seconds == 0
        if self.device.alive:
            assert not batcher._on_device
            assert not batcher._retries
            assert not batcher._leaving
            assert batcher._engines == self.accepted
            assert waiting._seconds_per_crop.keys() <= self.accepted.keys()
            assert {key for one in waiting._classes.values() for _, key in one.flows} <= self.accepted.keys()

    def _counters(self) -> None:
        errors = [entry.task.exception() for entry in self.entries if not entry.task.cancelled()]
        late = sum(isinstance(error, DeadlineExceeded) for error in errors)
        assert self._value("dropped_total", reason="deadline") == late
        assert self._value("dropped_total", reason="disconnect") == sum(
            entry.task.cancelled() for entry in self.entries
        )
        assert self._value("batch_crops_count") == len(self.batches)
        assert self._value("batch_crops_sum") == sum(batch.crops for batch in self.batches)
        assert sum(self._value("batch_flush_total", reason=why) for why in ("full", "idle", "retry")) == len(
            self.batches
        )
        assert self._value("queue_seconds_count") == errors.count(None)


@pytest.mark.parametrize("lanes", [1, 2, 3])
def test_whatever_happens_the_batcher_keeps_its_promises(lanes: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "smart_iqa.batcher")
    run_state_machine_as_test(
        partial(BatcherMachine, lanes),  # type: ignore[arg-type]  # whatever makes one will do
        settings=settings(
            max_examples=EXAMPLES or (40 if MUTANT else 60),
            stateful_step_count=50,
            deadline=None,
            derandomize=not EXAMPLES,
            database=None,
            print_blob=False,
            suppress_health_check=[HealthCheck.too_slow],
            phases=[Phase.generate] if MUTANT else list(Phase),
        ),
    )
