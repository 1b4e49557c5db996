"""The application around a fake engine, or around the checkpoint with random weights."""

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from app.main import create_app
from app.models.loading import LoadedModel
from app.settings import Settings
from model.checkpoint import inspect
from model.contract import Contract
from tests.app.decoding import Bench, MakeBench
from tests.app.fakes import FakeEngine
from tests.conftest import encode, photo


@pytest.fixture(scope="session")
def jpeg() -> bytes:
    return encode(photo(400, 300))


def served(folder: Path, *engines: FakeEngine, name: str = "fake", attention: bool = True) -> LoadedModel:
    """A model whose contract is real and whose engines, one for each lane, are not."""
    config, digest = inspect(folder)
    fields = {**config.__dict__, "name": name}
    return LoadedModel(
        config=type(config)(**fields),
        digest=digest,
        engines=engines,
        parameters=1,
        stage_attention=attention,
        precision="fp32",
        batch_shapes=(engines[0].cap,),
        reproducible=True,
        devices=tuple(dict.fromkeys(engine.device for engine in engines)),
    )


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine(cap=8)


@pytest.fixture
def load(checkpoint_folder: Path, engine: FakeEngine) -> Callable[[Settings], Mapping[str, LoadedModel]]:
    models = {
        "fake": served(checkpoint_folder, engine),
        "plain": served(checkpoint_folder, FakeEngine(cap=8), name="plain", attention=False),
    }
    return lambda _: models


@pytest.fixture
def client(load: Callable[[Settings], Mapping[str, LoadedModel]]) -> Iterator[TestClient]:
    # Without the cache: every request is to reach the engine.
    with TestClient(create_app(Settings(cache_crops=0), load=load), raise_server_exceptions=False) as client:
        wait_ready(client)
        yield client


@pytest.fixture
def bench(contract: Contract) -> Iterator[MakeBench]:
    """Makes decoders around fake sandboxes."""
    made: list[Bench] = []

    def make(**options: int) -> Bench:
        made.append(Bench(contract, **options))
        return made[-1]

    yield make
    for one in made:
        one.decoder.close()


def wait_ready(client: TestClient) -> None:
    for _ in range(3000):
        if client.get("/health/ready").status_code == 200:
            return
        time.sleep(0.02)
    raise AssertionError("the service did not become ready")
