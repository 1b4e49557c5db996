"""Every system of the papers in one service, on one device."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient

from app.main import create_app
from app.settings import Settings
from model import checkpoint, golden
from model.contract import Contract
from model.networks import registry
from model.scorer import Scorer
from tests.app.conftest import wait_ready
from tests.app.test_pictures import problem
from tests.conftest import encode, photo

SMALL: dict[str, dict[str, Any]] = {
    "smart-mobile": {"backbone": "test_resnet"},
    "smart-mobile-eq": {"backbone": "test_resnet", "rank": 4},
    "hyperiqa": {"backbone": "test_resnet"},
    "life-iqa-mobile": {"backbone": "test_resnet", "depth": 1},
    "loda-ti": {"backbone": "test_resnet", "transformer": "test_vit"},
    "musiq": {"width": 48, "depth": 1, "heads": 4, "hidden": 64},
}
WHOLE = {"musiq"}
WEIGHING = {"smart-mobile", "smart-mobile-eq"}


@pytest.fixture(scope="module")
def scorers(tmp_path_factory: pytest.TempPathFactory, contract: Contract) -> dict[str, Scorer]:
    made = {}
    for name, changes in SMALL.items():
        torch.manual_seed(0)
        network = registry.build(name, **changes)
        for parameter in network.parameters():
            # MUSIQ's head starts at zero.
            parameter.data.add_(0.01 * torch.randn_like(parameter))
        view = registry.view(name, **changes)
        looks = replace(contract, **view, crops=1 if name in WHOLE else 4, slope=0.01, intercept=3.0)
        folder = tmp_path_factory.mktemp("systems") / name
        checkpoint.save(folder, network, name=name, contract=looks, card="# Random weights\n")
        made[name] = Scorer.load(folder, device="cpu", precision="fp32")
        golden.write(made[name])
    return made


@pytest.fixture(scope="module")
def client(scorers: dict[str, Scorer]) -> Iterator[TestClient]:
    folders = tuple(scorer.checkpoint.folder for scorer in scorers.values())
    settings = Settings(checkpoints=folders, device="cpu", precision="fp32")
    with TestClient(create_app(settings)) as client:
        wait_ready(client)
        yield client


def test_all_are_listed(client: TestClient) -> None:
    models = client.get("/models").json()["models"]
    assert [model["name"] for model in models] == list(SMALL)
    assert {model["name"] for model in models if model["stage_attention"]} == WEIGHING
    assert all(model["reproducible"] for model in models)


def test_scores_at_the_same_time_are_the_offline_ones(client: TestClient, scorers: dict[str, Scorer]) -> None:
    pictures = [encode(photo(width, height, seed=width)) for width, height in ((640, 400), (300, 260), (100, 380))]
    wanted = [(name, data) for data in pictures for name in SMALL]

    def ask(name: str, data: bytes) -> dict[str, Any]:
        response = client.post("/score", params={"model": name}, content=data, headers={"Content-Type": "image/jpeg"})
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        answer.pop("timing_ms")
        return answer

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, *zip(*wanted, strict=True)))
    assert answers == [scorers[name].score(data).to_dict() for name, data in wanted]
    assert len({answer["raw_score"] for answer in answers}) == len(answers)


@pytest.mark.parametrize("name", list(SMALL))
def test_attention_is_for_networks_that_weigh_stages(client: TestClient, name: str) -> None:
    response = client.post(
        "/attention", params={"model": name}, content=encode(photo()), headers={"Content-Type": "image/jpeg"}
    )
    if name in WEIGHING:
        assert len(response.json()["stage_weights"]) == 4
    else:
        problem(response, 409, "attention_not_supported")


def test_a_whole_picture_is_one_item(client: TestClient) -> None:
    parameters: dict[str, Any] = {"model": "musiq", "crops": 9, "detail": "crops"}
    response = client.post(
        "/score", params=parameters, content=encode(photo(500, 300)), headers={"Content-Type": "image/jpeg"}
    ).json()
    assert response["crops"] == 1
    assert response["std"] is None
    assert [item["box"] for item in response["crop_scores"]] == [[0, 0, 500, 300]]
