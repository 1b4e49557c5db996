"""Measuring functions that several benchmarks share; imports nothing heavy."""

import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from model.scorer import Scorer


def machine() -> str:
    """Description of the machine in one line."""
    return f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, torch {version('torch')}"


def p50(call: Callable[[], object], *, repeats: int) -> float:
    """Median time of a call in milliseconds, after three that do not count."""
    times = []
    for _ in range(repeats + 3):
        started = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - started))
    return statistics.median(times[3:])


def bare_rate(scorer: "Scorer", seconds: float) -> float:
    """Crops per second of the engine alone, at its largest batch."""
    batch = np.random.default_rng(0).integers(
        0, 256, (scorer.engine.cap, *scorer.engine.item_shapes[0]), dtype=np.uint8
    )
    scorer.engine.run([batch])
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        scorer.engine.run([batch])
        count += len(batch)
    return count / (time.perf_counter() - started)


def resident_megabytes(pid: int) -> float:
    """Resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def session_megabytes(leader: int) -> float:
    """Resident memory of all processes of a session, pages that they share counted for each."""
    total = 0.0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            # The name stands in brackets and may hold spaces; the session is the fourth field after it.
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == leader:
                total += resident_megabytes(int(folder.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return total
