"""Reads the pictures of a request into memory, within the limits, and sends them through the pipeline."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import TypeVar

from fastapi import Request, Response
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from app.http.problems import NotModified, Problem, unknown
from app.scoring.request import PreparedPicture, ScoreRequest, ScoreResult
from app.scoring.service import Service
from app.settings import Settings
from model.maps import map_crops

FIELD = "file"
MULTIPART = "multipart/form-data"
MORE_FILES = 64
T = TypeVar("T")
Take = Callable[[int], None]
Chunks = AsyncGenerator[bytes, None]


class UploadBudget:
    """Bounds the memory of all uploads together: those that are being read and those that wait to be decoded.

    Args:
        max_bytes: The bound in bytes.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held = 0

    @contextmanager
    def hold(self) -> Iterator[Take]:
        """Give one request a function to take bytes from the budget. On exit all of them are returned.

        Yields:
            The function; a negative number of bytes returns some early.

        Raises:
            Problem: Raised by that function, if the budget is exhausted.
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


async def score(
    http: Request, response: Response, service: Service, request: ScoreRequest, *variant: str
) -> ScoreResult:
    """Read the picture of a request and score it; stop when the client disconnects.

    Args:
        http: The HTTP request with the upload.
        response: Gets the headers ``ETag`` and ``X-Cache``.
        service: Scores the picture.
        request: The parameters of the request.
        variant: Strings that tell apart answers with the same score but another form, for the entity tag.

    Raises:
        Problem, NotModified, ImageError, BatcherError, and the other errors of ``problems.ERRORS``.
    """
    picture = await _prepare(http, response, service, request, *variant)
    result = await while_connected(http, service.pipeline.score(picture))
    response.headers["X-Cache"] = "hit" if result.cached else "miss"
    return result


async def activity(
    http: Request, response: Response, service: Service, request: ScoreRequest, *variant: str
) -> Callable[[], bytes]:
    """Read the picture of a request and compute the activity of a stage; like ``score``, but returns a PNG renderer."""
    picture = await _prepare(http, response, service, request, *variant)
    draw = await while_connected(http, service.pipeline.activity(picture))
    response.headers["X-Cache"] = "miss"
    return draw


async def _prepare(
    http: Request, response: Response, service: Service, request: ScoreRequest, *variant: str
) -> PreparedPicture:
    """Read, look up and decode the picture of a request. On return its bytes and full pixels have been freed."""
    pipeline = service.pipeline
    pipeline.shed(request)
    with http.app.state.uploads.hold() as take:
        data = await read_picture(http, service.settings, take)
        deadline = pipeline.deadline(request)
        key = await pipeline.cache_key(data, request)
        plan = (map_crops.MAP_ID,) if request.needs_map_crops else ()
        policy = (request.policy.version, request.language) if request.policy is not None else ()
        response.headers["ETag"] = tag = entity_tag(*map(str, key), *variant, *plan, *policy)
        if tag in http.headers.get("if-none-match", ""):
            raise NotModified(tag)
        return await while_connected(http, pipeline.prepare(data, request, key, deadline))


def entity_tag(*parts: str) -> str:
    """The entity tag of an answer that is determined by these parts. It is weak: ``timing_ms`` differs each time."""
    return f'W/"{hashlib.sha256(" ".join(parts).encode()).hexdigest()[:32]}"'


class _MemoryParser(MultiPartParser):
    # Uploads never spill to disk; the body limit bounds their memory.
    spool_max_size = 2**62

    def on_headers_finished(self) -> None:
        """Refuse a picture without a file name: it would pass for text."""
        super().on_headers_finished()
        if self._current_part.file is None and self._current_part.field_name == FIELD:
            raise _NoFileName(FIELD)


class _NoFileName(MultiPartException):
    """A part that should be a picture has no file name."""


async def read_picture(request: Request, settings: Settings, take: Take) -> bytes:
    """Read one picture, from the multipart field ``file`` or from a raw ``image/*`` body.

    Args:
        request: The HTTP request; its body has not been read yet.
        settings: Limits the body's size, its duration and its pauses.
        take: Takes the bytes from the upload budget as they arrive.

    Raises:
        Problem: The body is too large, too slow, empty, malformed, of another type, or lacks the field.
    """
    kind = media_type(request)
    async with _chunks(request, settings, settings.max_body_bytes, take) as chunks:
        if kind == MULTIPART:
            (data,) = await _read_fields(request, chunks, 1)
        elif kind.startswith("image/") or kind == "application/octet-stream":
            data = b"".join([chunk async for chunk in chunks])
        else:
            raise Problem(
                "unsupported_media_type",
                f"send the picture as multipart field '{FIELD}', or as the body with Content-Type image/*",
            )
    if not data:
        raise Problem("empty_body", "there are no bytes in the picture")
    return data


async def read_pictures(request: Request, settings: Settings, take: Take, most: int) -> list[bytes]:
    """Read several pictures, each from a multipart field ``file``; a picture may be empty.

    Args:
        request: The HTTP request; its body has not been read yet.
        settings: Limits the body's size, its duration and its pauses.
        take: Takes the bytes from the upload budget as they arrive.
        most: Largest number of pictures.

    Raises:
        Problem: The body is too large, too slow, malformed, of another type, or lacks the field.
    """
    if media_type(request) != MULTIPART:
        raise Problem("unsupported_media_type", f"send the pictures as multipart fields '{FIELD}'")
    size = min(settings.max_batch_bytes, settings.max_upload_bytes)
    async with _chunks(request, settings, size, take) as chunks:
        return await _read_fields(request, chunks, most)


def media_type(request: Request) -> str:
    """The media type of the body, without its parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


@asynccontextmanager
async def _chunks(request: Request, settings: Settings, max_bytes: int, take: Take) -> AsyncGenerator[Chunks]:
    seconds = settings.deadline_seconds
    try:
        async with (
            asyncio.timeout(seconds),
            aclosing(_limited(request, max_bytes, take, settings.idle_body_seconds)) as chunks,
        ):
            yield chunks
    except TimeoutError as error:
        raise Problem("upload_too_slow", f"the upload was not complete within {seconds:g} s") from error
    except ClientDisconnect as error:
        raise Problem("client_disconnected", "the client left during the upload") from error


async def while_connected(request: Request, work: Awaitable[T]) -> T:
    """Await work for a request whose body has been read; cancel it when the client disconnects.

    Raises:
        Problem: The client disconnected.
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


async def _read_fields(request: Request, chunks: Chunks, max_files: int) -> list[bytes]:
    # The parser allows some more files than the limit, so that too many files get a problem of their own.
    parser = _MemoryParser(request.headers, chunks, max_files=max_files + MORE_FILES, max_fields=8, max_part_size=2**16)
    try:
        form = await parser.parse()
    except _NoFileName as error:
        detail = f"the part '{FIELD}' has no filename, as a file has: with curl, -F {FIELD}=@photo.jpg"
        raise Problem("missing_file", detail) from error
    except (MultiPartException, UnicodeError) as error:
        raise Problem("malformed_upload", "the multipart body cannot be parsed, or holds far too many parts") from error
    try:
        files = [upload for upload in form.getlist(FIELD) if isinstance(upload, UploadFile)]
        if not files:
            raise Problem("missing_file", f"the multipart body has no file field named '{FIELD}'")
        for name in form:
            if name != FIELD:
                raise unknown(name, [FIELD], "among the fields of the body; parameters stand in the query")
        if len(files) > max_files:
            other = "; `/score/batch` takes several" if max_files == 1 else ""
            raise Problem("too_many_files", f"{max_files} here at most{other}")
        return [await file.read() for file in files]
    finally:
        await form.close()


async def _limited(request: Request, max_bytes: int, take: Take, idle_seconds: float) -> Chunks:
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length) > max_bytes:
        raise _too_large(max_bytes)
    received = 0
    async for chunk in _with_idle_limit(request.stream(), idle_seconds):
        received += len(chunk)
        if received > max_bytes:
            raise _too_large(max_bytes)
        take(len(chunk))
        yield chunk


def _too_large(max_bytes: int) -> Problem:
    return Problem("body_too_large", f"the body is larger than the limit of {max_bytes:,} bytes")


async def _with_idle_limit(chunks: Chunks, seconds: float) -> Chunks:
    while True:
        try:
            async with asyncio.timeout(seconds):
                chunk = await anext(chunks, None)
        except TimeoutError as error:
            raise Problem("upload_too_slow", f"no byte of the upload came for {seconds:g} s") from error
        if chunk is None:
            return
        yield chunk
