"""Scores that were given before, and answers that a client has already."""

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.main import create_app
from app.observability.metrics import Metrics
from app.scoring.cache import CacheKey, ScoreCache
from app.settings import Settings
from model.scorer import Scorer
from tests.app.conftest import wait_ready
from tests.app.fakes import FakeEngine
from tests.app.test_pictures import metric, post, problem
from tests.conftest import encode, photo


@pytest.fixture
def keeping(load: Any) -> Iterator[TestClient]:
    with TestClient(create_app(Settings(), load=load)) as client:
        wait_ready(client)
        yield client


def without_timing(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name != "timing_ms"}


def test_the_same_bytes_are_scored_once(keeping: TestClient, engine: FakeEngine, jpeg: bytes) -> None:
    first, second = post(keeping, jpeg), post(keeping, jpeg)
    assert [response.headers["X-Cache"] for response in (first, second)] == ["miss", "hit"]
    assert without_timing(first.json()) == without_timing(second.json())
    assert second.json()["timing_ms"] == {"decode_wait": 0, "decode": 0, "queue": 0, "compute": 0}
    assert len(engine.batches) == 1
    assert metric(keeping, 'smartiqa_cache_total{result="hit"}') == 1
    assert metric(keeping, 'smartiqa_cache_total{result="miss"}') == 1
    assert metric(keeping, "smartiqa_cache_crops") == first.json()["crops"]
    assert metric(keeping, 'smartiqa_score_count{model="fake"}') == 2


def test_all_forms_of_an_answer_share_a_score(keeping: TestClient, engine: FakeEngine, jpeg: bytes) -> None:
    post(keeping, jpeg)
    detailed = post(keeping, jpeg, "/score?detail=crops")
    attention = post(keeping, jpeg, "/attention")
    raw = keeping.post("/score", content=jpeg, headers={"Content-Type": "image/jpeg"})
    overlay = post(keeping, jpeg, "/attention?overlay=png")
    assert [one.headers["X-Cache"] for one in (detailed, attention, raw, overlay)] == ["hit"] * 4
    assert overlay.content.startswith(b"\x89PNG")
    assert len(detailed.json()["crop_scores"]) == detailed.json()["crops"]
    assert len(engine.batches) == 1


def test_what_changes_a_score_is_scored_again(keeping: TestClient, jpeg: bytes) -> None:
    others = [
        post(keeping, jpeg),
        post(keeping, jpeg, "/score?crops=2"),
        post(keeping, jpeg, "/score?model=plain"),
        post(keeping, jpeg + b"\0"),
        post(keeping, encode(photo(400, 300, seed=1))),
    ]
    assert [response.headers["X-Cache"] for response in others] == ["miss"] * 5
    assert len({response.headers["ETag"] for response in others}) == 5


def test_nothing_is_kept_of_what_failed(keeping: TestClient, engine: FakeEngine, jpeg: bytes) -> None:
    def fail(_: list[int]) -> None:
        raise ValueError

    engine.misbehave = fail
    problem(post(keeping, jpeg), 500, "engine_failed")
    engine.misbehave = lambda _: None
    assert post(keeping, jpeg).headers["X-Cache"] == "miss"
    assert metric(keeping, 'smartiqa_cache_total{result="miss"}') == 2


def test_a_client_that_has_the_answer_gets_none(keeping: TestClient, jpeg: bytes) -> None:
    tag = post(keeping, jpeg).headers["ETag"]
    assert tag.startswith('W/"')
    for sent in (tag, f'"other", {tag}'):
        response = post(keeping, jpeg, headers={"If-None-Match": sent})
        assert (response.status_code, response.content, response.headers["ETag"]) == (304, b"", tag)
    assert metric(keeping, 'smartiqa_requests_total{code="304",route="/score"}') == 2
    for path in ("/score?detail=crops", "/attention", "/attention?overlay=png", "/score?crops=1"):
        assert post(keeping, jpeg, path, headers={"If-None-Match": tag}).status_code == 200, path
    assert post(keeping, jpeg, headers={"If-None-Match": '"other"'}).status_code == 200
    assert post(keeping, jpeg, headers={"If-None-Match": "*"}).status_code == 200


def test_a_tag_outlives_the_cache(load: Any, engine: FakeEngine, jpeg: bytes) -> None:
    tags = []
    for _ in range(2):
        with TestClient(create_app(Settings(cache_crops=0), load=load)) as client:
            wait_ready(client)
            tags.append(post(client, jpeg).headers["ETag"])
            assert post(client, jpeg, headers={"If-None-Match": tags[0]}).status_code == 304
    assert tags[0] == tags[1]
    assert len(engine.batches) == 2


def test_the_cache_can_be_off(client: TestClient, engine: FakeEngine, jpeg: bytes) -> None:
    assert [post(client, jpeg).headers["X-Cache"] for _ in range(2)] == ["miss", "miss"]
    assert len(engine.batches) == 2
    assert metric(client, 'smartiqa_cache_total{result="miss"}') == 0


def test_the_least_recent_go_first(scorer: Scorer, jpeg: bytes) -> None:
    score = scorer.score(jpeg)
    names = [CacheKey(str(number), "m@1", "c", None) for number in range(4)]
    cache = ScoreCache(3 * len(score.crops), Metrics())
    for name in names[:3]:
        cache.put(name, score)
    assert cache.get(names[0]) is score
    cache.put(names[3], score)
    assert [cache.get(name) is score for name in names] == [True, False, True, True]


def test_a_score_larger_than_the_cache_is_not_kept(scorer: Scorer, jpeg: bytes) -> None:
    score = scorer.score(jpeg)
    cache = ScoreCache(len(score.crops) - 1, Metrics())
    cache.put(CacheKey("1", "m@1", "c", None), score)
    assert cache.get(CacheKey("1", "m@1", "c", None)) is None
