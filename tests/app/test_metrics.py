"""What ``/metrics`` tells of models, pictures and the process."""

import asyncio
import dataclasses
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from starlette.types import Receive, Scope, Send

from app.http.middleware import RequestMiddleware
from app.http.problems import TABLE
from app.main import create_app
from app.observability.access import STAGES
from app.observability.metrics import KeyMetrics, Metrics
from app.settings import Settings
from model.images import ImageWarning
from tests.app.conftest import served, wait_ready
from tests.app.fakes import FakeEngine
from tests.app.test_keys import bearer, entry
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
            await RequestMiddleware(app, metrics, Settings())(scope, None, None)  # type: ignore[arg-type]  # neither is called

    asyncio.run(run())
    assert b'smartiqa_rejections_total{reason="client_disconnected"} 1.0' in metrics.render().text


def test_answers_of_every_route_begin_at_none(client: TestClient) -> None:
    # Of a series that is born at 900, a rate sees no increase.
    counted = samples(client, "smartiqa_requests_total")
    for status in ("200", "304", "422", "429", "499", "500", "503", "504"):
        assert counted[status, "/score"] == 0
    assert counted["404", "unmatched"] == 0
    assert samples(client, "smartiqa_request_seconds_count")["/score/batch",] == 0


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text; version=1.0.0,text/plain;version=0.0.4;q=0.5"])
def test_no_line_tells_when_a_series_began(client: TestClient, accept: str) -> None:
    answer = client.get("/metrics", headers={"Accept": accept})
    assert "_created" not in answer.text
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text" if accept else "text/plain")
    assert answer.text.endswith("# EOF\n") == bool(accept)
    assert "Accept" in answer.headers["Vary"]


def test_latencies_name_traces_in_openmetrics(client: TestClient, jpeg: bytes) -> None:
    kept, dropped = "a" * 32, "c" * 32
    for trace, flags in ((kept, "01"), (dropped, "00")):
        post(client, jpeg, headers={"traceparent": f"00-{trace}-{'b' * 16}-{flags}"})
    text = client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"}).text
    with_exemplar = {
        sample.name
        for family in openmetrics.text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
        for sample in family.samples
        if sample.exemplar is not None and sample.exemplar.labels == {"trace_id": kept}
    }
    stages = ("request", "decode_wait", "decode", "queue", "compute")
    assert with_exemplar == {f"smartiqa_{stage}_seconds_bucket" for stage in stages}
    assert dropped not in text, "a trace that is not kept leads nowhere"
    assert kept not in client.get("/metrics").text


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool comes with Prometheus")
def test_promtool_finds_nothing_to_say(client: TestClient, jpeg: bytes) -> None:
    post(client, jpeg)
    client.app.state.metrics.training_score.labels("fake", "0.5").set(50)  # type: ignore[attr-defined]
    text = client.get("/metrics").text
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_keys_are_counted_by_name_up_to_a_bound(load: Any, jpeg: bytes) -> None:
    keys = tuple(entry(name, f"{name}-key") for name in ("ann", "bob", "cid", "dan"))
    with TestClient(create_app(Settings(api_keys=keys, key_metrics=2), load=load)) as client:
        wait_ready(client)
        begun = samples(client, "smartiqa_key_requests_total")
        for name in ("ann", "cid", "dan"):
            post(client, jpeg, headers=bearer(f"{name}-key"))
        post(client, b"no picture", headers=bearer("ann-key"))
        counted = samples(client, "smartiqa_key_requests_total")
        seconds = samples(client, "smartiqa_key_stage_seconds_total")
    assert {key for _, key in begun} == {"ann", "bob", "other"}
    assert not any(begun.values())
    assert {name: value for name, value in counted.items() if value} == {
        ("2xx", "ann"): 1,
        ("4xx", "ann"): 1,
        ("2xx", "other"): 2,
    }
    assert seconds["ann", "compute"] > 0
    assert set(seconds) == {(key, stage) for key in ("ann", "bob", "other") for stage in STAGES}


def test_new_names_of_a_file_of_keys_stay_within_the_bound() -> None:
    metrics = Metrics()
    counted = KeyMetrics(metrics, 2, lambda: {"ann"})
    for name in ("ann", "bob", *(f"k{number}" for number in range(100))):
        counted.count(name, 200, {})
    text = metrics.render().text.decode()
    assert set(re.findall(r'key_requests_total\{code="2xx",key="(\w+)"\}', text)) == {"ann", "bob", "other"}
    none = Metrics()
    KeyMetrics(none, 0, lambda: {"ann"}).count("ann", 200, {"decode": 1.0})
    assert "key=" not in none.render().text.decode()
