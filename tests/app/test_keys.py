"""Who may ask for what, and that nobody reads a body before that is known."""

import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import ValidationError

from app.http import keys
from app.http.keys import Keys
from app.main import create_app
from app.settings import Settings
from tests.app.conftest import wait_ready
from tests.app.fakes import Clock
from tests.app.test_pictures import post, problem
from tests.commands import smart_iqa

OPEN = {"/health/live", "/health/ready", "/metrics"}


def entry(name: str, key: str) -> str:
    return f"{name}:{hashlib.sha256(key.encode()).hexdigest()}"


def line(name: str, key: str) -> str:
    return entry(name, key).replace(":", " ") + "\n"


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


Start = Callable[..., TestClient]


@pytest.fixture
def start(load: Any) -> Iterator[Start]:
    """Starts a service with given settings."""
    with ExitStack() as stack:

        def started(**settings: Any) -> TestClient:
            app = create_app(Settings(**settings), load=load)
            client = stack.enter_context(TestClient(app, raise_server_exceptions=False))
            wait_ready(client)
            return client

        yield started


@pytest.fixture
def guarded(start: Start) -> TestClient:
    return start(api_keys=(entry("ann", "a-key"), entry("bob", "b-key")), admin_keys=(entry("root", "r-key"),))


def test_without_keys_the_service_is_open(client: TestClient, jpeg: bytes) -> None:
    assert post(client, jpeg).status_code == 200
    assert post(client, jpeg, headers=bearer("whatever")).status_code == 200


def test_keys_are_taken_from_either_header(guarded: TestClient, jpeg: bytes) -> None:
    basic = {"Authorization": "Basic abc", "X-API-Key": "b-key"}
    for headers in (bearer("a-key"), {"X-API-Key": "b-key"}, basic, bearer("r-key")):
        assert post(guarded, jpeg, headers=headers).status_code == 200


def test_missing_and_unknown_keys(guarded: TestClient, jpeg: bytes) -> None:
    for headers in ({}, bearer(""), {"X-API-Key": ""}, {"Authorization": "Basic abc"}):
        response = post(guarded, jpeg, headers=headers)
        problem(response, 401, "missing_key")
        assert response.headers["WWW-Authenticate"] == 'Bearer realm="smart-iqa"'
    for key in ("a-ke", "a-key2", "A-KEY", hashlib.sha256(b"a-key").hexdigest()):
        response = post(guarded, jpeg, headers=bearer(key))
        problem(response, 401, "invalid_key")
        assert "invalid_token" in response.headers["WWW-Authenticate"]


def test_every_route_is_closed_unless_it_is_known_to_be_open(guarded: TestClient) -> None:
    document = guarded.get("/openapi.json", headers=bearer("a-key")).json()
    checked = 0
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            address = path.replace("{name}", "fake")
            if path in OPEN:
                assert guarded.request(method, address).status_code == 200
                assert "security" not in operation
            else:
                problem(guarded.request(method, address), 401, "missing_key")
                assert operation["security"] == [{"HTTPBearer": []}, {"APIKeyHeader": []}]
                checked += 1
    assert checked >= 6


def test_metrics_can_be_closed_too(start: Start) -> None:
    for settings in ({"api_keys": (entry("ann", "a-key"),)}, {"admin_keys": (entry("ann", "a-key"),)}):
        client = start(metrics_key=True, **settings)
        problem(client.get("/metrics"), 401, "missing_key")
        assert client.get("/metrics", headers=bearer("a-key")).status_code == 200
        assert client.get("/health/live").status_code == 200
    with pytest.raises(ValidationError, match="no keys are configured"):
        Settings(metrics_key=True)


def test_probes_can_be_closed_too(load: Any) -> None:
    settings = Settings(probes_key=True, api_keys=(entry("ann", "a-key"),))
    with TestClient(create_app(settings, load=load)) as client:
        for path in ("/health/live", "/health/ready"):
            problem(client.get(path), 401, "missing_key")
            assert client.get(path, headers=bearer("a-key")).status_code in (200, 503)
        assert client.get("/metrics").status_code == 200
    with pytest.raises(ValidationError, match="no keys are configured"):
        Settings(probes_key=True)


def test_admin_keys_are_apart(start: Start, guarded: TestClient, client: TestClient) -> None:
    problem(guarded.post("/admin/drain"), 401, "missing_key")
    problem(guarded.post("/admin/drain", headers=bearer("x")), 401, "invalid_key")
    problem(guarded.post("/admin/drain", headers=bearer("a-key")), 403, "admin_key_required")
    assert guarded.post("/admin/drain", headers=bearer("r-key")).json() == {"draining": True}
    for path in ("/admin/drain", "/admin/reload"):
        problem(client.post(path, headers=bearer("x")), 404, "not_found")
        problem(start(api_keys=(entry("ann", "a"),)).post(path, headers=bearer("a")), 404, "not_found")


@pytest.mark.parametrize("path", ["/score", "/attention", "/admin/reload"])
def test_the_body_is_not_read_before_the_key_is_checked(guarded: TestClient, path: str) -> None:
    sent: list[Mapping[str, Any]] = []

    async def receive() -> Any:
        raise AssertionError("the body was asked for")

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"crops=x",
        "root_path": "", "scheme": "http", "http_version": "1.1", "headers": [(b"content-type", b"application/json")],
    }  # fmt: skip
    assert guarded.portal is not None
    guarded.portal.call(guarded.app, scope, receive, send)
    assert sent[0]["status"] == 401


def test_the_name_of_the_key_is_known_to_the_route_and_to_the_log(
    guarded: TestClient, jpeg: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "smart_iqa.access"):
        post(guarded, jpeg, headers=bearer("b-key"))
        post(guarded, jpeg, headers=bearer("not-a-key"))
    assert [record.__dict__["key"] for record in caplog.records] == ["bob", None]
    assert "key=bob" in caplog.messages[0]
    assert "b-key" not in caplog.text
    assert "not-a-key" not in caplog.text


def test_routes_can_be_fair_between_keys(load: Any, jpeg: bytes) -> None:
    app = create_app(Settings(api_keys=(entry("ann", "a-key"),)), load=load)
    seen = []

    @app.middleware("http")
    async def look(request: Any, call_next: Any) -> Any:
        response = await call_next(request)
        seen.append(request.state.key)
        return response

    with TestClient(app) as client:
        wait_ready(client)
        seen.clear()
        post(client, jpeg, headers=bearer("a-key"))
        post(client, jpeg)
    assert seen == ["ann", ""]


def test_a_file_of_keys_is_read_again_when_it_changes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    file = tmp_path / "keys"
    file.write_text(
        "# our keys\n\n" + line("ann", "one") + f"bob   {hashlib.sha256(b'two').hexdigest().upper()} # laptop\n"
    )
    known = Keys((entry("eve", "three"),), file, clock=clock)
    assert [known.owner(key) for key in ("one", "two", "three", "four")] == ["ann", "bob", "eve", None]
    file.write_text(line("dan", "four"))
    assert known.owner("four") is None
    clock.now += keys.CHECK_SECONDS
    assert [known.owner(key) for key in ("one", "two", "three", "four")] == [None, None, "eve", "dan"]

    with caplog.at_level(logging.INFO):
        for broken in ("dan four\n", line("dan", "four") + "half a li"):
            caplog.clear()
            file.write_text(broken)
            for _ in range(3):
                clock.now += keys.CHECK_SECONDS
                assert known.owner("four") == "dan"
            assert len(caplog.messages) == 1
            assert "line" in caplog.messages[0]
            assert "four" not in caplog.text
        caplog.clear()
        file.unlink()
        for _ in range(3):
            clock.now += keys.CHECK_SECONDS
            assert known.owner("four") == "dan"
        assert len(caplog.messages) == 1
    file.write_text("")
    clock.now += keys.CHECK_SECONDS
    assert known.configured
    assert known.owner("four") is None


def test_a_replaced_file_is_seen_although_size_and_time_are_the_same(tmp_path: Path) -> None:
    clock = Clock()
    file, other = tmp_path / "keys", tmp_path / "other"
    file.write_text(line("ann", "one"))
    known = Keys((), file, clock=clock)
    other.write_text(line("ann", "two"))
    os.utime(other, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    other.replace(file)
    clock.now += keys.CHECK_SECONDS
    assert known.owner("two") == "ann"


@pytest.mark.parametrize(
    "text", ["ann", "ann:", ":" + "0" * 64, "ann:" + "0" * 63, "a n:" + "0" * 64, "ann:" + "g" * 64]
)
def test_malformed_keys_end_the_start(load: Any, text: str) -> None:
    with pytest.raises(ValueError, match="keys make") as caught:
        create_app(Settings(api_keys=(text,)), load=load)
    assert text not in str(caught.value)


def test_a_missing_file_ends_the_start(tmp_path: Path) -> None:
    for name in ("api_keys_file", "admin_keys_file"):
        with pytest.raises(FileNotFoundError, match=rf"^SMARTIQA_{name.upper()}: .*/none: No such file or directory$"):
            create_app(Settings.model_validate({name: tmp_path / "none"}))


def test_malformed_keys_name_their_variable(load: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^SMARTIQA_ADMIN_KEYS, key 1: "):
        create_app(Settings(admin_keys=("ann",)), load=load)
    with pytest.raises(IsADirectoryError, match=r"^SMARTIQA_API_KEYS_FILE: .*: Is a directory$"):
        create_app(Settings(api_keys_file=tmp_path), load=load)


def test_settings_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMARTIQA_API_KEYS", f"{entry('a', 'x')}, {entry('b', 'y')}")
    assert Settings().api_keys == (entry("a", "x"), entry("b", "y"))
    assert Settings().api_keys_file is None


def test_keys_are_made_by_the_command_line(tmp_path: Path) -> None:
    result = smart_iqa("keys", "make", "ann")
    assert result.returncode == 0
    key, for_the_file = result.stdout.splitlines()
    assert len(key) >= 43
    file = tmp_path / "keys"
    file.write_text(for_the_file + "\n")
    assert Keys((), file, clock=Clock()).owner(key) == "ann"
    assert key not in for_the_file
    assert smart_iqa("keys", "make", "ann").stdout != result.stdout
    bad = smart_iqa("keys", "make", "no name")
    assert bad.returncode == 2
    assert "letters" in bad.stderr
