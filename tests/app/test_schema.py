"""The service against its own OpenAPI document, by schemathesis: made-up requests, good and bad, for all routes."""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, negative_data_rejection

from app.http.routes.batch import NDJSON
from app.http.schemas import BatchItem
from app.main import create_app
from app.settings import Settings
from model.options import DEFAULT_CHECKPOINT
from tests.app.serving import serving
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


COUNTS = {"/score/batch": (1, 16), "/compare": (2, 16), "/pick": (2, 32)}


def counted(document: dict[str, Any]) -> dict[str, Any]:
    """How many pictures a route takes, as bounds: the document tells them in words, for the sake of generators."""
    for path, (least, most) in COUNTS.items():
        body = document["paths"][path]["post"]["requestBody"]
        assert f"{least} to {most} of them" in body["description"]
        body["content"]["multipart/form-data"]["schema"]["properties"]["file"].update(minItems=least, maxItems=most)
    return document


def document(**options: Any) -> schemathesis.BaseSchema:
    config = schemathesis.Config.from_dict(CONFIG)
    return schemathesis.openapi.from_dict(counted(create_app(Settings(**options)).openapi()), config=config)


open_schema = document()
guarded_schema = document(**KEYS)


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
        # Lines are told in words: the document has one media type for an answer.
        headers, without = {**headers, "Accept": NDJSON}, [*without, content_type_conformance]
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
        answer = requests.get(f"{services[name]}/openapi.json", headers=bearer("a-key"), timeout=10)
        assert counted(answer.json()) == schema.raw_schema
