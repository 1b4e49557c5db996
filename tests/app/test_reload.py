"""Exchanging models while requests are under way."""

import asyncio
import gc
import json
import logging
import shutil
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from app.batching.submission import Items, Rows
from app.main import create_app
from app.models.loading import LoadedModel
from app.settings import Settings
from model import checkpoint
from model.contract import Contract
from model.golden import GoldenMismatch
from tests.app.conftest import served, wait_ready
from tests.app.fakes import FakeEngine
from tests.app.test_admin import ADMIN, eventually
from tests.app.test_keys import entry
from tests.app.test_pictures import metric, post, problem
from tests.conftest import save_random


class Constant(FakeEngine):
    """Answers every crop with one number, so that answers say which engine they are from."""

    def __init__(self, value: float) -> None:
        super().__init__(cap=8)
        self.value = value

    def run(self, parts: Sequence[Items], /) -> Rows:
        rows = super().run(parts)
        return np.full_like(rows, self.value)


class Shop:
    """Checkpoint folders whose engines are fakes: the score is what the folder's licence says."""

    def __init__(self, folder: Path, template: Path) -> None:
        self.folder, self.template = folder, template
        self.engines: list[weakref.ref[Constant]] = []
        self.misbehave: Callable[[Path], object] = lambda _: None

    def put(self, name: str, value: float, model: str = "fake") -> Path:
        """Make a checkpoint, or replace one."""
        folder = self.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.template, folder)
        config = json.loads((folder / checkpoint.CONFIG).read_text("utf-8"))
        config |= {"licence": str(value), "name": model}
        (folder / checkpoint.CONFIG).write_text(json.dumps(config), "utf-8")
        return folder

    def load(self, settings: Settings) -> Mapping[str, LoadedModel]:
        models = {}
        for folder in settings.checkpoints:
            self.misbehave(folder)
            config, _ = checkpoint.inspect(folder)
            engine = Constant(float(config.licence))
            self.engines.append(weakref.ref(engine))
            models[config.name] = served(folder, engine, name=config.name)
        return models

    @contextmanager
    def open(self, *folders: Path) -> Iterator[TestClient]:
        settings = Settings(checkpoints=folders, admin_keys=(entry("root", "r-key"),))
        with TestClient(create_app(settings, load=self.load), raise_server_exceptions=False) as client:
            wait_ready(client)
            yield client


@pytest.fixture
def shop(tmp_path: Path, checkpoint_folder: Path) -> Shop:
    return Shop(tmp_path / "shop", checkpoint_folder)


def reload(client: TestClient, *folders: Path) -> Any:
    body = {"json": {"checkpoints": [str(folder) for folder in folders]}} if folders else {}
    return client.post("/admin/reload", headers=ADMIN, **body)  # type: ignore[arg-type]


def test_reload_exchanges_the_model(shop: Shop, jpeg: bytes) -> None:
    folder = shop.put("a", 2)
    with shop.open(folder) as client:
        before = post(client, jpeg).json()
        assert before["raw_score"] == 2
        assert reload(client).json()["old"] == reload(client).json()["new"]
        assert len(shop.engines) == 1, "an unchanged checkpoint is kept as it is"
        shop.put("a", 3)
        answer = reload(client).json()
        after = post(client, jpeg).json()
        assert after["raw_score"] == 3
        assert answer == {"old": {"fake": before["model"]["digest"]}, "new": {"fake": after["model"]["digest"]}}
        assert answer["old"] != answer["new"]
        info = [line for line in client.get("/metrics").text.splitlines() if line.startswith("smartiqa_model_info{")]
        assert len(info) == 1
        assert after["model"]["digest"] in info[0]
        assert client.get("/models").json()["models"][0]["licence"] == "3"
        assert metric(client, 'smartiqa_reloads_total{result="done"}') == 3
        assert metric(client, 'smartiqa_reloads_total{result="failed"}') == 0


def test_the_old_model_is_given_back(shop: Shop, jpeg: bytes) -> None:
    folder = shop.put("a", 2)
    with shop.open(folder) as client:
        post(client, jpeg)
        # Failed requests leave tracebacks behind.
        problem(post(client, b"no picture"), 415, "unsupported_format")
        for value in (3, 4):
            shop.put("a", value)
            assert reload(client).status_code == 200
        eventually(lambda: [engine() is None for engine in shop.engines] == [True, True, False])
        batcher = client.app.state.service.manager.batcher  # type: ignore[attr-defined]
        assert len(batcher._engines) == 1
        assert len(batcher._queue._crops) <= 1
        assert post(client, jpeg).json()["raw_score"] == 4


def test_failed_requests_do_not_keep_the_old_model(shop: Shop, jpeg: bytes) -> None:
    """Their tracebacks hold it in circles; the collector is off here, as good as it is in a process full of torch."""
    folder = shop.put("a", 2)
    gc.disable()
    try:
        with shop.open(folder) as client:
            engine = shop.engines[0]()
            assert engine is not None
            engine.misbehave = lambda _: np.zeros((0, 2), np.float32)
            del engine
            problem(post(client, jpeg), 500, "engine_failed")
            shop.put("a", 3)
            assert reload(client).status_code == 200
            eventually(lambda: shop.engines[0]() is None)
    finally:
        gc.enable()


@pytest.mark.parametrize("failing", [False, True])
def test_a_request_keeps_the_model_that_it_began_with(shop: Shop, jpeg: bytes, failing: bool) -> None:
    folder = shop.put("a", 2)
    with shop.open(folder) as client:
        service = client.app.state.service  # type: ignore[attr-defined]
        sent: list[Any] = []
        half = len(jpeg) // 2
        body = [jpeg[:half], jpeg[half:] if not failing else b""]

        async def receive() -> Any:
            if len(body) == 1:
                # The upload is half way: the request has its model.
                shop.put("a", 3)
                await service.reload()
            if body:
                return {"type": "http.request", "body": body.pop(0), "more_body": bool(body)}
            await asyncio.Event().wait()
            raise AssertionError

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http", "method": "POST", "path": "/score", "raw_path": b"/score", "query_string": b"",
            "root_path": "", "scheme": "http", "http_version": "1.1", "headers": [(b"content-type", b"image/jpeg")],
        }  # fmt: skip
        assert client.portal is not None
        client.portal.call(client.app, scope, receive, send)
        assert sent[0]["status"] == (422 if failing else 200)
        if not failing:
            assert json.loads(sent[1]["body"])["raw_score"] == 2
        assert post(client, jpeg).json()["raw_score"] == 3
        eventually(lambda: shop.engines[0]() is None)


def test_no_request_fails_while_models_are_exchanged(shop: Shop, jpeg: bytes) -> None:
    folder = shop.put("a", 0)
    scores = {checkpoint.inspect(folder)[1]: 0.0}
    over = threading.Event()

    def hammer(client: TestClient) -> list[Any]:
        answers = []
        while not over.is_set():
            answers.append(post(client, jpeg))
        return answers

    with shop.open(folder) as client, ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(hammer, client) for _ in range(4)]
        for value in range(1, 9):
            time.sleep(0.05)
            shop.put("a", value % 5)
            scores[checkpoint.inspect(folder)[1]] = value % 5
            assert reload(client).status_code == 200
        over.set()
        answers = [answer for future in futures for answer in future.result()]
    assert {answer.status_code for answer in answers} == {200}
    bodies = [answer.json() for answer in answers]
    assert all(body["raw_score"] == scores[body["model"]["digest"]] for body in bodies)
    assert len({body["model"]["digest"] for body in bodies}) >= 3


def test_a_bad_checkpoint_is_refused_and_the_old_model_stays(
    shop: Shop, jpeg: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    folder = shop.put("a", 2)
    with shop.open(folder) as client:
        digest = post(client, jpeg).json()["model"]["digest"]

        def refuse(_: Path) -> None:
            raise GoldenMismatch("secret detail")

        shop.put("a", 3)
        shop.misbehave = refuse
        detail = problem(reload(client), 409, "reload_failed")["detail"]
        assert "GoldenMismatch" in detail
        assert "secret" not in detail
        assert "secret detail" in caplog.text
        shop.misbehave = lambda _: None
        (folder / checkpoint.WEIGHTS).write_bytes(b"damaged")
        assert "CheckpointError" in problem(reload(client), 409, "reload_failed")["detail"]
        assert metric(client, 'smartiqa_reloads_total{result="failed"}') == 2
        assert post(client, jpeg).json()["model"]["digest"] == digest
        assert client.get("/health/ready").status_code == 200
        eventually(lambda: all(engine() is None for engine in shop.engines[1:]))


def test_other_folders_can_be_named_if_they_are_near_configured_ones(shop: Shop, jpeg: bytes, tmp_path: Path) -> None:
    first, second = shop.put("a", 2), shop.put("deep/b", 3, "other")
    twin = shop.put("c", 4, "other")
    with shop.open(first) as client:
        assert list(reload(client, second, first).json()["new"]) == ["other", "fake"]
        assert post(client, jpeg).json()["raw_score"] == 3
        assert post(client, jpeg, params={"model": "fake"}).json()["raw_score"] == 2
        assert "ValueError" in problem(reload(client, second, twin), 409, "reload_failed")["detail"]
        (tmp_path / "shop" / "link").symlink_to(tmp_path / "elsewhere")
        for outside in (
            tmp_path / "elsewhere",
            shop.folder,
            first / ".." / ".." / "x",
            shop.folder / "link",
            Path("\0"),
        ):
            problem(reload(client, outside), 422, "invalid_parameter")
        as_json = {**ADMIN, "Content-Type": "application/json"}
        for body in (b"{", b"\n", b"[]", b'{"checkpoints": []}', b'{"checkpoint": ["a"]}', b'{"checkpoints": [1]}'):
            problem(client.post("/admin/reload", headers=as_json, content=body), 422, "invalid_parameter")
        for other in (ADMIN, {**ADMIN, "Content-Type": "text/plain"}):
            problem(client.post("/admin/reload", headers=other, content=b"{}"), 415, "unsupported_media_type")
        problem(client.post("/admin/reload", headers=ADMIN, content=b" " * 70_000), 413, "body_too_large")
        assert list(reload(client).json()["new"]) == ["fake"]
        problem(post(client, jpeg, params={"model": "other"}), 404, "unknown_model")


def test_reload_heals_a_service_that_could_not_load(shop: Shop, jpeg: bytes) -> None:
    folder = shop.put("a", 2)
    config = (folder / checkpoint.CONFIG).read_bytes()
    (folder / checkpoint.CONFIG).unlink()
    settings = Settings(checkpoints=(folder,), admin_keys=(entry("root", "r-key"),))
    with TestClient(create_app(settings, load=shop.load)) as client:
        eventually(lambda: "cannot be loaded" in client.get("/health/ready").json()["detail"])
        problem(reload(client), 409, "reload_failed")
        (folder / checkpoint.CONFIG).write_bytes(config)
        assert reload(client).json()["old"] == {}
        wait_ready(client)
        assert post(client, jpeg).json()["raw_score"] == 2


def test_a_real_network_is_exchanged_and_its_memory_given_back(
    tmp_path: Path, contract: Contract, jpeg: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "checkpoints" / "a"
    save_random(folder, contract, seed=0)
    settings = Settings(checkpoints=(folder,), admin_keys=(entry("root", "r-key"),), device="cpu", precision="fp32")
    with TestClient(create_app(settings)) as client, caplog.at_level(logging.INFO):
        wait_ready(client)
        old = post(client, jpeg).json()
        (name,) = client.app.state.service.models  # type: ignore[attr-defined]
        network = weakref.ref(client.app.state.service.models[name].engines[0]._network)  # type: ignore[attr-defined]
        save_random(folder, contract, seed=1)
        assert list(reload(client).json()["new"]) == ["smart-mobile-1"]
        new = post(client, jpeg).json()
        assert new["model"]["digest"] != old["model"]["digest"]
        assert new["raw_score"] != old["raw_score"]
        eventually(lambda: network() is None)
    assert any("the models are now smart-mobile-1" in message for message in caplog.messages)
