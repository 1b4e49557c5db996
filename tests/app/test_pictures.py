"""What ``/score`` and ``/attention`` answer: to pictures, and to everything else that people send."""

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx2 import Response
from PIL import Image

from app.http import problems
from app.http.schemas import AttentionAnswer, ScoreAnswer
from app.main import create_app
from app.settings import Settings
from model.images import decode
from model.scorer import Scorer
from tests.app.conftest import wait_ready
from tests.app.fakes import FakeEngine
from tests.conftest import encode, photo
from tests.model.test_images import png


def post(client: TestClient, data: bytes, path: str = "/score", **options: Any) -> Response:
    return client.post(path, files={"file": ("photo.jpg", data)}, **options)


def problem(response: Response, status: int, code: str) -> dict[str, Any]:
    """Check that a response is a well-formed problem."""
    body = response.json()
    assert (response.status_code, body["code"]) == (status, code)
    assert response.headers["content-type"] == "application/problem+json"
    assert body["status"] == status
    assert body["request_id"] == response.headers["X-Request-ID"]
    assert body["title"] == problems.TABLE[code][1]
    assert set(body) == {"type", "title", "status", "detail", "code", "request_id"}
    return dict(body)


def metric(client: TestClient, line: str) -> float:
    """Read one metric by the beginning of its line."""
    return sum(
        float(text.split()[-1]) for text in client.get("/metrics").text.splitlines() if text.startswith(line + " ")
    )


def test_score_is_the_offline_score(checkpoint_folder: Path, scorer: Scorer, jpeg: bytes) -> None:
    settings = Settings(checkpoints=(checkpoint_folder,), device="cpu", precision="fp32")
    with TestClient(create_app(settings)) as client:
        wait_ready(client)
        expected = scorer.score(jpeg)
        multipart = post(client, jpeg).json()
        raw = client.post("/score", content=jpeg, headers={"Content-Type": "image/jpeg"}).json()
        timing = multipart.pop("timing_ms")
        assert set(timing) == {"decode_wait", "decode", "queue", "compute"}
        assert min(timing.values()) >= 0
        raw.pop("timing_ms")
        assert multipart == raw == expected.to_dict()
        for crops in (1, 9, 25):
            assert post(client, jpeg, params={"crops": crops}).json()["score"] == scorer.score(jpeg, crops).score
        attention = post(client, jpeg, "/attention", params={"detail": "crops"}).json()
        assert tuple(attention["stage_weights"]) == expected.stage_weights
        assert attention["score"] == expected.score
        assert [tuple(crop["box"]) for crop in attention["crop_scores"]] == [crop.box for crop in expected.crops]


def test_answers_fit_their_schema(client: TestClient, jpeg: bytes) -> None:
    for detail in ({}, {"detail": "crops"}):
        ScoreAnswer.model_validate(post(client, jpeg, params=detail).json(), strict=False)
        answer = AttentionAnswer.model_validate(post(client, jpeg, "/attention", params=detail).json())
        assert answer.stages == [f"stage{n}" for n in range(1, len(answer.stage_weights) + 1)]
        assert (answer.crop_scores is not None) == bool(detail)
    assert "crop_scores" not in post(client, jpeg).json()


def test_warnings_reach_the_answer(client: TestClient) -> None:
    answer = post(client, encode(photo(90, 60).convert("L"), "PNG")).json()
    assert answer["warnings"] == ["grayscale", "upscaled_low_resolution"]
    assert answer["image"]["format"] == "PNG"


def test_models_are_chosen_by_name(client: TestClient, jpeg: bytes) -> None:
    assert post(client, jpeg, params={"model": "plain"}).json()["model"]["name"] == "plain"
    assert post(client, jpeg).json()["model"]["name"] == "fake"
    detail = problem(post(client, jpeg, params={"model": "best"}), 404, "unknown_model")["detail"]
    assert "fake, plain" in detail
    problem(post(client, jpeg, "/attention", params={"model": "plain"}), 409, "attention_not_supported")


BAD_PICTURES = {
    "text": (b"just text, called photo.jpg", 415, "unsupported_format"),
    "truncated": (encode(photo())[:4000], 422, "image_truncated"),
    "garbage": (b"\xff\xd8\xff" + b"garbage" * 50, 422, "image_undecodable"),
    "bomb": (png(12_000, 12_000, 1, 0, b"\0" * (1 + 12_000 // 8) * 12_000), 422, "too_many_pixels"),
    "line": (encode(Image.new("L", (60_000, 1)), "PNG"), 422, "image_too_small"),
    "strip": (encode(Image.new("L", (4_000, 50)), "PNG"), 422, "extreme_aspect"),
    "dot": (encode(Image.new("L", (8, 8)), "PNG"), 422, "image_too_small"),
    "empty": (b"", 400, "empty_body"),
    "too large": (b"\xff\xd8\xff" + bytes(33 * 2**20), 413, "body_too_large"),
}


@pytest.mark.parametrize("kind", BAD_PICTURES)
@pytest.mark.parametrize("path", ["/score", "/attention"])
def test_bad_pictures(client: TestClient, engine: FakeEngine, jpeg: bytes, kind: str, path: str) -> None:
    data, status, code = BAD_PICTURES[kind]
    problem(post(client, data, path), status, code)
    problem(client.post(path, content=data, headers={"Content-Type": "image/png"}), status, code)
    assert metric(client, f'smartiqa_rejections_total{{reason="{code}"}}') == 2
    assert engine.batches == []
    assert post(client, jpeg).status_code == 200


def test_bodies_without_a_length_are_bounded_too(client: TestClient) -> None:
    def endless() -> Any:
        for _ in range(40):
            yield bytes(2**20)

    problem(client.post("/score", content=endless(), headers={"Content-Type": "image/png"}), 413, "body_too_large")


def test_uploads_that_are_not_as_documented(client: TestClient, jpeg: bytes) -> None:
    problem(client.post("/score", files={"image": jpeg}), 400, "missing_file")
    problem(client.post("/score", data={"file": "text"}, files={"other": jpeg}), 400, "missing_file")
    problem(client.post("/score", files=[("file", jpeg), ("file", jpeg)]), 413, "too_many_files")
    problem(client.post("/score", files=[("file", jpeg)] * 99), 400, "malformed_upload")
    problem(
        client.post("/score", content=jpeg, headers={"Content-Type": "multipart/form-data"}), 400, "malformed_upload"
    )
    broken = {"Content-Type": "multipart/form-data; boundary=x"}
    problem(client.post("/score", content=b"--y\r\n\r\n" + jpeg, headers=broken), 400, "malformed_upload")
    odd = {"Content-Type": "multipart/form-data; boundary=x; charset=undefined"}
    part = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + jpeg + b"\r\n--x--\r\n"
    problem(client.post("/score", content=part, headers=odd), 400, "malformed_upload")
    problem(client.post("/score", content=jpeg), 415, "unsupported_media_type")
    problem(client.post("/score", json={"url": "http://127.0.0.1/"}), 415, "unsupported_media_type")
    problem(client.post("/score"), 415, "unsupported_media_type")


@pytest.mark.parametrize("params", [{"crops": 0}, {"crops": 65}, {"crops": "many"}, {"detail": "all"}])
def test_parameters_out_of_range(client: TestClient, jpeg: bytes, params: dict[str, Any]) -> None:
    body = problem(post(client, jpeg, params=params), 422, "invalid_parameter")
    assert body["detail"].startswith(next(iter(params)))
    problem(post(client, jpeg, headers={"X-Priority": "now"}), 422, "invalid_parameter")


def test_addresses_and_methods_that_do_not_exist(client: TestClient) -> None:
    problem(client.get("/nothing"), 404, "not_found")
    response = client.get("/score")
    problem(response, 405, "method_not_allowed")
    assert response.headers["allow"] == "POST"
    assert metric(client, 'smartiqa_requests_total{code="404",route="unmatched"}') == 1


def test_engine_failures_are_told_without_their_text(client: TestClient, engine: FakeEngine, jpeg: bytes) -> None:
    def fail(_: list[int]) -> None:
        raise RuntimeError("secret of /etc")

    engine.misbehave = fail
    response = post(client, jpeg)
    problem(response, 500, "engine_failed")
    assert "secret" not in response.text
    engine.misbehave = lambda _: None
    assert post(client, jpeg).status_code == 200


def test_defects_are_told_without_their_text(client: TestClient, jpeg: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def defect(*_: object, **__: object) -> None:
        raise KeyError("secret")

    monkeypatch.setattr("app.scoring.pipeline.aggregate", defect)
    response = post(client, jpeg)
    problem(response, 500, "internal_error")
    assert "secret" not in response.text
    assert metric(client, 'smartiqa_requests_total{code="500",route="/score"}') == 1


def test_deadline(load: Any, engine: FakeEngine, jpeg: bytes) -> None:
    engine.gate.clear()
    with TestClient(create_app(Settings(deadline_seconds=0.05), load=load)) as client:
        wait_ready(client)
        problem(post(client, jpeg), 504, "deadline_exceeded")
        assert metric(client, 'smartiqa_dropped_total{reason="deadline"}') == 1
        engine.gate.set()
        assert metric(client, "smartiqa_queue_crops") == 0


def test_decoding_counts_against_the_deadline(load: Any, jpeg: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    monkeypatch.setattr("app.decode.decoder.images.decode", lambda *_, **__: gate.wait(10))
    with TestClient(create_app(Settings(deadline_seconds=0.05), load=load)) as client:
        wait_ready(client)
        problem(post(client, jpeg), 504, "deadline_exceeded")
        gate.set()


def test_uploads_share_a_budget(load: Any, jpeg: bytes) -> None:
    settings = Settings(max_body_bytes=len(jpeg) + 2000, max_upload_bytes=len(jpeg) + 2000)
    with TestClient(create_app(settings, load=load)) as client:
        wait_ready(client)
        budget = client.app.state.uploads  # type: ignore[attr-defined]
        with budget.hold() as take:
            take(2500)
            response = post(client, jpeg)
            problem(response, 429, "queue_full")
            assert response.headers["Retry-After"] == "1"
        for _ in range(3):
            assert post(client, jpeg).status_code == 200


def test_uploads_that_take_too_long(load: Any, jpeg: bytes) -> None:
    async def slow() -> None:
        app = create_app(Settings(deadline_seconds=0.05), load=load)
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            if not sent:
                await asyncio.sleep(0)
                if len(chunks) == 0:
                    await asyncio.Event().wait()
            return {"type": "http.request", "body": chunks.pop(), "more_body": True}

        async def send(message: Any) -> None:
            sent.append(message)

        chunks = [jpeg[:100]]
        headers = [(b"content-type", b"image/jpeg")]
        scope = {"type": "http", "method": "POST", "path": "/score", "query_string": b"", "headers": headers}
        async with app.router.lifespan_context(app):
            while app.state.service.unready_because():
                await asyncio.sleep(0)
            await app({**scope, "state": {}}, receive, send)
        assert sent[0]["status"] == 408
        assert json.loads(sent[1]["body"])["code"] == "upload_too_slow"

    asyncio.run(slow())


def test_request_ids(client: TestClient, jpeg: bytes) -> None:
    assert post(client, jpeg, headers={"X-Request-ID": "mine-1"}).headers["X-Request-ID"] == "mine-1"
    for insane in (b"x" * 65, b"a b", b"\xc3\xa9"):
        given = post(client, jpeg, headers={"X-Request-ID": insane}).headers["X-Request-ID"]
        assert len(given) == 32


def test_nothing_of_an_upload_is_logged(client: TestClient, jpeg: bytes, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG"):
        client.post("/score?model=private-name", files={"file": ("secret-name.jpg", jpeg)})
        client.post("/secret-path", files={"file": ("secret-name.jpg", jpeg)})
    ours = [record.getMessage() for record in caplog.records if record.name.startswith(("smart_iqa", "uvicorn"))]
    assert any("unknown_model" in line for line in ours)
    assert "secret" not in json.dumps(ours)
    assert "private" not in json.dumps(ours)


def test_overlay(checkpoint_folder: Path, jpeg: bytes) -> None:
    settings = Settings(checkpoints=(checkpoint_folder,), device="cpu", precision="fp32")
    with TestClient(create_app(settings)) as client:
        wait_ready(client)
        response = post(client, jpeg, "/attention", params={"overlay": "png"})
        assert response.headers["content-type"] == "image/png"
        drawn = decode(response.content)
        assert (drawn.facts.width, drawn.facts.height, drawn.facts.format) == (400, 300, "PNG")
        problem(post(client, jpeg, "/attention", params={"overlay": "gif"}), 422, "invalid_parameter")


@pytest.mark.parametrize("path", ["/score", "/score/batch"])
@pytest.mark.parametrize("content", [b"text", encode(photo(400, 300)), b"x" * 2**17])
def test_a_picture_without_a_filename_is_told_so(client: TestClient, path: str, content: bytes) -> None:
    """Of curl's ``-F file=<photo.jpg``, or a library that was given no name: not a form that cannot be read."""
    body = b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\n' + content + b"\r\n--b--\r\n"
    answer = client.post(path, content=body, headers={"Content-Type": "multipart/form-data; boundary=b"})
    assert problem(answer, 400, "missing_file")["detail"] == (
        "the part 'file' has no filename, as a file has: with curl, -F file=@photo.jpg"
    )


def test_the_overlay_by_its_old_query_is_deprecated(checkpoint_folder: Path, jpeg: bytes) -> None:
    settings = Settings(checkpoints=(checkpoint_folder,), device="cpu", precision="fp32", threads=1)
    with TestClient(create_app(settings)) as client:
        wait_ready(client)
        for query in ("", "?stage=2"):
            new = post(client, jpeg, f"/attention/overlay{query}")
            assert new.headers["Content-Type"] == "image/png"
            assert "Deprecation" not in new.headers
            old = post(client, jpeg, f"/attention?overlay=png&{query[1:]}")
            assert old.content == new.content
            assert old.headers["ETag"] == new.headers["ETag"]
            assert old.headers["Deprecation"] == "@1796083200"
            assert old.headers["Link"] == '<attention/overlay>; rel="successor-version"'
        assert "Deprecation" not in post(client, jpeg, "/attention").headers
        problem(post(client, jpeg, "/attention/overlay?stage=5"), 422, "invalid_parameter")
        tag = {"If-None-Match": new.headers["ETag"]}
        assert post(client, jpeg, "/attention/overlay?stage=2", headers=tag).status_code == 304
