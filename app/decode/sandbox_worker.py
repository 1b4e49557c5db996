"""The decoder process that ``app/decode/sandbox.py`` starts: it decodes pictures with few privileges.

It drops its privileges before it reads the first byte of a picture: bounded address space and CPU time, no further file
descriptor than the three it has, no file writes, no core dump, no new privileges, and an empty network namespace where
the kernel allows one. It has no access to the service: its environment is nearly empty, torch and the service's modules
are not loaded. It reads requests from its standard input, a socket, until that closes.

    request   REQUEST header, a JSON object (the fields of ``DecodeRequest``), the picture
    answer    SIZE and 8 bytes, once the picture's header has given the pixel count; the service sends GO or STOP
              then FACTS or ERROR, ANSWER header, a JSON object, the raw pixels

Pixels of up to ``SHARED_BYTES`` are not sent but left in memory that the service shares with the process.
"""

import ctypes
import io
import json
import math
import mmap
import os
import resource
import signal
import socket
import struct
import sys
from contextlib import suppress
from dataclasses import asdict
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from model import images
from model.contract import Contract
from model.inference.allocator import keep_freed_memory
from model.maps import map_crops, overlay
from model.picking.look import Look

REQUEST = struct.Struct("!IQ")
"""Header of a request: bytes of the JSON, bytes of the picture."""
PIXELS = struct.Struct("!Q")
ANSWER = struct.Struct("!IQ")
"""Header of an answer: bytes of the JSON, bytes of the pixels."""
SHARED_BYTES = 16 * 2**20
"""Memory that is shared with the service, for the pixels of an answer; more are sent through the socket."""
READY, SIZE, FACTS, ERROR, GO, STOP = b"R", b"S", b"F", b"E", b"G", b"X"
OUT_OF_MEMORY = "MemoryError"

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000


class _Stopped(Exception):
    """The service answered SIZE with STOP: the picture is not decoded."""


def main() -> None:
    """Serve requests. Command line: address space in bytes, CPU seconds for each picture, file of the shared memory."""
    memory_bytes, seconds = int(sys.argv[1]), int(sys.argv[2])
    shared = mmap.mmap(int(sys.argv[3]), SHARED_BYTES)
    connection = socket.socket(fileno=0)
    keep_freed_memory()
    warm_up()
    isolated = lock_down(memory_bytes)
    connection.sendall(READY + (b"\1" if isolated else b"\0"))
    while (header := _receive(connection, REQUEST.size)) is not None:
        json_bytes, data_bytes = REQUEST.unpack(header)
        request, data = _receive(connection, json_bytes), _receive(connection, data_bytes)
        if request is None or data is None:
            return
        _limit_time(seconds)
        try:
            answer(connection, shared, json.loads(request), bytes(data))
        except MemoryError:
            # End the process: its heap is not reliable after this.
            send(connection, shared, ERROR, {"error": OUT_OF_MEMORY})
            return


def warm_up() -> None:
    """Decode a picture of each format, so that all modules are loaded before opening files is forbidden."""
    Image.init()
    for codec in ("ascii", "latin-1", "utf-8", "utf-16", "utf-16-le", "utf-16-be"):
        b"".decode(codec)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    small = Image.new("RGB", (64, 64))
    for image in (small, small.convert("P")):
        for format_ in images.FORMATS:
            file = io.BytesIO()
            if format_ == "HEIC":
                continue  # libheif, which cannot write, is loaded with its module
            if format_ == "JXL":
                with suppress(ImportError):
                    from imagecodecs import jpegxl_encode

                    images.decode(bytes(jpegxl_encode(np.asarray(small))))
                continue
            options = {} if format_ in ("GIF", "BMP", "JPEG2000") else {"exif": exif}
            (image if format_ not in ("JPEG", "AVIF", "JPEG2000") else small).save(file, format_, **options)
            picture = images.decode(file.getvalue())
            Look.at(picture, file.getvalue())
            overlay.shrink(picture.image.resize((32, 32), Image.Resampling.BILINEAR))
    try:
        images.decode(file.getvalue()[:40])
    except images.ImageError:
        return


def lock_down(memory_bytes: int) -> bool:
    """Drop all privileges that decoding does not need. Returns whether the process is isolated from the network."""
    libc = ctypes.CDLL(None, use_errno=True)
    # An ordinary user may create a network namespace only inside a user namespace; root needs none.
    isolated = not libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) or not libc.unshare(_CLONE_NEWNET)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    # Set after unshare, which clears it.
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    os.closerange(3, 65536)
    for limit, value in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_FSIZE, 0),
        # Open descriptors stay usable, but no new one can be opened, even if one is closed.
        (resource.RLIMIT_NOFILE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (value, value))
    return isolated


def answer(connection: socket.socket, shared: mmap.mmap, request: dict[str, Any], data: bytes) -> None:
    """Decode one picture, resize it by its contract, and send its pixels or the error."""
    contract = _contract(request["contract"])

    def admit(pixels: int) -> None:
        connection.sendall(SIZE + PIXELS.pack(pixels))
        word = _receive(connection, 1)
        if word is None or bytes(word) != GO:
            raise _Stopped

    try:
        limits = images.Limits(**request["limits"])
        picture = contract.decode(data, limits, admit, sha256=request["sha256"])
    except _Stopped:
        return
    except images.ImageError as error:
        send(connection, shared, ERROR, {"error": type(error).__name__, "detail": str(error)})
        return
    facts = picture.facts
    preview = overlay.shrink(picture.image) if request["preview"] else None
    pixels = np.asarray(contract.resized(picture))
    try:
        close = contract.details(picture, pixels, request["crops"])
        look = Look.at(picture, data) if request["look"] else None
    except images.ImageError as error:
        send(connection, shared, ERROR, {"error": type(error).__name__, "detail": str(error)})
        return
    reply = {
        "width": facts.width,
        "height": facts.height,
        "format": facts.format,
        "warnings": facts.warnings,
        "preview": preview.size if preview else None,
        "boxes": () if close is None else close.boxes,
        "capture": None if look is None else asdict(look.capture),
    }
    parts = [pixels, *([np.asarray(preview)] if preview else [])]
    if request["map_crops"]:
        parts.append(np.asarray(map_crops.resized(picture, contract)))
    if close is not None:
        parts.append(close.crops_NHWC)
    if look is not None:
        parts.append(np.frombuffer(look.to_bytes(), np.uint8))
    send(connection, shared, FACTS, reply, *parts)


@lru_cache(maxsize=64)
def _contract(text: str) -> Contract:
    return Contract.from_dict(json.loads(text))


def send(
    connection: socket.socket, shared: mmap.mmap, kind: bytes, reply: dict[str, Any], *pixels: NDArray[np.uint8]
) -> None:
    """Send an answer: its kind, its header, the JSON object, the pixels."""
    text = json.dumps(reply).encode()
    total = sum(part.nbytes for part in pixels)
    if total <= SHARED_BYTES:
        at = 0
        for part in pixels:
            np.frombuffer(shared, np.uint8, part.size, at)[:] = part.reshape(-1)
            at += part.size
    connection.sendall(kind + ANSWER.pack(len(text), total) + text)
    if total > SHARED_BYTES:
        for part in pixels:
            connection.sendall(np.ascontiguousarray(part).data.cast("B"))


def _limit_time(seconds: int) -> None:
    """Limit the CPU time of the next picture: the process's limit becomes the time used so far plus ``seconds``."""
    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(used) + seconds, hard))


def _receive(connection: socket.socket, count: int) -> bytearray | None:
    """Read exactly ``count`` bytes; None if the service has closed its end."""
    data = bytearray(count)
    view, got = memoryview(data), 0
    while got < count:
        more = connection.recv_into(view[got:])
        if not more:
            return None
        got += more
    return data


if __name__ == "__main__":
    main()
