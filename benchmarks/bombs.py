"""Files that are made to stop a service, beside ten honest clients: what the clients notice of them.

The clients send photos of 2 megapixels, each a second after its last answer: for a minute alone, then for a minute
beside fifty bombs (scans, chunks, blocks, segments, directories, boxes and overlays without end, the work of minutes in
a small file). It prints a table and writes ``benchmarks/results/bombs.json``; the exit status is 1 if an honest request
failed, its 99th percentile more than doubled, or memory did not return.
"""

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
from PIL import Image

from benchmarks.measure import machine, session_megabytes
from benchmarks.servers import OURS, Server
from tests import heif
from tests.conftest import EXAMPLES, encode
from tests.model.images.test_work import HOSTILE, scans

RESULTS = Path(__file__).parent / "results" / "bombs.json"
CLIENTS, BOMBS = 10, 50
PAUSE_SECONDS = 1.0
MOST_TIMES_P99, MOST_TIMES_MEMORY = 2.0, 1.2


def bombs() -> Iterator[tuple[str, bytes]]:
    """Names and bytes of bombs, again and again."""
    kinds = {name: make() for name, make in HOSTILE.items()}
    kinds["JPEG of 300 scans, 64 megapixels"] = scans(8000, 300)
    kinds["JPEG of 300,000 scans"] = scans(64, 300_000)
    kinds["HEIC of one picture, ten thousand times"] = heif.grid(100, 100)
    return itertools.cycle({name: data[: 32 * 2**20 - 4096] for name, data in kinds.items()}.items())


class Honest(threading.Thread):
    """A client that sends photos one after the other."""

    def __init__(self, url: str, photos: list[bytes], place: int, until: float) -> None:
        super().__init__()
        self.url, self.photos, self.place, self.until = url, photos, place, until
        self.seconds: list[float] = []
        self.statuses: Counter[str] = Counter()

    def run(self) -> None:
        """Send until the time is over."""
        time.sleep(self.place * PAUSE_SECONDS / CLIENTS)
        with httpx2.Client(timeout=60) as http:
            for turn in itertools.count(self.place):
                if time.monotonic() > self.until:
                    return
                # Unlike bytes, so that no answer is the cache's.
                data = self.photos[turn % len(self.photos)] + f"{self.place} {turn}".encode()
                began = time.monotonic()
                answer = http.post(self.url, content=data, headers={"Content-Type": "image/jpeg"})
                self.seconds.append(time.monotonic() - began)
                self.statuses[str(answer.status_code)] += 1
                time.sleep(PAUSE_SECONDS)


def minute(
    server: Server, photos: list[bytes], seconds: float, sent: Iterator[tuple[str, bytes]] | None
) -> dict[str, Any]:
    """Have the clients send for a while, beside bombs if there are any; what they noticed."""
    url = f"http://127.0.0.1:{server.port}/score"
    until = time.monotonic() + seconds
    clients = [Honest(url, photos, place, until) for place in range(CLIENTS)]
    for client in clients:
        client.start()
    told: Counter[str] = Counter()
    most, slowest = 0.0, 0.0
    with httpx2.Client(timeout=60) as http:
        while time.monotonic() < until:
            if sent is not None:
                name, data = next(sent)
                began = time.monotonic()
                answer = http.post(url, content=data, headers={"Content-Type": "application/octet-stream"})
                slowest = max(slowest, time.monotonic() - began)
                told[f"{answer.status_code} {answer.json().get('code', 'scored')}"] += 1
                print(f"  {name}: {answer.status_code} after {time.monotonic() - began:.2f} s", file=sys.stderr)
            most = max(most, session_megabytes(server.process.pid))
            time.sleep(max(seconds / BOMBS - (time.monotonic() - began if sent is not None else 0), 0))
    for client in clients:
        client.join()
    times = sorted(itertools.chain.from_iterable(client.seconds for client in clients))
    return {
        "requests": len(times),
        "statuses": dict(sum((client.statuses for client in clients), Counter())),
        "p50_ms": round(1e3 * statistics.median(times)),
        "p99_ms": round(1e3 * times[int(0.99 * (len(times) - 1))]),
        "bombs": dict(told),
        "slowest_bomb_s": round(slowest, 2),
        "most_mb": round(most),
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="length of each half")
    arguments = parser.parse_args()
    photos = [encode(Image.open(file).convert("RGB").resize((1632, 1224)), quality=90) for file in EXAMPLES]
    sent = bombs()
    with tempfile.TemporaryDirectory() as folder:
        server = Server(OURS, Path(folder) / "log")
        try:
            server.wait_ready()
            minute(server, photos, 5, None)
            alone = minute(server, photos, arguments.seconds, None)
            beside = minute(server, photos, arguments.seconds, sent)
            time.sleep(5)
            after = session_megabytes(server.process.pid)
            began = time.monotonic()
            server.process.terminate()
            server.process.wait(60)
            ended = time.monotonic() - began
        finally:
            server.process.kill()
    report = {
        "machine": machine(),
        "clients": CLIENTS,
        "seconds": arguments.seconds,
        "alone": alone,
        "beside_bombs": beside,
        "p99_ratio": round(beside["p99_ms"] / alone["p99_ms"], 2),
        "mb_after": round(after),
        "sigterm_s": round(ended, 1),
    }
    print(json.dumps(report, indent=2))
    RESULTS.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    failed = {*alone["statuses"], *beside["statuses"]} - {"200"}
    slower = report["p99_ratio"] > MOST_TIMES_P99
    sys.exit(bool(failed or slower or after > MOST_TIMES_MEMORY * alone["most_mb"]))


if __name__ == "__main__":
    main()
