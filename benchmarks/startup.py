"""From exec to the first answer of the probes: ``smart-iqa serve`` with the default checkpoint.

It starts the service several times, and by turns a process that goes through the phases of a start one by one. It
prints a table and writes ``benchmarks/results/startup.json``.

    live   seconds until ``/health/live`` answers
    ready  seconds until ``/health/ready`` answers 200: loaded, warmed and proven
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

from benchmarks import servers
from benchmarks.measure import machine
from benchmarks.servers import ROOT, Server

RESULTS = Path(__file__).parent / "results" / "startup.json"
TICK_SECONDS = 0.01


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="starts")
    parser.add_argument(
        "--cold", action="store_true", help="before the first start, make the kernel forget Python's files"
    )
    arguments = parser.parse_args()
    if arguments.cold:
        forget_files()
    starts, phases = [], []
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(arguments.rounds):
            starts.append(start(Path(folder) / "log"))
            phases.append(go_through_phases())
            print(f"start {turn + 1}: live after {starts[-1]['live']:.2f} s, ready after {starts[-1]['ready']:.2f} s")
    later = starts[1:] or starts
    report = {
        "machine": machine(),
        "first": {"cold": arguments.cold, **starts[0]},
        "later": {name: round(statistics.median(one[name] for one in later), 2) for name in starts[0]},
        "later_ready_most": max(one["ready"] for one in later),
        "phases": {name: round(statistics.median(one[name] for one in phases), 3) for name in phases[0]},
    }
    RESULTS.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=2))


def start(log: Path) -> dict[str, float]:
    """Start the service once: seconds until it is live and until it is ready."""
    began = time.monotonic()
    server = Server(servers.OURS, log)
    try:
        seconds = {}
        for name in ("live", "ready"):
            while not server.answers(f"/health/{name}"):
                if server.process.poll() is not None:
                    raise RuntimeError("the service has ended")
                time.sleep(TICK_SECONDS)
            seconds[name] = round(time.monotonic() - began, 2)
        return seconds
    finally:
        server.kill()


def go_through_phases() -> dict[str, float]:
    """Seconds of each phase of a start."""
    command = [sys.executable, "-m", "benchmarks.phases", str(time.monotonic())]
    output = subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=ROOT).stdout
    seconds: dict[str, float] = json.loads(output)
    return seconds


def forget_files() -> None:
    """Drop cached files of Python and its packages; the kernel keeps those that other processes have mapped."""
    for folder in {sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")}:
        for path in Path(folder).rglob("*"):
            if path.is_file():
                file = os.open(path, os.O_RDONLY)
                os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(file)


if __name__ == "__main__":
    main()
