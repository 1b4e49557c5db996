"""``crops=auto``: the same answer by every route, and rounds that leave nothing behind."""

import asyncio
import dataclasses
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from app.main import create_app
from app.models.loading import LoadedModel
from app.scoring.rate_limit import TokenBuckets
from app.scoring.request import ScoreRequest
from app.settings import Settings
from model.crop_rounds import AUTO
from model.scorer import Scorer
from tests.app.conftest import served, wait_ready
from tests.app.fakes import FakeEngine, until
from tests.app.test_batch import NDJSON, post_all
from tests.app.test_cache import without_timing
from tests.app.test_incidents import eventually, nothing_is_held
from tests.app.test_pictures import metric, post, problem
from tests.conftest import EXAMPLES, encode

FLAT = encode(Image.new("RGB", (512, 512), (50, 50, 50)))
SLOPE = encode(Image.radial_gradient("L").resize((512, 512)).convert("RGB"))
"""The fake engine takes pixels for scores: no crop of it scores like another."""


@pytest.fixture
def sixteen(checkpoint_folder: Path, engine: FakeEngine) -> dict[str, LoadedModel]:
    model = served(checkpoint_folder, engine)
    contract = dataclasses.replace(model.config.contract, crops=16)
    return {"fake": dataclasses.replace(model, config=dataclasses.replace(model.config, contract=contract))}


@pytest.fixture
def client(sixteen: dict[str, LoadedModel]) -> Iterator[TestClient]:
    with TestClient(create_app(Settings(max_queue_crops=64), load=lambda _: sixteen)) as client:
        wait_ready(client)
        yield client


def test_every_route_gives_the_offline_answer(sixteen_crops: Path) -> None:
    scorer = Scorer.load(sixteen_crops, device="cpu", precision="fp32")
    photos = [file.read_bytes() for file in EXAMPLES] + [
        FLAT,
        encode(Image.effect_noise((500, 400), 90).convert("RGB")),
    ]
    expected = [scorer.score(data, AUTO).to_dict() for data in photos]
    assert len({answer["crops"] for answer in expected}) > 1
    settings = Settings(checkpoints=(sixteen_crops,), device="cpu", precision="fp32", cache_crops=0)
    with TestClient(create_app(settings)) as client:
        wait_ready(client)
        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(lambda data: post(client, data, "/score?crops=auto").json(), 2 * photos))
        assert [without_timing(answer) for answer in answers] == 2 * expected
        results = post_all(client, *photos, path="/score/batch?crops=auto").json()["results"]
        assert [without_timing(item["result"]) for item in results] == expected
        lines = post_all(client, *photos, path="/score/batch?crops=auto", headers=NDJSON).text.splitlines()
        for item in map(json.loads, lines):
            assert without_timing(item["result"]) == expected[item["index"]]
        attention = post(client, photos[0], "/attention?crops=auto&detail=crops").json()
        assert attention.items() >= expected[0].items()
        assert len(attention["crop_scores"]) == expected[0]["crops"]
        raw = client.post("/score?crops=auto", content=photos[0], headers={"Content-Type": "image/jpeg"}).json()
        assert without_timing(raw) == expected[0]


def test_rounds_go_on_only_as_long_as_they_must(client: TestClient, engine: FakeEngine) -> None:
    assert post(client, FLAT, "/score?crops=auto").json()["crops"] == 4
    assert [len(batch) for batch in engine.batches] == [4]
    engine.batches.clear()
    answer = post(client, SLOPE, "/score?crops=auto").json()
    assert answer["crops"] == 16
    assert sum(map(len, engine.batches)) == 16
    assert [len(batch) for batch in engine.batches] == [4, 4, 8]
    whole = post(client, SLOPE).json()
    assert without_timing(answer) == without_timing(whole)
    assert metric(client, "smartiqa_auto_crops_count") == 2
    assert metric(client, "smartiqa_auto_crops_sum") == 20
    nothing_is_held(client)


def test_answers_are_kept_apart_by_plan(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    fixed, first, second = (post(client, FLAT, path) for path in ("/score", *2 * ["/score?crops=auto"]))
    assert [one.headers["X-Cache"] for one in (fixed, first, second)] == ["miss", "miss", "hit"]
    assert without_timing(first.json()) == without_timing(second.json())
    tag = first.headers["ETag"]
    assert tag != fixed.headers["ETag"]
    assert post(client, FLAT, "/score?crops=auto", headers={"If-None-Match": tag}).status_code == 304
    assert metric(client, "smartiqa_auto_crops_count") == 2
    # Another release may have another plan.
    monkeypatch.setattr("model.crop_rounds.AUTO_ID", "another")
    assert post(client, FLAT, "/score?crops=auto", headers={"If-None-Match": tag}).status_code == 200


@pytest.mark.parametrize("crops", ["Auto", "auto4", "0", "65", ""])
def test_what_is_neither_a_number_nor_auto(client: TestClient, crops: str) -> None:
    detail = problem(post(client, FLAT, "/score", params={"crops": crops}), 422, "invalid_parameter")["detail"]
    assert detail.startswith("crops: ")
    assert "'auto'" in detail


def test_room_for_the_most_is_kept_until_the_last_round(client: TestClient, engine: FakeEngine) -> None:
    service = client.app.state.service  # type: ignore[attr-defined]
    engine.gate.clear()
    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(post, client, data, "/score?crops=auto") for data in (SLOPE, SLOPE, FLAT, FLAT)]

        def all_wait() -> None:
            assert len(service.manager.batcher._capacity.reservations) == 4

        eventually(all_wait)
        problem(post(client, FLAT, "/score?crops=33"), 429, "queue_full")
        engine.gate.set()
    assert [answer.result().status_code for answer in answers] == [200] * 4
    assert post(client, FLAT, "/score?crops=64").status_code == 200
    nothing_is_held(client)


def test_a_later_round_may_fail(client: TestClient, engine: FakeEngine) -> None:
    def fail(_: list[int]) -> None:
        if len(engine.batches) > 1:
            raise RuntimeError

    engine.misbehave = fail
    problem(post(client, SLOPE, "/score?crops=auto"), 500, "engine_failed")
    results = post_all(client, SLOPE, path="/score/batch?crops=auto").json()["results"]
    assert [item["status"] for item in results] == [500]
    nothing_is_held(client)


def test_rounds_share_a_deadline(client: TestClient, engine: FakeEngine) -> None:
    late = threading.Event()

    def wait(_: list[int]) -> None:
        if len(engine.batches) == 2:
            assert late.wait(10)

    engine.misbehave = wait
    answer = post(client, SLOPE, "/score?crops=auto", headers={"X-Deadline-Ms": "500"})
    problem(answer, 504, "deadline_exceeded")
    late.set()
    assert len(engine.batches) == 2
    nothing_is_held(client)


def test_who_leaves_between_rounds_leaves_no_room_behind(client: TestClient, engine: FakeEngine) -> None:
    service = client.app.state.service  # type: ignore[attr-defined]
    pipeline, late = service.pipeline, threading.Event()

    def wait(_: list[int]) -> None:
        if len(engine.batches) == 2:
            assert late.wait(10)

    async def leave() -> None:
        request = ScoreRequest(model=service.model(None), crops=AUTO, seconds=60)
        key, deadline = await pipeline.cache_key(SLOPE, request), pipeline.deadline(request)
        picture = await pipeline.prepare(SLOPE, request, key, deadline)
        task = asyncio.ensure_future(pipeline.score(picture))
        await until(lambda: len(engine.batches) == 2)
        (reservation,) = service.manager.batcher._capacity.reservations
        assert reservation.crops == 8
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert not service.manager.batcher._capacity.reservations

    engine.misbehave = wait
    client.portal.call(leave)  # type: ignore[union-attr]
    late.set()
    assert metric(client, 'smartiqa_dropped_total{reason="disconnect"}') == 1
    assert post(client, FLAT, "/score?crops=64").status_code == 200
    assert [len(batch) for batch in engine.batches[:2]] == [4, 4]
    nothing_is_held(client)


def test_only_crops_that_were_scored_are_charged(
    sixteen: dict[str, LoadedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[str, int, int]] = []
    monkeypatch.setattr(TokenBuckets, "refund", lambda _, *back: given.append(back))
    with TestClient(create_app(Settings(key_crops_per_second=50), load=lambda _: sixteen)) as client:
        wait_ready(client)
        post(client, FLAT, "/score?crops=auto")
        post(client, SLOPE, "/score?crops=auto")
        post_all(client, FLAT, SLOPE, path="/score/batch?crops=auto")
    assert sorted(given) == 2 * [("", 16, 4)] + 2 * [("", 16, 16)]
