"""Reading the picture out of a request, in memory and never past the limit."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import TypeVar

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from app.errors import Problem

FIELD = "file"
T = TypeVar("T")


class UploadBudget:
    """Bounds the bytes of all uploads together that are being read or wait to be decoded.

    Args:
        max_bytes: The bound.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held = 0

    @contextmanager
    def hold(self) -> Iterator[Callable[[int], None]]:
        """Give a function that takes bytes from the budget, and give them all back at the end.

        Raises:
            Problem: By that function, if the budget is spent.
        """
        taken = 0

        def take(count: int) -> None:
            nonlocal taken
            if self._held + count > self._max_bytes:
                raise Problem("queue_full", "too many uploads are under way; come again in 1 s", {"Retry-After": "1"})
            self._held += count
            taken += count

        try:
            yield take
        finally:
            self._held -= taken


class _MemoryParser(MultiPartParser):
    # Uploads never touch a disk; the body limit bounds what this takes.
    spool_max_size = 2**62


async def read_picture(
    request: Request, max_bytes: int, take: Callable[[int], None], seconds: float, idle_seconds: float
) -> bytes:
    """Read one picture, from the multipart field ``file`` or from a raw ``image/*`` body.

    Args:
        request: Its body has not been read yet.
        max_bytes: Largest body.
        take: Takes bytes from a budget as they come.
        seconds: Longest time for the upload.
        idle_seconds: Longest pause within it.

    Raises:
        Problem: The body is too large, too slow, empty, malformed, of another type, or lacks the field.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        async with asyncio.timeout(seconds):
            if content_type == "multipart/form-data":
                data = await _read_field(request, _limited(request, max_bytes, take, idle_seconds))
            elif content_type.startswith("image/") or content_type == "application/octet-stream":
                data = b"".join([chunk async for chunk in _limited(request, max_bytes, take, idle_seconds)])
            else:
                raise Problem(
                    "unsupported_media_type",
                    f"send the picture as multipart field '{FIELD}', or as the body with Content-Type image/*",
                )
    except TimeoutError as error:
        raise Problem("upload_too_slow", f"the upload was not complete within {seconds:g} s") from error
    except ClientDisconnect as error:
        raise Problem("client_disconnected", "the client left during the upload") from error
    if not data:
        raise Problem("empty_body", "there are no bytes in the picture")
    return data


async def while_connected(request: Request, work: Awaitable[T]) -> T:
    """Await work whose body has been read, and cancel it when the client leaves.

    Raises:
        Problem: The client left.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Problem("client_disconnected", "the client left before the answer")
        return task.result()
    finally:
        gone.cancel()
        task.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _read_field(request: Request, chunks: AsyncGenerator[bytes, None]) -> bytes:
    async with aclosing(chunks) as stream:
        parser = _MemoryParser(request.headers, stream, max_files=1, max_fields=8, max_part_size=2**16)
        try:
            form = await parser.parse()
        except (MultiPartException, UnicodeError) as error:
            raise Problem(
                "malformed_upload", "the multipart body cannot be parsed, or holds more than one file"
            ) from error
    upload = form.get(FIELD)
    try:
        if not isinstance(upload, UploadFile):
            raise Problem("missing_file", f"the multipart body has no file field named '{FIELD}'")
        return await upload.read()
    finally:
        await form.close()


async def _limited(
    request: Request, max_bytes: int, take: Callable[[int], None], idle_seconds: float
) -> AsyncGenerator[bytes, None]:
    too_large = Problem("body_too_large", f"the body is larger than the limit of {max_bytes:,} bytes")
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length) > max_bytes:
        raise too_large
    received = 0
    async for chunk in _lively(request.stream(), idle_seconds):
        received += len(chunk)
        if received > max_bytes:
            raise too_large
        take(len(chunk))
        yield chunk


async def _lively(chunks: AsyncGenerator[bytes, None], seconds: float) -> AsyncGenerator[bytes, None]:
    while True:
        try:
            async with asyncio.timeout(seconds):
                chunk = await anext(chunks, None)
        except TimeoutError as error:
            raise Problem("upload_too_slow", f"no byte of the upload came for {seconds:g} s") from error
        if chunk is None:
            return
        yield chunk
