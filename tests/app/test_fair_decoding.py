"""Who is decoded next, who is refused, and where the time of a wait is told."""

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.batching.submission import Priority
from app.decode.decoder import Decoded, Decoder
from app.decode.errors import DecoderFull
from app.main import create_app
from app.scoring.request import ScoreRequest
from app.settings import Settings
from tests.app.conftest import wait_ready
from tests.app.decoding import MakeBench
from tests.app.fakes import Clock, until
from tests.app.test_keys import entry
from tests.app.test_pictures import post

BULK = Priority.BULK


@contextmanager
def ending(tasks: list["asyncio.Task[Decoded]"]) -> Iterator[None]:
    """Cancel what a test has not waited for."""
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()


@pytest.mark.anyio
@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("known", [False, True])
async def test_a_single_picture_does_not_wait_for_another_owners_nine(
    bench: MakeBench, threads: int, *, known: bool
) -> None:
    one = bench(threads=threads)
    if known:
        # What pictures take has been seen.
        one.sandbox.finish("first")
        await asyncio.gather(*await one.ask("first"))
        one.sandbox.begun.clear()
    nine = await one.ask(*(f"a{place}" for place in range(9)))
    await until(lambda: len(one.begun) == threads)
    single = await one.ask("b")
    with ending(nine + single):
        await one.done(one.begun[0])
        assert one.begun[threads] == "b"
        one.sandbox.finish("b")
        await asyncio.gather(*single)


@pytest.mark.anyio
async def test_owners_get_the_same_time_rather_than_the_same_number(bench: MakeBench) -> None:
    one = bench()
    slow, quick = [f"a{place}" for place in range(5)], [f"b{place}" for place in range(50)]
    one.sandbox.seconds = dict.fromkeys(slow, 10.0)
    blocker = await one.busy("c")
    tasks = await one.ask(*slow, *quick)
    one.sandbox.finish()
    await asyncio.gather(*blocker, *tasks)
    places = [one.begun.index(name) for name in slow]
    gaps = [later - earlier for earlier, later in itertools.pairwise(places[1:])]
    assert all(8 <= gap <= 13 for gap in gaps), one.begun


@pytest.mark.anyio
async def test_an_owners_pictures_are_decoded_in_the_order_they_came(bench: MakeBench) -> None:
    one = bench()
    names = [f"a{place}" for place in range(6)]
    tasks = await one.ask(*names)
    one.sandbox.finish()
    await asyncio.gather(*tasks)
    assert one.begun == names


@pytest.mark.anyio
async def test_an_interactive_picture_overtakes_bulk_ones_of_its_owner(bench: MakeBench) -> None:
    one = bench()
    tasks = await one.busy("a0")
    tasks += await one.ask("a1", "a2", priority=BULK)
    tasks += await one.ask("a3")
    one.sandbox.finish()
    await asyncio.gather(*tasks)
    assert one.begun == ["a0", "a3", "a1", "a2"]


@pytest.mark.anyio
async def test_neither_class_shuts_the_other_out(bench: MakeBench) -> None:
    one = bench()
    tasks = await one.busy("c")
    tasks += await one.ask(*(f"b{place}" for place in range(10)), priority=BULK)
    tasks += await one.ask(*(f"a{place}" for place in range(85)))
    one.sandbox.finish()
    await asyncio.gather(*tasks)
    for start in (1, 31, 61):
        assert 2 <= sum(name[0] == "b" for name in one.begun[start : start + 30]) <= 4


@pytest.mark.anyio
async def test_who_leaves_while_waiting_frees_the_slot_at_once(bench: MakeBench) -> None:
    one = bench(slots=2)
    (first,) = await one.busy("a0")
    (second,) = await one.ask("a1")
    with pytest.raises(DecoderFull):
        await (await one.ask("a2"))[0]
    assert one.value("decode_pending") == 2
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    # The only thread is still busy.
    assert one.value("decode_pending") == 1
    (third,) = await one.ask("a3")
    one.sandbox.finish()
    await asyncio.gather(first, third)
    assert one.sandbox.asked == ["a0", "a3"]
    assert one.value("decode_pending") == 0


@pytest.mark.anyio
async def test_who_leaves_while_being_decoded_keeps_the_slot_until_the_thread_is_free(bench: MakeBench) -> None:
    one = bench(slots=1)
    (first,) = await one.busy("a0")
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert one.value("decode_pending") == 1
    with pytest.raises(DecoderFull):
        await (await one.ask("a1"))[0]
    one.sandbox.finish()
    await until(lambda: one.value("decode_pending") == 0)
    await (await one.ask("a2"))[0]


@pytest.mark.anyio
async def test_the_refusal_says_how_long_what_waits_will_take(bench: MakeBench) -> None:
    one = bench(slots=3)
    one.sandbox.seconds = {"a": 7.0}
    one.sandbox.finish("a")
    await asyncio.gather(*await one.ask("a"))
    tasks = await one.busy("a0")
    tasks += await one.ask("a1", "a2")
    with ending(tasks):
        assert one.value("decode_drain_seconds") == 14.0
        with pytest.raises(DecoderFull) as caught:
            await (await one.ask("a3"))[0]
        assert caught.value.retry_after == 14


@pytest.mark.anyio
async def test_the_owner_with_the_most_makes_way_when_all_slots_are_taken(bench: MakeBench) -> None:
    one = bench(slots=4)
    tasks = await one.busy("a0")
    tasks += await one.ask("a1", "a2", "a3")
    tasks += await one.ask("b0")
    with pytest.raises(DecoderFull):
        await tasks[3]
    tasks += await one.ask("b1")
    with pytest.raises(DecoderFull):
        await tasks[2]
    # Each has two slots now.
    for name in ("a4", "b2"):
        with pytest.raises(DecoderFull):
            await (await one.ask(name))[0]
    assert one.value("decode_pending") == 4
    one.sandbox.finish()
    await asyncio.gather(tasks[0], tasks[1], *tasks[4:])
    assert one.begun == ["a0", "b0", "a1", "b1"]


@pytest.mark.anyio
async def test_bulk_makes_way_first_and_for_bulk_no_interactive_picture_does(bench: MakeBench) -> None:
    one = bench(slots=4)
    tasks = await one.busy("a0")
    tasks += await one.ask("a1", priority=BULK)
    tasks += await one.ask("a2", "a3")
    tasks += await one.ask("b0")
    with ending(tasks):
        with pytest.raises(DecoderFull):
            await tasks[1]
        with pytest.raises(DecoderFull):
            await (await one.ask("c0", priority=BULK))[0]


@pytest.mark.anyio
async def test_pictures_of_a_batch_do_not_make_way(bench: MakeBench) -> None:
    one = bench(slots=2)
    with one.decoder.reserve("a"), one.decoder.reserve("a"):
        tasks = await one.ask("a0", "a1", reserved=True)
        with ending(tasks), pytest.raises(DecoderFull):
            await (await one.ask("b0"))[0]


@pytest.mark.anyio
async def test_the_wait_and_the_work_are_told_apart(bench: MakeBench) -> None:
    one = bench()
    one.sandbox.seconds = {"a0": 5.0, "a1": 2.0}
    tasks = await one.busy("a0")
    tasks += await one.ask("a1")
    one.sandbox.finish()
    decoded = await asyncio.gather(*tasks)
    assert [each.seconds for each in decoded] == [5.0, 2.0]
    assert (one.value("decode_wait_seconds_count"), one.value("decode_wait_seconds_sum")) == (2, 5.0)
    assert (one.value("decode_seconds_count"), one.value("decode_seconds_sum")) == (2, 7.0)


@pytest.mark.anyio
async def test_waiting_for_room_is_part_of_the_wait(bench: MakeBench) -> None:
    one = bench(threads=2, pixels=100)
    one.sandbox.pixels = {"a0": 60, "a1": 60}
    one.sandbox.seconds = {"a0": 5.0, "a1": 2.0}
    tasks = await one.busy("a0")
    tasks += await one.ask("a1")
    await until(lambda: one.sandbox.asked == ["a0", "a1"])
    await until(lambda: [call.pixels for call in one.decoder._queue] == [60])
    one.sandbox.finish()
    assert [each.seconds for each in await asyncio.gather(*tasks)] == [5.0, 2.0]
    assert (one.value("decode_wait_seconds_sum"), one.value("decode_seconds_sum")) == (5.0, 7.0)


@pytest.mark.anyio
async def test_pictures_that_wait_are_dropped_at_the_end(bench: MakeBench) -> None:
    one = bench()
    tasks = await one.busy("a0")
    tasks += await one.ask("a1")
    await asyncio.to_thread(one.decoder.close)
    await tasks[0]
    with pytest.raises(asyncio.CancelledError):
        await tasks[1]
    assert one.begun == ["a0"]


def test_wait_and_work_add_up_to_the_time_before_the_queue(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    service = client.app.state.service  # type: ignore[attr-defined]
    pipeline, clock = service.pipeline, Clock()
    asked: list[dict[str, Any]] = []

    async def decode(*_: object, **options: Any) -> Any:
        asked.append(options)
        clock.now += 7.0
        return SimpleNamespace(seconds=4.0)

    async def prepare() -> Any:
        request = ScoreRequest(model=service.model(None), seconds=60, owner="ann", priority=BULK)
        key = await pipeline.cache_key(b"picture", request)
        return await pipeline.prepare(b"picture", request, key, pipeline.deadline(request))

    monkeypatch.setattr(pipeline, "_clock", clock)
    monkeypatch.setattr(pipeline._decoder, "decode", decode)
    picture = client.portal.call(prepare)  # type: ignore[union-attr]
    assert (picture.decode_wait_seconds, picture.decode_seconds) == (3.0, 4.0)
    assert (asked[0]["owner"], asked[0]["priority"]) == ("ann", BULK)


def test_the_decoder_knows_the_keys_owner_and_the_priority(
    load: Any, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, Priority]] = []
    real = Decoder._take_slot

    def take(decoder: Decoder, slot: object, owner: str, priority: Priority) -> None:
        asked.append((owner, priority))
        real(decoder, slot, owner, priority)

    monkeypatch.setattr(Decoder, "_take_slot", take)
    with TestClient(create_app(Settings(api_keys=(entry("ann", "secret"),), cache_crops=0), load=load)) as client:
        wait_ready(client)
        headers = {"X-API-Key": "secret"}
        assert post(client, jpeg, headers=headers).status_code == 200
        assert post(client, jpeg, headers={**headers, "X-Priority": "bulk"}).status_code == 200
        files = [("file", ("a.jpg", jpeg)), ("file", ("b.jpg", jpeg))]
        assert client.post("/score/batch", files=files, headers=headers).status_code == 200
    assert asked == [("ann", Priority.INTERACTIVE), ("ann", BULK), ("ann", BULK)]
