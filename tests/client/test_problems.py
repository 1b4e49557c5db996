"""Each problem of the service as an exception of its own kind."""

import pickle

import httpx2
import pytest

from app.http import problems
from smart_iqa_client import (
    DeadlineExceeded,
    KeyRefused,
    NotSupported,
    Overloaded,
    PictureProblem,
    Problem,
    RequestProblem,
    Retries,
    ServiceProblem,
    TimedOut,
    Unavailable,
    UnknownModel,
    UnknownPolicy,
    Unreachable,
)
from smart_iqa_client.errors import problem_class
from tests.client.fakes import Scene, problem

PICTURE = {*problems.IMAGE_CODES.values(), "image_quarantined", "empty_body", "body_too_large"}
SERVICE = {
    "queue_full": Overloaded,
    "rate_limited": Overloaded,
    "not_ready": Unavailable,
    "draining": Unavailable,
    "device_lost": Unavailable,
    "too_many_connections": Unavailable,
    "deadline_exceeded": DeadlineExceeded,
    "internal_error": ServiceProblem,
    "engine_failed": ServiceProblem,
    "upload_too_slow": ServiceProblem,
    "head_too_slow": ServiceProblem,
}
REQUEST = {
    "missing_key": KeyRefused,
    "invalid_key": KeyRefused,
    "admin_key_required": KeyRefused,
    "unknown_model": UnknownModel,
    "unknown_policy": UnknownPolicy,
    "attention_not_supported": NotSupported,
    "map_not_supported": NotSupported,
    "policy_not_supported": NotSupported,
    "comparison_not_supported": NotSupported,
    "picking_not_supported": NotSupported,
    "stages_not_supported": NotSupported,
}
NEVER_HERE = {"reload_failed", "too_many_files", "client_disconnected"}


@pytest.mark.parametrize("code", sorted(problems.TABLE.keys() - NEVER_HERE))
def test_every_code_of_the_service_has_its_class(code: str) -> None:
    status, _ = problems.TABLE[code]
    expected: type[Problem] = PictureProblem if code in PICTURE else {**SERVICE, **REQUEST}.get(code, RequestProblem)
    assert problem_class(status, code) is expected


@pytest.mark.parametrize(
    ("status", "expected"),
    [(400, RequestProblem), (403, KeyRefused), (409, NotSupported), (429, Overloaded), (502, Unavailable),
     (503, Unavailable), (504, DeadlineExceeded), (500, ServiceProblem), (599, ServiceProblem), (413, PictureProblem)],
)  # fmt: skip
def test_codes_of_later_versions_are_told_by_their_status(status: int, expected: type[Problem]) -> None:
    assert problem_class(status, "something_new") is expected


def test_a_problem_tells_all(scene: Scene) -> None:
    scene.answers = [problem(422, "image_truncated")]
    with pytest.raises(PictureProblem) as caught:
        scene.ask("score", b"bytes")
    error = caught.value
    assert (error.status, error.code, error.title, error.detail) == (422, "image_truncated", "A title", "what happened")
    assert error.request_id == "5f0c"
    assert str(error) == "422 image_truncated: what happened (request 5f0c)"
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), vars(again)) == (type(error), vars(error))


def test_a_gateway_has_its_own_words(scene: Scene) -> None:
    scene.answers = [httpx2.Response(413, text="<html>too large</html>", headers={"X-Request-ID": "abc"})]
    with pytest.raises(PictureProblem) as caught:
        scene.ask("score", b"bytes")
    assert (caught.value.code, caught.value.request_id) == ("", "abc")
    assert str(caught.value) == "413: no reason was given (request abc)"


def test_silence_and_refusal_are_told_apart(scene: Scene) -> None:
    scene.retries = Retries(attempts=1)
    scene.answers = [httpx2.ReadTimeout("x"), httpx2.ConnectError("x")]
    with pytest.raises(TimedOut):
        scene.ask("score", b"bytes")
    with pytest.raises(Unreachable) as caught:
        scene.ask("score", b"bytes")
    assert not isinstance(caught.value, TimedOut)
    assert isinstance(caught.value.__cause__, httpx2.ConnectError)


@pytest.mark.parametrize("answer", [problem(503, "draining", Retry_After="5"), httpx2.ConnectError("x")])
def test_not_ready_is_an_answer_and_asked_for_once(scene: Scene, answer: httpx2.Response | httpx2.RequestError) -> None:
    scene.answers = [answer]
    assert scene.ask("ready") is False
    assert (len(scene.requests), scene.pauses) == (1, [])


def test_readiness_without_a_key_is_no_answer(scene: Scene) -> None:
    scene.answers = [problem(401, "missing_key")]
    with pytest.raises(KeyRefused):
        scene.ask("ready")
