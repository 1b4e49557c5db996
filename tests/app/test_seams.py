"""What other software meets at the service's edges: probes by HEAD, slashes, prefixes, HTTP/1.0."""

import http.client
import json
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx2
import pytest
from fastapi.testclient import TestClient

from tests.app.serving import behind, serving
from tests.app.test_pictures import problem
from tests.conftest import encode, photo

WHOLE = {"Accept-Encoding": "identity"}
PREFIX = "/iqa"
PICTURES = [("file", ("one", encode(photo(240, 224)))), ("file", ("two", encode(photo(300, 260, 1))))]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(root_path=PREFIX) as url:
        yield url


def test_head_on_every_route_that_takes_get(url: str) -> None:
    document = httpx2.get(f"{url}/openapi.json").json()
    paths = [path for path, operations in document["paths"].items() if "get" in operations]
    assert {"/health/live", "/health/ready", "/metrics", "/models", "/policies"} <= set(paths)
    for path in ("/", "/page/page.css", "/docs", "/openapi.json", *(path.replace("{name}", "fake") for path in paths)):
        asked, headed = (httpx2.request(how, url + path, headers=WHOLE) for how in ("GET", "HEAD"))
        assert (headed.status_code, headed.content) == (200, b""), path
        assert headed.headers["Content-Type"] == asked.headers["Content-Type"]
        if path != "/metrics":  # whose length differs each time
            assert headed.headers["Content-Length"] == str(len(asked.content)), path
    assert httpx2.head(f"{url}/models/other").status_code == 404


def test_a_connection_goes_on_after_head(url: str) -> None:
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port)
    for method in ("HEAD", "GET", "HEAD"):
        connection.request(method, "/health/live")
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, b'{"status":"ok"}' if method == "GET" else b"")
    connection.close()


def test_head_is_counted_by_its_route(client: TestClient) -> None:
    client.head("/health/live")
    assert 'smartiqa_requests_total{code="200",route="/health/live"} 1.0' in client.get("/metrics").text


def test_methods_that_an_address_takes_are_named(client: TestClient) -> None:
    takes = {("PUT", "/models"): "GET, HEAD", ("PUT", "/"): "GET, HEAD", ("HEAD", "/score"): "POST"}
    for (method, path), allowed in takes.items():
        answer = client.request(method, path)
        assert (answer.status_code, answer.headers["Allow"]) == (405, allowed)


@pytest.mark.parametrize("path", ["/score/", "/models/", "/health/live/", "/docs/", "/admin/drain/"])
def test_a_slash_at_the_end_never_leads_elsewhere(client: TestClient, path: str) -> None:
    for method in ("GET", "POST"):
        answer = client.request(method, path, headers={"Host": "elsewhere.example"}, follow_redirects=False)
        assert "no address here ends with a slash" in problem(answer, 404, "not_found")["detail"]
        assert "Location" not in answer.headers


@pytest.fixture
def proxied(url: str) -> Iterator[str]:
    with behind(url, PREFIX) as proxied:
        yield proxied


def test_a_client_of_the_document_works_behind_a_prefix(proxied: str) -> None:
    document = httpx2.get(f"{proxied}/openapi.json").json()
    (server,) = document["servers"]
    address = httpx2.URL(f"{proxied}/openapi.json").join(server["url"])
    assert str(address) == proxied
    assert httpx2.post(f"{address}/score", files=PICTURES[:1]).status_code == 200


def test_the_document_names_no_server_without_a_prefix(client: TestClient) -> None:
    assert "servers" not in client.get("/openapi.json").json()


def ask_in_http_1_0(url: str, head: str, body: bytes = b"") -> tuple[str, bytes]:
    address = urlsplit(url)
    with socket.create_connection((address.hostname, address.port), timeout=30) as client:
        client.sendall(head.encode() + body)
        received = b"".join(iter(lambda: client.recv(65536), b""))
    answer, _, content = received.partition(b"\r\n\r\n")
    return answer.decode().lower(), content


@pytest.mark.parametrize("keep", ["close", "keep-alive"])
def test_http_1_0_gets_lines_and_no_sizes_of_chunks(url: str, keep: str) -> None:
    request = httpx2.Request("POST", url, files=PICTURES)
    body = request.read()
    head, content = ask_in_http_1_0(
        url,
        "POST /score/batch HTTP/1.0\r\nAccept: application/x-ndjson\r\n"
        f"Connection: {keep}\r\nContent-Length: {len(body)}\r\nContent-Type: {request.headers['Content-Type']}\r\n\r\n",
        body,
    )
    assert "200 ok" in head
    assert "transfer-encoding" not in head
    assert "connection: close" in head
    assert sorted(json.loads(line)["index"] for line in content.splitlines()) == [0, 1]


def test_http_1_0_gets_answers_of_known_length_as_ever(url: str) -> None:
    head, content = ask_in_http_1_0(url, "GET /health/live HTTP/1.0\r\n\r\n")
    assert "content-length: 15" in head
    assert content == b'{"status":"ok"}'
