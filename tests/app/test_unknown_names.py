"""Parameters and fields that nobody knows: ignored, they would give another answer than was asked for."""

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app.main import create_app
from app.settings import Settings
from tests.app.conftest import wait_ready
from tests.app.test_keys import bearer, entry
from tests.app.test_pictures import post, problem


@pytest.fixture
def guarded(load: Any) -> Iterator[TestClient]:
    settings = Settings(api_keys=(entry("ann", "a-key"),), admin_keys=(entry("root", "r-key"),))
    with TestClient(create_app(settings, load=load)) as client:
        wait_ready(client)
        yield client


def test_every_route_refuses_a_parameter_that_it_does_not_have(guarded: TestClient) -> None:
    app = guarded.app
    assert isinstance(app, FastAPI)
    routes = [(path, method.upper()) for path, methods in app.openapi()["paths"].items() for method in methods]
    assert len(routes) >= 11
    for path, method in routes:
        answer = guarded.request(method, f"{path}?xyzzy=1", headers=bearer("r-key"))
        assert (
            problem(answer, 422, "invalid_parameter")["detail"] == "there is no 'xyzzy' among the query parameters here"
        )


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/score?crop=16", "crops"),
        ("/score?Crops=16", "crops"),
        ("/score?crops=1&models=plain", "model"),
        ("/score/batch?details=map", "detail"),
        ("/attention?overlays=png", "overlay"),
        ("/compare?polcy=strict", "policy"),
    ],
)
def test_the_refusal_says_what_may_have_been_meant(client: TestClient, jpeg: bytes, path: str, meant: str) -> None:
    detail = problem(post(client, jpeg, path), 422, "invalid_parameter")["detail"]
    assert detail.endswith(f"; did you mean {meant}?")


def test_a_parameter_of_another_route_is_refused(client: TestClient, jpeg: bytes) -> None:
    problem(post(client, jpeg, "/score?overlay=png"), 422, "invalid_parameter")


def test_parameters_of_a_route_are_taken_together(client: TestClient, jpeg: bytes) -> None:
    assert post(client, jpeg, "/score?model=fake&crops=2&detail=crops").status_code == 200
    assert post(client, jpeg, "/attention?model=fake&overlay=png").headers["content-type"] == "image/png"


def test_a_key_is_asked_for_first(guarded: TestClient) -> None:
    problem(guarded.post("/score?crop=16"), 401, "missing_key")
    problem(guarded.post("/admin/drain?undoo=1"), 401, "missing_key")
    assert guarded.post("/admin/drain?undoo=1", headers=bearer("r-key")).status_code == 422
    assert guarded.get("/health/ready").status_code == 200, "it does not drain"


def test_a_long_name_is_not_sent_back(client: TestClient, jpeg: bytes) -> None:
    detail = problem(post(client, jpeg, f"/score?{'a' * 5000}=1"), 422, "invalid_parameter")["detail"]
    assert detail == f"there is no '{'a' * 64}' among the query parameters here"


def test_the_page_may_be_linked_with_any_query(client: TestClient) -> None:
    assert client.get("/?utm_source=mail").status_code == 200


@pytest.mark.parametrize("path", ["/score", "/score/batch", "/attention"])
def test_a_field_that_is_not_the_picture_is_refused(client: TestClient, jpeg: bytes, path: str) -> None:
    """``curl -F file=@photo.jpg -F crops=16`` would score as many crops as ever."""
    answer = client.post(path, files={"file": jpeg}, data={"crops": "16"})
    detail = problem(answer, 422, "invalid_parameter")["detail"]
    assert detail == "there is no 'crops' among the fields of the body; parameters stand in the query"
    other = client.post(path, files=[("file", jpeg), ("files", jpeg)])
    assert problem(other, 422, "invalid_parameter")["detail"].endswith("; did you mean file?")
