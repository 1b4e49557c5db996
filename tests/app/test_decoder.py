import asyncio
import gc
import hashlib
import threading
from collections.abc import Callable, Mapping
from typing import Any, Literal

import pytest
from fastapi.testclient import TestClient

from app.decode.decoder import Decoder
from app.main import create_app
from app.models.loading import LoadedModel
from app.observability.metrics import Metrics
from app.scoring.pipeline import INLINE_BYTES
from app.settings import Settings
from model import images
from model.contract import Contract
from tests.app.conftest import wait_ready
from tests.app.fakes import until
from tests.app.test_pictures import post
from tests.conftest import encode, photo


@pytest.mark.anyio
async def test_a_picture_that_fails_when_its_client_has_left_is_no_defect(
    monkeypatch: pytest.MonkeyPatch, contract: Contract
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def fail(*_: object, **__: object) -> None:
        begun.set()
        assert go_on.wait(10)
        raise images.UndecodableImage("it cannot be decoded")

    def complain(_: object, context: Mapping[str, object]) -> None:
        complaints.append(context)

    monkeypatch.setattr(images, "decode", fail)
    complaints: list[Mapping[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(complain)
    decoder = Decoder(
        images.Limits(), threads=1, max_decodes=2, max_inflight_pixels=1000, sandbox=None, metrics=Metrics()
    )
    task = asyncio.ensure_future(decoder.decode(b"", "", contract, None, preview=False))
    await until(begun.is_set)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go_on.set()
    await until(lambda: not decoder._slots)
    await asyncio.to_thread(decoder.close)
    await asyncio.sleep(0)
    del task
    gc.collect()
    assert complaints == []


@pytest.mark.parametrize("decoder", ["threads", "processes"])
def test_an_upload_is_hashed_once_and_a_large_one_beside_the_event_loop(
    decoder: Literal["threads", "processes"],
    load: Callable[[Settings], Mapping[str, LoadedModel]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small, large = encode(photo(100, 100)), encode(photo(500, 400), "PNG")
    assert len(small) < INLINE_BYTES < len(large)
    hashed: list[tuple[bytes, bool]] = []
    real = hashlib.sha256

    def sha256(data: bytes = b"", **options: Any) -> Any:
        if data in (small, large):
            hashed.append((data, threading.current_thread().name.startswith("asyncio_")))
        return real(data, **options)

    with TestClient(create_app(Settings(decoder=decoder), load=load)) as client:
        wait_ready(client)
        monkeypatch.setattr(hashlib, "sha256", sha256)
        answers = [post(client, data).json() for data in (small, large)]
    assert hashed == [(small, False), (large, True)]
    assert [answer["image"]["sha256"] for answer in answers] == [real(data).hexdigest() for data in (small, large)]
