"""The load generator, a process of its own so that it keeps its times whatever the benchmark does.

It speaks HTTP by hand: on a machine that the server needs for itself, a client library would take a part of what is to
be measured. ``offer`` and ``saturate`` start it and hand over a plan; run as a module it carries one out.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.openloop import LIMIT_SECONDS, Request

BOUNDARY = "picture-follows"
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def offer(port: int, picture: bytes, path: str, field: str, due: Sequence[float]) -> list[Request]:
    """Post a picture at given times; ends early once the rate cannot count as sustained any more."""
    answer = _run({"port": port, "path": path, "field": field, "due": list(due)}, picture)
    return [Request(due=at, sent=sent, done=done) for at, (sent, done) in zip(due, answer["times"], strict=True)]


def saturate(
    port: int, picture: bytes, path: str, field: str, *, clients: int, seconds: float
) -> tuple[float, list[float]]:
    """Post a picture from clients that each wait for their answer before they ask again.

    Returns:
        Answers per second, and the latency of each in seconds.

    Raises:
        RuntimeError: A request was not answered with 200.
    """
    answer = _run({"port": port, "path": path, "field": field, "clients": clients, "seconds": seconds}, picture)
    if answer["failed"]:
        raise RuntimeError(f"requests failed under load: {answer['failed']}")
    return len(answer["latencies"]) / answer["seconds"], answer["latencies"]


def _run(plan: dict[str, Any], picture: bytes) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.load", json.dumps(plan)]
    done = subprocess.run(command, input=picture, stdout=subprocess.PIPE, check=True, cwd=Path(__file__).parents[1])
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def form(field: str, picture: bytes) -> bytes:
    """A picture as the body of a form with ``BOUNDARY``."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"; filename="picture.jpg"\r\n'
    return f"{head}Content-Type: image/jpeg\r\n\r\n".encode() + picture + f"\r\n--{BOUNDARY}--\r\n".encode()


class Client:
    """Posts one request again and again, over as many connections as are needed at a time."""

    def __init__(self, port: int, path: str, field: str, picture: bytes) -> None:
        self._port = port
        self._idle: list[Connection] = []
        body = form(field, picture)
        self._request = (
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {len(body)}\r\n"
            f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n"
        ).encode() + body

    async def post(self) -> int:
        """Post once; the status of the answer, 0 if none came."""
        try:
            reader, writer = await self._connection()
        except OSError:
            return 0
        status = 0
        try:
            writer.write(self._request)
            await writer.drain()
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
            status = int(head.split(maxsplit=2)[1])
        except (OSError, EOFError, ValueError):
            pass
        finally:
            if status:
                self._idle.append((reader, writer))
            else:
                writer.close()
        return status

    async def close(self) -> None:
        """Close the connections that are not in use."""
        for _, writer in self._idle:
            writer.close()
            await writer.wait_closed()

    async def _connection(self) -> Connection:
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof():
                return reader, writer
            writer.close()
        return await asyncio.open_connection("127.0.0.1", self._port)


async def open_loop(client: Client, due: Sequence[float]) -> dict[str, Any]:
    """Post at the given times, in seconds from now."""
    times: list[list[float | None]] = [[None, None] for _ in due]
    # Time for the generator itself to get going.
    start = time.perf_counter() + 0.1

    async def one(place: int, at: float) -> bool:
        await asyncio.sleep(start + at - time.perf_counter())
        times[place][0] = time.perf_counter() - start
        try:
            async with asyncio.timeout(start + at + LIMIT_SECONDS - time.perf_counter()):
                if await client.post() == 200:
                    times[place][1] = time.perf_counter() - start
                    return True
        except TimeoutError:
            pass
        return False

    overdue = 0
    tasks = [asyncio.create_task(one(place, at)) for place, at in enumerate(due)]
    for finished in asyncio.as_completed(tasks):
        overdue += not await finished
        if overdue > 0.01 * len(due):
            break
    for task in tasks:
        task.cancel()
    return {"times": times}


async def closed_loop(client: Client, clients: int, seconds: float) -> dict[str, Any]:
    """Post from several clients for a while, and wait for the last answers."""
    latencies: list[float] = []
    failed: list[int] = []
    start = time.perf_counter()

    async def ask() -> None:
        while (began := time.perf_counter()) < start + seconds:
            if (status := await client.post()) == 200:
                latencies.append(time.perf_counter() - began)
            else:
                failed.append(status)

    await asyncio.gather(*(ask() for _ in range(clients)))
    return {"latencies": latencies, "failed": failed, "seconds": time.perf_counter() - start}


def main() -> None:
    """Carry out the plan of the command line with the picture on stdin, and print the results."""
    plan = json.loads(sys.argv[1])
    client = Client(plan["port"], plan["path"], plan["field"], sys.stdin.buffer.read())
    if "due" in plan:
        answer = asyncio.run(open_loop(client, plan["due"]))
    else:
        answer = asyncio.run(closed_loop(client, plan["clients"], plan["seconds"]))
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
