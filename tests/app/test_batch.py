"""``/score/batch``: several pictures, let in together, answered one by one."""

import json
import threading
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from fastapi.testclient import TestClient

from app.http.schemas import BatchAnswer, BatchItem
from app.main import create_app
from app.settings import Settings
from tests.app.conftest import served, wait_ready
from tests.app.fakes import FakeEngine
from tests.app.test_pictures import metric, post, problem
from tests.conftest import encode, photo

NDJSON = {"Accept": "application/x-ndjson"}


def post_all(client: TestClient, *pictures: bytes, path: str = "/score/batch", **options: Any) -> httpx2.Response:
    files = [("file", (f"{index}.jpg", data)) for index, data in enumerate(pictures)]
    return client.post(path, files=files, **options)


@pytest.fixture
def photos() -> list[bytes]:
    return [encode(photo(300 + 10 * seed, 300, seed=seed)) for seed in range(4)]


def test_each_result_is_the_answer_of_score(client: TestClient, photos: list[bytes]) -> None:
    answer = post_all(client, *photos, path="/score/batch?detail=crops")
    assert answer.status_code == 200
    BatchAnswer.model_validate(answer.json())
    results = answer.json()["results"]
    assert [(item["index"], item["status"]) for item in results] == [(0, 200), (1, 200), (2, 200), (3, 200)]
    for data, item in zip(photos, results, strict=True):
        alone = post(client, data, "/score?detail=crops").json()
        for body in (alone, item["result"]):
            body.pop("timing_ms")
        assert item["result"] == alone


def test_a_bad_picture_is_a_problem_of_its_own(client: TestClient, photos: list[bytes]) -> None:
    answer = post_all(client, photos[0], b"no picture", b"", photos[1][:2000], photos[2])
    results = answer.json()["results"]
    codes = [item.get("problem", {}).get("code") for item in results]
    assert codes == [None, "unsupported_format", "empty_body", "image_truncated", None]
    assert [item["status"] for item in results] == [200, 415, 400, 422, 200]
    assert all(("result" in item) != ("problem" in item) for item in results)
    assert results[1]["problem"]["request_id"] == answer.headers["X-Request-ID"]
    assert metric(client, 'smartiqa_rejections_total{reason="image_truncated"}') == 1


def test_lines_come_as_pictures_are_done(client: TestClient, photos: list[bytes]) -> None:
    answer = post_all(client, photos[0], b"no picture", photos[1], headers=NDJSON)
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    items = [json.loads(line) for line in answer.text.splitlines()]
    for item in items:
        BatchItem.model_validate(item)
    assert sorted((item["index"], item["status"]) for item in items) == [(0, 200), (1, 415), (2, 200)]
    for line, item in zip(answer.text.splitlines(), items, strict=True):
        if item["status"] == 200:
            alone = post(client, photos[item["index"] // 2]).text
            assert alone.partition(',"timing_ms"')[0] in line


def test_a_line_does_not_wait_for_the_others(load: Any, engine: FakeEngine, photos: list[bytes]) -> None:
    engine.gate.clear()
    app = create_app(Settings(), load=load)
    with TestClient(app) as client:
        wait_ready(client)
        lines: list[str] = []

        async def read() -> None:
            transport = _Streaming(app)
            await transport.post(photos[0], b"no picture", lines=lines, after_first=engine.gate.set)

        client.portal.call(read)  # type: ignore[union-attr]
        assert [json.loads(line)["index"] for line in lines] == [1, 0]


class _Streaming:
    """Calls the application directly, and looks at each piece of the answer as it is sent."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def post(self, *pictures: bytes, lines: list[str], after_first: Any) -> None:
        request = httpx2.Request(
            "POST", "http://test/score/batch", files=[("file", data) for data in pictures], headers=NDJSON
        )
        body = request.read()
        sent = False

        async def receive() -> dict[str, Any]:
            nonlocal sent
            if sent:
                await anyio.sleep_forever()
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            if text := message.get("body", b"").decode():
                lines.extend(text.splitlines())
                after_first()

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/score/batch",
            "raw_path": b"/score/batch",
            "query_string": b"",
            "headers": [(name.lower(), value) for name, value in request.headers.raw],
            "http_version": "1.1",
            "scheme": "http",
            "root_path": "",
        }
        await self._app(scope, receive, send)


def test_all_are_let_in_or_none(load: Any, engine: FakeEngine, photos: list[bytes]) -> None:
    engine.gate.clear()
    with TestClient(create_app(Settings(max_queue_crops=64, cache_crops=0), load=load)) as client:
        wait_ready(client)
        threads = [threading.Thread(target=post, args=(client, photos[0], "/score?crops=24")) for _ in range(2)]
        for thread in threads:
            thread.start()
        while metric(client, "smartiqa_queue_crops") < 32:
            pass
        batches = len(engine.batches)
        answer = post_all(client, *photos, path="/score/batch?crops=9")
        problem(answer, 429, "queue_full")
        assert int(answer.headers["Retry-After"]) >= 1
        assert len(engine.batches) == batches
        engine.gate.set()
        for thread in threads:
            thread.join()
        assert post_all(client, *photos, path="/score/batch?crops=9").status_code == 200
        assert metric(client, "smartiqa_queue_crops") == 0


def test_room_that_was_kept_is_given_back(client: TestClient, photos: list[bytes]) -> None:
    batcher = client.app.state.service.manager.batcher  # type: ignore[attr-defined]
    pipeline = client.app.state.service.pipeline  # type: ignore[attr-defined]
    post_all(client, photos[0], b"no picture")
    post_all(client, photos[0], b"no picture", headers=NDJSON)
    assert not batcher._capacity.reservations
    assert not pipeline._decoder._slots
    assert client.app.state.uploads._held == 0  # type: ignore[attr-defined]


def test_more_than_a_request_takes(load: Any, photos: list[bytes]) -> None:
    settings = Settings(max_batch_files=2, max_batch_bytes=2**17, max_body_bytes=2**16, max_queue_crops=64)
    with TestClient(create_app(settings, load=load)) as client:
        wait_ready(client)
        problem(post_all(client, *photos[:3]), 413, "too_many_files")
        problem(post_all(client, *photos[:2], path="/score/batch?crops=40"), 413, "too_many_files")
        problem(post_all(client, photos[0] + bytes(2**17)), 413, "body_too_large")
        one = post_all(client, photos[0] + bytes(2**16), photos[1]).json()["results"]
        assert [item["status"] for item in one] == [413, 200]
        problem(client.post("/score/batch", files=[("other", photos[0])]), 400, "missing_file")
        raw = client.post("/score/batch", content=photos[0], headers={"Content-Type": "image/jpeg"})
        problem(raw, 415, "unsupported_media_type")
        assert post_all(client, *photos[:2]).status_code == 200


def test_more_than_the_queue_ever_has_memory_for(load: Any, photos: list[bytes]) -> None:
    with TestClient(create_app(Settings(max_queue_bytes=2**26), load=load)) as client:
        wait_ready(client)
        problem(post_all(client, *photos, *photos[:3], path="/score/batch?crops=64"), 413, "too_many_files")
        assert post_all(client, *photos, *photos[:2], path="/score/batch?crops=64").status_code == 200


def test_one_deadline_for_all(load: Any, engine: FakeEngine, photos: list[bytes]) -> None:
    with TestClient(create_app(Settings(), load=load)) as client:
        wait_ready(client)
        engine.gate.clear()
        answer = post_all(client, *photos, headers={"X-Deadline-Ms": "200"})
        assert [item["status"] for item in answer.json()["results"]] == [504] * 4
        engine.gate.set()


def test_rates_count_all_pictures(load: Any, photos: list[bytes]) -> None:
    with TestClient(create_app(Settings(key_crops_per_second=1), load=load)) as client:
        wait_ready(client)
        problem(post_all(client, *photos), 429, "rate_limited")


def test_defects_in_one_picture_stay_there(
    client: TestClient, photos: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def defect(*_: object, **__: object) -> None:
        raise KeyError("secret")

    monkeypatch.setattr("app.scoring.pipeline.aggregate", defect)
    answer = post_all(client, photos[0], b"no picture")
    assert "secret" not in answer.text
    assert [item["status"] for item in answer.json()["results"]] == [500, 415]


def test_known_scores_need_no_device(load: Any, engine: FakeEngine, photos: list[bytes]) -> None:
    with TestClient(create_app(Settings(), load=load)) as client:
        wait_ready(client)
        post_all(client, *photos)
        before = len(engine.batches)
        post_all(client, *photos)
        assert len(engine.batches) == before
        assert metric(client, 'smartiqa_cache_total{result="hit"}') == 4


def test_models_stay_until_the_last_line(checkpoint_folder: Path, photos: list[bytes]) -> None:
    """An exchange of models during a streamed answer: all lines are from the model that the first one was from."""
    first, second = FakeEngine(cap=8), FakeEngine(cap=8)
    models = iter([first, second])

    def load(_: Settings) -> dict[str, Any]:
        return {"fake": served(checkpoint_folder, next(models))}

    app = create_app(Settings(cache_crops=0), load=load)
    with TestClient(app) as client:
        wait_ready(client)
        first.gate.clear()
        lines: list[str] = []

        def exchange() -> None:
            service = app.state.service
            models = {"fake": served(checkpoint_folder, second, name="other")}
            service.manager.put(models)
            service._install(models)
            first.gate.set()

        async def read() -> None:
            await _Streaming(app).post(b"no picture", *photos, lines=lines, after_first=exchange)

        client.portal.call(read)  # type: ignore[union-attr]
        items = [json.loads(line) for line in lines]
        assert sorted(item["status"] for item in items) == [200, 200, 200, 200, 415]
        assert {item["result"]["model"]["name"] for item in items if "result" in item} == {"fake"}
