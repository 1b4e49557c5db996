"""A real service process on a free port."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests import commands

MAIN = "from cli.__main__ import start; start()"
TWO_SHAPES = "from model.inference import engine; engine.CANDIDATE_SHAPES['crops', 'cpu'] = (4, 8)"
PROGRAM = (sys.executable, "-c", f"{TWO_SHAPES}; {MAIN}")
"""A service that shares nothing with other processes. It tries out two batch shapes and not all; a score is the same at
each."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Service:
    """A running ``smart-iqa serve``."""

    def __init__(
        self,
        log: Path,
        *,
        program: Sequence[str] = (),
        arguments: Sequence[str] = (),
        cwd: Path | None = None,
        **settings: object,
    ) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        # Without the cache: every request is to reach the device.
        settings = {"cache_crops": 0, **settings}
        variables = {f"SMARTIQA_{name.upper()}": str(value) for name, value in settings.items()}
        # A fork of a process that has imported everything: imports are the longer half of a start.
        program = program or (str(commands.folder() / "python"), "-c", MAIN)
        command = [*program, "serve", "--port", str(self.port), *arguments]
        with log.open("wb") as stderr:
            environment = {**os.environ, **variables}
            self.process = subprocess.Popen(command, env=environment, cwd=cwd, stdin=subprocess.DEVNULL, stderr=stderr)

    def wait_ready(self) -> None:
        for _ in range(1200):
            assert self.process.poll() is None, "the service ended"
            try:
                if httpx2.get(f"{self.url}/health/ready").status_code == 200:
                    return
            except httpx2.TransportError:
                pass
            time.sleep(0.1)
        raise AssertionError("the service did not become ready")

    def post(self, data: bytes, path: str = "/score", **options: object) -> httpx2.Response:
        return httpx2.post(self.url + path, files={"file": data}, timeout=120, **options)  # type: ignore[arg-type]

    def metric(self, series: str) -> float:
        """The sum of the samples of a name, of those with certain labels if it says ``name{label="value"}``."""
        name, _, selector = series.partition("{")
        labels = dict(re.findall(r'(\w+)="([^"]*)"', selector)).items()
        families = text_string_to_metric_families(httpx2.get(f"{self.url}/metrics").text)
        samples = [sample for family in families for sample in family.samples if sample.name == name]
        return sum(sample.value for sample in samples if labels <= sample.labels.items())

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=90)


@contextmanager
def running(log: Path, **options: Any) -> Iterator[Service]:
    """Start a service, wait until it is ready, and end it; options are those of ``Service``."""
    service = Service(log, **options)
    try:
        service.wait_ready()
        yield service
    finally:
        service.process.kill()
        service.process.wait()


Launch = Callable[..., AbstractContextManager[Service]]


@pytest.fixture(scope="session")
def launch() -> Launch:
    """Starts services; ``tests/e2e/ray`` has them served by Ray."""
    return running
