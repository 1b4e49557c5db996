"""A real Prometheus scrapes the service."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import httpx2
import pytest

from tests.conftest import EXAMPLES
from tests.e2e.conftest import Service, free_port

CONFIG = """
global:
  scrape_interval: 1s
scrape_configs:
  - job_name: smart-iqa
    static_configs:
      - targets: ["127.0.0.1:{port}"]
"""


# On a CI machine a missing Prometheus is a failure: the script there installs it.
@pytest.mark.skipif(not shutil.which("prometheus") and "CI" not in os.environ, reason="prometheus is not installed")
def test_prometheus_scrapes_the_service(service: Service, tmp_path: Path) -> None:
    assert service.post(EXAMPLES[0].read_bytes()).status_code == 200
    port = free_port()
    config = tmp_path / "prometheus.yml"
    config.write_text(CONFIG.format(port=service.port))
    prometheus = subprocess.Popen(
        ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'data'}",
         f"--web.listen-address=127.0.0.1:{port}"],
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        url = f"http://127.0.0.1:{port}/api/v1"
        for _ in range(300):
            try:
                targets = httpx2.get(f"{url}/targets").json()["data"]["activeTargets"]
            except (httpx2.TransportError, ValueError):
                # Not listening yet, or saying in plain text that it is not ready.
                targets = []
            if targets and targets[0]["health"] != "unknown":
                break
            time.sleep(0.1)
        assert [(target["health"], target["lastError"]) for target in targets] == [("up", "")]
        query = 'smartiqa_requests_total{route="/score",code="200"}'
        for _ in range(100):
            result = httpx2.get(f"{url}/query", params={"query": query}).json()["data"]["result"]
            if result:
                break
            time.sleep(0.1)
        assert float(result[0]["value"][1]) >= 1
    finally:
        prometheus.terminate()
        prometheus.wait()
