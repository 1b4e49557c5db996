"""Proxies of the environment: the one for the service's address is used, and what others need does not matter."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from smart_iqa_client import AsyncClient, Client, Retries

SOCKS = "socks5://127.0.0.1:9"
NAMES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
ONCE = Retries(attempts=1)


class _Server(HTTPServer):
    asked: list[str]


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Server]:
    """Answers as a ready service, or as a proxy of one."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.asked = []
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_proxy_of_socks_that_is_not_asked_is_not_needed(server: _Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", SOCKS)
    monkeypatch.setenv("NO_PROXY", "localhost,127.0.0.1")
    url = f"http://127.0.0.1:{server.server_port}"
    AsyncClient(url)
    with Client(url, retries=ONCE) as client:
        assert client.ready()
    assert server.asked == ["/health/ready"]


def test_the_proxy_for_the_address_comes_before_that_for_all(server: _Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", SOCKS)
    monkeypatch.setenv("HTTP_PROXY", f"127.0.0.1:{server.server_port}")
    with Client("http://service.example", retries=ONCE) as client:
        assert client.ready()
    assert server.asked == ["http://service.example/health/ready"]


def test_without_proxies_the_service_itself_is_asked(server: _Server) -> None:
    with Client(f"http://127.0.0.1:{server.server_port}", retries=ONCE) as client:
        assert client.ready()
    assert server.asked == ["/health/ready"]


def test_authorities_of_the_environment_still_hold(
    server: _Server, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    empty = tmp_path_factory.mktemp("authorities") / "none.pem"
    empty.write_text("no certificate\n")
    monkeypatch.setenv("SSL_CERT_FILE", str(empty))
    with pytest.raises(OSError, match=r"certificate|PEM|SSL"):
        Client(f"https://127.0.0.1:{server.server_port}")
