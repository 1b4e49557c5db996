"""A service with two lanes."""

import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from app.main import create_app
from app.models.loading import load_models
from app.settings import Settings
from tests.app.conftest import served, wait_ready
from tests.app.fakes import FakeEngine
from tests.app.test_admin import ADMIN, eventually
from tests.app.test_keys import entry
from tests.app.test_pictures import post, problem


def service_of(load: Callable[[Settings], Any], **settings: Any) -> TestClient:
    chosen = Settings(cache_crops=0, admin_keys=(entry("root", "r-key"),), **settings)
    return TestClient(create_app(chosen, load=load), raise_server_exceptions=False)


def test_a_service_with_two_lanes_gives_the_scores_of_one(checkpoint_folder: Path, jpeg: bytes) -> None:
    options = {"checkpoints": (checkpoint_folder,), "device": "cpu", "precision": "fp32"}
    answers = []
    for lanes in (("cpu",), ("cpu", "cpu")):
        with service_of(partial(load_models, lanes=lanes), **options) as client:
            wait_ready(client)
            service = client.app.state.service  # type: ignore[attr-defined]
            assert len(service.manager.workers) == len(lanes)
            (model,) = service.models.values()
            assert len({id(engine._network) for engine in model.engines}) == 1, "the weights are there once"
            assert len({engine._staging.data_ptr() for engine in model.engines}) == len(lanes)
            (shown,) = client.get("/models").json()["models"]
            assert shown["devices"] == ["cpu"]
            assert shown["reproducible"]
            with ThreadPoolExecutor(4) as pool:
                asked = [pool.submit(post, client, jpeg, f"/score?crops={count}") for count in (1, 4, 2, 4, 3)]
            answers.append([answer.result().json() | {"timing_ms": None} for answer in asked])
    assert answers[0] == answers[1]


def test_models_are_exchanged_under_load_on_two_lanes(tmp_path: Path, checkpoint_folder: Path, jpeg: bytes) -> None:
    folder = tmp_path / "shop" / "a"
    shutil.copytree(checkpoint_folder, folder)
    made: list[list[FakeEngine]] = []

    def load(_: Settings) -> Any:
        made.append([FakeEngine(cap=8, device=f"cuda:{lane}") for lane in range(2)])
        for engine in made[-1]:
            engine.misbehave = partial(constant, len(made))
        return {"fake": served(folder, *made[-1])}

    with service_of(load, checkpoints=(folder,)) as client:
        wait_ready(client)
        assert post(client, jpeg).json()["raw_score"] == 1
        for engine in made[0]:
            engine.gate.clear()
        before = [threading.Thread(target=post, args=(client, jpeg, "/score?crops=1")) for _ in range(2)]
        for thread in before:
            thread.start()
        while sum(len(engine.batches) for engine in made[0]) < 3:
            threading.Event().wait(0.001)
        config = folder / "config.json"
        config.write_text(config.read_text("utf-8") + "\n", "utf-8")
        # Both lanes are held, so that the models can be loaded only when one is free.
        done: list[Any] = []
        exchange = threading.Thread(target=lambda: done.append(client.post("/admin/reload", headers=ADMIN)))
        exchange.start()
        made[0][0].gate.set()
        exchange.join(30)
        assert done[0].status_code == 200
        batcher = client.app.state.service.manager.batcher  # type: ignore[attr-defined]
        assert len(batcher._engines) == 2, "one lane is still at it"
        assert post(client, jpeg, "/score?crops=1").json()["raw_score"] == 2
        made[0][1].gate.set()
        for thread in before:
            thread.join(30)
        assert post(client, jpeg, "/score?crops=1").json()["raw_score"] == 2
        eventually(lambda: len(batcher._engines) == 1)
        info = [line for line in client.get("/metrics").text.splitlines() if line.startswith("smartiqa_model_info{")]
        assert 'device="cuda:0,cuda:1"' in info[0]


def constant(value: int, batch: list[int]) -> Any:
    return np.full((len(batch), 2), value, np.float32)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_service_that_has_lost_one_of_two_lanes(
    checkpoint_folder: Path, jpeg: bytes, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.models.manager.WATCH_SECONDS", 0.02)
    engines = [FakeEngine(cap=8, device="cuda:0"), FakeEngine(cap=8, device="cuda:1")]

    def end(_: list[int]) -> None:
        raise SystemExit

    for engine in engines:
        engine.misbehave = end
    with service_of(lambda _: {"fake": served(checkpoint_folder, *engines)}) as client:
        wait_ready(client)
        problem(post(client, jpeg), 503, "device_lost")
        problem(client.get("/health/live"), 503, "device_lost")
        assert sum(len(engine.batches) for engine in engines) == 1, "one lane is left"
        problem(post(client, jpeg), 503, "device_lost")
        while "the device is lost" not in caplog.text:
            threading.Event().wait(0.001)
    assert "a lane has ended" in caplog.text
