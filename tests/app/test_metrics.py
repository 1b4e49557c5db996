"""What ``/metrics`` tells of models, pictures and the process."""

import asyncio
import dataclasses
import time
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families
from starlette.types import Receive, Scope, Send

from app.http.middleware import RequestMiddleware
from app.http.problems import TABLE
from app.main import create_app
from app.observability.metrics import Metrics
from app.settings import Settings
from model.images import ImageWarning
from tests.app.conftest import served, wait_ready
from tests.app.fakes import FakeEngine
from tests.app.test_pictures import metric, post
from tests.conftest import encode


def samples(client: TestClient, name: str) -> dict[tuple[str, ...], float]:
    """All samples of a name: values by the values of the labels, those in the order of the labels' names."""
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(client.get("/metrics").text)
        for sample in family.samples
        if sample.name == name
    }


def test_warnings_are_counted_for_each_answer_and_begin_at_none(load: Any, jpeg: bytes) -> None:
    with TestClient(create_app(Settings(), load=load)) as client:
        wait_ready(client)
        assert set(samples(client, "smartiqa_image_warnings_total")) == {
            (model, warning.value) for model in ("fake", "plain") for warning in ImageWarning
        }
        assert samples(client, "smartiqa_score_count") == {("fake",): 0, ("plain",): 0}
        grey = encode(Image.new("L", (400, 300), 90))
        for data in (jpeg, grey, grey):
            assert post(client, data).status_code == 200
        counted = samples(client, "smartiqa_image_warnings_total")
        # The second time from memory: the share of warnings is by answers, as the histogram of scores is.
        assert metric(client, 'smartiqa_cache_total{result="hit"}') == 1
    assert {key: value for key, value in counted.items() if value} == {("fake", "grayscale"): 2}


def test_every_problem_begins_at_none(client: TestClient) -> None:
    # A series that is born at 1 never increases, and no alert would see the first of its kind.
    assert samples(client, "smartiqa_rejections_total") == {(code,): 0 for code in TABLE}


def test_scores_of_the_training_photos_are_told(checkpoint_folder: Path) -> None:
    model = served(checkpoint_folder, FakeEngine(cap=8))
    levels = tuple(float(level) for level in range(0, 63, 3))
    contract = dataclasses.replace(model.config.contract, percentiles=levels)
    model = dataclasses.replace(model, config=dataclasses.replace(model.config, contract=contract))
    with TestClient(create_app(Settings(), load=lambda _: {"fake": model})) as client:
        wait_ready(client)
        told = samples(client, "smartiqa_training_score")
    assert len(told) == 21
    assert (told["fake", "0"], told["fake", "0.05"], told["fake", "0.5"], told["fake", "1"]) == (0, 3, 30, 60)


def test_lanes_release_and_process(client: TestClient) -> None:
    assert metric(client, "smartiqa_lanes") == 1
    ((release,),) = samples(client, "smartiqa_build_info")
    assert release == client.get("/openapi.json").json()["info"]["version"]
    assert metric(client, "smartiqa_process_resident_memory_bytes") > 1e7
    # Seconds since 1970: a restart is a change of it.
    assert 1.7e9 < metric(client, "smartiqa_process_start_time_seconds") <= time.time()


def test_a_request_that_the_server_cancels_is_one_whose_client_has_left() -> None:
    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise asyncio.CancelledError

    metrics = Metrics()
    scope = {"type": "http", "method": "POST", "path": "/score", "headers": []}

    async def run() -> None:
        with pytest.raises(asyncio.CancelledError):
            await RequestMiddleware(app, metrics)(scope, None, None)  # type: ignore[arg-type]  # neither is called

    asyncio.run(run())
    assert b'smartiqa_rejections_total{reason="client_disconnected"} 1.0' in metrics.render()
