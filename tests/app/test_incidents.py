"""What stopped or starved other servers, tried on this one: see docs/reliability.md for which and where."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient

from app.batching.errors import EngineFailed
from app.batching.submission import Rows
from app.main import create_app
from app.settings import Settings
from model.inference.engine import DeviceBroken
from tests.app.conftest import wait_ready
from tests.app.fakes import FakeEngine, rows_of
from tests.app.test_batch import post_all
from tests.app.test_batcher import Bench
from tests.app.test_faults import flat, poisons
from tests.app.test_pictures import metric, post, problem

THREADS = 8


@pytest.fixture
def client(load: Any) -> Iterator[TestClient]:
    with TestClient(
        create_app(Settings(cache_crops=0, max_queue_crops=64), load=load), raise_server_exceptions=False
    ) as client:
        wait_ready(client)
        yield client


def raises(error: BaseException) -> Callable[[list[int]], Rows | None]:
    def run(_: list[int]) -> Rows | None:
        raise error

    return run


def nothing_is_held(client: TestClient) -> None:
    """Find every count of what is under way back where it began."""
    # The scrape itself is the one request in flight.
    assert metric(client, "smartiqa_requests_in_flight") == 1
    for name in ("queue_crops", "queue_bytes", "decode_pixels", "decode_pending"):
        assert metric(client, f"smartiqa_{name}") == 0, name
    service = client.app.state.service  # type: ignore[attr-defined]
    assert not service.manager.batcher._capacity.reservations
    assert client.app.state.uploads._held == 0  # type: ignore[attr-defined]


def eventually(check: Callable[[], None]) -> None:
    for _ in range(1000):
        try:
            return check()
        except AssertionError:
            threading.Event().wait(0.01)
    return check()


@pytest.mark.parametrize("error", [RuntimeError("no"), torch.OutOfMemoryError("CUDA out of memory")], ids=type)
def test_infinity_668_failed_work_leaves_its_room_to_others(
    client: TestClient, engine: FakeEngine, jpeg: bytes, error: Exception
) -> None:
    engine.misbehave = raises(error)
    # Together several times what the queue holds.
    with ThreadPoolExecutor(THREADS) as pool:
        answers = list(pool.map(lambda _: post(client, jpeg, "/score?crops=8"), range(5 * THREADS)))
    assert {answer.status_code for answer in answers} <= {500, 429}
    assert answers[-1].json()["code"] == "engine_failed"
    assert "keeps failing" in problem(client.get("/health/ready"), 503, "not_ready")["detail"]
    eventually(lambda: nothing_is_held(client))
    engine.misbehave = lambda _: None
    assert post(client, jpeg, "/score?crops=64").status_code == 200
    assert client.get("/health/ready").status_code == 200


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_sglang_853_a_broken_device_fails_all_at_once_and_is_told_to_probes(
    client: TestClient, engine: FakeEngine, jpeg: bytes
) -> None:
    engine.gate.clear()
    engine.misbehave = raises(DeviceBroken("CUDA error"))
    with ThreadPoolExecutor(THREADS) as pool:
        futures = [pool.submit(post, client, jpeg, "/score?crops=8") for _ in range(THREADS)]

        def most_wait() -> None:
            assert metric(client, "smartiqa_queue_crops") == 8 * (THREADS - 2)

        eventually(most_wait)
        engine.gate.set()
        for future in futures:
            problem(future.result(), 503, "device_lost")
    problem(client.get("/health/live"), 503, "device_lost")
    problem(client.get("/health/ready"), 503, "not_ready")
    eventually(lambda: nothing_is_held(client))


ODD_ROWS: dict[str, Callable[[list[int]], Any]] = {
    "no rows at all": lambda _: object(),
    "a list": lambda batch: rows_of(batch).tolist(),
    "no columns": lambda batch: rows_of(batch)[:, 0],
    "one number": lambda _: np.float32(3.0),
    "text": lambda batch: rows_of(batch).astype(str),
    "too many": lambda batch: rows_of([*batch, 1]),
    "infinite": lambda batch: rows_of(batch) * np.float32("inf"),
}


@pytest.mark.parametrize("odd", ODD_ROWS.values(), ids=ODD_ROWS)
def test_ray_66140_whatever_an_engine_returns_the_loop_goes_on(odd: Callable[[list[int]], Any]) -> None:
    async def main() -> None:
        bench = Bench()
        complaints: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        bench.engine.misbehave = lambda batch: odd(batch) if 13 in batch else None
        held = await bench.hold()
        good, bad, other = bench.submit(1, 2), bench.submit(13), bench.submit(3)
        bench.engine.gate.set()
        async with asyncio.timeout(10):
            assert np.array_equal((await good).rows_ND, rows_of([1, 2]))
            assert np.array_equal((await other).rows_ND, rows_of([3]))
            with pytest.raises(EngineFailed):
                await bad
            await asyncio.gather(held, bench.submit(4))
        assert complaints == []
        bench.device.close()

    asyncio.run(main())


def test_litserve_340_a_picture_that_breaks_the_model_fails_alone(client: TestClient, engine: FakeEngine) -> None:
    engine.misbehave = poisons(13)
    answer = post_all(client, flat(12), flat(13), b"no picture", flat(14))
    assert [item["status"] for item in answer.json()["results"]] == [200, 500, 415, 200]
    assert answer.json()["results"][1]["problem"]["code"] == "engine_failed"
    eventually(lambda: nothing_is_held(client))


def test_litserve_counters_come_back_however_a_request_ends(
    client: TestClient, engine: FakeEngine, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def defect(*_: object, **__: object) -> None:
        raise KeyError("defect")

    def end(status: int, **options: Any) -> None:
        for path in ("/score", "/attention"):
            assert post(client, jpeg, path, **options).status_code == status
        eventually(lambda: nothing_is_held(client))

    end(200)
    end(422, params={"crops": 0})
    end(404, params={"model": "none"})
    problem(post(client, jpeg[:2000]), 422, "image_truncated")
    problem(post(client, b""), 400, "empty_body")
    problem(post_all(client, *[jpeg] * 17, path="/score/batch?crops=4"), 413, "too_many_files")
    eventually(lambda: nothing_is_held(client))
    engine.misbehave = raises(RuntimeError("no"))
    end(500)
    engine.misbehave = lambda _: None
    for place in ("aggregate", "ScoreResult"):
        with monkeypatch.context() as patch:
            patch.setattr(f"app.scoring.pipeline.{place}", defect)
            end(500)
    engine.gate.clear()
    end(504, headers={"X-Deadline-Ms": "50"})
    engine.gate.set()
    end(200)
