"""The promises of the first page, kept by a real process: sameness, isolation, a clean end."""

import io
import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from PIL import Image, ImageFilter

from model.options import DEFAULT_CHECKPOINT
from model.scorer import Scorer
from tests.commands import smart_iqa
from tests.conftest import EXAMPLES, encode, photo
from tests.e2e.conftest import Launch, Service


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("service") / "log"


@pytest.fixture(scope="module")
def service(launch: Launch, log: Path, sixteen_crops: Path) -> Iterator[Service]:
    """With a queue that can be filled, and a second model to fill it; pictures are decoded as by default."""
    checkpoints = f"{DEFAULT_CHECKPOINT},{sixteen_crops}"
    with launch(log, checkpoints=checkpoints, max_queue_crops=128, decoder="auto") as service:
        yield service


@pytest.fixture(scope="module")
def pictures() -> list[bytes]:
    """The examples, and made ones of other sizes, formats and crop counts."""
    made = [encode(photo(300 + 37 * n, 260 + 23 * n, seed=n), "PNG" if n % 3 else "JPEG") for n in range(12)]
    return [*(file.read_bytes() for file in EXAMPLES), *made]


def test_same_bytes_same_score_everywhere(service: Service, pictures: list[bytes], tmp_path: Path) -> None:
    assert len(set(pictures)) == 16
    scorer = Scorer.load()
    offline = [scorer.score(data).score for data in pictures]
    assert len(set(offline)) == 16

    def by_http(data: bytes) -> float:
        return float(service.post(data).json()["score"])

    assert [by_http(data) for data in pictures[:6]] == offline[:6]
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(by_http, pictures)) == offline
        # Other crop counts put other company, and other remainders, into the same batches.
        counts = [1 + n % 11 for n in range(16)]
        answers = pool.map(lambda data, crops: service.post(data, params={"crops": crops}), pictures, counts)
        mixed = [answer.json()["score"] for answer in answers]
    assert mixed == [scorer.score(data, count).score for data, count in zip(pictures, counts, strict=True)]
    for index, data in enumerate(pictures):
        (tmp_path / f"{index}").write_bytes(data)
    result = smart_iqa("score", *(tmp_path / str(index) for index in range(16)), "-f", "jsonl")
    assert [json.loads(line)["score"] for line in result.stdout.splitlines()] == offline


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_damage_lowers_the_score(service: Service, file: Path) -> None:
    original = Image.open(file)
    buffer = io.BytesIO()
    original.save(buffer, "JPEG", quality=8)
    blurred = encode(original.filter(ImageFilter.GaussianBlur(3)), quality=95)
    score = service.post(file.read_bytes()).json()["score"]
    assert service.post(blurred).json()["score"] < score
    assert service.post(buffer.getvalue()).json()["score"] < score


def test_stage_weights(service: Service) -> None:
    answer = service.post(EXAMPLES[0].read_bytes(), "/attention", params={"detail": "crops"}).json()
    assert len(answer["stage_weights"]) == len(answer["stages"]) == 4
    assert sum(answer["stage_weights"]) == pytest.approx(1, abs=1e-4)
    assert len(answer["crop_scores"]) == answer["crops"]


def test_bad_pictures_do_no_harm_to_the_batch(service: Service, pictures: list[bytes]) -> None:
    good = pictures[0]
    expected = service.post(good).json()["score"]
    mixed = [good, good[: len(good) // 2], good, b"text", good, b"\xff\xd8\xff" + good[::-1], good, good[:100]] * 3
    with ThreadPoolExecutor(len(mixed)) as pool:
        answers = list(pool.map(service.post, mixed))
    for data, answer in zip(mixed, answers, strict=True):
        if data == good:
            assert answer.json()["score"] == expected
        else:
            assert answer.status_code in (415, 422)
            assert answer.json()["code"] in ("image_truncated", "image_undecodable", "unsupported_format")
    assert service.metric("smartiqa_requests_in_flight") == 1
    assert service.post(good).json()["score"] == expected


def request_of(data: bytes) -> bytes:
    length = f"Content-Type: image/jpeg\r\nContent-Length: {len(data)}"
    return f"POST /score?model=sixteen HTTP/1.1\r\nHost: x\r\n{length}\r\n\r\n".encode() + data


def eventually(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("it has not come")


def test_clients_that_leave_free_the_queue(service: Service, pictures: list[bytes]) -> None:
    dropped = 'smartiqa_dropped_total{reason="disconnect"}'
    left = 'smartiqa_rejections_total{reason="client_disconnected"}'
    before = service.metric(dropped), service.metric(left)
    with ExitStack() as stack:
        for _ in range(24):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", service.port)))
            client.sendall(request_of(pictures[0]))
        # They leave once some of their crops wait for the device.
        eventually(lambda: service.metric("smartiqa_queue_crops") > 16)
    # And one that leaves in the middle of its upload.
    with socket.create_connection(("127.0.0.1", service.port)) as client:
        client.sendall(request_of(pictures[0])[:5000])
    eventually(lambda: service.metric("smartiqa_requests_in_flight") == 1)
    eventually(lambda: service.metric("smartiqa_queue_crops") == 0)
    # Replicas of Ray tell their metrics a moment later.
    eventually(lambda: service.metric(dropped) > before[0])
    eventually(lambda: service.metric(left) > before[1])
    assert service.post(pictures[0]).status_code == 200


def test_shed_load_is_told_when_to_come_again(service: Service, pictures: list[bytes]) -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda data: service.post(data, params={"crops": 64, "model": "sixteen"}), pictures))
    codes = [answer.status_code for answer in answers]
    assert set(codes) == {200, 429}
    for answer in answers:
        if answer.status_code == 429:
            assert answer.json()["code"] == "queue_full"
            assert 1 <= int(answer.headers["Retry-After"]) <= 30
    assert service.post(pictures[0]).status_code == 200


def test_sigterm_answers_what_was_accepted(
    service: Service, pictures: list[bytes], log: Path, sixteen_crops: Path
) -> None:
    """Each with its score. The service has ended after this, so it is the last test."""
    scorer = Scorer.load(sixteen_crops)
    with ThreadPoolExecutor(6) as pool:
        asked = {"crops": 20, "model": "sixteen"}
        futures = [pool.submit(service.post, data, params=asked) for data in pictures[:6]]
        eventually(lambda: service.metric("smartiqa_requests_in_flight") == 7)
        assert service.stop() in (0, -15)
        answers = [future.result() for future in futures]
    assert [answer.status_code for answer in answers] == [200] * 6
    assert [answer.json()["score"] for answer in answers] == [scorer.score(data, 20).score for data in pictures[:6]]
    assert "Traceback" not in log.read_text()
