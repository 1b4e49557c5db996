"""Decoding off the event loop: a bounded pool of threads, and a bound on the pixels that are decoded at a time.

Pillow releases the interpreter lock while it decodes. With a sandbox, each thread sends the picture to a decoder
process and only cuts the crops itself.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image
from prometheus_client import Gauge

from app.decode.sandbox import DecodeRequest, Resized, Sandbox
from app.observability.metrics import Metrics
from model import crop_rounds, images
from model.contract import Contract
from model.crop_rounds import CropRounds, Crops
from model.images import TooManyPixels
from model.maps import map_crops as mapping
from model.maps import overlay
from model.maps.map_crops import MapCrops


class Decoded(NamedTuple):
    """A decoded picture.

    The full picture has been freed: while crops wait for the device, only they take memory.

    Attributes:
        facts: Its size, format, hash and warnings.
        rounds: Its crops, or the tokens of the whole picture.
        preview: A small copy of it, if requested.
        map_crops: The crops of its map, if requested.
    """

    facts: images.Facts
    rounds: CropRounds
    preview: Image.Image | None
    map_crops: MapCrops | None


class DecoderFull(Exception):
    """All decoder slots are taken: ``max_decodes`` pictures are being decoded or wait for it."""


class CallerGone(Exception):
    """The caller left while its picture waited to be decoded."""


@dataclass
class _Call:
    """A picture that waits for a thread, and whether its caller has left."""

    data: bytes
    gone: bool = False

    def leave(self) -> None:
        # The flag first: a thread that finds no data must find the flag set.
        self.gone = True
        self.data = b""


class Decoder:
    """Turns encoded pictures into work items.

    Args:
        limits: Accepted dimensions.
        threads: Number of pictures that are decoded at a time.
        max_decodes: Number of pictures that are being decoded or wait for it.
        max_inflight_pixels: Bound on the pixels of the pictures that are decoded at a time.
        sandbox: Decoder processes, as many as threads; None decodes in the threads themselves.
        metrics: Records times, sizes and formats.
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
        """Reserve one slot for several pictures that are decoded one after the other.

        Raises:
            DecoderFull: No slot is free.
        """
        self._take_slot()
        try:
            yield
        finally:
            self._free_slot()

    async def decode(
        self,
        data: bytes,
        sha256: str,
        contract: Contract,
        crops: Crops | None,
        *,
        preview: bool,
        map_crops: bool = False,
        reserved: bool = False,
    ) -> Decoded:
        """Decode a picture by a contract and cut its crops.

        Args:
            data: The encoded picture.
            sha256: Its hash, hexadecimal.
            contract: How it is decoded, resized and cut.
            crops: Number of crops; the contract's count if None.
            preview: Whether to keep a small copy of the picture.
            map_crops: Whether to cut the crops of its map too.
            reserved: Whether it uses the slot from ``reserve`` instead of one of its own.

        Raises:
            ImageError: The picture cannot be scored.
            DecoderFull: No slot is free.
        """
        if not reserved:
            self._take_slot()
        call = _Call(data)
        del data
        request = DecodeRequest(sha256, contract, self._limits, preview, map_crops)
        future = self._pool.submit(self._decode, call, request, crops)
        # When a caller leaves, its picture is freed at once, but its slot only when a thread has skipped the call.
        if not reserved:
            loop = asyncio.get_running_loop()
            future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._free_slot))
        outcome = asyncio.wrap_future(future)
        # Retrieves the exception even if the caller has left: asyncio would log one that is never retrieved.
        outcome.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            await asyncio.wait([outcome])
        finally:
            call.leave()
            self._pixels.wake()
        decoded = outcome.result()
        assert decoded is not None, "only a cancelled call has no picture"
        return decoded

    def close(self) -> None:
        """Kill the decoder processes, then end the threads; pictures that wait are dropped."""
        if self._sandbox is not None:
            self._sandbox.stop()
        self._pool.shutdown(cancel_futures=True)
        if self._sandbox is not None:
            self._sandbox.close()

    def _take_slot(self) -> None:
        if self._pending >= self._max_decodes:
            raise DecoderFull
        self._pending += 1

    def _free_slot(self) -> None:
        self._pending -= 1

    def _decode(self, call: _Call, request: DecodeRequest, crops: Crops | None) -> Decoded | None:
        data = call.data
        if call.gone:
            return None
        call.data = b""
        decode = _decode_here if self._sandbox is None else self._sandbox.decode
        with self._metrics.decode_seconds.time(), ExitStack() as pixel_holds:

            def admit(pixels: int) -> None:
                pixel_holds.enter_context(self._pixels.hold(pixels, lambda: call.gone))

            try:
                facts, pixels_HWC, preview, copy_HWC = decode(data, request, admit)
            except CallerGone:
                return None
            contract = request.contract
            views = contract.cut(pixels_HWC, facts.size, crop_rounds.max_crops(crops, contract))
            rounds = CropRounds(views, contract, crops)
            cut = mapping.cut(copy_HWC, facts.size, contract) if copy_HWC is not None else None
        self._metrics.megapixels.observe(facts.width * facts.height / 1e6)
        self._metrics.input_format.labels(facts.format).inc()
        return Decoded(facts, rounds, preview, cut)


def _decode_here(data: bytes, request: DecodeRequest, admit: Callable[[int], object]) -> Resized:
    """Decode in this thread; same arguments and result as ``Sandbox.decode``."""
    contract = request.contract
    picture = contract.decode(data, request.limits, admit, sha256=request.sha256)
    small = overlay.shrink(picture.image) if request.preview else None
    copy_HWC = np.asarray(mapping.resized(picture, contract)) if request.map_crops else None
    return Resized(picture.facts, np.asarray(contract.resized(picture)), small, copy_HWC)


class PixelBudget:
    """Admits pictures while the sum of their pixels is within a bound; the others wait in order of arrival.

    Arrival order keeps a stream of small pictures from starving a large one. Called by the decoder's threads.

    Args:
        most: The bound in pixels.
        gauge: Shows the pixels that are admitted.
    """

    def __init__(self, most: int, gauge: Gauge) -> None:
        self._most = most
        self._held = 0
        self._gauge = gauge
        self._changed = threading.Condition()
        self._waiting: deque[object] = deque()

    @contextmanager
    def hold(self, pixels: int, gone: Callable[[], bool]) -> Iterator[None]:
        """Wait until that many pixels fit, and hold them until the context ends.

        Args:
            pixels: Number of pixels of the picture.
            gone: Returns whether the caller has left; called again after each ``wake``.

        Raises:
            TooManyPixels: They are more than the bound.
            CallerGone: The caller left while the picture waited.
        """
        if pixels > self._most:
            raise TooManyPixels(f"{pixels:,} pixels are more than the {self._most:,} that are decoded at a time")
        with self._changed:
            ticket = object()
            self._waiting.append(ticket)
            self._changed.wait_for(lambda: gone() or (self._waiting[0] is ticket and self._held + pixels <= self._most))
            self._waiting.remove(ticket)
            self._changed.notify_all()
            if gone():
                raise CallerGone
            self._add(pixels)
        try:
            yield
        finally:
            with self._changed:
                self._add(-pixels)
                self._changed.notify_all()

    def wake(self) -> None:
        """Make the waiting threads check again whether their callers have left."""
        with self._changed:
            self._changed.notify_all()

    def _add(self, pixels: int) -> None:
        self._held += pixels
        self._gauge.set(self._held)
