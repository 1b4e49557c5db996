"""Decoding off the event loop, in a bounded pool of threads.

Pillow lets go of the interpreter lock while it decodes.
"""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple

from PIL import Image

from app.metrics import Metrics
from model import images, overlay
from model.contract import Contract, Views


class Decoded(NamedTuple):
    """An upload, decoded: the facts, the work items, and a small copy of the picture if one was asked for.

    The full picture is gone by now: while crops wait for the device, they are all that takes memory.
    """

    facts: images.Facts
    views: Views
    preview: Image.Image | None


class DecoderFull(Exception):
    """Enough pictures are being decoded or wait for it."""


class Decoder:
    """Turns uploads into work items.

    Args:
        limits: Dimensions to accept.
        threads: Pictures decoded at a time.
        max_decodes: Pictures being decoded or waiting for it.
        metrics: Where it reports.
    """

    def __init__(self, limits: images.Limits, *, threads: int, max_decodes: int, metrics: Metrics) -> None:
        self._limits = limits
        self._max_decodes = max_decodes
        self._metrics = metrics
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._pending = 0

    @contextmanager
    def reserve(self) -> Iterator[None]:
        """Keep a place for a caller with several pictures, which it brings one after the other.

        Raises:
            DecoderFull: The pool has enough to do.
        """
        self._take_place()
        try:
            yield
        finally:
            self._free()

    async def decode(
        self, data: bytes, contract: Contract, crops: int | None, *, preview: bool, reserved: bool = False
    ) -> Decoded:
        """Decode a picture fully, cut its crops, and keep a small copy if ``preview`` asks for it.

        A picture is let in by the place that was kept with ``reserve``, or by one of its own.

        Raises:
            ImageError: The picture cannot be scored.
            DecoderFull: The pool has enough to do.
        """
        if not reserved:
            self._take_place()
        upload = [data]
        del data
        future = self._pool.submit(self._decode, upload, contract, crops, preview)
        # A caller that leaves takes its upload along, but keeps its place until a thread has seen that it is gone.
        if not reserved:
            loop = asyncio.get_running_loop()
            future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._free))
        outcome = asyncio.wrap_future(future)
        # Also of a picture that fails when its caller has left: nobody else would look, and asyncio would complain.
        outcome.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            await asyncio.wait([outcome])
        finally:
            upload.clear()
        decoded = outcome.result()
        assert decoded is not None, "only a cancelled call has no upload"
        return decoded

    def close(self) -> None:
        """End the threads after what they are doing."""
        self._pool.shutdown(cancel_futures=True)

    def _take_place(self) -> None:
        if self._pending >= self._max_decodes:
            raise DecoderFull
        self._pending += 1

    def _free(self) -> None:
        self._pending -= 1

    def _decode(self, upload: list[bytes], contract: Contract, crops: int | None, preview: bool) -> Decoded | None:
        if not upload:
            return None
        with self._metrics.decode_seconds.time():
            picture = images.decode(upload.pop(), self._limits)
            views = contract.views(picture, crops)
            small = overlay.shrink(picture.image) if preview else None
        facts = picture.facts
        self._metrics.megapixels.observe(facts.width * facts.height / 1e6)
        self._metrics.input_format.labels(facts.format).inc()
        return Decoded(facts, views, small)
