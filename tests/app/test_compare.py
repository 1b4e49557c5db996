"""``/compare``: the order of some pictures, and how sure it is."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app.http.schemas import ComparisonAnswer
from app.main import create_app
from app.settings import Settings
from model import comparison
from model.scorer import Scorer
from tests.app.conftest import wait_ready
from tests.app.test_batch import post_all
from tests.app.test_cache import without_timing
from tests.conftest import encode, photo

PICTURES = [encode(photo(300 + 20 * seed, 280, seed=seed)) for seed in range(3)]


@pytest.fixture(scope="module")
def service(whole_folder: Path) -> Iterator[TestClient]:
    with TestClient(create_app(Settings(checkpoints=(whole_folder,), device="cpu", precision="fp32"))) as client:
        wait_ready(client)
        yield client


def test_the_answer_is_the_offline_one(service: TestClient, whole_folder: Path) -> None:
    answer = post_all(service, *PICTURES, path="/compare").json()
    assert ComparisonAnswer.model_validate(answer)
    scorer = Scorer.load(whole_folder, device="cpu", precision="fp32")
    scores = [scorer.score(data) for data in PICTURES]
    expected = json.loads(json.dumps(comparison.compare(scores).to_dict()))
    assert {name: answer[name] for name in expected} == expected
    assert [without_timing(item["result"]) for item in answer["results"]] == [
        json.loads(json.dumps(score.to_dict())) for score in scores
    ]


def test_a_bad_picture_leaves_the_others_compared(service: TestClient) -> None:
    answer = post_all(service, PICTURES[0], b"no picture", PICTURES[0], path="/compare").json()
    assert answer["results"][1]["problem"]["code"] == "unsupported_format"
    (pair,) = answer["pairs"]
    assert (pair["first"], pair["second"], pair["preferred"], pair["duplicate"]) == (0, 2, 0.5, True)
    assert answer["order"] == [0, 2]


def test_two_to_sixteen_pictures(service: TestClient) -> None:
    one = post_all(service, PICTURES[0], path="/compare")
    assert (one.status_code, one.json()["code"]) == (422, "too_few_files")
    many = post_all(service, *PICTURES[:1] * 17, path="/compare")
    assert (many.status_code, many.json()["code"]) == (413, "too_many_files")


def test_a_model_without_intervals_compares_nothing(checkpoint_folder: Path) -> None:
    with TestClient(create_app(Settings(checkpoints=(checkpoint_folder,), device="cpu", precision="fp32"))) as client:
        wait_ready(client)
        answer = post_all(client, *PICTURES, path="/compare")
    assert (answer.status_code, answer.json()["code"]) == (409, "comparison_not_supported")
