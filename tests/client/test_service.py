"""Both clients before a real service process."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.http import keys
from model.scorer import Scorer
from smart_iqa_client import (
    AsyncClient,
    Client,
    DeadlineExceeded,
    KeyRefused,
    Overloaded,
    PictureProblem,
    RequestProblem,
    Retries,
    Score,
    UnknownModel,
    Unreachable,
)
from tests.conftest import EXAMPLES, encode, photo
from tests.e2e.conftest import Service, free_port, running

KEY, LINE = keys.make("someone")
SLOW, SLOW_LINE = keys.make("another")
LIMIT = 2**20
RATE = 16.0
"""Crops per second that a key may ask for."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, checkpoint_folder: Path) -> Iterator[Service]:
    lines = [line.replace(" ", ":") for line in (LINE, SLOW_LINE)]
    settings = {
        "checkpoints": checkpoint_folder,
        "device": "cpu",
        "precision": "fp32",
        "api_keys": ",".join(lines),
        "max_body_bytes": LIMIT,
        "max_upload_bytes": 2**24,
        "key_crops_per_second": RATE,
    }
    with running(tmp_path_factory.mktemp("service") / "log", **settings) as service:
        yield service


@pytest.fixture
def client(service: Service) -> Iterator[Client]:
    with Client(service.url, api_key=KEY) as client:
        yield client


def test_scores_are_those_of_python(client: Client, scorer: Scorer) -> None:
    answer = client.score(EXAMPLES[0], detail="crops")
    expected = scorer.score(EXAMPLES[0])
    assert (answer.score, answer.stderr, answer.crops) == (expected.score, expected.stderr, 4)
    assert [crop.box for crop in answer.crop_scores or ()] == [crop.box for crop in expected.crops]
    assert answer.image.sha256 == expected.sha256
    assert answer.model.digest == client.models()[0].digest


def test_attention_and_its_drawing(client: Client) -> None:
    answer = client.attention(EXAMPLES[0], crops=2)
    assert sum(answer.stage_weights) == pytest.approx(1, abs=1e-5)
    assert answer.stages == ("stage1", "stage2", "stage3", "stage4")
    drawings = {client.overlay(EXAMPLES[0], crops=2), client.overlay(EXAMPLES[0], stage=1)}
    assert len(drawings) == 2
    assert all(drawing.startswith(b"\x89PNG") for drawing in drawings)


def test_a_map(client: Client) -> None:
    answer = client.score(EXAMPLES[0], crops=1, detail="map")
    assert answer.map is not None
    assert answer.crop_scores is not None
    assert max(answer.map.rows, answer.map.columns) == 32
    assert [len(row) for row in answer.map.scores] == [answer.map.columns] * answer.map.rows


def test_readiness(client: Client) -> None:
    assert client.ready()
    with Client(f"http://127.0.0.1:{free_port()}", retries=Retries(attempts=2, first_seconds=0)) as nobody:
        assert not nobody.ready()
        with pytest.raises(Unreachable):
            nobody.score(b"bytes")


def test_problems(client: Client, service: Service) -> None:
    picture = encode(photo())
    with pytest.raises(PictureProblem, match="image_truncated"):
        client.score(picture[:-1000])
    with pytest.raises(PictureProblem, match="empty_body"):
        client.score(b"")
    with pytest.raises(UnknownModel):
        client.score(picture, model="nobody")
    with pytest.raises(RequestProblem, match="invalid_parameter"):
        client.score(picture, crops=65)
    with pytest.raises(DeadlineExceeded):
        client.score(encode(photo(1600, 1200)), crops=64, deadline=0.002)
    with Client(service.url) as stranger, pytest.raises(KeyRefused, match="missing_key"):
        stranger.score(picture)


def test_the_reason_is_heard_although_the_picture_was_not_taken(client: Client) -> None:
    # The service answers and closes the connection while the client still sends.
    with pytest.raises(PictureProblem, match="body_too_large"):
        client.score(bytes(3 * LIMIT))


def test_many(client: Client) -> None:
    pictures = [encode(photo(seed=seed)) for seed in range(6)]
    pictures[3] = pictures[3][:-1000]
    alone = [client.score(picture, crops=1).score for picture in pictures if picture is not pictures[3]]
    outcomes = list(client.score_many(pictures, crops=1, concurrency=4))
    assert [one.result.score for one in outcomes if isinstance(one.result, Score)] == alone
    assert [one.index for one in outcomes if isinstance(one.result, PictureProblem)] == [3]


def test_asyncio(service: Service, scorer: Scorer) -> None:
    async def run() -> None:
        async with AsyncClient(service.url, api_key=KEY) as client:
            assert await client.ready()
            assert (await client.score(EXAMPLES[0])).score == scorer.score(EXAMPLES[0]).score
            assert (await client.overlay(EXAMPLES[0], crops=1)).startswith(b"\x89PNG")
            with pytest.raises(PictureProblem, match="body_too_large"):
                await client.score(bytes(3 * LIMIT))
            scores = [one.result async for one in client.score_many(EXAMPLES, crops=1, concurrency=2)]
            assert [type(score) for score in scores] == [Score] * len(EXAMPLES)

    asyncio.run(run())


def test_a_rate_is_kept_to(service: Service) -> None:
    with Client(service.url, api_key=SLOW) as client:
        # What is no picture costs the key as much and the device nothing; it has saved up ten seconds' crops.
        outcomes = client.score_many([b"no picture"] * 16, crops=64, concurrency=2, retries=Retries(attempts=1))
        assert {type(one.result) for one in outcomes} == {PictureProblem, Overloaded}
        # What is left may do for one.
        outcomes = client.score_many([encode(photo())] * 3, crops=12, concurrency=2)
        assert [type(one.result) for one in outcomes] == [Score] * 3
