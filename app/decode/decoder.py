"""Decoding off the event loop, in a bounded pool of threads, and within a bound of pixels.

Pillow lets go of the interpreter lock while it decodes. With a sandbox each thread has a process do it, and only cuts
the crops itself.
"""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image

from app.decode.pixel_budget import CallerGone, PixelBudget
from app.decode.sandbox import Resized, Sandbox
from app.observability.metrics import Metrics
from model import crop_rounds, images
from model.contract import Contract
from model.crop_rounds import CropRounds, Crops
from model.maps import map_crops as spotting
from model.maps import overlay
from model.maps.map_crops import MapCrops


class Decoded(NamedTuple):
    """An upload, decoded: the facts, the work items in rounds, and if asked for a small copy and the spots.

    The full picture is gone by now: while crops wait for the device, they are all that takes memory.
    """

    facts: images.Facts
    rounds: CropRounds
    preview: Image.Image | None
    spots: MapCrops | None


class DecoderFull(Exception):
    """Enough pictures are being decoded or wait for it."""


@dataclass
class _Call:
    """An upload on its way to a thread, and whether its caller has left."""

    data: bytes
    gone: bool = False

    def leave(self) -> None:
        # In this order: a thread that finds no data knows why.
        self.gone = True
        self.data = b""


class Decoder:
    """Turns uploads into work items.

    Args:
        limits: Dimensions to accept.
        threads: Pictures decoded at a time.
        max_decodes: Pictures being decoded or waiting for it.
        max_inflight_pixels: Pixels of the pictures decoded at a time.
        sandbox: Processes that decode, as many as there are threads; None decodes in the threads.
        metrics: Where it reports.
    """

    def __init__(
        self,
        limits: images.Limits,
        *,
        threads: int,
        max_decodes: int,
        max_inflight_pixels: int,
        sandbox: Sandbox | None,
        metrics: Metrics,
    ) -> None:
        self._limits = limits
        self._max_decodes = max_decodes
        self._metrics = metrics
        self._pixels = PixelBudget(max_inflight_pixels, metrics.decode_pixels)
        self._sandbox = sandbox
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
        self,
        data: bytes,
        sha256: str,
        contract: Contract,
        crops: Crops | None,
        *,
        preview: bool,
        spots: bool = False,
        reserved: bool = False,
    ) -> Decoded:
        """Decode a picture by a contract and cut its crops.

        Args:
            data: The encoded picture.
            sha256: Its hash, hexadecimal.
            contract: How it is decoded, resized and cut.
            crops: How many crops; the contract's count if None.
            preview: Whether to keep a small copy of the picture.
            spots: Whether to cut its spots too.
            reserved: Whether it is let in by the place that was kept with ``reserve``, rather than by one of its own.

        Raises:
            ImageError: The picture cannot be scored.
            DecoderFull: The pool has enough to do.
        """
        if not reserved:
            self._take_place()
        call = _Call(data)
        del data
        future = self._pool.submit(self._decode, call, sha256, contract, crops, preview, spots)
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
            call.leave()
            self._pixels.wake()
        decoded = outcome.result()
        assert decoded is not None, "only a cancelled call has no upload"
        return decoded

    def close(self) -> None:
        """End the threads after what they are doing, and the processes in the middle of it."""
        if self._sandbox is not None:
            self._sandbox.stop()
        self._pool.shutdown(cancel_futures=True)
        if self._sandbox is not None:
            self._sandbox.close()

    def _take_place(self) -> None:
        if self._pending >= self._max_decodes:
            raise DecoderFull
        self._pending += 1

    def _free(self) -> None:
        self._pending -= 1

    def _decode(
        self, call: _Call, sha256: str, contract: Contract, crops: Crops | None, preview: bool, spots: bool
    ) -> Decoded | None:
        data = call.data
        if call.gone:
            return None
        call.data = b""
        decode = _decode_here if self._sandbox is None else self._sandbox.decode
        with self._metrics.decode_seconds.time(), ExitStack() as held:

            def admit(pixels: int) -> None:
                held.enter_context(self._pixels.hold(pixels, lambda: call.gone))

            try:
                facts, pixels_HWC, small, copy_HWC = decode(
                    data, sha256, contract, self._limits, admit, preview=preview, spots=spots
                )
            except CallerGone:
                return None
            views = contract.cut(pixels_HWC, facts.size, crop_rounds.max_crops(crops, contract))
            rounds = CropRounds(views, contract, crops)
            cut = spotting.cut(copy_HWC, facts.size, contract) if copy_HWC is not None else None
        self._metrics.megapixels.observe(facts.width * facts.height / 1e6)
        self._metrics.input_format.labels(facts.format).inc()
        return Decoded(facts, rounds, small, cut)


def _decode_here(
    data: bytes,
    sha256: str,
    contract: Contract,
    limits: images.Limits,
    admit: Callable[[int], object],
    *,
    preview: bool,
    spots: bool,
) -> Resized:
    """Decode in this thread; otherwise like ``Sandbox.decode``."""
    picture = contract.decode(data, limits, admit, sha256=sha256)
    small = overlay.shrink(picture.image) if preview else None
    copy_HWC = np.asarray(spotting.resized(picture, contract)) if spots else None
    return Resized(picture.facts, np.asarray(contract.resized(picture)), small, copy_HWC)
