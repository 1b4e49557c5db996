"""Draining, and being ready."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.main import create_app
from app.settings import Settings
from tests.app.conftest import wait_ready
from tests.app.fakes import FakeEngine
from tests.app.test_keys import bearer, entry
from tests.app.test_pictures import metric, post, problem

ADMIN = bearer("r-key")


@pytest.fixture
def client(load: Any) -> Iterator[TestClient]:
    settings = Settings(admin_keys=(entry("root", "r-key"),))
    with TestClient(create_app(settings, load=load), raise_server_exceptions=False) as client:
        wait_ready(client)
        yield client


def eventually(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError


def test_draining_finishes_what_was_accepted_and_takes_nothing_new(
    client: TestClient, engine: FakeEngine, jpeg: bytes
) -> None:
    engine.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        accepted = pool.submit(post, client, jpeg)
        eventually(lambda: bool(engine.batches))
        assert client.post("/admin/drain", headers=ADMIN).json() == {"draining": True}
        problem(client.get("/health/ready"), 503, "draining")
        assert client.get("/health/live").status_code == 200
        assert metric(client, "smartiqa_ready") == 0
        response = post(client, jpeg)
        problem(response, 503, "draining")
        assert response.headers["Retry-After"] == "5"
        assert client.get("/models/fake").status_code == 200
        engine.gate.set()
        assert accepted.result().status_code == 200
    assert client.post("/admin/drain", headers=ADMIN, params={"undo": True}).json() == {"draining": False}
    wait_ready(client)
    assert post(client, jpeg).status_code == 200


def test_every_route_that_scores_drains(client: TestClient) -> None:
    """A new route that takes pictures must pass ``access.admit``, or exchanges of models may fail its requests."""
    client.post("/admin/drain", headers=ADMIN)
    routes = [
        path
        for path, operations in client.get("/openapi.json").json()["paths"].items()
        if "scores" in operations.get("post", {}).get("tags", ())
    ]
    assert {"/score", "/attention"} <= set(routes)
    for path in routes:
        problem(client.post(path), 503, "draining")


def test_a_service_without_a_model_is_not_ready(jpeg: bytes) -> None:
    with TestClient(create_app(Settings(), load=lambda _: {})) as client:
        eventually(lambda: "no model" in problem(client.get("/health/ready"), 503, "not_ready")["detail"])
        problem(post(client, jpeg), 503, "not_ready")
        assert metric(client, "smartiqa_ready") == 0
