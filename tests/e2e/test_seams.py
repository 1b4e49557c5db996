"""A real process as supervisors and load balancers meet it."""

import http.client
import os
import subprocess
import time
from collections.abc import Iterator

import pytest

from app.settings import Settings
from tests import commands
from tests.e2e.conftest import Launch, Service


@pytest.fixture(scope="module")
def service(launch: Launch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with launch(tmp_path_factory.mktemp("service") / "log") as service:
        yield service


def test_the_command_of_supervisors(service: Service) -> None:
    environment = {**os.environ, "SMARTIQA_PORT": str(service.port), "http_proxy": "http://127.0.0.1:9"}
    for arguments, said in ((("--ready",), "ready\n"), ((), "ok\n")):
        command = [commands.folder() / "smart-iqa", "health", *arguments]
        run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert (run.returncode, run.stdout) == (0, said), run.stderr


def test_an_idle_connection_outlives_the_idle_time_of_load_balancers(service: Service) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
    connection.request("GET", "/health/live")
    assert connection.getresponse().read() == b'{"status":"ok"}'
    first = connection.sock
    assert first is not None
    time.sleep(6)  # uvicorn's own limit is 5
    connection.request("GET", "/health/live")
    assert connection.getresponse().read() == b'{"status":"ok"}'
    assert connection.sock is first, "the same connection"
    connection.close()
    assert Settings.model_fields["keep_alive_seconds"].default > 60, "the idle time of AWS's and nginx's"
