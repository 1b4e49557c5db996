"""A real Prometheus scrapes the service, evaluates the committed rules, and answers what the dashboard asks."""

import io
import math
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from PIL import Image

from tests.app.test_keys import entry
from tests.conftest import EXAMPLES, ROOT, encode
from tests.deploy.promql import RULES, Series, complaints, exposed, fill, panels, rules
from tests.e2e.conftest import Service, free_port, running

DEPLOY = ROOT / "deploy" / "prometheus"
ADMIN = {"X-API-Key": "r-key"}
NEVER = ("offset 1w", "smartiqa_batch_failures_total")
"""Queries without an answer here: of a week ago, and of what does not happen."""

# On a CI machine a missing Prometheus is a failure: the script there installs it.
pytestmark = pytest.mark.skipif(
    not shutil.which("prometheus") and "CI" not in os.environ, reason="prometheus is not installed"
)


class Prometheus:
    """A running Prometheus with the committed rules, all of them evaluated every second.

    Args:
        folder: Where it may write.
        target: What to scrape, host and port.
    """

    def __init__(self, folder: Path, target: str) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(file) for file in RULES],
            "scrape_configs": [{"job_name": "smart-iqa", "static_configs": [{"targets": [target]}]}],
        }
        file = folder / "prometheus.yml"
        file.write_text(yaml.safe_dump(config))
        self.process = subprocess.Popen(
            ["prometheus", f"--config.file={file}", f"--storage.tsdb.path={folder / 'data'}",
             f"--web.listen-address=127.0.0.1:{port}"],
            stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def get(self, path: str, **parameters: str) -> Any:
        response = httpx2.get(f"{self.url}/api/v1/{path}", params=parameters)
        assert response.status_code == 200, response.text
        return response.json()["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        return list(self.get("query", query=expression)["result"])

    def targets(self) -> list[dict[str, Any]]:
        try:
            return [target for target in self.get("targets")["activeTargets"] if target["health"] != "unknown"]
        except (httpx2.TransportError, AssertionError):
            # Not listening yet, or saying in plain text that it is not ready.
            return []


def eventually(check: Callable[[], Any]) -> Any:
    for _ in range(300):
        if found := check():
            return found
        time.sleep(0.1)
    raise AssertionError("it has not come")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    with running(folder / "log", admin_keys=entry("root", "r-key"), cache_crops=65536) as service:
        yield service


@pytest.fixture(scope="module")
def prometheus(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Prometheus, after it has seen the service before and after all kinds of requests."""
    prometheus = Prometheus(tmp_path_factory.mktemp("prometheus"), f"127.0.0.1:{service.port}")
    try:
        (target,) = eventually(prometheus.targets)
        assert (target["health"], target["lastError"]) == ("up", "")
        # Twice: a series that was not there before the first time increases only after it.
        for picture in EXAMPLES[:2]:
            ask_for_everything(service, picture.read_bytes())
            scrape_again(prometheus)
        yield prometheus
    finally:
        prometheus.process.terminate()
        prometheus.process.wait()


def ask_for_everything(service: Service, data: bytes) -> None:
    grey = encode(Image.open(io.BytesIO(data)).convert("L"))
    with httpx2.Client(base_url=service.url, headers=ADMIN, timeout=120) as client:
        statuses = [
            client.post(path, files=files).status_code
            for path, files in [
                ("/score", {"file": data}),
                ("/score", {"file": data}),
                ("/score?crops=auto", {"file": grey}),
                ("/score?policy=marketplace", {"file": data}),
                ("/attention", {"file": data}),
                ("/score/batch", {"file": grey}),
                ("/score", {"file": b"no picture"}),
            ]
        ]
        assert statuses == [200, 200, 200, 200, 200, 200, 415]
        assert client.post("/admin/reload").status_code == 200
        client.post("/admin/drain")
        assert client.post("/score", files={"file": data}).status_code == 503
        client.post("/admin/drain", params={"undo": True})


def scrape_again(prometheus: Prometheus) -> None:
    """Wait until everything so far is scraped, and then evaluated."""

    def wait(moments: Callable[[], list[str]]) -> None:
        begun = time.time()

        def after(moment: str) -> bool:
            # Prometheus writes nanoseconds, Python reads microseconds.
            return datetime.fromisoformat(re.sub(r"(\.\d{6})\d*", r"\1", moment)).timestamp() > begun

        eventually(lambda: all(map(after, moments())))

    # The times are those of the begin; what has begun last may not have ended, but what began before it has.
    for _ in range(2):
        wait(lambda: [target["lastScrape"] for target in prometheus.targets()])
    for _ in range(2):
        wait(lambda: [group["lastEvaluation"] for group in prometheus.get("rules")["groups"]])


def test_prometheus_scrapes_the_service(prometheus: Prometheus) -> None:
    (found,) = prometheus.query('smartiqa_requests_total{route="/score",code="200"}')
    assert float(found["value"][1]) == 8


def test_every_rule_is_evaluated(prometheus: Prometheus) -> None:
    evaluated = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert len(evaluated) == len(rules())
    for rule in evaluated:
        assert (rule["health"], rule.get("lastError")) == ("ok", None), rule["name"]
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    found = {series["metric"]["__name__"] for series in prometheus.query('{__name__=~".+:smartiqa_.+"}')}
    # What is of the last week ends an hour ago.
    assert recorded - found == {"model:smartiqa_score:mean7d", "policy:smartiqa_rejected:ratio_rate7d"}
    # A service that is well, and has just begun, is no reason to wake anybody.
    assert not [alert["labels"] for alert in prometheus.get("alerts")["alerts"] if alert["state"] == "firing"]


@pytest.mark.usefixtures("prometheus")
def test_everything_in_rules_and_dashboard_is_there(service: Service) -> None:
    series: Series = exposed(httpx2.get(f"{service.url}/metrics").text)
    recorded = [rule["record"] for rule in rules() if "record" in rule]
    queries = [fill(target["expr"]) for panel in panels() for target in panel.get("targets", [])]
    assert len(queries) > 60
    for expression in [rule["expr"] for rule in rules()] + queries:
        if "smartiqa_batch_failures_total" not in expression:
            assert not list(complaints(expression, series, recorded)), expression


@pytest.mark.parametrize("panel", [one for one in panels() if one["type"] != "row"], ids=lambda panel: panel["title"])
def test_every_panel_has_data(prometheus: Prometheus, panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        numbers = [float(series["value"][1]) for series in prometheus.query(fill(target["expr"]))]
        # A quantile of nothing, or a share of it, is no number.
        some = any(not math.isnan(number) for number in numbers)
        assert some or any(words in target["expr"] for words in NEVER), target["expr"]


@pytest.mark.parametrize("file", sorted((DEPLOY / "tests").glob("*.yml")), ids=lambda file: file.name)
def test_rules_do_what_they_shall(file: Path) -> None:
    done = subprocess.run(["promtool", "test", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_finds_no_fault() -> None:
    rules_, config = map(str, RULES), str(DEPLOY / "prometheus.yml")
    for command in (["rules", "--lint=all", "--lint-fatal", *rules_], ["config", config]):
        done = subprocess.run(["promtool", "check", *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
