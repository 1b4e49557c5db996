"""Decoding in processes that may crash, hang or turn against us: the service's side.

Pillow's decoders are C code that reads what strangers send. A worker (``sandbox_worker.py``) holds one picture at a
time. From it comes a fixed header, a small JSON object whose every field is checked, and raw pixels of a number that
follows from the checked size: nothing that could make the service run anything. A worker that dies, takes too long or
answers nonsense costs the picture that it had, and is replaced.
"""

import json
import logging
import queue
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from prometheus_client import Counter

from app.decode.sandbox_worker import ANSWER, ERROR, FACTS, GO, OUT_OF_MEMORY, PIXELS, READY, REQUEST, SIZE, STOP
from model import images
from model.contract import Contract
from model.images import Facts, ImageWarning, Limits, UndecodableImage
from model.maps import overlay
from model.maps.map_crops import layout

log = logging.getLogger("smart_iqa.sandbox")

START_SECONDS = 60.0
PROGRAM = ("-m", "app.decode.sandbox_worker")
WALL_FACTOR = 3
"""Wall time for each CPU second of the limit: the other workers and the engine use the same cores."""
SOCKET_BYTES = 2**20
JSON_BYTES, DETAIL_CHARACTERS = 4096, 200
_ERRORS: dict[str, type[images.ImageError]] = {
    error.__name__: error
    for error in (
        images.UnsupportedFormat,
        images.UndecodableImage,
        images.TruncatedImage,
        images.TooManyPixels,
        images.TooSmall,
        images.AspectTooExtreme,
    )
}


class DecodeRequest(NamedTuple):
    """What is to be made of an encoded picture.

    Attributes:
        sha256: Hash of its bytes, hexadecimal.
        contract: Its rules of decoding and resizing are applied.
        limits: Dimensions to accept.
        preview: Whether a small copy of the picture is needed.
        map_crops: Whether the copy that the crops of its map are cut from is needed.
    """

    sha256: str
    contract: Contract
    limits: Limits
    preview: bool = False
    map_crops: bool = False


class Resized(NamedTuple):
    """A picture, decoded and resized by a contract.

    Attributes:
        facts: Its size, format and hash, and the warnings.
        pixels_HWC: What its crops are cut from.
        preview: A small copy of it, if one was asked for.
        copy_HWC: What the crops of its map are cut from, if they were asked for.
    """

    facts: Facts
    pixels_HWC: NDArray[np.uint8]
    preview: Image.Image | None
    copy_HWC: NDArray[np.uint8] | None


class _Broken(Exception):
    """The worker cannot be used any more; the text says why, for logs and metrics.

    ``died``, ``overran`` its time, ran out of ``memory``, or talked ``nonsense``.
    """


class Sandbox:
    """A pool of worker processes, used by as many threads.

    Args:
        workers: How many.
        memory_bytes: Address space of each.
        seconds: CPU time for a picture; three times as much by the clock.
        replaced: Counts workers that had to be replaced, by reason.
    """

    def __init__(self, *, workers: int, memory_bytes: int, seconds: int, replaced: Counter) -> None:
        self._memory_bytes = memory_bytes
        self._seconds = seconds
        self._replaced = replaced
        self._told = self._stopped = False
        self._busy: set[_Worker] = set()
        self._idle: queue.LifoQueue[_Worker] = queue.LifoQueue()
        for _ in range(workers):
            self._idle.put(self._start())

    def decode(self, data: bytes, request: DecodeRequest, admit: Callable[[int], object]) -> Resized:
        """Decode a picture and resize it by a contract.

        Args:
            data: The encoded picture.
            request: What to make of it.
            admit: As for ``images.decode``; the worker waits while it runs.

        Raises:
            ImageError: The picture cannot be scored; ``UndecodableImage`` also if it cost the worker.
            RuntimeError: No worker can be started.
        """
        worker = self._idle.get()
        try:
            worker = self._sound(worker)
            self._busy.add(worker)
            try:
                return worker.decode(data, request, admit)
            except _Broken as error:
                log.warning("a decoder process is replaced: %s", error)
                self._replaced.labels(str(error)).inc()
                raise UndecodableImage(
                    "the picture cannot be decoded in the time and memory that it is given"
                ) from error
            finally:
                self._busy.discard(worker)
                # Whatever ended a conversation in the middle: what is still to come must not meet another picture.
                if not worker.listens:
                    worker.close()
                    worker = worker if self._stopped else self._start()
        finally:
            self._idle.put(worker)

    def stop(self) -> None:
        """End the workers that are decoding: nobody waits for them any more."""
        self._stopped = True
        for worker in tuple(self._busy):
            worker.process.kill()

    def close(self) -> None:
        """End all workers; nobody may be decoding."""
        while not self._idle.empty():
            self._idle.get().close()

    def _start(self) -> "_Worker":
        return _Worker(self._memory_bytes, self._seconds)

    def _sound(self, worker: "_Worker") -> "_Worker":
        """Give the worker, or another one if it has died while nobody used it: no picture is to blame for that."""
        if worker.process.poll() is not None:
            self._replaced.labels("idle").inc()
            worker.close()
            worker = self._start()
        try:
            isolated = worker.wait_ready()
        except _Broken as error:
            worker.close()
            raise RuntimeError("the decoder process cannot be started") from error
        if not self._told:
            self._told = True
            log.info("decoder processes run %s", "without a network" if isolated else "WITHOUT network isolation")
        return worker


class _Worker:
    """One process and the socket to it.

    Attributes:
        listens: Whether it waits for a request, rather than being in the middle of one.
    """

    def __init__(self, memory_bytes: int, seconds: int) -> None:
        self._wall: float = WALL_FACTOR * seconds
        self._isolated: bool | None = None
        self.listens = True
        ours, theirs = socket.socketpair()
        # Resized pixels should go through at once; the kernel takes less where its settings say so.
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
        root = Path(__file__).resolve().parents[2]
        # One thread and one arena: both reserve address space that they do not use.
        environment = {"PYTHONPATH": str(root), "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
        command = [sys.executable, "-P", "-s", *PROGRAM, str(memory_bytes), str(seconds)]
        with theirs:
            try:
                self.process = subprocess.Popen(
                    command, stdin=theirs.fileno(), stdout=subprocess.DEVNULL, env=environment, cwd="/"
                )
            except OSError:
                ours.close()
                raise
        self._socket = ours

    def wait_ready(self) -> bool:
        """Wait for the start, the first time; tells whether the process is cut off from the network.

        Raises:
            _Broken: It does not start.
        """
        if self._isolated is None:
            told = self._receive(2, time.monotonic() + START_SECONDS)
            if told[:1] != READY:
                raise _Broken("nonsense")
            self._isolated = told[1:] == b"\1"
        return self._isolated

    def decode(self, data: bytes, request: DecodeRequest, admit: Callable[[int], object]) -> Resized:
        """See ``Sandbox``."""
        told = {"contract": request.contract.to_dict(), "limits": asdict(request.limits)}
        text = json.dumps({**request._asdict(), **told}).encode()
        self.listens = False
        until = time.monotonic() + self._wall
        self._send(REQUEST.pack(len(text), len(data)) + text, until)
        self._send(data, until)
        kind, pixels = self._receive(1, until), 0
        if kind == SIZE:
            (pixels,) = PIXELS.unpack(self._receive(PIXELS.size, until))
            if pixels > request.limits.max_pixels:
                raise _Broken("nonsense")
            try:
                admit(pixels)
            except BaseException:
                with suppress(_Broken):
                    self._send(STOP, time.monotonic() + self._wall)
                    self.listens = True
                raise
            until = time.monotonic() + self._wall
            self._send(GO, until)
            kind = self._receive(1, until)
        return self._take_answer(kind, request, pixels, until)

    def _ended(self) -> _Broken:
        """Why the other end is closed."""
        with suppress(subprocess.TimeoutExpired):
            if self.process.wait(1) == -signal.SIGXCPU:
                return _Broken("overran")
        return _Broken("died")

    def close(self) -> None:
        """End the process."""
        self._socket.close()
        self.process.kill()
        self.process.wait()

    def _take_answer(self, kind: bytearray, request: DecodeRequest, pixels: int, until: float) -> Resized:
        json_bytes, pixel_bytes = ANSWER.unpack(self._receive(ANSWER.size, until))
        if json_bytes > JSON_BYTES:
            raise _Broken("nonsense")
        text = self._receive(json_bytes, until)
        try:
            told = json.loads(text)
            if kind == ERROR and not pixel_bytes:
                error = _error(told)
                self.listens = isinstance(error, images.ImageError)
                raise error
            if kind != FACTS:
                raise _Broken("nonsense")
            facts, small = _facts(told, request.limits, request.sha256), _preview_size(told, request.preview)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            if self.listens:
                raise
            raise _Broken("nonsense") from error
        size = request.contract.target_size(facts.width, facts.height)
        larger = layout(request.contract, facts.width, facts.height)[:2] if request.map_crops else (0, 0)
        # Pixels beyond what was let in would be outside the budget.
        due = sum(width * height for width, height in (size, small, larger))
        if facts.width * facts.height != pixels or pixel_bytes != 3 * due:
            raise _Broken("nonsense")
        pixels_HWC = self._receive_pixels(size, until)
        preview = (
            Image.frombytes("RGB", small, self._receive(3 * small[0] * small[1], until)) if request.preview else None
        )
        copy_HWC = self._receive_pixels(larger, until) if request.map_crops else None
        self.listens = True
        return Resized(facts, pixels_HWC, preview, copy_HWC)

    def _receive_pixels(self, size: tuple[int, int], until: float) -> NDArray[np.uint8]:
        width, height = size
        return np.frombuffer(self._receive(3 * width * height, until), np.uint8).reshape(height, width, 3)

    def _send(self, data: bytes, until: float) -> None:
        try:
            self._socket.settimeout(_left(until))
            self._socket.sendall(data)
        except TimeoutError as error:
            raise _Broken("overran") from error
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
                raise _Broken("overran") from error
            except OSError as error:
                raise self._ended() from error
            if not more:
                raise self._ended()
            got += more
        return data


def _left(until: float) -> float:
    return max(until - time.monotonic(), 0.001)


def _error(told: dict[str, Any]) -> Exception:
    """The error that a worker tells of, if it is one of ours, with a text that is fit to be shown."""
    name, detail = told["error"], told.get("detail", "")
    if name == OUT_OF_MEMORY:
        return _Broken("memory")
    if name not in _ERRORS or not isinstance(detail, str):
        return _Broken("nonsense")
    if len(detail) > DETAIL_CHARACTERS or not detail.isprintable():
        return _Broken("nonsense")
    return _ERRORS[name](detail)


def _facts(told: dict[str, Any], limits: Limits, sha256: str) -> Facts:
    width, height, format_ = told["width"], told["height"], told["format"]
    if type(width) is not int or type(height) is not int or format_ not in images.FORMATS:
        raise ValueError("no facts")
    images.check_size((width, height), limits)
    warnings = tuple(ImageWarning(name) for name in told["warnings"])
    return Facts(width=width, height=height, format=format_, sha256=sha256, warnings=warnings)


def _preview_size(told: dict[str, Any], preview: bool) -> tuple[int, int]:
    """Width and height of the small copy; nothing by nothing if none was asked for."""
    if not preview:
        return 0, 0
    width, height = told["preview"]
    for side in (width, height):
        if type(side) is not int or not 1 <= side <= overlay.LONGEST_SIDE:
            raise ValueError("no preview")
    return width, height
