"""The loop of a decoder process, in a thread of the tests: all but what would take the tests' own rights away."""

import json
import mmap
import os
import socket
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from app.decode import sandbox_worker
from app.decode.sandbox_worker import (
    ANSWER,
    ERROR,
    FACTS,
    GO,
    OUT_OF_MEMORY,
    PIXELS,
    READY,
    REQUEST,
    SHARED_BYTES,
    SIZE,
    STOP,
)
from model import images
from model.contract import Contract
from model.images import decoding
from model.maps import map_crops, overlay
from tests.conftest import encode, photo


class Service:
    """The other end of a worker's socket."""

    def __init__(self, connection: socket.socket, shared: mmap.mmap) -> None:
        self.connection = connection
        self.shared = shared

    def ask(
        self, data: bytes, contract: Contract, *, preview: bool = False, map_crops: bool = False, crops: int = 1
    ) -> None:
        asked = {
            "contract": json.dumps(contract.to_dict()),
            "limits": asdict(images.Limits()),
            "preview": preview,
            "map_crops": map_crops,
            "crops": crops,
            "look": False,
        }
        asked["sha256"] = ""
        text = json.dumps(asked).encode()
        self.connection.sendall(REQUEST.pack(len(text), len(data)) + text + data)

    def receive(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self.connection.recv(count - len(data))
            assert more, "the worker has gone"
            data += more
        return data

    def answer(self) -> tuple[bytes, dict[str, Any], bytes]:
        kind = self.receive(1)
        json_bytes, pixel_bytes = ANSWER.unpack(self.receive(ANSWER.size))
        return kind, json.loads(self.receive(json_bytes)), self.shared[:pixel_bytes]

    def admit(self, word: bytes) -> int:
        assert self.receive(1) == SIZE
        (pixels,) = PIXELS.unpack(self.receive(PIXELS.size))
        self.connection.sendall(word)
        return int(pixels)


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    ours, theirs = socket.socketpair()
    ours.settimeout(30)
    file = os.memfd_create("pixels")
    os.ftruncate(file, SHARED_BYTES)
    shared = mmap.mmap(file, SHARED_BYTES)
    monkeypatch.setattr(
        sandbox_worker, "socket", SimpleNamespace(socket=lambda fileno: theirs if fileno == 0 else None)
    )
    monkeypatch.setattr(sandbox_worker, "lock_down", lambda memory_bytes: memory_bytes == 7)
    monkeypatch.setattr(sandbox_worker, "_limit_time", lambda _: None)
    monkeypatch.setattr(sys, "argv", ["worker", "7", "5", str(file)])
    thread = threading.Thread(target=sandbox_worker.main)
    thread.start()
    service = Service(ours, shared)
    assert service.receive(2) == READY + b"\1"
    yield service
    ours.close()
    thread.join(30)
    theirs.close()
    os.close(file)
    assert not thread.is_alive()


def test_pictures_come_resized(service: Service, contract: Contract) -> None:
    data = encode(photo(400, 300))
    for preview, asks_spots in ((False, False), (True, False), (False, True), (True, True)):
        service.ask(data, contract, preview=preview, map_crops=asks_spots)
        assert service.admit(GO) == 400 * 300
        kind, told, pixels = service.answer()
        picture = images.decode(data)
        small = overlay.shrink(picture.image)
        copy = map_crops.resized(picture, contract)
        assert copy.size == (400, 300)
        expected = contract.resized(picture).tobytes()
        expected += (small.tobytes() if preview else b"") + (copy.tobytes() if asks_spots else b"")
        assert (kind, pixels) == (FACTS, expected)
        assert told == {
            "width": 400,
            "height": 300,
            "format": "JPEG",
            "warnings": [],
            "preview": list(small.size) if preview else None,
            "boxes": [],
            "capture": None,
        }


def test_large_pictures_come_with_a_close_look(service: Service, contract: Contract) -> None:
    whole = replace(contract, view="whole", shapes=((224, 224),), crop_size=96, decoding="scaled", crops=3)
    data = encode(photo(1200, 900))
    service.ask(data, whole, crops=3)
    # Decoded at a half for the whole view, in full for the close look: the larger counts.
    assert service.admit(GO) == 1200 * 900
    kind, told, pixels = service.answer()
    picture = whole.decode(data)
    pixels_HWC = np.asarray(whole.resized(picture))
    close = whole.details(picture, pixels_HWC, 3)
    assert close is not None
    assert (kind, pixels) == (FACTS, pixels_HWC.tobytes() + close.crops_NHWC.tobytes())
    assert told["boxes"] == [list(box) for box in close.boxes]
    assert len(told["boxes"]) == 2


def test_uploads_are_not_hashed_again(service: Service, contract: Contract, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "hashlib", None)
    service.ask(encode(photo(400, 300)), contract)
    service.admit(GO)
    assert service.answer()[0] == FACTS


def test_a_picture_that_is_not_let_in(service: Service, contract: Contract) -> None:
    data = encode(photo(400, 300))
    service.ask(data, contract)
    service.admit(STOP)
    service.ask(b"no picture", contract)
    kind, told, pixels = service.answer()
    assert (kind, told["error"], pixels) == (ERROR, "UnsupportedFormat", b"")


def test_the_end_comes_after_a_lack_of_memory(
    service: Service, contract: Contract, monkeypatch: pytest.MonkeyPatch
) -> None:
    def starve(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(images, "decode", starve)
    service.ask(b"x", contract)
    assert service.answer() == (ERROR, {"error": OUT_OF_MEMORY}, b"")


def test_the_end_of_the_service_in_a_request_is_the_workers(service: Service) -> None:
    service.connection.sendall(REQUEST.pack(10, 10) + b"half")
