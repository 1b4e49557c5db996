"""``smart-iqa health``: what a supervisor is told, by the address of the settings and never by a proxy."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.commands import smart_iqa

Answers = dict[str, tuple[int, dict[str, str]]]
READY: Answers = {"/health/live": (200, {"status": "ok"}), "/health/ready": (200, {"status": "ready"})}
LOADING: Answers = {**READY, "/health/ready": (503, {"detail": "the models are being loaded"})}
LOST: Answers = {path: (503, {"detail": "a lane of the device has ended or hangs"}) for path in READY}


class _Service(HTTPServer):
    answers: Answers
    asked: list[tuple[str, str | None]]


class _Handler(BaseHTTPRequestHandler):
    server: _Service

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers["X-API-Key"]))
        status, body = self.server.answers[self.path]
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Answers], _Service]]:
    """Starts something that answers like a service, on the port of the settings, in a world full of proxies."""
    started: list[_Service] = []

    def start(answers: Answers) -> _Service:
        server = _Service(("127.0.0.1", 0), _Handler)
        server.answers, server.asked = answers, []
        threading.Thread(target=server.serve_forever).start()
        started.append(server)
        monkeypatch.setenv("SMARTIQA_PORT", str(server.server_port))
        return server

    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("SMARTIQA_HOST", "0.0.0.0")
    yield start
    for server in started:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("answers", "arguments", "status", "said"),
    [
        (READY, (), 0, "ok"),
        (READY, ("--ready",), 0, "ready"),
        (LOADING, (), 0, "ok"),
        (LOADING, ("--ready",), 1, "the models are being loaded"),
        (LOST, (), 1, "a lane of the device has ended or hangs"),
    ],
)
def test_the_service_of_the_settings_is_asked(
    service: Callable[[Answers], _Service], answers: Answers, arguments: Any, status: int, said: str
) -> None:
    asked = service(answers).asked
    run = smart_iqa("health", *arguments)
    assert (run.returncode, said in (run.stderr if status else run.stdout)) == (status, True)
    assert asked == [("/health/ready" if arguments else "/health/live", None)]


def test_probes_that_ask_for_a_key(service: Callable[[Answers], _Service], tmp_path: Path) -> None:
    closed = service({"/health/live": (401, {"detail": "send a key"})})
    run = smart_iqa("health")
    assert run.returncode == 1
    assert "--key-file" in run.stderr
    closed.answers = READY
    (tmp_path / "key").write_text("a-key\n")
    assert smart_iqa("health", "--key-file", tmp_path / "key").returncode == 0
    assert closed.asked[-1] == ("/health/live", "a-key")


def test_nobody_there(service: Callable[[Answers], _Service]) -> None:
    gone = service(READY)
    gone.shutdown()
    gone.server_close()
    run = smart_iqa("health")
    assert run.returncode == 1
    assert f"no answer from the service on 0.0.0.0 port {gone.server_port}" in run.stderr


def test_something_else_there(service: Callable[[Answers], _Service]) -> None:
    service({"/health/live": (200, {"name": "another"})})
    assert smart_iqa("health").returncode == 1


def test_it_waits_for_no_heavy_import() -> None:
    script = (
        "import sys; from contextlib import suppress; from cli.main import main\n"
        "sys.argv[1:] = ['health', '--port', '9']\n"
        "with suppress(SystemExit): main()\n"
        "print(sorted({'torch', 'torchvision', 'uvicorn', 'fastapi', 'ray', 'timm'} & sys.modules.keys()))"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout.strip() == "[]"
