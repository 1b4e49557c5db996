"""What the service costs over the bare engine: ``make bench``.

Everything is measured side by side in one run, the service as a process of its own and the engine in this one, by
turns. It prints a table and writes ``benchmarks/results/serving.json``.

    overhead    p50 of /score for one client, less decode and engine of the same picture
    throughput  crops per second with many clients in flight, as a share of the bare engine's
"""

import argparse
import http.client
import json
import os
import platform
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from model import images
from model.scorer import Scorer
from tests.conftest import EXAMPLES, encode
from tests.e2e.conftest import Service, running

RESULTS = Path(__file__).parent / "results" / "serving.json"


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="turns of engine and service")
    parser.add_argument("--seconds", type=float, default=15.0, help="length of each loaded turn")
    parser.add_argument("--clients", type=int, default=16, help="clients in flight under load")
    arguments = parser.parse_args()

    picture = encode(Image.open(EXAMPLES[0]).resize((512, 512)), quality=90)
    scorer = Scorer.load()
    crops = scorer.checkpoint.contract.crops
    log = RESULTS.parent / "service.log"
    names = ("decode_ms", "engine_ms", "http_ms", "engine_cps", "http_cps")
    rows: dict[str, list[float]] = {name: [] for name in names}
    with running(log) as service:
        once(service, picture)
        crops_NHWC = scorer.checkpoint.contract.views(images.decode(picture)).items
        for _ in range(arguments.rounds):
            rows["decode_ms"].append(p50(lambda: scorer.checkpoint.contract.views(images.decode(picture)), repeats=50))
            rows["engine_ms"].append(p50(lambda: scorer.engine.predict(crops_NHWC), repeats=50))
            rows["http_ms"].append(p50(client_of(service, picture), repeats=50))
            rows["engine_cps"].append(bare_rate(scorer, arguments.seconds))
            rows["http_cps"].append(crops * request_rate(service, picture, arguments.clients, arguments.seconds))
        memory = resident_megabytes(service.process.pid)
    log.unlink()
    figures = {name: round(statistics.median(values), 2) for name, values in rows.items()}
    report = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}",
        "device": f"{scorer.engine.device} {scorer.engine.precision}",
        "picture": "512x512 JPEG",
        "crops": crops,
        "clients": arguments.clients,
        **figures,
        "overhead_ms": round(figures["http_ms"] - figures["decode_ms"] - figures["engine_ms"], 2),
        "throughput_share": round(statistics.median(np.divide(rows["http_cps"], rows["engine_cps"])), 3),
        "resident_mb": round(memory),
    }
    RESULTS.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    for name, value in report.items():
        print(f"{name:18} {value}")


def p50(call: Callable[[], object], *, repeats: int) -> float:
    """Median time of a call in milliseconds, after three that do not count."""
    times = []
    for _ in range(repeats + 3):
        started = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - started))
    return statistics.median(times[3:])


def bare_rate(scorer: Scorer, seconds: float) -> float:
    """Crops per second of the engine alone, at its largest batch."""
    batch = np.random.default_rng(0).integers(
        0, 256, (scorer.engine.cap, *scorer.engine.item_shapes[0]), dtype=np.uint8
    )
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        scorer.engine.run([batch])
        count += len(batch)
    return count / (time.perf_counter() - started)


def client_of(service: Service, picture: bytes) -> Callable[[], None]:
    """A client with a connection of its own; each call posts the picture once."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port)

    def post() -> None:
        connection.request("POST", "/score", picture, {"Content-Type": "image/jpeg"})
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == 200, body

    return post


def once(service: Service, picture: bytes) -> None:
    """Post a picture once."""
    client_of(service, picture)()


def request_rate(service: Service, picture: bytes, clients: int, seconds: float) -> float:
    """Requests per second with that many clients, each waiting for its answer before it asks again."""
    end = time.perf_counter() + seconds
    counts = [0] * clients

    def ask(index: int) -> None:
        post = client_of(service, picture)
        while time.perf_counter() < end:
            post()
            counts[index] += 1

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(clients)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - started)


def resident_megabytes(pid: int) -> float:
    """Resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    main()
