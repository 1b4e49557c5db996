"""Decoding off the event loop: a bounded pool of threads, a fair queue before it, and a bound on the pixels at a time.

The queue is that of the device (``app/batching/fair_queue.py``), by the time of the threads: interactive pictures get
nine times as much of it as bulk ones, each owner gets the same, and a thread takes the picture that is next in turn.

No thread waits for room among the pixels. How many a picture has is known only when a thread has read its header. If
they do not fit then, the picture goes back to its place in the queue, and the thread takes another. A picture whose
pixels are known is taken only when they fit. So:

* While the next in turn does not fit, nothing else is taken, however small: later pictures cannot starve a large one.
* It fits, and is the first to begin, when enough of the pictures that are being decoded are done.
* A picture goes back once at most, and has its header read twice then.

Pillow releases the interpreter lock while it decodes. With a sandbox, each thread sends the picture to a decoder
process and only cuts the crops itself.
"""

import asyncio
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import numpy as np
from PIL import Image

from app.batching.capacity import RETRY_AFTER_CAP
from app.batching.fair_queue import FairQueue, Segment
from app.batching.submission import Priority
from app.decode.errors import CallerGone, DecoderFull, NoRoom
from app.decode.sandbox import DecodeRequest, Resized, Sandbox
from app.observability import tracing
from app.observability.access import RequestRecord
from app.observability.metrics import Metrics
from model import crop_rounds, images
from model.contract import Contract
from model.crop_rounds import CropRounds, Crops
from model.images import TooManyPixels
from model.maps import map_crops as mapping
from model.maps import overlay
from model.maps.map_crops import MapCrops
from model.picking.look import Look


class Decoded(NamedTuple):
    """A decoded picture.

    The full picture has been freed: while crops wait for the device, only they take memory.

    Attributes:
        facts: Its size, format, hash and warnings.
        rounds: Its crops, or the tokens of the whole picture.
        preview: A small copy of it, if requested.
        map_crops: The crops of its map, if requested.
        look: What picking needs of it, if requested.
        seconds: Time that a thread decoded it, without any wait.
    """

    facts: images.Facts
    rounds: CropRounds
    preview: Image.Image | None
    map_crops: MapCrops | None
    look: Look | None = None
    seconds: float = 0.0


@dataclass(eq=False)
class _Call:
    """A picture to decode: an entry of the fair queue, with one item.

    Attributes:
        slot: Its slot, if it has one of its own.
        pixels: Room that it takes, once that is known; ``held`` is what it holds now.
        charged: Estimated seconds that its owner was charged when a thread took it.
        taken: 0 while it waits, else 1.
        gone: Whether its caller has left.
        began: When a thread began to decode it; None while it waits.
        context: Where its caller's request id and trace are, for what is logged and measured on the thread.
    """

    data: bytes
    request: DecodeRequest
    crops: Crops | None
    owner: str
    priority: Priority
    since: float
    slot: object
    pixels: int = 0
    held: int = 0
    charged: float = 0.0
    taken: int = 0
    gone: bool = False
    began: float | None = None
    context: Context = field(default_factory=copy_context)
    key: ClassVar[str] = "decode"
    kind: ClassVar[tuple[str]] = (key,)

    @property
    def flow(self) -> tuple[str, str]:
        return self.owner, self.key

    @property
    def waiting(self) -> int:
        return 1 - self.taken

    @property
    def item_bytes(self) -> int:
        return len(self.data)


class Decoder:
    """Turns encoded pictures into work items; used on one event loop.

    Args:
        limits: Accepted dimensions.
        threads: Number of pictures that are decoded at a time.
        max_decodes: Number of pictures that are being decoded or wait for it: the decoder's slots.
        max_inflight_pixels: Bound on the pixels of the pictures that are decoded at a time.
        sandbox: Decoder processes, as many as threads; None decodes in the threads themselves.
        metrics: Records times, sizes and formats.
        clock: Returns seconds of a monotonic clock.
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
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits
        self._threads = threads
        self._max_decodes = max_decodes
        self._metrics = metrics
        self._sandbox = sandbox
        self._clock = clock
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        # Guards what follows and the calls, but not the slots; told when the queue or the pixels have changed.
        self._changed = threading.Condition()
        self._queue = FairQueue[_Call]()
        self._max_pixels = max_inflight_pixels
        self._pixels = 0
        # Of the pictures that have not been answered yet.
        self._futures: dict[_Call, Future[Decoded]] = {}
        # Owners of the slots that are taken; used on the event loop only.
        self._slots: dict[object, str] = {}
        metrics.decode_threads.set(threads)
        metrics.decode_pending.set_function(lambda: len(self._slots))
        metrics.decode_drain.set_function(lambda: self.drain_seconds)

    @property
    def drain_seconds(self) -> float:
        """Estimated seconds until the pictures that wait are decoded, from what pictures took lately."""
        with self._changed:
            return self._queue.drain_seconds / self._threads

    @contextmanager
    def reserve(self, owner: str = "", priority: Priority = Priority.INTERACTIVE) -> Iterator[None]:
        """Reserve one slot for several pictures of a request that are decoded one after the other.

        Raises:
            DecoderFull: No slot is free.
        """
        slot = object()
        self._take_slot(slot, owner, priority)
        try:
            yield
        finally:
            del self._slots[slot]

    async def decode(
        self,
        data: bytes,
        sha256: str,
        contract: Contract,
        crops: Crops | None,
        *,
        preview: bool,
        map_crops: bool = False,
        look: bool = False,
        reserved: bool = False,
        owner: str = "",
        priority: Priority = Priority.INTERACTIVE,
        record: RequestRecord | None = None,
    ) -> Decoded:
        """Decode a picture by a contract and cut its crops.

        A caller that leaves frees its slot: at once while the picture waits, else when the thread is done with it.

        Args:
            data: The encoded picture.
            sha256: Its hash, hexadecimal.
            contract: How it is decoded, resized and cut.
            crops: Number of crops; the contract's count if None.
            preview: Whether to keep a small copy of the picture.
            map_crops: Whether to cut the crops of its map too.
            look: Whether to keep what picking needs of it.
            reserved: Whether it uses the slot from ``reserve`` instead of one of its own.
            owner: Name of the key that the request came with; owners share the threads fairly. "" without keys.
            priority: Class of the request.
            record: Is told how long the picture waited and was decoded, also if nothing came of it.

        Raises:
            ImageError: The picture cannot be scored.
            DecoderFull: No slot is free, or this picture gave up its own to another owner's.
        """
        most = crop_rounds.max_crops(crops, contract)
        request = DecodeRequest(sha256, contract, self._limits, preview, map_crops, most, look)
        call = _Call(data, request, crops, owner, priority, self._clock(), slot := object())
        del data
        if not reserved:
            self._take_slot(slot, owner, priority)
        loop, future = asyncio.get_running_loop(), Future[Decoded]()
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._slots.pop, slot, None))
        outcome = asyncio.wrap_future(future)
        # Retrieves the exception even if the caller has left: asyncio would log one that is never retrieved.
        outcome.add_done_callback(lambda done: done.cancelled() or done.exception())
        with self._changed:
            self._futures[call] = future
            self._queue.add(call)
            self._changed.notify_all()
        try:
            self._pool.submit(self._work)
            await asyncio.wait([outcome])
        finally:
            if record is not None:
                now = self._clock()
                began = now if call.began is None else call.began
                record.spend(decode_wait=began - call.since, decode=now - began)
            self._leave(call)
        try:
            return outcome.result()
        finally:
            del future, outcome

    def close(self) -> None:
        """Kill the decoder processes, then end the threads; pictures that wait are dropped."""
        if self._sandbox is not None:
            self._sandbox.stop()
        with self._changed:
            for call in [*self._queue]:
                self._withdraw(call).cancel()
        self._pool.shutdown(cancel_futures=True)
        if self._sandbox is not None:
            self._sandbox.close()

    def _take_slot(self, slot: object, owner: str, priority: Priority) -> None:
        if len(self._slots) >= self._max_decodes and not self._shed_for(owner, priority):
            raise self._full()
        self._slots[slot] = owner

    def _full(self) -> DecoderFull:
        return DecoderFull(min(max(math.ceil(self.drain_seconds), 1), RETRY_AFTER_CAP))

    def _shed_for(self, owner: str, priority: Priority) -> bool:
        """Shed a waiting picture of the owner with the most slots, if that has at least two more than this owner.

        So one owner may fill all slots only until another comes. The last picture of its lowest class is shed, none of
        a higher class than the new one, and none of a batch, which was let in whole. Returns whether a slot is free.
        """
        slots = Counter(self._slots.values())
        with self._changed:
            waiting = [
                call
                for call in self._queue
                if call.slot in self._slots and slots[call.owner] > slots[owner] + 1 and call.priority >= priority
            ]
            if not waiting:
                return False
            shed = sorted(waiting, key=lambda call: (slots[call.owner], call.priority, call.since))[-1]
            future = self._withdraw(shed)
        future.set_exception(self._full())
        del self._slots[shed.slot]
        return True

    def _withdraw(self, call: _Call) -> "Future[Decoded]":
        """Take a waiting picture out of the queue; returns its future, which is to be answered or cancelled."""
        self._queue.remove(call)
        self._changed.notify_all()
        return self._futures.pop(call)

    def _leave(self, call: _Call) -> None:
        """Nobody waits for this picture any more: free its bytes, and its slot if no thread has it."""
        with self._changed:
            if call.waiting:
                self._slots.pop(call.slot, None)
                self._withdraw(call).cancel()
            # The flag first: a thread that finds no data must find the flag set.
            call.gone = True
            call.data = b""

    def _work(self) -> None:
        """Decode the picture that is next in turn. The pool runs this once for each picture that is queued."""
        while (segments := self._take()) and not self._done(segments):
            pass

    def _take(self) -> tuple[Segment[_Call], ...]:
        """Wait until the picture that is next in turn fits, and take it out of the queue; nothing if none waits."""
        with self._changed:
            while (call := self._queue.next_entry()) and self._pixels + call.pixels > self._max_pixels:
                self._changed.wait()
            if call is None:
                return ()
            self._hold(call, call.pixels)
            segments = self._queue.take(call, 1)
            call.charged = self._queue.cost(segments)
            return segments

    def _done(self, segments: tuple[Segment[_Call], ...]) -> bool:
        """Decode a picture that was taken. Returns False if it had to go back to the queue."""
        call, began = segments[0].entry, self._clock()
        call.began = began
        outcome = call.context.run(self._try, call)
        seconds = self._clock() - began
        with self._changed:
            self._hold(call, 0)
            self._changed.notify_all()
            if isinstance(outcome, NoRoom | CallerGone):
                call.began = None
                self._queue.put_back(call, call.charged)
                if call.gone:
                    self._withdraw(call).cancel()
                return call.gone
            self._queue.settle(segments, call.charged, seconds)
            future = self._futures.pop(call)
        exemplar = call.context.run(tracing.exemplar)
        self._metrics.decode_wait_seconds.observe(began - call.since, exemplar)
        self._metrics.decode_seconds.observe(seconds, exemplar)
        if isinstance(outcome, BaseException):
            future.set_exception(outcome)
        else:
            future.set_result(outcome._replace(seconds=seconds))
        return True

    def _try(self, call: _Call) -> Decoded | BaseException:
        try:
            return self._decode(call)
        except BaseException as error:
            return error  # The caller puts it into the future: from here, its traceback would refer to itself.

    def _admit(self, call: _Call, pixels: int) -> None:
        """Hold room for a picture whose pixels are known now.

        Raises:
            TooManyPixels: They are more than the bound.
            NoRoom: They do not fit now.
            CallerGone: The caller has left.
        """
        most = self._max_pixels
        if pixels > most:
            raise TooManyPixels(f"{pixels:,} pixels are more than the {most:,} that are decoded at a time")
        with self._changed:
            if call.gone:
                raise CallerGone
            call.pixels = pixels
            if self._pixels - call.held + pixels > most:
                raise NoRoom
            self._hold(call, pixels)

    def _hold(self, call: _Call, pixels: int) -> None:
        """Have a picture hold that much room, instead of what it holds now."""
        self._pixels += pixels - call.held
        call.held = pixels
        self._metrics.decode_pixels.set(self._pixels)

    def _decode(self, call: _Call) -> Decoded:
        data, request = call.data, call.request
        if call.gone:
            raise CallerGone
        decode = decode_here if self._sandbox is None else self._sandbox.decode
        facts, pixels_HWC, preview, copy_HWC, close, look = decode(data, request, lambda held: self._admit(call, held))
        contract = request.contract
        rounds = CropRounds(contract.cut(pixels_HWC, facts.size, request.crops, close), contract, call.crops)
        cut = mapping.cut(copy_HWC, facts.size, contract) if copy_HWC is not None else None
        self._metrics.megapixels.observe(facts.width * facts.height / 1e6)
        self._metrics.input_format.labels(facts.format).inc()
        return Decoded(facts, rounds, preview, cut, look)


def decode_here(data: bytes, request: DecodeRequest, admit: Callable[[int], object]) -> Resized:
    """Decode in this thread, without a decoder process; same arguments and result as ``Sandbox.decode``."""
    contract = request.contract
    picture = contract.decode(data, request.limits, admit, sha256=request.sha256)
    small = overlay.shrink(picture.image) if request.preview else None
    copy_HWC = np.asarray(mapping.resized(picture, contract)) if request.map_crops else None
    close = contract.details(picture, pixels_HWC := np.asarray(contract.resized(picture)), request.crops)
    return Resized(picture.facts, pixels_HWC, small, copy_HWC, close, Look.at(picture, data) if request.look else None)
