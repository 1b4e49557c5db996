"""Bulk scoring beside ``smart-iqa score``: pictures a second by turns, and memory at 1,000 and 10,000 pictures.

    python -m benchmarks.bulk            # about eight minutes on two quiet cores
    python -m benchmarks.bulk --memory   # about ten

All ways score links to the photos of ``examples/`` with the default checkpoint, on the cores that there are. They take
turns, and each is compared with the ``score`` of its round. Rates count from the first fifth of the pictures to the
last one, so that loading and starting a cluster do not count; ``start`` has the seconds before. ``core_ms`` is the time
of cores that a picture took meanwhile, of all processes together, Ray's own included: where others use the machine,
this is more reliable than rates, which also depend on how many processes compete.

    score      smart-iqa score with one thread
    threads    the same, with a thread for each core, as PyTorch has it by itself
    bulk       smart-iqa score-bulk
    one node   the same on a Ray cluster of one node with two cores
    two nodes  and on one of two nodes with one core each
    apart      one node, with decoding and engines in processes of their own, as beside GPUs

Memory is the largest resident size of the command and of Ray's workers, with one crop of each picture.

It prints tables and writes ``benchmarks/results/bulk.json``; what is not measured keeps the figures that it has.
Workers of Ray have a low priority otherwise; here they have that of all.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.measure import machine, resident_megabytes

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "bulk.json"
UNIT = 16
STARTED = 0.2
STORE_BYTES = 300 * 2**20
NODES = {"one node": (2,), "two nodes": (1, 1), "apart": (2,)}
MAIN = "from cli.main import main; main()"
APART = (
    "from cli.bulk.cluster import ClusterScorer; "
    f"ClusterScorer.__init__.__kwdefaults__['separate_decoding'] = True; {MAIN}"
)
WORKER = "ray::MapWorker"
TICK_SECONDS = 0.5


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="turns of all ways")
    parser.add_argument("--pictures", type=int, default=300, help="pictures of a turn")
    parser.add_argument("--memory", action="store_true", help="measure memory, not rates")
    arguments = parser.parse_args()
    os.environ |= {"RAY_worker_niceness": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    report = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        if arguments.memory:
            report["memory"] = {"machine": machine(), "MB": memory(Path(folder))}
        else:
            report["rates"] = rates(Path(folder), arguments.rounds, arguments.pictures)
    RESULTS.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=2))


def pictures(folder: Path, count: int) -> Path:
    """A folder of links to the examples."""
    examples = sorted((ROOT / "examples").glob("*.jpg"))
    there = folder / f"photos-{count}"
    there.mkdir()
    for place in range(count):
        (there / f"{place:05}.jpg").symlink_to(examples[place % len(examples)])
    return there


def rates(folder: Path, rounds: int, count: int) -> dict[str, Any]:
    """Pictures a second of all ways, and beside those of ``score``."""
    photos = pictures(folder, count)
    ways = ("score", "threads", "bulk", *NODES)
    found: dict[str, list[Turn]] = {way: [] for way in ways}
    loads = []
    for turn in range(rounds):
        for way in ways:
            loads.append(os.getloadavg()[0])
            out = folder / f"{way}-{turn}".replace(" ", "-")
            found[way].append(score(photos, way) if way in ("score", "threads") else bulk(photos, out, way))
            print(f"round {turn + 1}, {way}: {found[way][-1]}", flush=True)

    def beside(way: str, other: str) -> list[float]:
        return [own.rate / one.rate for own, one in zip(found[way], found[other], strict=True)]

    return {
        "machine": machine(),
        "rounds": rounds,
        "pictures": count,
        "load": round(statistics.median(loads), 1),
        "ways": {
            way: {
                "pictures_per_second": round(statistics.median(one.rate for one in found[way]), 2),
                "beside_score": round(statistics.median(beside(way, "score")), 3),
                "beside_score_by_round": [round(ratio, 3) for ratio in beside(way, "score")],
                "beside_threads": round(statistics.median(beside(way, "threads")), 3),
                "core_ms": round(statistics.median(one.core_ms for one in found[way]), 1),
                "start": round(statistics.median(one.start for one in found[way]), 1),
            }
            for way in ways
        },
    }


class Turn(NamedTuple):
    """What one turn of one way took."""

    rate: float
    core_ms: float
    start: float


def score(photos: Path, way: str) -> Turn:
    """A turn of ``smart-iqa score``."""
    environment = {**os.environ, "OMP_NUM_THREADS": f"{os.cpu_count()}" if way == "threads" else "1"}
    began = time.time()
    command = [sys.executable, "-W", "ignore", "-u", "-c", MAIN, "score", str(photos), "-f", "jsonl"]
    with cores() as used, subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, env=environment) as process:
        assert process.stdout is not None
        times = [time.time() for _ in process.stdout]
    return turn_of([(moment, 1) for moment in times], used, began)


def bulk(photos: Path, out: Path, way: str) -> Turn:
    """A turn of ``smart-iqa score-bulk`` in one of its ways."""
    import pyarrow.parquet as pq

    with cluster(NODES.get(way, ())) as where, cores() as used:
        began = time.time()
        program = APART if way == "apart" else MAIN
        command = [sys.executable, "-W", "ignore", "-c", program, "score-bulk", str(photos), str(out), *where]
        subprocess.run([*command, "--unit", str(UNIT)], check=True, stderr=subprocess.DEVNULL, cwd=ROOT)
    files = [(file.stat().st_mtime, pq.read_metadata(file).num_rows) for file in out.glob("*.parquet")]
    return turn_of(sorted(files), used, began)


def turn_of(done: list[tuple[float, int]], used: list[tuple[float, float]], began: float) -> Turn:
    """Figures of a turn, from the times of the pictures done and of the core seconds used."""
    after = int(STARTED * len(done))
    first, last = done[after][0], done[-1][0]
    count = sum(pictures for _, pictures in done[after + 1 :])
    moments, seconds = zip(*used, strict=True)
    taken = np.interp(last, moments, seconds) - np.interp(first, moments, seconds)
    return Turn(count / (last - first), 1e3 * float(taken) / count, done[0][0] - began)


@contextlib.contextmanager
def cores() -> Iterator[list[tuple[float, float]]]:
    """Watch the core seconds of all processes that this one has started, and that they have started."""
    used: list[tuple[float, float]] = []
    ended = threading.Event()

    def watch() -> None:
        tick = os.sysconf("SC_CLK_TCK")
        # Processes that have ended keep what they had taken.
        seconds: dict[int, float] = {}
        while not ended.wait(TICK_SECONDS):
            fields = {int(entry.name): found for entry in Path("/proc").glob("[0-9]*") if (found := stat(entry))}
            family = {os.getpid()}
            # Children have larger numbers than their parents, but for those after the largest possible one.
            for process in sorted(fields):
                if int(fields[process][1]) in family:
                    family.add(process)
                    seconds[process] = (int(fields[process][11]) + int(fields[process][12])) / tick
            used.append((time.time(), sum(seconds.values())))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield used
    finally:
        ended.set()
        watching.join()


def stat(entry: Path) -> list[str]:
    """Fields of a process in ``/proc/PID/stat``, after its name; empty if it has ended."""
    try:
        # The name stands in brackets and may hold spaces.
        return (entry / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


@contextlib.contextmanager
def cluster(cores: tuple[int, ...]) -> Iterator[list[str]]:
    """Start nodes with so many cores each; gives the options that send a command there."""
    if not cores:
        yield []
        return
    from ray.cluster_utils import Cluster

    nodes = Cluster()
    try:
        for count in cores:
            nodes.add_node(num_cpus=count, object_store_memory=STORE_BYTES, include_dashboard=False)
        nodes.wait_for_nodes()
        yield ["--ray", "--address", nodes.address]
    finally:
        nodes.shutdown()


def memory(folder: Path) -> dict[str, dict[str, dict[str, float]]]:
    """Largest resident megabytes by way, pictures and process."""
    report: dict[str, dict[str, dict[str, float]]] = {}
    for count in (1_000, 10_000):
        photos = pictures(folder, count)
        for way in ("bulk", "one node"):
            out = folder / f"{way}-{count}".replace(" ", "-")
            with cluster(NODES.get(way, ())) as where:
                command = [sys.executable, "-W", "ignore", "-c", MAIN, "score-bulk", str(photos), str(out), *where]
                process = subprocess.Popen([*command, "--crops", "1"], stderr=subprocess.DEVNULL, cwd=ROOT)
                most = {"command": 0.0}
                watch = threading.Thread(target=watch_memory, args=(process, most))
                watch.start()
                process.wait()
                watch.join()
            report.setdefault(way, {})[f"{count}"] = {name: round(value) for name, value in most.items()}
            print(f"{way}, {count:,} pictures: {report[way][f'{count}']}")
    return report


def watch_memory(process: subprocess.Popen[bytes], most: dict[str, float]) -> None:
    """Keep the largest sizes until a command ends."""
    while process.poll() is None:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            most["command"] = max(most["command"], resident_megabytes(process.pid))
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(FileNotFoundError, IndexError, ProcessLookupError):
                worker = (entry / "cmdline").read_text(errors="replace").startswith(WORKER)
                # Workers are children of a node, which is a child of this process.
                if worker and stat(entry.parent / stat(entry)[1])[1] == str(os.getpid()):
                    most["largest worker"] = max(most.get("largest worker", 0.0), resident_megabytes(int(entry.name)))
        time.sleep(TICK_SECONDS)


if __name__ == "__main__":
    main()
