"""What becomes of requests when the engine or the device fails."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.batching.submission import Rows
from app.main import create_app
from app.scoring import rate_limit
from app.scoring.cache import QUARANTINE_PICTURES, QUARANTINE_SECONDS, Quarantine
from app.scoring.rate_limit import BURST_SECONDS, RateExceeded, TokenBuckets
from app.settings import Settings
from tests.app.conftest import wait_ready
from tests.app.fakes import Clock, FakeEngine
from tests.app.test_pictures import post, problem
from tests.conftest import encode, photo


@pytest.fixture
def lost() -> list[bool]:
    return []


@pytest.fixture
def client(load: Any, lost: list[bool], monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setattr("app.models.manager.WATCH_SECONDS", 0.02)
    app = create_app(Settings(hang_seconds=1, deadline_seconds=20), load=load, on_loss=lambda: lost.append(True))
    with TestClient(app, raise_server_exceptions=False) as client:
        wait_ready(client)
        yield client


def soon(lost: list[bool]) -> None:
    for _ in range(1000):
        if lost:
            return
        time.sleep(0.01)
    raise AssertionError("nobody was told")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_the_owner_is_told_once_when_the_device_thread_ends(
    client: TestClient, engine: FakeEngine, jpeg: bytes, lost: list[bool]
) -> None:
    def end(_: list[int]) -> None:
        raise SystemExit

    engine.misbehave = end
    problem(post(client, jpeg), 503, "device_lost")
    soon(lost)
    time.sleep(0.1)
    assert lost == [True]


def test_a_device_that_hangs_is_given_up(
    client: TestClient, engine: FakeEngine, jpeg: bytes, lost: list[bool], caplog: pytest.LogCaptureFixture
) -> None:
    engine.gate.clear()
    problem(post(client, jpeg), 503, "device_lost")
    assert lost == [True]
    assert "the device is lost (cpu hangs)" in caplog.text
    problem(client.get("/health/live"), 503, "device_lost")
    problem(post(client, jpeg), 503, "device_lost")
    engine.gate.set()


def poisons(*pictures: int) -> Any:
    """Fail on crops of some brightness; other pictures go well."""

    def run(batch: list[int]) -> Rows | None:
        if set(pictures) & set(batch):
            raise RuntimeError("poison")
        return None

    return run


def flat(value: int) -> bytes:
    from PIL import Image

    return encode(Image.new("RGB", (300, 300), (value, value, value)), "PNG")


def test_a_picture_that_the_engine_cannot_bear_is_kept_away(client: TestClient, engine: FakeEngine) -> None:
    engine.misbehave = poisons(13)
    for _ in range(2):
        # Nothing has shown yet that the engine is well.
        problem(post(client, flat(13)), 500, "engine_failed")
    assert post(client, flat(14)).status_code == 200
    batches = len(engine.batches)
    assert "five minutes" in problem(post(client, flat(13)), 422, "image_quarantined")["detail"]
    assert len(engine.batches) == batches
    assert post(client, flat(15)).status_code == 200


def test_an_engine_that_is_ill_puts_nobody_into_quarantine(client: TestClient, engine: FakeEngine) -> None:
    engine.misbehave = poisons(13, 14)
    problem(post(client, flat(13)), 500, "engine_failed")
    problem(post(client, flat(14)), 500, "engine_failed")
    engine.misbehave = lambda _: None
    for value in (15, 13, 14):
        assert post(client, flat(value)).status_code == 200


def test_quarantine_ends_and_is_bounded() -> None:
    clock = Clock()
    quarantine = Quarantine(clock)
    quarantine.failed(("a", "m"))
    assert ("a", "m") not in quarantine
    quarantine.went_well(("b", "m"))
    assert ("a", "m") in quarantine
    clock.now += QUARANTINE_SECONDS
    assert ("a", "m") not in quarantine
    for place in range(QUARANTINE_PICTURES + 10):
        quarantine.failed((str(place), "m"))
        quarantine.went_well(("b", "m"))
    assert len(quarantine._until) == QUARANTINE_PICTURES
    assert (str(QUARANTINE_PICTURES + 9), "m") in quarantine


def test_deadline_by_header(client: TestClient, engine: FakeEngine, jpeg: bytes) -> None:
    engine.gate.clear()
    answer = post(client, jpeg, headers={"X-Deadline-Ms": "50"})
    assert "0.05 s" in problem(answer, 504, "deadline_exceeded")["detail"]
    engine.gate.set()
    for long in ("10000000", "9" * 400):
        assert post(client, jpeg, headers={"X-Deadline-Ms": long}).status_code == 200
    problem(post(client, jpeg, headers={"X-Deadline-Ms": "0"}), 422, "invalid_parameter")


def test_rates_of_owners() -> None:
    clock = Clock()
    rates = TokenBuckets(10.0, clock)
    rates.take("a", 60)
    rates.take("a", 40)
    with pytest.raises(RateExceeded) as caught:
        rates.take("a", 25)
    assert caught.value.retry_after == 3
    rates.take("b", 100)
    clock.now += 2.5
    rates.take("a", 25)
    with pytest.raises(RateExceeded):
        rates.take("a", 1)
    clock.now += 10 * BURST_SECONDS
    # More than a bucket holds may empty a full one.
    rates.take("a", 500)
    with pytest.raises(RateExceeded) as caught:
        rates.take("a", 500)
    assert caught.value.retry_after == BURST_SECONDS


def test_what_was_not_used_is_given_back() -> None:
    clock = Clock()
    rates = TokenBuckets(10.0, clock)
    rates.take("a", 90)
    rates.refund("a", 16, 4)
    rates.take("a", 22)
    with pytest.raises(RateExceeded):
        rates.take("a", 1)
    clock.now += BURST_SECONDS
    # Who asks for more than a bucket holds has paid for no more than that.
    rates.take("a", 500)
    rates.refund("a", 500, 150)
    with pytest.raises(RateExceeded):
        rates.take("a", 1)
    # A bucket does not run over, and somebody new has none.
    clock.now += BURST_SECONDS
    rates.refund("a", 50, 10)
    rates.take("a", 100)
    with pytest.raises(RateExceeded):
        rates.take("a", 1)
    rates.refund("b", 16, 4)
    assert set(rates._buckets) == {"a"}


def test_owners_that_have_asked_for_nothing_lately_are_forgotten() -> None:
    clock = Clock()
    rates = TokenBuckets(10.0, clock)
    for number in range(rate_limit.MAX_BUCKETS):
        rates.take(str(number), 50)
    clock.now += 4
    rates.take("late", 100)
    assert len(rates._buckets) == rate_limit.MAX_BUCKETS + 1
    clock.now += 4
    rates.take("later", 1)
    assert set(rates._buckets) == {"late", "later"}
    with pytest.raises(RateExceeded):
        rates.take("late", 81)


def test_a_key_that_asks_for_too_much(load: Any, jpeg: bytes) -> None:
    with TestClient(create_app(Settings(key_crops_per_second=0.5), load=load)) as client:
        wait_ready(client)
        assert post(client, jpeg, params={"crops": 4}).status_code == 200
        answer = post(client, jpeg, params={"crops": 4})
        problem(answer, 429, "rate_limited")
        assert 1 <= int(answer.headers["Retry-After"]) <= 8


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_lost_device_ends_the_process(tmp_path: Path) -> None:
    """The real command, with an engine that breaks its device at the third batch."""
    import subprocess

    import httpx2

    from tests import commands
    from tests.e2e.conftest import free_port

    port = free_port()
    program = f"""
import model.inference.engine
model.inference.engine.CANDIDATE_SHAPES["whole", "cpu"] = (1,)
run, count = model.inference.engine.Engine._run_at, 0
def broken(self, shape, parts):
    global count
    count += len(parts) == 1 and shape == self._largest and ready
    if count > 2:
        raise model.inference.engine.DeviceBroken("test")
    return run(self, shape, parts)
ready = False
import app.models.manager
put = app.models.manager.LocalModelManager.put
def ready_now(self, models):
    global ready
    ready = True
    put(self, models)
app.models.manager.LocalModelManager.put = ready_now
model.inference.engine.Engine._run_at = broken
import sys
import os
os.environ["SMARTIQA_CACHE_CROPS"] = "0"
os.environ["SMARTIQA_LOST_SECONDS"] = "2"
sys.argv = ["smart-iqa", "serve", "--port", "{port}"]
from cli.main import main
main()
"""
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([commands.folder() / "python", "-c", program], stderr=log)
    try:
        url = f"http://127.0.0.1:{port}"
        for _ in range(600):
            try:
                if httpx2.get(f"{url}/health/ready").status_code == 200:
                    break
            except httpx2.TransportError:
                time.sleep(0.1)
        content = encode(photo())
        answers = [
            httpx2.post(f"{url}/score", content=content, headers={"Content-Type": "image/jpeg"}, timeout=60)
            for _ in range(3)
        ]
        assert [answer.status_code for answer in answers] == [200, 200, 503]
        assert answers[2].json()["code"] == "device_lost"
        # It is scraped before it ends; afterwards there would be nobody to answer.
        while "smartiqa_device_lost 1.0" not in httpx2.get(f"{url}/metrics").text:
            time.sleep(0.05)
        assert process.wait(60) == 1
        assert "the device is lost" in (tmp_path / "log").read_text()
    finally:
        process.kill()
        process.wait()
