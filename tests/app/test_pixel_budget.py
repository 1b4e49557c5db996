"""The bound on pixels that are decoded at a time."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from app.batching.submission import Priority
from app.decode.decoder import Decoder
from app.decode.sandbox import Sandbox
from app.main import create_app
from app.observability.metrics import Metrics
from app.settings import Settings
from model.contract import Contract
from model.images import Limits, TooManyPixels
from tests.app.conftest import wait_ready
from tests.app.decoding import Bench, MakeBench
from tests.app.fakes import until
from tests.app.test_pictures import metric, post, problem
from tests.app.test_sandbox import replacements
from tests.conftest import encode, photo


@pytest.mark.anyio
async def test_what_fits_is_let_in(bench: MakeBench) -> None:
    one = bench(threads=2, pixels=100)
    one.sandbox.pixels = {"a0": 60, "a1": 40}
    tasks = await one.busy("a0", "a1")
    assert one.value("decode_pixels") == 100
    one.sandbox.finish()
    await asyncio.gather(*tasks)
    assert one.value("decode_pixels") == 0


@pytest.mark.anyio
async def test_what_would_never_fit_is_refused(bench: MakeBench) -> None:
    one = bench(pixels=100)
    one.sandbox.pixels = {"a0": 101}
    with pytest.raises(TooManyPixels, match="101"):
        await (await one.ask("a0"))[0]
    assert one.value("decode_pixels") == 0


@pytest.mark.anyio
async def test_a_large_picture_is_not_kept_out_by_small_ones(bench: MakeBench) -> None:
    one = bench(threads=3, pixels=100)
    one.sandbox.pixels = {"a0": 60, "a1": 80, "a2": 10, "b0": 10}
    tasks = await one.busy("a0")
    tasks += await one.ask("a1")
    await until(lambda: waits_for_room(one) == ["a1"])
    tasks += await one.ask("a2", "b0")
    # The other threads have nothing to do, although the small ones would fit.
    assert one.begun == ["a0"]
    await one.done("a0")
    await until(lambda: len(one.begun) == 4)
    assert one.begun[1] == "a1" or one.begun[:3] == ["a0", "b0", "a1"]
    assert one.value("decode_pixels") == 100
    one.sandbox.finish()
    await asyncio.gather(*tasks)


@pytest.mark.anyio
async def test_who_waits_for_room_holds_no_thread(bench: MakeBench) -> None:
    one = bench(threads=2, pixels=100)
    one.sandbox.pixels = {"a0": 60, "a1": 60, "a2": 30}
    tasks = await one.busy("a0")
    tasks += await one.ask("a1", priority=Priority.BULK)
    await until(lambda: waits_for_room(one) == ["a1"])
    # An interactive picture is next in turn, and has the second thread.
    tasks += await one.busy("a2")
    assert one.begun == ["a0", "a2"]
    one.sandbox.finish()
    await asyncio.gather(*tasks)
    # Its header was read once to learn its size, and once to decode it.
    assert one.sandbox.asked == ["a0", "a1", "a2", "a1"]


@pytest.mark.anyio
async def test_an_owner_that_fills_the_room_does_not_keep_another_out(bench: MakeBench) -> None:
    one = bench(threads=8, pixels=100)
    one.sandbox.pixels = {f"a{place}": 50 for place in range(12)}
    tasks = await one.ask(*one.sandbox.pixels)
    await until(lambda: len(one.begun) == 2 and len({*one.sandbox.asked}) > 2)
    single = await one.ask("b")
    # Two begin when the first is done: one of them is b, whatever came before it.
    await one.done(one.begun[0])
    await until(lambda: len(one.begun) == 3 or "b" in one.begun)
    await one.done(one.begun[1])
    assert "b" in one.begun[:4]
    one.sandbox.finish()
    await asyncio.gather(*tasks, *single)


@pytest.mark.anyio
async def test_a_caller_that_leaves_makes_way(bench: MakeBench) -> None:
    one = bench(threads=2, pixels=100)
    one.sandbox.pixels = {"a0": 60, "a1": 80, "a2": 10}
    first = await one.busy("a0")
    (large,) = await one.ask("a1")
    await until(lambda: waits_for_room(one) == ["a1"])
    large.cancel()
    small = await one.busy("a2")
    assert one.value("decode_pixels") == 70
    one.sandbox.finish()
    await asyncio.gather(*first, *small)
    assert one.value("decode_pixels") == 0


@pytest.mark.anyio
async def test_an_error_gives_the_room_back(bench: MakeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    one = bench(pixels=100)

    def fail(_: bytes, __: object, admit: Callable[[int], object]) -> None:
        admit(100)
        raise ZeroDivisionError

    monkeypatch.setattr(one.sandbox, "decode", fail)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            await (await one.ask("a0"))[0]
    assert one.value("decode_pixels") == 0


@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    threads=st.integers(1, 4),
    pictures=st.lists(st.tuples(st.integers(1, 10), st.sampled_from("ab"), st.booleans()), min_size=1, max_size=8),
)
def test_all_come_through_within_the_bound(
    bench: MakeBench, threads: int, pictures: list[tuple[int, str, bool]]
) -> None:
    async def scenario() -> None:
        one = bench(threads=threads, pixels=10)
        names = [f"{owner}{place}" for place, (_, owner, _) in enumerate(pictures)]
        one.sandbox.pixels = {"c": 10} | {name: pixels for name, (pixels, _, _) in zip(names, pictures, strict=True)}
        tasks = await one.busy("c")
        tasks += await one.ask(*names)
        staying = tasks[:1]
        for task, (_, _, leaves) in zip(tasks[1:], pictures, strict=True):
            if leaves:
                task.cancel()
            else:
                staying.append(task)
        while not all(task.done() for task in staying):
            assert one.value("decode_pixels") <= 10
            running = [name for name in one.begun if name not in one.sandbox.finished]
            one.sandbox.finish(*running[:1] or ["none"])
            await asyncio.sleep(0)
        await asyncio.gather(*staying)
        await until(lambda: one.value("decode_pending") == 0)
        assert one.value("decode_pixels") == 0

    asyncio.run(scenario())


def waits_for_room(one: Bench) -> list[str]:
    """The pictures that wait although threads are free."""
    return [call.data.decode() for call in one.decoder._queue if call.pixels]


def test_settings_leave_room_for_the_largest_picture() -> None:
    with pytest.raises(ValidationError, match="SMARTIQA_MAX_INFLIGHT_PIXELS"):
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
        with another(decoder, 95_000):
            tasks = [asyncio.create_task(decoder.decode(data, "", contract, None, preview=False)) for _ in range(2)]
            await until(lambda: 10_000 in [call.pixels for call in decoder._queue])
            tasks[0].cancel()
            await until(lambda: len(decoder._slots) == 1)
            with pytest.raises(asyncio.CancelledError):
                await tasks[0]
            await until(lambda: [call.pixels for call in decoder._queue] == [10_000])
            assert not tasks[1].done()
        decoded = await tasks[1]
        assert (decoded.facts.width, decoded.facts.height) == (100, 100)
        assert (await decoder.decode(data, "", contract, None, preview=False)).facts == decoded.facts

    with decoder_of(mode, metrics, pixels=100_000) as decoder:
        asyncio.run(scenario(decoder))
    text = metrics.render().text.decode()
    assert "smartiqa_decode_pixels 0.0" in text
    assert not replacements(text)


@contextmanager
def another(decoder: Decoder, pixels: int) -> Iterator[None]:
    """Another picture that has so much room."""
    call = SimpleNamespace(held=0)
    with decoder._changed:
        decoder._hold(call, pixels)  # type: ignore[arg-type]
    try:
        yield
    finally:
        with decoder._changed:
            decoder._hold(call, 0)  # type: ignore[arg-type]
            decoder._changed.notify_all()


@pytest.mark.parametrize("mode", ["threads", "processes"])
def test_a_deadline_ends_the_wait_for_room(load: Callable[..., Any], jpeg: bytes, mode: Any) -> None:
    chosen = Settings(decoder=mode, max_decodes=1, max_pixels=120_000, max_inflight_pixels=120_000)
    with TestClient(create_app(chosen, load=load)) as client:
        wait_ready(client)
        decoder = client.app.state.service.pipeline._decoder  # type: ignore[attr-defined]
        with another(decoder, 1):
            assert metric(client, "smartiqa_decode_pixels") == 1
            problem(post(client, jpeg, headers={"X-Deadline-Ms": "100"}), 504, "deadline_exceeded")
            while decoder._slots:
                client.get("/health/live")
        assert post(client, jpeg).status_code == 200
        assert metric(client, "smartiqa_decode_pixels") == 0
        # The one that left was not decoded.
        assert metric(client, "smartiqa_decode_seconds_count") == 1
