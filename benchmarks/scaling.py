"""How speed grows with crops per picture, clients in flight and cores.

The bare engine and the service take turns on the same picture. For each number of cores both are started anew, bound
to that many; the load generator may use all. It prints tables and writes ``benchmarks/results/scaling.json``.

    engine    crops per second of the bare engine, one picture at a time
    full      crops per second of the bare engine in full batches
    service   pictures per second of ``smart-iqa serve``, and as crops per second
    ratio     crops per second of the service, of the engine's in the same row
"""

import argparse
import json
import multiprocessing
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks import servers
from benchmarks.measure import bare_rate, machine, p50
from benchmarks.servers import Server
from model.scorer import Scorer
from tests.conftest import EXAMPLES, encode

RESULTS = Path(__file__).parent / "results" / "scaling.json"
CROPS = (1, 2, 4, 8, 16, 25)
CLIENTS = (1, 2, 4, 8, 16, 32)
MANY = 16
"""Clients in flight where their number is not what varies."""


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of each measurement")
    parser.add_argument("--crops", type=int, nargs="+", default=CROPS, help="crops per picture")
    parser.add_argument("--clients", type=int, nargs="+", default=CLIENTS, help="clients in flight")
    parser.add_argument("--cores", type=int, nargs="+", default=core_counts(), help="cores to be bound to")
    arguments = parser.parse_args()
    seconds = arguments.seconds
    picture = encode(Image.open(EXAMPLES[0]).resize((512, 512)), quality=90)
    scorer = Scorer.load()
    with tempfile.TemporaryDirectory() as folder:
        with servers.running(servers.OURS, Path(folder)) as server:
            server.pause()
            by_crops = [crops_row(scorer, server, picture, count, seconds) for count in arguments.crops]
            default = scorer.checkpoint.contract.crops
            by_clients = [clients_row(server, picture, clients, default, seconds) for clients in arguments.clients]
        by_cores = [cores_row(picture, cores, default, seconds, Path(folder)) for cores in arguments.cores]
    report = {
        "machine": machine(),
        "device": f"{scorer.engine.device} {scorer.engine.precision}",
        "picture": "512x512 JPEG",
        "crops": relative(by_crops, "engine_crops"),
        "clients": relative(by_clients, "service_pictures"),
        "cores": relative(by_cores, "full_crops"),
    }
    RESULTS.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    for name in ("crops", "clients", "cores"):
        show(name, report[name])


def core_counts() -> list[int]:
    """Powers of two up to the cores that there are, and all of them."""
    most = len(os.sched_getaffinity(0))
    return sorted({2**power for power in range(most.bit_length())} | {most})


def crops_row(scorer: Scorer, server: Server, picture: bytes, count: int, seconds: float) -> dict[str, float]:
    """Engine and service with so many crops per picture."""
    contract = scorer.checkpoint.contract
    items = contract.views(contract.decode(picture), count).items
    engine = 1e3 * count / p50(lambda: scorer.engine.predict(items), repeats=20)
    with server.awake():
        pictures, _ = server.saturate(picture, clients=MANY, seconds=seconds, path=f"/score?crops={count}")
    return {
        "crops": count,
        "engine_crops": round(engine, 1),
        "service_pictures": round(pictures, 2),
        "service_crops": round(count * pictures, 1),
        "ratio": round(count * pictures / engine, 3),
    }


def clients_row(server: Server, picture: bytes, clients: int, crops: int, seconds: float) -> dict[str, float]:
    """The service with so many clients in flight."""
    with server.awake():
        pictures, latencies = server.saturate(picture, clients=clients, seconds=seconds)
    return {
        "clients": clients,
        "service_pictures": round(pictures, 2),
        "service_crops": round(crops * pictures, 1),
        "p50_ms": round(1e3 * sorted(latencies)[len(latencies) // 2], 1),
    }


def cores_row(picture: bytes, cores: int, crops: int, seconds: float, folder: Path) -> dict[str, float]:
    """Engine and service with so many cores."""
    with bound(cores), multiprocessing.get_context("spawn").Pool(1) as pool:
        full = pool.apply(full_rate, (seconds,))
    with bound(cores):
        server = Server(servers.OURS, folder / "bound.log")
    try:
        server.wait_ready()
        pictures, _ = server.saturate(picture, clients=MANY, seconds=seconds)
    finally:
        server.kill()
    return {
        "cores": cores,
        "full_crops": round(full, 1),
        "service_pictures": round(pictures, 2),
        "service_crops": round(crops * pictures, 1),
        "ratio": round(crops * pictures / full, 3),
    }


@contextmanager
def bound(cores: int) -> Iterator[None]:
    """Bind this process, and those that it starts, to the first so many cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:cores])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def full_rate(seconds: float) -> float:
    """Crops per second of the bare engine in full batches."""
    return bare_rate(Scorer.load(), seconds)


def relative(rows: list[dict[str, float]], column: str) -> list[dict[str, float]]:
    """Add to each row how its speed compares with that of the first."""
    return [{**row, "to_first": round(row[column] / rows[0][column], 2)} for row in rows]


def show(title: str, rows: Any) -> None:
    """Print a table."""
    print(f"\nby {title}\n" + "".join(f"{column:>18}" for column in rows[0]))
    for row in rows:
        print("".join(f"{value:18}" for value in row.values()))


if __name__ == "__main__":
    main()
