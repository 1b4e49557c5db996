"""A process that decodes pictures and can do little else: what ``app/decode/sandbox.py`` starts.

It shrinks its own rights before it reads the first byte of a picture: a bounded address space and CPU time, no file
descriptor beyond the three it has, no file that grows, no core dump, no new privileges, and an empty network where the
kernel lets it have one. It knows nothing of the service: its environment is empty, torch and the service's modules
are not loaded. It takes requests from its standard input, a socket, until that closes.

    request   REQUEST header, a JSON object (the fields of ``DecodeRequest``), the picture
    answer    SIZE and 8 bytes, when the header has told the pixels; the service sends GO or STOP
              then FACTS or ERROR, ANSWER header, a JSON object, the raw pixels
"""

import ctypes
import io
import json
import math
import os
import resource
import signal
import socket
import struct
import sys
from typing import Any

from PIL import ExifTags, Image

from model import images
from model.contract import Contract
from model.inference.allocator import keep_freed_memory
from model.maps import map_crops, overlay

REQUEST = struct.Struct("!IQ")
"""Bytes of the JSON, bytes of the picture."""
PIXELS = struct.Struct("!Q")
ANSWER = struct.Struct("!IQ")
"""Bytes of the JSON, bytes of the pixels."""
READY, SIZE, FACTS, ERROR, GO, STOP = b"R", b"S", b"F", b"E", b"G", b"X"
OUT_OF_MEMORY = "MemoryError"

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000


class _Stopped(Exception):
    """The service does not want this picture any more."""


def main() -> None:
    """Serve requests; arguments are the bytes of memory and the seconds of CPU time a picture."""
    memory_bytes, seconds = int(sys.argv[1]), int(sys.argv[2])
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
            answer(connection, json.loads(request), bytes(data))
        except MemoryError:
            # What is left of the heap after this is for nobody to rely on.
            send(connection, ERROR, {"error": OUT_OF_MEMORY})
            return


def warm_up() -> None:
    """Decode a picture of each format, so that no module has to be loaded once files cannot be opened."""
    Image.init()
    for codec in ("ascii", "latin-1", "utf-8", "utf-16", "utf-16-le", "utf-16-be"):
        b"".decode(codec)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    small = Image.new("RGB", (64, 64))
    for image in (small, small.convert("P")):
        for format_ in images.FORMATS:
            file = io.BytesIO()
            options = {} if format_ in ("GIF", "BMP") else {"exif": exif}
            (image if format_ not in ("JPEG", "AVIF") else small).save(file, format_, **options)
            image_now = images.decode(file.getvalue()).image
            overlay.shrink(image_now.resize((32, 32), Image.Resampling.BILINEAR))
    try:
        images.decode(file.getvalue()[:40])
    except images.ImageError:
        return


def lock_down(memory_bytes: int) -> bool:
    """Give up what decoding does not need; tells whether the process is cut off from the network."""
    libc = ctypes.CDLL(None, use_errno=True)
    # A user namespace lets an ordinary user have a network namespace; root may have one without.
    isolated = not libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) or not libc.unshare(_CLONE_NEWNET)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    # After unshare, which clears it.
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    os.closerange(3, 65536)
    for limit, value in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_FSIZE, 0),
        # Those that are open stay so; closing one does not make room for another.
        (resource.RLIMIT_NOFILE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (value, value))
    return isolated


def answer(connection: socket.socket, request: dict[str, Any], data: bytes) -> None:
    """Decode one picture, resize it by its contract, and send what came of it."""
    contract = Contract.from_dict(request["contract"])

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
        send(connection, ERROR, {"error": type(error).__name__, "detail": str(error)})
        return
    facts = picture.facts
    preview = overlay.shrink(picture.image) if request["preview"] else None
    pixels = contract.resized(picture).tobytes()
    told = {
        "width": facts.width,
        "height": facts.height,
        "format": facts.format,
        "warnings": facts.warnings,
        "preview": preview.size if preview else None,
    }
    copy = map_crops.resized(picture, contract).tobytes() if request["map_crops"] else b""
    send(connection, FACTS, told, pixels, preview.tobytes() if preview else b"", copy)


def send(connection: socket.socket, kind: bytes, told: dict[str, Any], *pixels: bytes) -> None:
    """Send an answer."""
    text = json.dumps(told).encode()
    connection.sendall(kind + ANSWER.pack(len(text), sum(map(len, pixels))) + text)
    # Not even an empty part may follow the last byte that is waited for: the other end may have gone by then.
    for part in filter(None, pixels):
        connection.sendall(part)


def _limit_time(seconds: int) -> None:
    """Let this picture have so much CPU time; the limit is one of the whole process, in whole seconds."""
    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(used) + seconds, hard))


def _receive(connection: socket.socket, count: int) -> bytearray | None:
    """Read so many bytes; None if the service has gone."""
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
