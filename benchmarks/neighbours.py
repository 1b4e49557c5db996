"""How much longer a photo takes beside busy processes: ``python -m benchmarks.neighbours``.

Two services run: as shipped, where waiting threads sleep, and for a machine of its own (``OMP_WAIT_POLICY=ACTIVE``),
where they spin. By turns each answers the same photo, first alone and then beside as many busy processes as there are
cores; the other one is paused. A turn gives the median latency of each, and for the busy ones how many times the
service's own quiet time of that turn it is. The same for a map, and, once, for the time until the service is ready. It
prints a table of medians over the turns and writes ``benchmarks/results/neighbours.json``.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import product
from operator import truediv
from pathlib import Path
from unittest.mock import patch

from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.measure import machine
from benchmarks.servers import OURS, Server

RESULTS = Path(__file__).parent / "results" / "neighbours.json"
PHOTO = Path(__file__).parents[1] / "examples" / "cat.jpg"
PATHS = {"score": "/score", "map": "/score?detail=map"}
POLICIES = {"sleep": "PASSIVE", "spin": "ACTIVE"}


def main() -> None:
    """Start, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--busy", type=int, default=len(os.sched_getaffinity(0)), help="busy processes")
    arguments = parser.parse_args()
    photo = PHOTO.read_bytes()
    seconds: dict[tuple[str, str, bool], list[float]] = {}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
        servers = {}
        for waiting in POLICIES:
            for count in (arguments.busy, 0):
                with busy(count):
                    began = time.monotonic()
                    server = servers[waiting] = start(waiting, Path(folder) / f"{waiting}{count}")
                    running.callback(server.kill)
                    server.wait_ready()
                    seconds["ready", waiting, count > 0] = [time.monotonic() - began]
                    server.pause()
        for _ in track(range(arguments.turns), "turns"):
            for count in (0, arguments.busy):
                with busy(count):
                    for (waiting, server), (what, path) in product(servers.items(), PATHS.items()):
                        with server.awake():
                            server.saturate(photo, clients=1, seconds=0.5, path=path)
                            _, latencies = server.saturate(photo, clients=1, seconds=arguments.seconds, path=path)
                        found = seconds.setdefault((what, waiting, count > 0), [])
                        found.append(statistics.median(latencies))
    rows = []
    for what in ("ready", *PATHS):
        for waiting in POLICIES:
            quiet, beside = seconds[what, waiting, False], seconds[what, waiting, True]
            rows.append(
                {
                    "until": what,
                    "waiting threads": waiting,
                    "quiet, ms": round(1e3 * statistics.median(quiet), 1),
                    "beside busy ones, ms": round(1e3 * statistics.median(beside), 1),
                    "times as long": round(statistics.median(map(truediv, beside, quiet)), 2),
                    "quiet, of sleeping ones": round(
                        statistics.median(map(truediv, quiet, seconds[what, "sleep", False])), 2
                    ),
                }
            )
    result = {"machine": machine(), "busy processes": arguments.busy, "turns": arguments.turns, "rows": rows}
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console().print(table)


def start(waiting: str, log: Path) -> Server:
    """Start a service whose waiting threads sleep or spin."""
    with patch.dict(os.environ, OMP_WAIT_POLICY=POLICIES[waiting]):
        return Server(OURS, log)


@contextmanager
def busy(count: int) -> Iterator[None]:
    """So many processes that compute without an end, for as long as this lasts."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()
