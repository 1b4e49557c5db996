"""Models, probes, metrics and the OpenAPI document."""

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from app.main import create_app
from app.settings import Settings
from tests.app.conftest import wait_ready
from tests.app.fakes import FakeEngine
from tests.app.test_pictures import metric, post, problem
from tests.conftest import ROOT


def test_models(client: TestClient) -> None:
    listed = client.get("/models").json()["models"]
    assert [model["name"] for model in listed] == ["fake", "plain"]
    assert client.get("/models/fake").json() == listed[0]
    assert listed[0]["contract"]["crops"] == 4
    assert listed[0]["digest"].startswith("sha256:")
    problem(client.get("/models/other"), 404, "unknown_model")


def test_not_ready_while_loading(load: Any, jpeg: bytes) -> None:
    gate = threading.Event()

    def slow(settings: Settings) -> Any:
        gate.wait(10)
        return load(settings)

    with TestClient(create_app(Settings(), load=slow)) as client:
        assert client.get("/health/live").json() == {"status": "ok"}
        assert "being loaded" in problem(client.get("/health/ready"), 503, "not_ready")["detail"]
        response = post(client, jpeg)
        problem(response, 503, "not_ready")
        assert response.headers["Retry-After"] == "5"
        assert client.get("/models").json() == {"models": []}
        assert metric(client, "smartiqa_ready") == 0
        gate.set()
        wait_ready(client)
        assert metric(client, "smartiqa_ready") == 1
        assert post(client, jpeg).status_code == 200


def test_never_ready_if_loading_fails(tmp_path: Path, jpeg: bytes) -> None:
    with TestClient(create_app(Settings(checkpoints=(tmp_path,)))) as client:
        for _ in range(1000):
            detail = problem(client.get("/health/ready"), 503, "not_ready")["detail"]
            if "cannot be loaded" in detail:
                break
            time.sleep(0.01)
        assert detail == "the models cannot be loaded (CheckpointError)"
        problem(post(client, jpeg), 503, "not_ready")
        assert client.get("/health/live").status_code == 200


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_lost_device_is_neither_ready_nor_alive(client: TestClient, engine: FakeEngine, jpeg: bytes) -> None:
    def end(_: list[int]) -> None:
        raise SystemExit

    engine.misbehave = end
    problem(post(client, jpeg), 503, "device_lost")
    problem(client.get("/health/live"), 503, "device_lost")
    problem(client.get("/health/ready"), 503, "not_ready")
    problem(post(client, jpeg), 503, "device_lost")
    client.app.state.service.manager.workers._threads[0].join()  # type: ignore[attr-defined]


def test_an_engine_that_keeps_failing_is_not_ready(client: TestClient, engine: FakeEngine, jpeg: bytes) -> None:
    def fail(_: list[int]) -> None:
        raise RuntimeError("broken")

    engine.misbehave = fail
    for _ in range(3):
        problem(post(client, jpeg), 500, "engine_failed")
    assert "keeps failing" in problem(client.get("/health/ready"), 503, "not_ready")["detail"]
    assert client.get("/health/live").status_code == 200
    engine.misbehave = lambda _: None
    assert post(client, jpeg).status_code == 200
    assert client.get("/health/ready").status_code == 200


def test_metrics_after_a_few_requests(client: TestClient, jpeg: bytes) -> None:
    for _ in range(3):
        post(client, jpeg)
    post(client, b"no picture")
    text = client.get("/metrics").text
    families = {family.name for family in text_string_to_metric_families(text)}
    assert all(name.startswith("smartiqa_") for name in families)
    for line, value in {
        'smartiqa_requests_total{code="200",route="/score"}': 3,
        'smartiqa_requests_total{code="415",route="/score"}': 1,
        'smartiqa_rejections_total{reason="unsupported_format"}': 1,
        "smartiqa_decode_seconds_count": 4,
        "smartiqa_decode_wait_seconds_count": 4,
        "smartiqa_decode_pending": 0,
        "smartiqa_decode_drain_seconds": 0,
        "smartiqa_decode_threads": 2,
        "smartiqa_queue_seconds_count": 3,
        "smartiqa_compute_seconds_count": 3,
        'smartiqa_request_seconds_count{route="/score"}': 4,
        "smartiqa_batch_crops_sum": 12,
        "smartiqa_batch_fill_ratio_sum": 1.5,
        'smartiqa_batch_flush_total{reason="idle"}': 3,
        'smartiqa_score_count{model="fake"}': 3,
        "smartiqa_input_megapixels_count": 3,
        'smartiqa_input_format_total{format="JPEG"}': 3,
        "smartiqa_queue_crops": 0,
    }.items():
        assert metric(client, line) == value, line
    assert text.count("smartiqa_model_info{") == 2
    # The scrape itself is the one request in flight.
    assert metric(client, "smartiqa_requests_in_flight") == 1


def test_decoder_places_are_bounded_and_given_back(load: Any, jpeg: bytes) -> None:
    with TestClient(create_app(Settings(max_decodes=1), load=load)) as client:
        wait_ready(client)
        client.app.state.service.pipeline._decoder._slots["of another"] = ""  # type: ignore[attr-defined]
        response = post(client, jpeg)
        problem(response, 429, "queue_full")
        assert response.headers["Retry-After"] == "1"
        client.app.state.service.pipeline._decoder._slots.clear()  # type: ignore[attr-defined]
        for _ in range(3):
            assert post(client, jpeg).status_code == 200


def test_openapi_is_the_committed_one(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    assert document == json.loads((ROOT / "docs" / "openapi.json").read_text(encoding="utf-8")), "run: make openapi"


def test_openapi_describes_uploads_and_problems(client: TestClient) -> None:
    for path in ("/score", "/attention", "/attention/overlay"):
        operation = client.get("/openapi.json").json()["paths"][path]["post"]
        assert set(operation["requestBody"]["content"]) == {
            "multipart/form-data",
            "image/*",
            "application/octet-stream",
        }
        assert {"400", "404", "413", "415", "422", "429", "500", "503", "504"} <= set(operation["responses"])
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                schema = {"schema": {"$ref": "#/components/schemas/ProblemBody"}}
                assert response["content"] == {"application/problem+json": schema}
