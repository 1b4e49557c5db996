"""``detail=map`` and the activity of stages: the offline answers, charged and bounded, and no part in any score."""

import dataclasses
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from app.http.schemas import AttentionAnswer, MapAnswer, ScoreAnswer
from app.main import create_app
from app.scoring.rate_limit import TokenBuckets
from app.settings import Settings
from model.images import decode
from model.maps import map_crops
from model.scorer import Scorer
from tests.app.conftest import served, wait_ready
from tests.app.fakes import FakeEngine
from tests.app.test_batch import post_all
from tests.app.test_cache import without_timing
from tests.app.test_incidents import nothing_is_held
from tests.app.test_pictures import metric, post, problem

MAP = "/score?detail=map"
STAGE = "/attention/overlay?stage="
SPOTS = 6
"""Of the photo ``jpeg`` of 400x300 pixels, by the contract of the tests."""


@pytest.fixture(scope="module")
def real(checkpoint_folder: Path) -> Iterator[TestClient]:
    settings = Settings(checkpoints=(checkpoint_folder,), device="cpu", precision="fp32", cache_crops=0)
    with TestClient(create_app(settings)) as client:
        wait_ready(client)
        yield client


def test_every_route_gives_the_offline_map_beside_the_same_score(real: TestClient, scorer: Scorer, jpeg: bytes) -> None:
    expected = scorer.map(jpeg)
    drawn = {"rows": 24, "columns": 32, "scores": [list(row) for row in expected.scores]}
    for path in ("/score", "/attention", "/score?crops=9", "/score?crops=auto"):
        detailed = post(real, jpeg, path, params={"detail": "crops"}).json()
        answer = post(real, jpeg, path, params={"detail": "map"}).json()
        assert answer.pop("map") == drawn
        assert without_timing(answer) == without_timing(detailed)
    results = post_all(real, jpeg, jpeg, path="/score/batch?detail=map").json()["results"]
    assert [item["result"]["map"] for item in results] == [drawn, drawn]
    nothing_is_held(real)


def test_maps_fit_their_schema(client: TestClient, jpeg: bytes) -> None:
    for path, schema in ((MAP, ScoreAnswer), ("/attention?detail=map", AttentionAnswer)):
        answer = schema.model_validate(post(client, jpeg, path).json())
        assert isinstance(answer.map, MapAnswer)
        assert np.shape(answer.map.scores) == (answer.map.rows, answer.map.columns)
        assert answer.crop_scores is not None
    for path in ("/score", "/score?detail=crops"):
        assert "map" not in post(client, jpeg, path).json()


def test_activity_is_drawn_as_offline_also_in_company(real: TestClient, scorer: Scorer, jpeg: bytes) -> None:
    expected = [scorer.overlay(jpeg, stage) for stage in (1, 2, 3, 4)]
    with ThreadPoolExecutor(6) as pool:
        drawn = [pool.submit(post, real, jpeg, f"{STAGE}{stage}") for stage in (1, 2, 3, 4)]
        scores = [pool.submit(post, real, jpeg, MAP) for _ in range(2)]
    assert [one.result().content for one in drawn] == expected
    assert scores[0].result().json()["map"] == scores[1].result().json()["map"]
    response = drawn[0].result()
    assert response.headers["content-type"] == "image/png"
    assert response.headers["X-Cache"] == "miss"
    assert decode(response.content).facts.size == (400, 300)
    assert post(real, jpeg, "/attention?stage=1").content == expected[0]
    tags = {one.result().headers["ETag"] for one in drawn}
    assert len(tags) == 4
    for tag in tags:
        again = post(real, jpeg, f"{STAGE}1", headers={"If-None-Match": tag})
        assert again.status_code == (304 if tag == response.headers["ETag"] else 200)
    assert post(real, jpeg, "/attention/overlay").content == scorer.overlay(jpeg)
    nothing_is_held(real)


def test_a_decoder_process_gives_the_same(checkpoint_folder: Path, scorer: Scorer, jpeg: bytes) -> None:
    settings = Settings(
        checkpoints=(checkpoint_folder,), device="cpu", precision="fp32", decoder="processes", decode_threads=1
    )
    with TestClient(create_app(settings)) as client:
        wait_ready(client)
        answer = post(client, jpeg, MAP).json()
        assert answer["map"]["scores"] == [list(row) for row in scorer.map(jpeg).scores]
        assert answer["score"] == scorer.score(jpeg).score
        assert post(client, jpeg, f"{STAGE}2").content == scorer.overlay(jpeg, 2)


def test_what_a_model_cannot_show(client: TestClient, checkpoint_folder: Path, jpeg: bytes) -> None:
    problem(post(client, jpeg, f"{STAGE}1"), 409, "stages_not_supported")
    for stage in ("0", "5", "first"):
        problem(post(client, jpeg, f"{STAGE}{stage}"), 422, "invalid_parameter")
    engine = FakeEngine(cap=8)
    model = served(checkpoint_folder, engine)
    contract = dataclasses.replace(model.config.contract, view="tokens", crops=1)
    whole = dataclasses.replace(model, config=dataclasses.replace(model.config, contract=contract))
    with TestClient(create_app(Settings(), load=lambda _: {"whole": whole})) as other:
        wait_ready(other)
        for path in (MAP, "/attention?detail=map", "/score/batch?detail=map"):
            problem(post(other, jpeg, path), 409, "map_not_supported")
    assert engine.batches == []


def test_a_known_score_is_not_made_again_for_its_map(load: Any, engine: FakeEngine, jpeg: bytes) -> None:
    with TestClient(create_app(Settings(), load=load)) as client:
        wait_ready(client)
        first = post(client, jpeg)
        assert [len(batch) for batch in engine.batches] == [4]
        mapped = [post(client, jpeg, MAP) for _ in range(2)]
        assert [len(batch) for batch in engine.batches] == [4, SPOTS, SPOTS]
        assert [one.headers["X-Cache"] for one in mapped] == ["hit", "hit"]
        bodies = [without_timing(one.json()) for one in mapped]
        assert bodies[0] == bodies[1]
        assert bodies[0].items() >= without_timing(first.json()).items()
        assert metric(client, "smartiqa_cache_crops") == 4
        # And the other way round.
        other = jpeg + b"\0"
        assert post(client, other, MAP).headers["X-Cache"] == "miss"
        assert post(client, other).headers["X-Cache"] == "hit"


def test_tags_tell_maps_from_scores_and_from_those_of_other_plans(
    client: TestClient, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    tag = post(client, jpeg, MAP).headers["ETag"]
    assert post(client, jpeg, MAP, headers={"If-None-Match": tag}).status_code == 304
    for path in ("/score", "/score?detail=crops", "/attention?detail=map"):
        assert post(client, jpeg, path, headers={"If-None-Match": tag}).status_code == 200
    plain = post(client, jpeg).headers["ETag"]
    monkeypatch.setattr(map_crops, "MAP_ID", "another")
    assert post(client, jpeg, MAP, headers={"If-None-Match": tag}).status_code == 200
    assert post(client, jpeg, headers={"If-None-Match": plain}).status_code == 304


def test_spots_are_charged_as_crops(checkpoint_folder: Path, jpeg: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    given: list[tuple[str, int, int]] = []
    monkeypatch.setattr(TokenBuckets, "take", lambda _, __, crops: taken.append(crops))
    monkeypatch.setattr(TokenBuckets, "refund", lambda _, *back: given.append(back))
    settings = Settings(checkpoints=(checkpoint_folder,), device="cpu", precision="fp32", key_crops_per_second=50)
    with TestClient(create_app(settings)) as client:
        wait_ready(client)
        for path in ("/score", MAP, f"{STAGE}1"):
            post(client, jpeg, path)
    assert taken == [4, 4 + map_crops.MAX_CROPS, map_crops.MAX_CROPS]
    assert given == [("", 4, 4), ("", 4 + map_crops.MAX_CROPS, 4 + SPOTS), ("", map_crops.MAX_CROPS, SPOTS)]


def test_room_for_spots_is_asked_for_before_the_upload(load: Any, jpeg: bytes) -> None:
    with TestClient(create_app(Settings(max_queue_crops=64), load=load)) as client:
        wait_ready(client)
        service = client.app.state.service  # type: ignore[attr-defined]
        with service.manager.batcher.reserve(64 - 4 - map_crops.MAX_CROPS + 1, 0):
            problem(post(client, jpeg, MAP), 429, "queue_full")
            assert metric(client, "smartiqa_decode_seconds_count") == 0
            assert post(client, jpeg).status_code == 200
        assert post(client, jpeg, f"{MAP}&crops=40").status_code == 200
        detail = problem(post(client, jpeg, f"{MAP}&crops=41"), 422, "invalid_parameter")["detail"]
        assert detail.startswith("crops: ")
        nothing_is_held(client)


def test_crops_and_spots_share_a_deadline_and_leave_nothing_behind(
    client: TestClient, engine: FakeEngine, jpeg: bytes
) -> None:
    late = threading.Event()

    def wait(batch: list[int]) -> None:
        if len(batch) == SPOTS:
            assert late.wait(10)

    engine.misbehave = wait
    problem(post(client, jpeg, MAP, headers={"X-Deadline-Ms": "500"}), 504, "deadline_exceeded")
    nothing_is_held(client)
    late.set()
    engine.misbehave = lambda _: None
    assert post(client, jpeg, MAP).status_code == 200
    nothing_is_held(client)


def test_a_picture_whose_spots_break_the_model_gets_no_half_answer(
    client: TestClient, engine: FakeEngine, jpeg: bytes
) -> None:
    def fail(batch: list[int]) -> None:
        if len(batch) == SPOTS:
            raise RuntimeError

    engine.misbehave = fail
    problem(post(client, jpeg, MAP), 500, "engine_failed")
    nothing_is_held(client)
