import asyncio
import gc
import threading
from collections.abc import Mapping

import pytest

from app.decoding import Decoder
from app.metrics import Metrics
from model import images
from model.contract import Contract
from tests.app.fakes import until


@pytest.mark.anyio
async def test_a_picture_that_fails_when_its_client_has_left_is_no_defect(
    monkeypatch: pytest.MonkeyPatch, contract: Contract
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def fail(*_: object) -> None:
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
    task = asyncio.ensure_future(decoder.decode(b"", contract, None, preview=False))
    await until(begun.is_set)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go_on.set()
    await until(lambda: not decoder._pending)
    await asyncio.to_thread(decoder.close)
    await asyncio.sleep(0)
    del task
    gc.collect()
    assert complaints == []
