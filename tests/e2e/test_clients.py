"""Slow, broken and hostile clients of a real process, over raw sockets: each is cut, and nothing of it is left.

Several of these have stopped other services; the tests are named after those incidents (docs/reliability.md).

``BAD_REQUESTS=10000 pytest tests/e2e/test_clients.py -k mosec`` goes on for longer.
"""

import json
import os
import random
import resource
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.http import keys
from tests.conftest import encode, photo
from tests.e2e.conftest import PROGRAM, Service, running

BOUND = 20.0
"""Whatever is to be cut is cut before that; the settings say a few seconds."""
MAX_BODY = 2**21
CONNECTIONS = 1040
IDLE = 1000
BAD_REQUESTS = int(os.environ.get("BAD_REQUESTS", "500"))

SCORE = b"POST /score HTTP/1.1\r\nHost: x\r\n"
LIVE = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = LIVE.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
CHUNKED = SCORE + b"Content-Type: image/jpeg\r\nTransfer-Encoding: chunked\r\n\r\n"
LEFT = 'smartiqa_rejections_total{reason="client_disconnected"}'


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, checkpoint_folder: Path) -> Iterator[Service]:
    log = tmp_path_factory.mktemp("clients") / "log"
    settings = {
        "checkpoints": checkpoint_folder,
        "device": "cpu",
        "admin_keys": keys.make("root")[1].replace(" ", ":"),
        "header_seconds": 1,
        "keep_alive_seconds": 5,
        "idle_body_seconds": 1,
        "deadline_seconds": 4,
        "shutdown_seconds": 30,
        "max_body_bytes": MAX_BODY,
        "max_upload_bytes": MAX_BODY,
        "max_connections": CONNECTIONS,
        "log_format": "json",
    }
    # Its open files are counted, so its process is not to be that of another one.
    with running(log, program=PROGRAM, **settings) as service:
        yield service
        # Someone is still in the middle of something.
        with socket.create_connection(("127.0.0.1", service.port)) as client:
            client.sendall(SCORE)
            assert service.stop() in (0, -15)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line for line in lines if "exception" in line or line["level"] in ("ERROR", "CRITICAL")] == []


@pytest.fixture(scope="module")
def picture() -> bytes:
    return encode(photo(320, 240))


def held(service: Service) -> tuple[float, ...]:
    files = len(os.listdir(f"/proc/{service.process.pid}/fd"))
    (answer,) = exchange(service, LAST.replace(b"/health/live", b"/metrics"))
    values = dict(line.rsplit(" ", 1) for line in answer.body.decode().splitlines())
    names = ("connections", "requests_in_flight", "queue_crops", "queue_bytes")
    return (files, *(float(values[f"smartiqa_{name}"]) for name in names))


@pytest.fixture(scope="module")
def baseline(service: Service, picture: bytes) -> tuple[float, ...]:
    assert service.post(picture).status_code == 200
    time.sleep(1)
    return held(service)


@pytest.fixture(autouse=True)
def nothing_is_left(service: Service, baseline: tuple[float, ...], picture: bytes) -> Iterator[None]:
    """LitServe's counter of requests grew with each one that ended badly; here nothing does."""
    yield
    settle(lambda: held(service), baseline)
    answers = exchange(service, LIVE + upload(picture, "Connection: close"))
    assert [answer.status for answer in answers] == [200, 200]


def eventually(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + BOUND
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def settle(measure: Callable[[], object], expected: object) -> None:
    end = time.monotonic() + BOUND
    while (measured := measure()) != expected and time.monotonic() < end:
        time.sleep(0.05)
    assert measured == expected


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> object:
        return json.loads(self.body)["code"]


def parse(data: bytes) -> list[Answer]:
    answers = []
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        length = int(headers.get("content-length", 0))
        answers.append(Answer(int(first.split()[1]), headers, data[:length]))
        data = data[length:]
    return answers


def connect(service: Service) -> socket.socket:
    return socket.create_connection(("127.0.0.1", service.port), timeout=BOUND)


def read(client: socket.socket) -> list[Answer]:
    """All answers, until the service closes the connection; a reset is an error."""
    data = b""
    while piece := client.recv(2**16):
        data += piece
    return parse(data)


def exchange(service: Service, *parts: bytes) -> list[Answer]:
    with connect(service) as client:
        for part in parts:
            client.sendall(part)
        return read(client)


def upload(data: bytes, *more: str, path: str = "/score", kind: str = "image/jpeg") -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Type: {kind}", f"Content-Length: {len(data)}", *more]
    return "\r\n".join([*lines, "", ""]).encode() + data


def leave(client: socket.socket, *, reset: bool) -> None:
    if reset:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def dribble(service: Service, first: bytes, slow: bytes, seconds: float) -> list[Answer]:
    """Send something, then something else one byte at a time, for as long as the service takes it; the answers."""
    with connect(service) as client:
        client.sendall(first)
        client.settimeout(seconds)
        data, end = b"", time.monotonic() + BOUND
        for position in range(10**6):
            assert time.monotonic() < end, "the service keeps a slow client"
            try:
                client.sendall(slow[position % len(slow) :][:1])
                if not (piece := client.recv(2**16)):
                    break
                data += piece
            except TimeoutError:
                continue
            except OSError:
                # It was closed in between.
                break
        return parse(data)


def test_slow_clients_are_cut(service: Service, picture: bytes) -> None:
    """xinference kept each such connection for 290 s."""
    whole = upload(picture)
    half = whole[:-1000]
    endless = LIVE.replace(b"\r\n\r\n", b"\r\nX: " + b"x" * 1000)
    form = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
    with ThreadPoolExecutor(16) as pool:
        nothing = pool.submit(exchange, service)
        empty_lines = pool.submit(dribble, service, b"\r\n", b"\r\n", 0.1)
        heads = [pool.submit(dribble, service, b"", endless, seconds) for seconds in (0.02, 0.2, 0.7)]
        half_head = pool.submit(exchange, service, LIVE[:-2])
        next_head = pool.submit(dribble, service, LIVE, endless, 0.2)
        old_head = pool.submit(exchange, service, b"GET /\r\n")
        idle_body = pool.submit(exchange, service, half)
        whole_form = upload(form + b"x" * 999, kind="multipart/form-data; boundary=b")
        idle_form = pool.submit(exchange, service, whole_form[:-99])
        slow_body = pool.submit(dribble, service, upload(b"x" * 9999)[:-9999], b"x", 0.3)
        behind = pool.submit(exchange, service, upload(picture, path="/score?crops=16") + LIVE[:-2])
        idle = pool.submit(exchange, service, LIVE)
        extension = pool.submit(dribble, service, CHUNKED + b"5;", b"x", 0.1)
    assert nothing.result() == []
    assert empty_lines.result() == []
    for head in [*heads, half_head, old_head]:
        assert [(answer.status, answer.code) for answer in head.result()] == [(408, "head_too_slow")]
    for head in (next_head, behind):
        assert [answer.status for answer in head.result()] == [200, 408]
    assert [answer.status for answer in idle.result()] == [200]
    for body in (idle_body, idle_form, slow_body, extension):
        (answer,) = body.result()
        assert (answer.status, answer.code) == (408, "upload_too_slow")
        assert answer.headers["connection"] == "close"


@pytest.fixture
def many_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS + 256
    if soft < wanted:
        if hard < wanted:
            pytest.skip(f"only {hard} files may be open")
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@pytest.mark.usefixtures("many_files")
def test_a_thousand_idle_connections_hinder_nobody(service: Service, picture: bytes) -> None:
    with ExitStack() as stack:
        idle = [stack.enter_context(connect(service)) for _ in range(IDLE)]
        assert service.post(picture).status_code == 200
        assert service.metric("smartiqa_connections") > 1
        for client in idle:
            assert client.recv(1) == b""


@pytest.mark.usefixtures("many_files")
def test_tei_470_one_connection_too_many_is_told_so(service: Service) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(service)) for _ in range(CONNECTIONS + 20)]
        answers = [read(client) for client in clients]
    refused = [answer for (answer,) in filter(None, answers)]
    assert {(answer.status, answer.code) for answer in refused} == {(503, "too_many_connections")}
    assert {answer.headers["retry-after"] for answer in refused} == {"1"}


@pytest.mark.parametrize("expect", [(), ("Expect: 100-continue",)], ids=["", "expect"])
@pytest.mark.parametrize(
    ("path", "kind", "size", "status", "code"),
    [
        ("/score", "image/jpeg", 3 * MAX_BODY, 413, "body_too_large"),
        ("/score", "text/plain", MAX_BODY, 415, "unsupported_media_type"),
        ("/admin/reload", "application/json", MAX_BODY, 401, "missing_key"),
        ("/score?model=none", "image/jpeg", MAX_BODY, 404, "unknown_model"),
        ("/nowhere", "image/jpeg", MAX_BODY, 404, "not_found"),
        ("/health/live", "image/jpeg", MAX_BODY, 405, "method_not_allowed"),
    ],
)
def test_early_answers_arrive(
    service: Service, expect: tuple[str, ...], path: str, kind: str, size: int, status: int, code: str
) -> None:
    # A client that reads only after it has sent everything, and a body that looks like requests.
    body = (LIVE * (size // len(LIVE) + 1))[:size]
    request = upload(body, *expect, path=path, kind=kind)
    (answer,) = exchange(service, request)
    assert (answer.status, answer.code, answer.headers["connection"]) == (status, code, "close")
    # And one that waits.
    (answer,) = exchange(service, request[: -len(body)])
    assert (answer.status, answer.code, answer.headers["connection"]) == (status, code, "close")


def test_an_endless_body_is_answered_and_cut(service: Service) -> None:
    chunk = b"10000\r\n" + b"x" * 2**16 + b"\r\n"
    (answer,) = exchange(service, CHUNKED, chunk * (3 * MAX_BODY // 2**16))
    assert (answer.status, answer.code) == (413, "body_too_large")
    with connect(service) as client:
        client.sendall(CHUNKED)
        with pytest.raises(OSError, match=r"[Rr]eset|[Bb]roken pipe"):
            client.sendall(chunk * (20 * MAX_BODY // 2**16))


def test_uploads_beyond_the_budget_are_told_while_they_send(service: Service) -> None:
    with connect(service) as first, connect(service) as second:
        for client in (first, second):
            client.sendall(upload(b"x" * MAX_BODY)[: MAX_BODY * 3 // 4])
        statuses = [answer.status for client in (first, second) for answer in read(client)]
    assert sorted(statuses) == [408, 429]


def test_expect_is_answered_before_the_body_is_sent(service: Service, picture: bytes) -> None:
    with connect(service) as client:
        client.sendall(upload(picture, "Expect: 100-continue", "Connection: close")[: -len(picture)])
        assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(picture)
        assert [answer.status for answer in read(client)] == [200]


@pytest.mark.parametrize("reset", [False, True], ids=["close", "reset"])
def test_ray_50046_clients_that_leave_during_head_or_upload(service: Service, picture: bytes, reset: bool) -> None:
    before = service.metric(LEFT)
    whole = upload(picture)
    head = len(whole) - len(picture)
    for sent in (0, 1, head // 2, head - 1, head, head + 1, head + len(picture) // 2, len(whole) - 1):
        client = connect(service)
        client.sendall(whole[:sent])
        # Long enough for the service to have begun.
        time.sleep(0.02)
        leave(client, reset=reset)
    eventually(lambda: service.metric(LEFT) >= before + 4)


@pytest.mark.parametrize("reset", [False, True], ids=["close", "reset"])
def test_ray_41057_clients_that_leave_at_every_stage(service: Service, picture: bytes, reset: bool) -> None:
    before = service.metric(LEFT)
    large = encode(photo(2400, 1800), quality=60)
    assert len(large) < MAX_BODY // 2
    # While decoding, and at any moment after that.
    for milliseconds in (0, 1, 5, 20, 50, 100, 200, 300):
        client = connect(service)
        client.sendall(upload(large))
        time.sleep(milliseconds / 1000)
        leave(client, reset=reset)
    # One on the device, others in the queue behind it.
    clients = [connect(service) for _ in range(8)]
    for client in clients:
        client.sendall(upload(picture, path="/score?crops=64"))
    eventually(lambda: service.metric("smartiqa_queue_crops") > 0)
    for client in clients:
        leave(client, reset=reset)
    eventually(lambda: service.metric(LEFT) >= before + 8)
    # While the answer is written, which a small window draws out.
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    client.connect(("127.0.0.1", service.port))
    client.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 200)
    assert client.recv(100).startswith(b"HTTP/1.1 200")
    leave(client, reset=reset)


def test_clients_that_leave_with_requests_in_line(service: Service, picture: bytes) -> None:
    # While one is answered and others wait, nobody reads: only writing the answer shows that the client is gone.
    for milliseconds in range(0, 200, 20):
        client = connect(service)
        client.sendall(upload(picture) * 3)
        time.sleep(milliseconds / 1000)
        leave(client, reset=milliseconds % 40 == 0)


def test_answers_that_nobody_reads_are_given_up(service: Service) -> None:
    with connect(service) as client:
        client.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 400)
        eventually(lambda: service.metric("smartiqa_connections") == 1)


def test_half_closed_is_closed(service: Service, picture: bytes) -> None:
    before = service.metric(LEFT)
    whole = upload(picture)
    for sent in (len(whole), len(whole) // 2):
        with connect(service) as client:
            client.sendall(whole[:sent])
            client.shutdown(socket.SHUT_WR)
            assert read(client) == []
    eventually(lambda: service.metric(LEFT) >= before + 2)


def test_pipelined_requests_are_answered_in_order(service: Service, picture: bytes) -> None:
    answers = exchange(service, upload(picture) + LIVE + upload(picture) + LAST)
    assert [answer.status for answer in answers] == [200] * 4
    assert ["score" in json.loads(answer.body) for answer in answers] == [True, False, True, False]


@pytest.mark.parametrize("garbage", [b"\x16\x03\x01garbage\r\n\r\n", CHUNKED + b"xyz\r\n"], ids=["bytes", "body"])
@pytest.mark.parametrize("good", [1, 3])
def test_pipelined_garbage_does_not_take_a_good_answer_along(
    service: Service, picture: bytes, good: int, garbage: bytes
) -> None:
    answers = exchange(service, upload(picture) * good + garbage + LIVE)
    assert [answer.status for answer in answers] == [*[200] * good, 400]
    assert answers[-1].headers["connection"] == "close"


BODY = b"Content-Type: image/jpeg\r\nContent-Length: 5\r\n"
CHUNKED_TOO = b"Transfer-Encoding: chunked\r\n"
ATTACKS = {
    "length_and_chunked": SCORE + BODY + CHUNKED_TOO + b"\r\n0\r\n\r\n",
    "chunked_and_length": SCORE + CHUNKED_TOO + BODY + b"\r\n0\r\n\r\n",
    "two_lengths": SCORE + BODY + b"Content-Length: 6\r\n\r\nabcde",
    "list_of_lengths": SCORE + b"Content-Length: 5, 6\r\n\r\nabcde",
    "negative_length": SCORE + b"Content-Length: -5\r\n\r\nabcde",
    "signed_length": SCORE + b"Content-Length: +5\r\n\r\nabcde",
    "endless_length": SCORE + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n",
    "space_before_colon": SCORE + b"Content-Length : 5\r\n\r\nabcde",
    "other_coding": SCORE + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "coding_after_chunked": SCORE + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "folded_header": SCORE + b"X: a\r\n b\r\n\r\n",
    "folded_coding": SCORE + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "bare_line_feeds": SCORE.replace(b"\r\n", b"\n") + b"\n",
    "bare_line_feed": SCORE + b"X: a\nY: b\r\n\r\n",
    "bare_return": SCORE + b"X: a\rY: b\r\n\r\n",
    "nul_in_value": SCORE + b"X: a\0b\r\n\r\n",
    "nul_in_name": SCORE + b"X\0: a\r\n\r\n",
    "nul_in_address": b"GET /\0 HTTP/1.1\r\n\r\n",
    "chunk_not_hexadecimal": CHUNKED + b"xyz\r\n",
    "chunk_negative": CHUNKED + b"-1\r\nabcde\r\n0\r\n\r\n",
    "chunk_prefixed": CHUNKED + b"0x5\r\nabcde\r\n0\r\n\r\n",
    "chunk_overflow": CHUNKED + b"F" * 18 + b"\r\nabcde\r\n0\r\n\r\n",
    "chunk_longer_than_said": CHUNKED + b"5\r\nabcdefg\r\n0\r\n\r\n",
    "chunk_bare_line_feed": CHUNKED + b"5\nabcde\r\n0\r\n\r\n",
    "upgrade_with_body": SCORE + BODY + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n" + LIVE,
    "connect": b"CONNECT example.com:443 HTTP/1.1\r\nHost: x\r\n\r\n",
    "http_0.9": b"GET / \r\n\r\n",
    "http_1.9": b"GET / HTTP/1.9\r\nHost: x\r\n\r\n",
    "http_2_preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
    "garbage": random.Random(0).randbytes(5000),
    "zeros": bytes(5000),
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_what_is_not_http_is_refused_and_what_follows_it_not_read(service: Service, attack: bytes) -> None:
    (answer,) = exchange(service, attack + LIVE)
    assert (answer.status, answer.code) == (400, "malformed_request")
    assert answer.headers["connection"] == "close"
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-request-id"] == json.loads(answer.body)["request_id"]


def test_tls_on_the_plain_port_is_refused(service: Service) -> None:
    hello = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), hello, server_hostname="x").do_handshake()
    assert [answer.status for answer in exchange(service, hello.read())] == [400]


@pytest.mark.parametrize(
    "attack",
    [
        SCORE + b"X: " + b"x" * 70_000 + b"\r\n\r\n",
        SCORE + b"X: " + b"x" * 2**20,
        SCORE + b"X" * 70_000,
        SCORE + b"X: x\r\n" * 10_000 + b"\r\n",
        b"GET /" + b"x" * 70_000,
        CHUNKED + b"5;" + b"x" * 2**20,
        CHUNKED + b"5\r\nabcde\r\n0\r\n" + b"X: " + b"x" * 70_000 + b"\r\n\r\n",
        CHUNKED + b"5\r\nabcde\r\n0\r\n" + b"X: x\r\n" * 50_000,
    ],
    ids=["value", "endless_value", "name", "headers", "address", "chunk_extension", "trailer", "trailers"],
)
def test_heads_that_are_too_large_are_refused(service: Service, attack: bytes) -> None:
    (answer,) = exchange(service, attack)
    assert (answer.status, answer.code, answer.headers["connection"]) == (431, "head_too_large", "close")


def test_an_upgrade_is_not_done_and_ends_the_connection(service: Service) -> None:
    for protocol in (b"h2c", b"websocket"):
        request = LIVE.replace(b"\r\n\r\n", b"\r\nConnection: Upgrade\r\nUpgrade: " + protocol + b"\r\n\r\n")
        (answer,) = exchange(service, request + LIVE)
        assert (answer.status, answer.headers["connection"]) == (200, "close")


def test_trailers_do_not_pass_for_headers(service: Service, picture: bytes) -> None:
    chunk = b"%x\r\n" % len(picture) + picture + b"\r\n"
    request = CHUNKED.replace(b"chunked\r\n", b"chunked\r\nTrailer: X-Request-ID\r\n")
    first, second = exchange(service, request + chunk + b"0\r\nX-Request-ID: mine\r\n\r\n" + LAST)
    assert (first.status, second.status) == (200, 200)
    assert first.headers["x-request-id"] != "mine"


def test_mosec_bad_requests_at_random_then_one_must_succeed(service: Service, picture: bytes) -> None:
    def misbehave(seed: int) -> None:
        chance = random.Random(seed)
        request = bytearray(upload(picture, path=chance.choice(["/score", "/attention?overlay=png", "/nowhere"])))
        for _ in range(chance.choice([0, 0, 1, 10])):
            # Mostly in the head.
            place = chance.randrange(chance.choice([150, len(request)]))
            request[place : place + chance.randrange(3)] = chance.randbytes(chance.randrange(3))
        if chance.random() < 0.1:
            request = bytearray(chance.randbytes(chance.randrange(5000)))
        with connect(service) as client:
            client.settimeout(chance.choice([0.001, 0.01, 0.1, 0.5]))
            try:
                for _ in range(chance.choice([1, 1, 1, 3])):
                    client.sendall(request[: chance.choice([len(request), chance.randrange(len(request) + 1)])])
                if chance.random() < 0.5:
                    client.recv(2**16)
            except OSError:
                pass
            leave(client, reset=chance.random() < 0.3)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(misbehave, range(BAD_REQUESTS)))
    answer = service.post(picture)
    assert answer.status_code == 200
    assert answer.json()["crops"] == 4
