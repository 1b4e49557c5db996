"""Resident memory over many requests: ``python -m benchmarks.soak``.

Sends pictures of many sizes and formats, broken ones among them, from several clients, and prints the resident memory
of the service as it goes. Writes ``benchmarks/results/soak.json``.
"""

import argparse
import http.client
import json
import statistics
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.measure import resident_megabytes
from tests.conftest import EXAMPLES, encode, photo
from tests.e2e.conftest import running

RESULTS = Path(__file__).parent / "results" / "soak.json"


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--clients", type=int, default=8)
    arguments = parser.parse_args()
    sizes = [(200, 160), (512, 512), (1024, 768), (2048, 1536), (4000, 3000)]
    made = [encode(photo(*size, seed=n), ("JPEG", "PNG", "WEBP")[n % 3]) for n, size in enumerate(sizes)]
    pictures = [*(file.read_bytes() for file in EXAMPLES), *made, EXAMPLES[0].read_bytes()[:9000], b"not a picture"]
    log = RESULTS.parent / "service.log"
    memory = []
    codes: dict[str, int] = {}
    with running(log, log_level="warning") as service, ThreadPoolExecutor(arguments.clients) as pool:

        def post(index: int) -> int:
            connection = http.client.HTTPConnection("127.0.0.1", service.port)
            connection.request(
                "POST", "/score?crops=1", pictures[index % len(pictures)], {"Content-Type": "application/octet-stream"}
            )
            answer = connection.getresponse()
            answer.read()
            connection.close()
            return answer.status

        step = arguments.requests // 20
        for start in range(0, arguments.requests, step):
            for status in pool.map(post, range(start, start + step)):
                codes[str(status)] = codes.get(str(status), 0) + 1
            memory.append(round(resident_megabytes(service.process.pid)))
            print(f"{start + step:6} requests  {memory[-1]} MB")
    log.unlink()
    report = {
        "requests": arguments.requests,
        "codes": codes,
        "resident_mb": memory,
        "second_quarter_mb": statistics.mean(memory[5:10]),
        "last_quarter_mb": statistics.mean(memory[-5:]),
    }
    RESULTS.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
