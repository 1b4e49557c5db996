"""Uploads that mean harm, or lie about themselves: rows of "Upload traps" in docs/reliability.md."""

import builtins
import threading
from concurrent.futures import ThreadPoolExecutor
from tempfile import SpooledTemporaryFile
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from model import images
from tests.app.test_batch import post_all
from tests.app.test_pictures import post, problem
from tests.conftest import encode, photo, sample

SECRET = b"kept-to-oneself"


@pytest.mark.parametrize("format_", images.FORMATS)
def test_the_content_decides_whatever_name_and_type_say(client: TestClient, format_: str) -> None:
    data = sample(format_)
    answers = [
        client.post("/score", files={"file": ("invoice.exe", data, "text/html")}),
        client.post("/score", files={"file": ("picture.svg", data, "image/svg+xml")}),
        client.post("/score", content=data, headers={"Content-Type": "image/heic"}),
        client.post("/score", content=data, headers={"Content-Type": "application/octet-stream"}),
    ]
    bodies = [answer.json() for answer in answers]
    assert [body["image"]["format"] for body in bodies] == [format_] * 4
    assert len({body["score"] for body in bodies}) == 1


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/dev/zero", "C:\\nul", "a" * 3000, "a\0b.jpg", "%2e%2e%2f", "💥"]
)
def test_a_name_opens_no_file_and_is_told_nobody(
    client: TestClient, jpeg: bytes, name: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[object] = []
    real = builtins.open

    def watched(file: Any, *arguments: Any, **options: Any) -> Any:
        opened.append(file)
        return real(file, *arguments, **options)

    monkeypatch.setattr(builtins, "open", watched)
    answer = client.post("/score", files={"file": (name, jpeg, "image/jpeg")})
    assert answer.status_code == 200
    assert name not in answer.text
    assert name not in "".join(record.getMessage() for record in caplog.records if record.name != "python_multipart")
    assert opened == []
    problem(client.post("/score", files={"file": ("a" * 9999, jpeg, "image/jpeg")}), 400, "malformed_upload")


def test_large_uploads_stay_off_the_disk(
    client: TestClient, photos: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def spill(*_: object) -> None:
        raise AssertionError("an upload went to the disk")

    monkeypatch.setattr(SpooledTemporaryFile, "rollover", spill)
    assert all(len(data) > 2**21 for data in photos)
    assert post(client, photos[0]).status_code == 200
    assert [item["status"] for item in post_all(client, *photos).json()["results"]] == [200, 200]


@pytest.fixture
def photos() -> list[bytes]:
    return [encode(Image.effect_noise((1500, 1500), 99), "BMP"), encode(photo(900, 900), "TIFF")]


def test_fields_that_are_no_files_are_bounded(client: TestClient, jpeg: bytes) -> None:
    files = {"file": jpeg}
    problem(client.post("/score", data={"note": "x" * 2**15}, files=files), 422, "invalid_parameter")
    problem(client.post("/score", data={"note": "x" * 2**17}, files=files), 400, "malformed_upload")
    problem(client.post("/score", data={str(n): "x" for n in range(9)}, files=files), 400, "malformed_upload")


@pytest.mark.parametrize("path", ["/score?detail=crops", "/attention", "/attention?overlay=png"])
def test_nothing_that_hides_in_a_picture_comes_back(client: TestClient, path: str) -> None:
    exif = Image.Exif()
    exif[0x010E] = SECRET.decode()
    data = encode(photo(), exif=exif, comment=SECRET) + b"PK\x03\x04" + SECRET
    assert data.count(SECRET) == 3
    answer = post(client, data, path)
    assert answer.status_code == 200
    assert SECRET not in answer.content


@pytest.mark.parametrize("body", [{"url": "http://127.0.0.1/"}, {"file": "file:///etc/passwd"}], ids=str)
def test_addresses_are_not_fetched(
    client: TestClient, jpeg: bytes, body: dict[str, str], no_network: list[Any]
) -> None:
    problem(client.post("/score", json=body), 415, "unsupported_media_type")
    problem(client.post("/score", data=body), 415, "unsupported_media_type")
    problem(client.post("/score", data=body, files={"other": jpeg}), 400, "missing_file")
    problem(client.post("/score", params=body, files={"file": jpeg}), 422, "invalid_parameter")
    assert no_network == []


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    import socket

    asked: list[Any] = []
    monkeypatch.setattr(socket, "create_connection", asked.append)
    monkeypatch.setattr(socket.socket, "connect", lambda _, address: asked.append(address))
    return asked


def test_others_are_answered_while_a_picture_is_decoded(
    client: TestClient, jpeg: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    real: Any = images.decode

    def slow(data: bytes, *arguments: Any, **options: Any) -> Any:
        begun.set()
        assert go_on.wait(10)
        return real(data, *arguments, **options)

    monkeypatch.setattr(images, "decode", slow)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(post, client, jpeg)
        assert begun.wait(10)
        assert client.get("/health/ready").status_code == 200
        assert not answer.done()
        go_on.set()
        assert answer.result().status_code == 200
