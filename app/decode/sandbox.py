"""Decoding in untrusted processes, which may crash, hang or be compromised: the service's side.

Pillow's decoders are C code that reads untrusted bytes. A worker process (``sandbox_worker.py``) holds one picture at a
time. Its answer is a fixed header, a small JSON object whose every field is checked, and raw pixels, whose number
follows from the checked size: nothing that the service would execute. A worker that dies, takes too long or sends an
invalid answer is replaced; only the picture that it had fails.
"""

import json
import logging
import mmap
import os
import queue
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from prometheus_client import Counter

from app.decode import sandbox_answer
from app.decode.sandbox_answer import Broken
from app.decode.sandbox_worker import (
    ANSWER,
    ERROR,
    FACTS,
    GO,
    PIXELS,
    READY,
    REQUEST,
    SHARED_BYTES,
    SIZE,
    STOP,
)
from app.observability.access import current_id
from model import images
from model.contract import Contract
from model.images import Facts, Limits, UndecodableImage
from model.maps.map_crops import layout
from model.picking.look import BYTES, Look
from model.views import Details

log = logging.getLogger("smart_iqa.sandbox")

START_SECONDS = 60.0
PROGRAM = ("-m", f"{__package__}.sandbox_worker")
WALL_FACTOR = 3
"""Wall time for each CPU second of the limit: the other workers and the engine use the same cores."""
SOCKET_BYTES = 2**20
COPIES, ENLARGED_PIXELS = 3, 4_000_000
"""Most pixels of an answer: the copies of a picture, or those of a small one, which is enlarged."""
JSON_BYTES = 4096


class DecodeRequest(NamedTuple):
    """How to decode a picture, and which copies of it to make.

    Attributes:
        sha256: Hash of its bytes, hexadecimal.
        contract: Defines decoding and resizing.
        limits: Accepted dimensions.
        preview: Whether to make a small copy of the picture.
        map_crops: Whether to make the copy that the crops of its map are cut from.
        look: Whether to keep what picking needs of it.
        crops: How many crops it may have, which matters to a close look alone.
    """

    sha256: str
    contract: Contract
    limits: Limits
    preview: bool = False
    map_crops: bool = False
    crops: int = 1
    look: bool = False


class Resized(NamedTuple):
    """A picture, decoded and resized by a contract.

    Attributes:
        facts: Its size, format, hash and warnings.
        pixels_HWC: The resized picture, uint8; its crops are cut from this.
        preview: A small copy of it, if requested.
        copy_HWC: The copy that the crops of its map are cut from, uint8, if requested.
        close: A close look at it, if its contract takes one.
        look: What picking needs of it, if requested.
    """

    facts: Facts
    pixels_HWC: NDArray[np.uint8]
    preview: Image.Image | None
    copy_HWC: NDArray[np.uint8] | None
    close: Details | None
    look: Look | None = None


class Sandbox:
    """A pool of worker processes, used by as many threads.

    Args:
        workers: Number of processes.
        memory_bytes: Address space of each.
        seconds: CPU time limit for a picture; the wall time limit is ``WALL_FACTOR`` times that.
        replaced: Counts replaced workers by reason.
    """

    def __init__(self, *, workers: int, memory_bytes: int, seconds: int, replaced: Counter) -> None:
        self._memory_bytes = memory_bytes
        self._seconds = seconds
        self._replaced = replaced
        self._isolation_logged = self._stopped = False
        self._busy: set[_Worker] = set()
        self._idle: queue.LifoQueue[_Worker] = queue.LifoQueue()
        for _ in range(workers):
            self._idle.put(self._start())

    def decode(self, data: bytes, request: DecodeRequest, admit: Callable[[int], object]) -> Resized:
        """Decode a picture and resize it by a contract.

        Args:
            data: The encoded picture.
            request: How to decode it.
            admit: As for ``images.decode``; the worker waits until it returns.

        Raises:
            ImageError: The picture cannot be scored; ``UndecodableImage`` also if the worker had to be replaced.
            RuntimeError: No worker can be started.
        """
        worker = self._idle.get()
        try:
            worker = self._sound(worker)
            self._busy.add(worker)
            try:
                return worker.decode(data, request, admit)
            except Broken as error:
                request_id = current_id.get()
                log.warning(
                    "a decoder process is replaced: %s id=%s sha256=%s",
                    error,
                    request_id or "-",
                    request.sha256,
                    extra={"request_id": request_id or None, "sha256": request.sha256},
                )
                self._replaced.labels(str(error)).inc()
                raise UndecodableImage(
                    "the picture cannot be decoded in the time and memory that it is given"
                ) from error
            finally:
                self._busy.discard(worker)
                # After an exchange that ended early, whatever its reason, the rest of it must not be read as the answer
                # for the next picture.
                if not worker.listens:
                    worker.close()
                    worker = worker if self._stopped else self._start()
        finally:
            self._idle.put(worker)

    def stop(self) -> None:
        """Kill the workers that are decoding, at shutdown."""
        self._stopped = True
        for worker in tuple(self._busy):
            worker.process.kill()

    def close(self) -> None:
        """End all workers. No thread may be decoding."""
        while not self._idle.empty():
            self._idle.get().close()

    def _start(self) -> "_Worker":
        return _Worker(self._memory_bytes, self._seconds)

    def _sound(self, worker: "_Worker") -> "_Worker":
        """Return the worker, or a new one if it died while idle, for which no picture is to blame."""
        if worker.process.poll() is not None:
            self._replaced.labels("idle").inc()
            worker.close()
            worker = self._start()
        try:
            isolated = worker.wait_ready()
        except Broken as error:
            worker.close()
            raise RuntimeError("the decoder process cannot be started") from error
        if not self._isolation_logged:
            self._isolation_logged = True
            log.info("decoder processes run %s", "without a network" if isolated else "WITHOUT network isolation")
        return worker


class _Worker:
    """One process and the socket to it.

    Attributes:
        listens: Whether the process waits for a request; False in the middle of an exchange.
    """

    def __init__(self, memory_bytes: int, seconds: int) -> None:
        self._wall: float = WALL_FACTOR * seconds
        self._isolated: bool | None = None
        self.listens = True
        ours, theirs = socket.socketpair()
        # Large enough for the resized pixels at once; the kernel may allow less.
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
        # The folder that this package, by whatever name, is imported from.
        root = Path(__file__).resolve().parents[__name__.count(".")]
        # One BLAS thread and one malloc arena: more of them reserve address space that they do not use.
        environment = {"PYTHONPATH": str(root), "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
        shared = os.memfd_create("pixels")
        os.ftruncate(shared, SHARED_BYTES)
        self._shared = mmap.mmap(shared, SHARED_BYTES, prot=mmap.PROT_READ)
        command = [sys.executable, "-P", "-s", *PROGRAM, str(memory_bytes), str(seconds), str(shared)]
        with theirs:
            try:
                self.process = subprocess.Popen(
                    command,
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    pass_fds=(shared,),
                    env=environment,
                    cwd="/",
                )
            except OSError:
                ours.close()
                self._shared.close()
                raise
            finally:
                os.close(shared)
        self._socket = ours

    def wait_ready(self) -> bool:
        """Wait until the process has started. Returns whether it is isolated from the network.

        Raises:
            Broken: It does not start.
        """
        if self._isolated is None:
            greeting = self._receive(2, time.monotonic() + START_SECONDS)
            if greeting[:1] != READY:
                raise Broken("nonsense")
            self._isolated = greeting[1:] == b"\1"
        return self._isolated

    def decode(self, data: bytes, request: DecodeRequest, admit: Callable[[int], object]) -> Resized:
        """Decode a picture and resize it; as ``Sandbox.decode``."""
        encoded = {"contract": _contract_text(request.contract), "limits": asdict(request.limits)}
        text = json.dumps({**request._asdict(), **encoded}).encode()
        self.listens = False
        until = time.monotonic() + self._wall
        self._send(REQUEST.pack(len(text), len(data)) + text, until)
        self._send(data, until)
        kind, pixels = self._receive(1, until), 0
        if kind == SIZE:
            (pixels,) = PIXELS.unpack(self._receive(PIXELS.size, until))
            if pixels > request.limits.max_pixels:
                raise Broken("nonsense")
            try:
                admit(pixels)
            except BaseException:
                with suppress(Broken):
                    self._send(STOP, time.monotonic() + self._wall)
                    self.listens = True
                raise
            until = time.monotonic() + self._wall
            self._send(GO, until)
            kind = self._receive(1, until)
        return self._take_answer(kind, request, pixels, until)

    def _ended(self) -> Broken:
        """The reason why the process has closed its end."""
        with suppress(subprocess.TimeoutExpired):
            if self.process.wait(1) == -signal.SIGXCPU:
                return Broken("overran")
        return Broken("died")

    def close(self) -> None:
        """End the process."""
        self._socket.close()
        self.process.kill()
        self.process.wait()
        self._shared.close()

    def _take_answer(self, kind: bytearray, request: DecodeRequest, pixels: int, until: float) -> Resized:
        json_bytes, pixel_bytes = ANSWER.unpack(self._receive(ANSWER.size, until))
        if json_bytes > JSON_BYTES:
            raise Broken("nonsense")
        text = self._receive(json_bytes, until)
        try:
            answer = json.loads(text)
            if kind == ERROR and not pixel_bytes:
                error = sandbox_answer.error(answer)
                self.listens = isinstance(error, images.ImageError)
                raise error
            if kind != FACTS:
                raise Broken("nonsense")
            facts = sandbox_answer.facts(answer, request.limits, request.sha256)
            small = sandbox_answer.preview_size(answer, request.preview)
            boxes = sandbox_answer.boxes(answer, facts, request.crops - 1)
            taken = sandbox_answer.capture(answer) if request.look else None
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            if self.listens:
                raise
            raise Broken("nonsense") from error
        size = request.contract.target_size(facts.width, facts.height)
        larger = layout(request.contract, facts.width, facts.height)[:2] if request.map_crops else (0, 0)
        side = request.contract.crop_size
        sizes = (size, small, larger, (side, side * len(boxes)))
        expected = sum(width * height for width, height in sizes)
        # Many more pixels than ``admit`` was told would be outside the pixel budget.
        look_bytes = 0 if taken is None else BYTES
        if not pixels or pixel_bytes != 3 * expected + look_bytes or expected > COPIES * pixels + ENLARGED_PIXELS:
            raise Broken("nonsense")
        if pixel_bytes <= SHARED_BYTES:
            # Copied before it is used: the process could change it meanwhile.
            everything = np.frombuffer(self._shared, np.uint8, pixel_bytes).copy()
        else:
            everything = np.frombuffer(self._receive(pixel_bytes, until), np.uint8)
        parts = []
        for width, height in sizes:
            parts.append(everything[: 3 * width * height].reshape(height, width, 3))
            everything = everything[3 * width * height :]
        preview = Image.fromarray(parts[1]) if request.preview else None
        close = Details(parts[3].reshape(len(boxes), side, side, 3), boxes) if boxes else None
        look = None if taken is None else Look.from_bytes(everything.tobytes(), taken)
        self.listens = True
        return Resized(facts, parts[0], preview, parts[2] if request.map_crops else None, close, look)

    def _send(self, data: bytes, until: float) -> None:
        try:
            self._socket.settimeout(_left(until))
            self._socket.sendall(data)
        except TimeoutError as error:
            raise Broken("overran") from error
        except OSError as error:
            raise self._ended() from error

    def _receive(self, count: int, until: float) -> bytearray:
        data = bytearray(count)
        view, got = memoryview(data), 0
        while got < count:
            try:
                self._socket.settimeout(_left(until))
                more = self._socket.recv_into(view[got:])
            except TimeoutError as error:
                raise Broken("overran") from error
            except OSError as error:
                raise self._ended() from error
            if not more:
                raise self._ended()
            got += more
        return data


@lru_cache(maxsize=64)
def _contract_text(contract: Contract) -> str:
    """A contract as JSON; made once, because that takes as long as decoding a tenth of a megapixel."""
    return json.dumps(contract.to_dict())


def _left(until: float) -> float:
    return max(until - time.monotonic(), 0.001)
