"""A model of whole views and close looks in the service: the offline scorer's answers by every route."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.http.schemas import ScoreAnswer
from app.main import create_app
from app.settings import Settings
from model.scorer import Scorer
from tests.app.conftest import wait_ready
from tests.app.test_batch import post_all
from tests.app.test_cache import without_timing
from tests.app.test_pictures import post
from tests.conftest import encode, photo

SMALL, LARGE = encode(photo(300, 280)), encode(photo(1300, 900), quality=95)


@pytest.fixture(scope="module", params=["threads", "processes"])
def service(request: pytest.FixtureRequest, whole_folder: Path) -> Iterator[TestClient]:
    settings = Settings(checkpoints=(whole_folder,), device="cpu", precision="fp32", decoder=request.param)
    with TestClient(create_app(settings)) as client:
        wait_ready(client)
        yield client


@pytest.fixture(scope="module")
def scorer(whole_folder: Path) -> Scorer:
    return Scorer.load(whole_folder, device="cpu", precision="fp32")


def expected(scorer: Scorer, data: bytes, crops: int | None = None) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(json.dumps(scorer.score(data, crops).to_dict()))
    return answer


def test_the_answers_are_the_offline_scorers(service: TestClient, scorer: Scorer) -> None:
    for data, items in ((SMALL, 1), (LARGE, 3)):
        answer = post(service, data, "/score").json()
        assert ScoreAnswer.model_validate(answer)
        assert without_timing(answer) == expected(scorer, data)
        assert answer["crops"] == items
        assert answer["interval"].keys() == {"low", "high", "coverage"}
        assert len(answer["defects"]) == 10
    alone = post(service, LARGE, "/score?crops=1").json()
    assert without_timing(alone) == expected(scorer, LARGE, 1)
    # All at once, in whatever batches.
    results = post_all(service, SMALL, LARGE, SMALL, path="/score/batch").json()["results"]
    for result, data in zip(results, (SMALL, LARGE, SMALL), strict=True):
        assert without_timing(result["result"]) == expected(scorer, data)


def test_more_detail(service: TestClient, scorer: Scorer) -> None:
    answer = post(service, LARGE, "/score?detail=map").json()
    assert [crop["box"] for crop in answer["crop_scores"]] == [list(crop.box) for crop in scorer.score(LARGE).crops]
    assert answer["crop_scores"][0]["box"] == [0, 0, 1300, 900]
    score_map = scorer.map(LARGE)
    assert answer["map"] == json.loads(json.dumps(score_map.to_dict()))
    assert answer["map"]["defects"].keys() == score_map.defects.keys()


def test_a_model_without_these_heads_answers_as_before(checkpoint_folder: Path, jpeg: bytes) -> None:
    settings = Settings(checkpoints=(checkpoint_folder,), device="cpu", precision="fp32")
    with TestClient(create_app(settings)) as client:
        wait_ready(client)
        answer = post(client, jpeg, "/score?detail=map").json()
    assert not {"interval", "defects"} & answer.keys()
    assert "defects" not in answer["map"]
