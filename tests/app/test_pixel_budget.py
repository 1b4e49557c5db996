"""The bound on pixels that are decoded at a time."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge
from pydantic import ValidationError

from app.decode.decoder import CallerGone, Decoder, PixelBudget
from app.decode.sandbox import Sandbox
from app.main import create_app
from app.observability.metrics import Metrics
from app.settings import Settings
from model.contract import Contract
from model.images import Limits, TooManyPixels
from tests.app.conftest import wait_ready
from tests.app.fakes import until
from tests.app.test_pictures import metric, post, problem
from tests.app.test_sandbox import replacements
from tests.conftest import encode, photo


def stays() -> bool:
    return False


class Holder:
    """A thread that waits for room and keeps it until it is let go."""

    def __init__(self, budget: PixelBudget, pixels: int, order: list["Holder"] | None = None) -> None:
        self.pixels = pixels
        self.looked, self.has, self.left, self.let_go = (threading.Event() for _ in range(4))
        self.gone = False
        self._budget = budget
        self._order = [] if order is None else order
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self.looked.wait(10)

    def end(self) -> None:
        self.let_go.set()
        self._thread.join(10)
        assert not self._thread.is_alive()

    def leave(self) -> None:
        self.gone = True
        self._budget.wake()
        assert self.left.wait(10)
        self.end()

    def _is_gone(self) -> bool:
        self.looked.set()
        return self.gone

    def _run(self) -> None:
        try:
            with self._budget.hold(self.pixels, self._is_gone):
                self._order.append(self)
                self.has.set()
                assert self.let_go.wait(10)
        except CallerGone:
            self.left.set()


@pytest.fixture
def gauge() -> Gauge:
    return Gauge("pixels", "In flight.", registry=CollectorRegistry())


def value(gauge: Gauge) -> float:
    return float(next(iter(next(iter(gauge.collect())).samples)).value)


def test_what_fits_is_let_in(gauge: Gauge) -> None:
    budget = PixelBudget(100, gauge)
    with budget.hold(60, stays), budget.hold(40, stays):
        assert value(gauge) == 100
    assert value(gauge) == 0


def test_what_would_never_fit_is_refused(gauge: Gauge) -> None:
    with pytest.raises(TooManyPixels, match="101"), PixelBudget(100, gauge).hold(101, stays):
        raise AssertionError("let in")


def test_a_large_picture_is_not_kept_out_by_small_ones(gauge: Gauge) -> None:
    budget = PixelBudget(100, gauge)
    first = Holder(budget, 60)
    assert first.has.wait(10)
    large = Holder(budget, 80)
    small = Holder(budget, 10)
    assert not large.has.is_set()
    assert not small.has.is_set()
    first.end()
    assert large.has.wait(10)
    assert small.has.wait(10)
    assert value(gauge) == 90
    large.end()
    small.end()


def test_a_caller_that_leaves_makes_way(gauge: Gauge) -> None:
    budget = PixelBudget(100, gauge)
    first = Holder(budget, 60)
    large = Holder(budget, 80)
    small = Holder(budget, 10)
    large.leave()
    assert small.has.wait(10)
    assert value(gauge) == 70
    first.end()
    small.end()
    assert not large.has.is_set()
    assert value(gauge) == 0


def test_an_error_gives_the_room_back(gauge: Gauge) -> None:
    budget = PixelBudget(100, gauge)
    with pytest.raises(ZeroDivisionError), budget.hold(100, stays):
        raise ZeroDivisionError
    assert value(gauge) == 0


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(1, 10), st.booleans()), min_size=1, max_size=8))
def test_all_come_through_in_order_and_within_the_bound(pictures: list[tuple[int, bool]]) -> None:
    shown = Gauge("pixels", "In flight.", registry=CollectorRegistry())
    budget = PixelBudget(10, shown)
    blocker = Holder(budget, 10)
    order: list[Holder] = []
    holders = [Holder(budget, pixels, order) for pixels, _ in pictures]
    staying = []
    for holder, (_, leaves) in zip(holders, pictures, strict=True):
        if leaves:
            holder.leave()
        else:
            staying.append(holder)
    blocker.end()
    for holder in staying:
        assert holder.has.wait(10)
        assert value(shown) <= 10
        holder.end()
    assert {*order} == {*staying}
    assert value(shown) == 0


def test_settings_leave_room_for_the_largest_picture() -> None:
    with pytest.raises(ValidationError, match="max_inflight_pixels"):
        Settings(max_pixels=2_000_000, max_inflight_pixels=1_999_999)


@contextmanager
def decoder_of(mode: str, metrics: Metrics, *, pixels: int) -> Iterator[Decoder]:
    sandbox = None
    if mode == "processes":
        sandbox = Sandbox(workers=2, memory_bytes=2**30, seconds=60, replaced=metrics.decoders_replaced)
    decoder = Decoder(Limits(), threads=2, max_decodes=2, max_inflight_pixels=pixels, sandbox=sandbox, metrics=metrics)
    try:
        yield decoder
    finally:
        decoder.close()


@pytest.mark.parametrize("mode", ["threads", "processes"])
def test_who_leaves_while_waiting_frees_the_place(mode: str, contract: Contract) -> None:
    metrics = Metrics()
    data = encode(photo(100, 100))

    async def scenario(decoder: Decoder) -> None:
        with decoder._pixels.hold(95_000, stays):
            tasks = [asyncio.create_task(decoder.decode(data, "", contract, None, preview=False)) for _ in range(2)]
            await until(lambda: len(decoder._pixels._waiting) == 2)
            tasks[0].cancel()
            await until(lambda: decoder._pending == 1)
            with pytest.raises(asyncio.CancelledError):
                await tasks[0]
            assert len(decoder._pixels._waiting) == 1
            assert not tasks[1].done()
        decoded = await tasks[1]
        assert (decoded.facts.width, decoded.facts.height) == (100, 100)
        assert (await decoder.decode(data, "", contract, None, preview=False)).facts == decoded.facts

    with decoder_of(mode, metrics, pixels=100_000) as decoder:
        asyncio.run(scenario(decoder))
    text = metrics.render().decode()
    assert "smartiqa_decode_pixels 0.0" in text
    assert not replacements(text)


@pytest.mark.parametrize("mode", ["threads", "processes"])
def test_a_deadline_ends_the_wait_for_room(load: Callable[..., Any], jpeg: bytes, mode: Any) -> None:
    chosen = Settings(decoder=mode, max_decodes=1, max_pixels=120_000, max_inflight_pixels=120_000)
    with TestClient(create_app(chosen, load=load)) as client:
        wait_ready(client)
        decoder = client.app.state.service.pipeline._decoder  # type: ignore[attr-defined]
        with decoder._pixels.hold(1, stays):
            assert metric(client, "smartiqa_decode_pixels") == 1
            problem(post(client, jpeg, headers={"X-Deadline-Ms": "100"}), 504, "deadline_exceeded")
            while decoder._pending:
                client.get("/health/live")
        assert post(client, jpeg).status_code == 200
        assert metric(client, "smartiqa_decode_pixels") == 0
        assert metric(client, "smartiqa_decode_seconds_count") == 2
