"""Clients of ``benchmarks/chaos.py``: good, repeating, bulk, broken, leaving and slow ones."""

import asyncio
import json
import random
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

import httpx2

from benchmarks.tally import Tally

CROPS = 4
JPEG = {"Content-Type": "image/jpeg"}
KINDS = {"good": 56, "repeat": 5, "bulk": 8, "batch": 5, "broken": 10, "leaving": 12, "slow": 4}
"""Kinds of clients, and how many of a hundred are of each."""
BATCH = 3


class Clients:
    """Clients of one service.

    Args:
        port: Port of the service on this machine.
        pictures: JPEGs that they send.
        expected: Scores by digest of the checkpoint and place of the picture; may be filled later.
        chance: Decides what is left to chance.

    Attributes:
        tally: Outcomes of the requests.
    """

    def __init__(
        self,
        port: int,
        pictures: Sequence[bytes],
        expected: Mapping[tuple[str, int], float],
        chance: random.Random,
    ) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.pictures = pictures
        self.expected = expected
        self.chance = chance
        self.tally = Tally()
        # Each request on a connection of its own: one that is kept may be closed just when it is used again.
        limits = httpx2.Limits(max_connections=4000, max_keepalive_connections=0)
        self.http = httpx2.AsyncClient(timeout=150, limits=limits)

    async def send(self, kind: str, place: int) -> None:
        """Be a client of some kind."""
        match kind:
            case "broken":
                await self.send_broken(place)
            case "leaving":
                await self.leave(place)
            case "slow":
                await self.dawdle(place)
            case "batch":
                await self.score_batch(place)
            case _:
                await self.score(kind, place)

    def fresh(self, place: int) -> bytes:
        """The picture with unique bytes, which no cache knows: a JPEG may have any bytes after its end."""
        return self.pictures[place] + self.chance.randbytes(8)

    async def score(self, kind: str, place: int) -> int:
        """Ask for a score and judge the answer; its status, 0 for none."""
        headers = {**JPEG, "X-Priority": "bulk" if kind == "bulk" else "interactive"}
        data = self.pictures[place] if kind == "repeat" else self.fresh(place)
        started = time.monotonic()
        try:
            answer = await self.http.post(f"{self.url}/score?crops={CROPS}", content=data, headers=headers)
        except httpx2.TransportError as error:
            self.tally.lost.append(f"{kind}: {type(error).__name__} {error}")
            return 0
        seconds = time.monotonic() - started
        self.tally.judge(self.expected, kind, place, answer.status_code, answer.json(), seconds)
        return answer.status_code

    async def score_batch(self, place: int) -> None:
        """Ask for the scores of several pictures, and judge each line of the answer."""
        places = [(place + step) % len(self.pictures) for step in range(BATCH)]
        files = [("file", self.fresh(one)) for one in places]
        started = time.monotonic()
        try:
            answer = await self.http.post(
                f"{self.url}/score/batch?crops={CROPS}", files=files, headers={"Accept": "application/x-ndjson"}
            )
        except httpx2.TransportError as error:
            self.tally.lost.append(f"batch: {type(error).__name__} {error}")
            return
        seconds = time.monotonic() - started
        if answer.status_code != 200:
            self.tally.judge(self.expected, "batch", place, answer.status_code, answer.json(), seconds)
            return
        items = [json.loads(line) for line in answer.text.splitlines()]
        if sorted(item["index"] for item in items) != list(range(BATCH)):
            self.tally.lost.append(f"batch: items {[item['index'] for item in items]}")
        for item in items:
            body = item.get("result") or item["problem"]
            self.tally.judge(self.expected, "batch", places[item["index"]], item["status"], body, seconds)

    async def send_broken(self, place: int) -> None:
        """Send a damaged picture."""
        data = bytearray(self.pictures[place])
        how = place % 3
        if how == 0:
            data = data[: len(data) // 2]
        elif how == 1:
            data = bytearray(self.chance.randbytes(5000))
        else:
            data = bytearray()
        try:
            answer = await self.http.post(f"{self.url}/score", content=bytes(data), headers=JPEG)
        except httpx2.TransportError as error:
            self.tally.lost.append(f"broken: {type(error).__name__}")
            return
        self.tally.statuses[f"broken {answer.status_code}"] += 1
        if answer.status_code not in (400, 415, 422, 429):
            self.tally.unexplained.append(f"broken: {answer.status_code} {answer.text[:200]}")

    async def leave(self, place: int) -> None:
        """Send a picture and disconnect before the answer."""
        task = asyncio.ensure_future(self.http.post(f"{self.url}/score", content=self.pictures[place], headers=JPEG))
        await asyncio.wait([task], timeout=self.chance.random())
        self.tally.statuses["leaving " + ("answered" if task.done() else "left")] += 1
        task.cancel()
        with suppress(asyncio.CancelledError, httpx2.TransportError):
            await task

    async def dawdle(self, place: int) -> None:
        """Send a byte a second until the service cuts the connection."""
        length = len(self.pictures[place])
        head = f"POST /score HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: {length}\r\n\r\n"
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(head.encode())
            for _ in range(60):
                writer.write(b"\xff")
                await writer.drain()
                with suppress(TimeoutError):
                    line = await asyncio.wait_for(reader.readline(), 1)
                    self.tally.statuses[f"slow {line.decode().split(' ')[1] if line else 'cut'}"] += 1
                    break
            else:
                self.tally.statuses["slow gave up"] += 1
            writer.close()
            await writer.wait_closed()
        except OSError as error:
            self.tally.statuses[f"slow {type(error).__name__}"] += 1
