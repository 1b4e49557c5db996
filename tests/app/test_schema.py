"""The service against its own OpenAPI document, by schemathesis: made-up requests, good and bad, for all routes."""

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import requests
import schemathesis
import uvicorn
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import negative_data_rejection

from app.http.protocol import protocol
from app.http.routes.batch import NDJSON
from app.http.schemas import BatchItem
from app.main import create_app
from app.settings import Settings
from model.checkpoint import inspect
from model.options import DEFAULT_CHECKPOINT
from tests.app.conftest import served
from tests.app.fakes import FakeEngine
from tests.app.test_keys import bearer, entry
from tests.conftest import encode, photo

EXAMPLES = int(os.environ.get("SCHEMA_EXAMPLES", "20"))
"""For each operation, besides one for each bound and each method that its description implies."""
KEYS: dict[str, Any] = {
    "api_keys": (entry("ann", "a-key"),),
    "admin_keys": (entry("root", "r-key"),),
    "metrics_key": True,
}
PICTURES = [encode(photo(240, 224)), encode(photo(300, 260, 1), "PNG")]
CONFIG = {
    # Headers that nobody knows are ignored, as HTTP asks for. Schemathesis allows that too, but takes such a request
    # for a bad one that was accepted as soon as it has a number among its headers.
    "generation": {"deterministic": True, "allow-extra-parameters": False},
    "phases": {"coverage": {"generate-duplicate-query-parameters": True}},
    "checks": {
        # 504 is the right answer to a short X-Deadline-Ms; every other 5xx is a defect here.
        "not_a_server_error": {"expected-statuses": ["2xx", "3xx", "4xx", "504"]},
        # 413, for too many files, is missing among the refusals that it knows.
        "negative_data_rejection": {"expected-statuses": ["4xx"]},
    },
}

# What a schema cannot say: which bytes are a picture, and which folders may be loaded.
schemathesis.openapi.format("binary", st.sampled_from(PICTURES))
schemathesis.openapi.media_type("image/*", st.sampled_from(PICTURES), aliases=["application/octet-stream"])
schemathesis.openapi.format(
    "path", st.sampled_from([str(DEFAULT_CHECKPOINT), str(DEFAULT_CHECKPOINT.parent / "missing")])
)

bounded = settings(
    max_examples=EXAMPLES, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)


def document(**options: Any) -> schemathesis.BaseSchema:
    config = schemathesis.Config.from_dict(CONFIG)
    return schemathesis.openapi.from_dict(create_app(Settings(**options)).openapi(), config=config)


open_schema = document()
guarded_schema = document(**KEYS)


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
        while requests.get(f"{url}/health/ready", timeout=10).status_code != 200:
            time.sleep(0.01)
        yield url
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def services() -> Iterator[dict[str, str]]:
    with ExitStack() as stack:
        started = {name: stack.enter_context(serving(**KEYS)) for name in ("guarded", "admin", "draining")}
        requests.post(f"{started['draining']}/admin/drain", headers=bearer("r-key"), timeout=10).raise_for_status()
        yield {**started, "open": stack.enter_context(serving())}


def check(case: schemathesis.Case[Any], url: str, headers: dict[str, str], without: Sequence[Any] = ()) -> None:
    """Send a made-up request, and check the answer in every way that schemathesis knows."""
    # Hardly any text is the name of a model.
    for place in (case.query, case.path_parameters):
        for name in ("model", "name"):
            if place and isinstance(text := place.get(name), str):
                place[name] = ("fake", "plain", text)[len(text) % 3]
    # The least that is allowed, 1 ms, is a favourite, but there would be no other answer than 504.
    deadline = str(case.headers.get("X-Deadline-Ms", ""))
    if deadline.isdecimal() and 0 < int(deadline) < 10_000:
        headers = {**headers, "X-Deadline-Ms": "10000"}
    if case.path == "/score/batch" and len(str(case.query)) % 2:
        headers = {**headers, "Accept": NDJSON}
    response = case.call_and_validate(base_url=url, headers=headers, excluded_checks=list(without))
    # Schemathesis reads no more than one line.
    if response.headers["content-type"] == [NDJSON]:
        for line in response.content.splitlines():
            BatchItem.model_validate_json(line)


@open_schema.parametrize()
@bounded
def test_open(case: schemathesis.Case[Any], services: dict[str, str]) -> None:
    # Here the admin's routes are not to be found.
    check(case, services["open"], {})


@guarded_schema.parametrize()
@bounded
def test_guarded(case: schemathesis.Case[Any], services: dict[str, str]) -> None:
    # Drains and reloads must not meet the others.
    admin = case.path.startswith("/admin/")
    check(case, services["admin" if admin else "guarded"], bearer("r-key" if admin else "a-key"))


@guarded_schema.parametrize()
@settings(bounded, max_examples=EXAMPLES // 4)
def test_without_a_key(case: schemathesis.Case[Any], services: dict[str, str]) -> None:
    check(case, services["guarded"], {})


@guarded_schema.exclude(path_regex="^/admin/").parametrize()
@settings(bounded, max_examples=EXAMPLES // 4)
def test_draining(case: schemathesis.Case[Any], services: dict[str, str]) -> None:
    # 503 is the right answer here, to bad requests too: they are not looked at.
    check(case, services["draining"], bearer("a-key"), [not_a_server_error, negative_data_rejection])


@guarded_schema.include(path_regex="^/admin/").parametrize()
@settings(bounded, max_examples=EXAMPLES // 4)
def test_ordinary_keys_at_the_admins_door(case: schemathesis.Case[Any], services: dict[str, str]) -> None:
    check(case, services["guarded"], bearer("a-key"))


def test_the_documents_are_the_ones_that_are_served(services: dict[str, str]) -> None:
    for schema, name in ((open_schema, "open"), (guarded_schema, "guarded")):
        assert requests.get(f"{services[name]}/openapi.json", timeout=10).json() == schema.raw_schema
