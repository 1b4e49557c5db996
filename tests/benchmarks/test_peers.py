"""The peers must compute what the service computes, or comparing their speed means nothing."""

import pytest
from fastapi.testclient import TestClient

from benchmarks import load
from benchmarks.peers.eager import EagerNetwork
from benchmarks.peers.plain_fastapi import create_app
from benchmarks.serving import SAME_SCORE
from model.scorer import Scorer
from tests.conftest import encode, photo


@pytest.fixture(scope="module")
def network() -> EagerNetwork:
    return EagerNetwork()


@pytest.fixture(scope="module")
def expected() -> list[float]:
    scorer = Scorer.load(device="cpu", precision="fp32")
    return [scorer.score(picture).score for picture in PICTURES]


# The second has another shape than the first, the third is so large that it is also looked at closely.
PICTURES = [encode(photo(700, 500)), encode(photo(224, 224, seed=1)), encode(photo(3200, 2400, seed=2))]


def test_pictures_of_a_batch_get_the_scores_of_the_service(network: EagerNetwork, expected: list[float]) -> None:
    crops = [network.crops(picture) for picture in PICTURES]
    assert len({part.shape for part in crops}) == 2
    assert network.scores(crops) == pytest.approx(expected, abs=SAME_SCORE)


def test_the_endpoint_takes_what_the_load_generator_sends(network: EagerNetwork, expected: list[float]) -> None:
    headers = {"Content-Type": f"multipart/form-data; boundary={load.BOUNDARY}"}
    answer = TestClient(create_app(network)).post("/score", content=load.form("file", PICTURES[0]), headers=headers)
    assert answer.json()["score"] == pytest.approx(expected[0], abs=SAME_SCORE)
