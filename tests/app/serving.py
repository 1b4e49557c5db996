"""The real server and its connections, around an engine that is not."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2
import uvicorn

from app.http.protocol import protocol
from app.main import create_app
from app.settings import Settings
from model.checkpoint import inspect
from model.options import DEFAULT_CHECKPOINT
from tests.app.conftest import served
from tests.app.fakes import FakeEngine


@contextmanager
def serving(**options: Any) -> Iterator[str]:
    """The real server and connections, around an engine that is not."""
    contract = inspect(DEFAULT_CHECKPOINT)[0].contract
    columns = 5 + 2 * len(contract.defects) + (contract.interval.columns if contract.interval else 0)
    columns += contract.description
    models = {
        "fake": served(DEFAULT_CHECKPOINT, FakeEngine(cap=8, columns=columns)),
        "plain": served(DEFAULT_CHECKPOINT, FakeEngine(cap=8, columns=columns), name="plain", attention=False),
    }
    chosen = Settings(**options)
    app = create_app(chosen, load=lambda _: models)
    config = uvicorn.Config(app, port=0, log_config=None, http=protocol(chosen, app.state.metrics) or "auto")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        while httpx2.get(f"{url}/health/ready").status_code != 200:
            time.sleep(0.01)
        yield url
    finally:
        server.should_exit = True
        thread.join()


class _Proxy(BaseHTTPRequestHandler):
    target: str
    prefix: str

    def do_GET(self) -> None:
        if not self.path.startswith(f"{self.prefix}/"):
            self.send_error(404)
            return
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
        answer = httpx2.request(
            self.command, self.target + self.path.removeprefix(self.prefix), content=body, headers=headers
        )
        self.send_response(answer.status_code)
        for name in ("Content-Security-Policy", "Content-Type", "Location"):
            if name in answer.headers:
                self.send_header(name, answer.headers[name])
        self.end_headers()
        self.wfile.write(answer.content)

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def behind(url: str, prefix: str) -> Iterator[str]:
    """A proxy that strips a prefix from paths before it asks the service at an address; yields the address with it."""
    handler = type("Proxy", (_Proxy,), {"target": url, "prefix": prefix})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}{prefix}"
        finally:
            server.shutdown()
            thread.join()
