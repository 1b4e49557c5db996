"""A real process under load: it drains on SIGTERM, and exchanges its models, without losing a request."""

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from app.http import keys
from model import checkpoint
from model.contract import Contract
from model.scale import Scale
from model.scorer import Scorer
from tests.conftest import EXAMPLES, save_random
from tests.e2e.conftest import Service, running

THREADS = 4


@contextmanager
def load_on(service: Service, data: bytes) -> Iterator[list[httpx2.Response]]:
    """Keep asking until the block ends, or until the service says that it drains; the answers."""
    over = threading.Event()
    answers: list[httpx2.Response] = []

    def ask() -> None:
        while not over.is_set():
            answers.append(service.post(data))
            if answers[-1].status_code == 503:
                return

    with ThreadPoolExecutor(THREADS) as pool:
        futures = [pool.submit(ask) for _ in range(THREADS)]
        try:
            yield answers
        finally:
            over.set()
        for future in futures:
            # An error of a connection is one here.
            future.result()


def eventually(condition: Callable[[], bool]) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two small checkpoints of one name, whose scores of the same picture differ."""
    folder = tmp_path_factory.mktemp("versions")
    contract = Contract(width=96, height=96, crop_size=64, crops=2, scale=Scale(dataset="made-up", min=1.0, max=5.0))
    for seed in (0, 1):
        save_random(folder / str(seed), contract, seed=seed, name="small")
    return [folder / "0", folder / "1"]


def test_sigterm_under_load_drains_first_and_loses_nothing(tmp_path: Path, versions: list[Path]) -> None:
    log = tmp_path / "log"
    with (
        running(log, checkpoints=versions[0], drain_seconds=3, log_format="json") as service,
        load_on(service, EXAMPLES[0].read_bytes()) as answers,
    ):
        eventually(lambda: len(answers) >= 2 * THREADS)
        service.process.send_signal(signal.SIGTERM)
        # The listener is still open: probes are told why, and see it before any connection is refused.
        eventually(lambda: httpx2.get(f"{service.url}/health/ready").status_code == 503)
        assert httpx2.get(f"{service.url}/health/ready").json()["code"] == "draining"
        assert httpx2.get(f"{service.url}/health/live").status_code == 200
        eventually(lambda: [answer.status_code for answer in answers].count(503) == THREADS)
        assert service.process.wait(timeout=60) == 0
    assert {answer.status_code for answer in answers} == {200, 503}
    assert {answer.json()["code"] for answer in answers if answer.status_code == 503} == {"draining"}
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert not [line for line in lines if "exception" in line]


def test_models_are_exchanged_under_load(tmp_path: Path, versions: list[Path]) -> None:
    data = EXAMPLES[0].read_bytes()
    scorers = [Scorer.load(folder, device="cpu", precision="fp32") for folder in versions]
    expected = {scorer.checkpoint.digest: scorer.score(data).score for scorer in scorers}
    assert len(set(expected.values())) == 2
    current = tmp_path / "current"
    current.symlink_to(versions[0])
    key, line = keys.make("root")
    file = tmp_path / "admins"
    file.write_text(line + "\n")
    log = tmp_path / "log"
    admin = {"Authorization": f"Bearer {key}"}

    def point_to(folder: Path) -> None:
        link = tmp_path / "next"
        link.symlink_to(folder)
        os.replace(link, current)

    settings = {"checkpoints": current, "admin_keys_file": file, "device": "cpu", "precision": "fp32"}
    with running(log, **settings) as service:
        with load_on(service, data) as answers:
            eventually(lambda: len(answers) >= THREADS)
            for turn in range(1, 5):
                point_to(versions[turn % 2])
                if turn == 4:
                    before = len(answers)
                    service.process.send_signal(signal.SIGHUP)
                    eventually(lambda: log.read_text().count("the models are now") == 4)
                else:
                    answer = httpx2.post(f"{service.url}/admin/reload", headers=admin, timeout=60)
                    assert answer.status_code == 200, answer.text
                    (new,) = answer.json()["new"].values()
                    assert new == scorers[turn % 2].checkpoint.digest
                    before = len(answers)
                eventually(lambda least=before: len(answers) >= least + 2 * THREADS)  # type: ignore[misc]
            # A folder that is being written when it is loaded is refused, and nobody notices.
            broken = tmp_path / "broken"
            shutil.copytree(versions[1], broken)
            (broken / checkpoint.WEIGHTS).write_bytes((broken / checkpoint.WEIGHTS).read_bytes()[:1000])
            point_to(broken)
            refused = httpx2.post(f"{service.url}/admin/reload", headers=admin, timeout=60)
            assert (refused.status_code, refused.json()["code"]) == (409, "reload_failed")
        assert service.post(data).json()["model"]["digest"] == scorers[0].checkpoint.digest
        assert service.metric("smartiqa_requests_in_flight") == 1
        assert service.stop() == 0
    assert {answer.status_code for answer in answers} == {200}
    bodies = [answer.json() for answer in answers]
    assert {body["model"]["digest"] for body in bodies} == set(expected)
    assert all(body["score"] == expected[body["model"]["digest"]] for body in bodies)
    assert "Traceback" not in log.read_text()
    assert key not in log.read_text()
