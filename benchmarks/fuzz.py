"""Damaged pictures by the hundred thousand: ``make fuzz``.

Every one must end as a picture within the limits or as one of the documented errors, within a bound of time and of
memory. Shards are processes; one that crashes or hangs is a finding, and another goes on behind the file that did it.
File ``n`` is the same in every run: ``--show n`` writes it to stdout. Prints a table and writes
``benchmarks/results/fuzz.json``; the exit status is 1 if there was a finding.
"""

import argparse
import json
import multiprocessing
import os
import platform
import random
import resource
import sys
import time
from ctypes import c_double, c_uint64
from multiprocessing.queues import SimpleQueue
from multiprocessing.sharedctypes import Synchronized, SynchronizedArray
from pathlib import Path

import PIL

from model import images
from tests.model.mutations import MUTATIONS, NAMES, SEEDS, mutate

RESULTS = Path(__file__).parent / "results" / "fuzz.json"
LIMITS = images.Limits(max_pixels=4_000_000)
"""Smaller than the service's, so that a changed size costs milliseconds."""
SECONDS, HANG_SECONDS = 2.0, 30.0
"""CPU time that a file of a few kilobytes may take, and wall time after which a shard counts as hanging."""
MEMORY_BYTES = 256 * 2**20
"""What decoding may take: 64 bytes for each of the 4 million pixels."""
OUTCOMES = ("picture", *(error.__name__ for error in (
    images.UnsupportedFormat, images.UndecodableImage, images.TruncatedImage,
    images.TooMuchWork, images.TooManyPixels, images.TooSmall, images.AspectTooExtreme,
)))  # fmt: skip
KINDS = sorted({name.partition("-")[0] for name in NAMES})
CONTEXT = multiprocessing.get_context("spawn")


def damaged(index: int) -> tuple[str, bytes]:
    """Make file ``index``: its kind and its bytes."""
    rng = random.Random(index)
    name = NAMES[index % len(NAMES)]
    names = rng.choices(sorted(MUTATIONS), k=rng.choice((1, 1, 2, 3)))
    return name.partition("-")[0], mutate(SEEDS[name], names, rng)


def outcome(data: bytes) -> str:
    """Decode a file and name the outcome; an undocumented exception is a finding, named by its class."""
    try:
        picture = images.decode(data, LIMITS)
    except images.ImageError as error:
        return type(error).__name__
    except Exception as error:
        return f"escaped: {type(error).__name__}"
    image, facts, _ = picture
    sound = image.mode == "RGB" and image.size == (facts.width, facts.height) and facts.format in images.FORMATS
    try:
        LIMITS.check_size(image.size)
        image.tobytes()
    except Exception as error:
        return f"picture outside the limits: {type(error).__name__}"
    return "picture" if sound else "picture unlike its facts"


class Shard:
    """A process that decodes every ``step``-th file from ``start`` to ``stop``."""

    def __init__(self, start: int, stop: int, step: int) -> None:
        self.at: Synchronized[int] = CONTEXT.Value(c_uint64, start)
        self.counts: SynchronizedArray[int] = CONTEXT.Array(c_uint64, len(KINDS) * len(OUTCOMES))
        self.slowest: SynchronizedArray[float] = CONTEXT.Array(c_double, len(KINDS))
        self.findings: SimpleQueue[tuple[int, str]] = CONTEXT.SimpleQueue()
        self.stop, self.step = stop, step
        self._seen, self._since = start, time.monotonic()
        self._start()

    def check(self) -> bool:
        """Whether the shard is still running; replaces its process if that died or hangs."""
        at, now = self.at.value, time.monotonic()
        if at != self._seen:
            self._seen, self._since = at, now
        if self.process.is_alive() and now - self._since < HANG_SECONDS:
            return True
        if at >= self.stop:
            return False
        self.process.kill()
        self.process.join()
        self.findings.put((at, "hang" if now - self._since >= HANG_SECONDS else f"exit {self.process.exitcode}"))
        self.at.value += self.step
        self._start()
        return True

    def _start(self) -> None:
        shared = (self.at, self.counts, self.slowest, self.findings)
        self.process = CONTEXT.Process(target=work, args=(*shared, self.stop, self.step), daemon=True)
        self.process.start()
        self._since = time.monotonic()


def work(
    at: "Synchronized[int]",
    counts: "SynchronizedArray[int]",
    slowest: "SynchronizedArray[float]",
    findings: "SimpleQueue[tuple[int, str]]",
    stop: int,
    step: int,
) -> None:
    """Decode the files of one shard, in a process of its own."""
    held = Path("/proc/self/status").read_text(encoding="ascii").partition("VmData:")[2].split()[0]
    resource.setrlimit(resource.RLIMIT_DATA, (int(held) * 1024 + MEMORY_BYTES,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while at.value < stop:
        kind, data = damaged(at.value)
        began = time.process_time()
        name = outcome(data)
        took = time.process_time() - began
        row = KINDS.index(kind)
        slowest[row] = max(slowest[row], took)
        if name in OUTCOMES:
            counts[row * len(OUTCOMES) + OUTCOMES.index(name)] += 1
        else:
            findings.put((at.value, name))
        if took > SECONDS:
            findings.put((at.value, f"took {took:.1f} s"))
        at.value += step


def main() -> None:
    """Decode, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=100_000, help="how many files")
    parser.add_argument("--first", type=int, default=0, help="number of the first")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--show", type=int, metavar="N", help="write file N to stdout and end")
    arguments = parser.parse_args()
    if arguments.show is not None:
        sys.stdout.buffer.write(damaged(arguments.show)[1])
        return
    began = time.monotonic()
    stop = arguments.first + arguments.files
    shards = [Shard(arguments.first + index, stop, arguments.jobs) for index in range(arguments.jobs)]
    findings: list[tuple[int, str]] = []
    while sum(shard.check() for shard in shards):
        time.sleep(0.2)
        for shard in shards:
            while not shard.findings.empty():
                findings.append(shard.findings.get())
    for shard in shards:
        while not shard.findings.empty():
            findings.append(shard.findings.get())
    counts = {
        kind: {
            name: sum(shard.counts[row * len(OUTCOMES) + column] for shard in shards)
            for column, name in enumerate(OUTCOMES)
        }
        for row, kind in enumerate(KINDS)
    }
    report = {
        "machine": f"{platform.machine()}, {arguments.jobs} processes, Pillow {PIL.__version__}",
        "files": arguments.files,
        "first": arguments.first,
        "seconds": round(time.monotonic() - began, 1),
        "memory_bound_bytes": MEMORY_BYTES,
        "outcomes": counts,
        "slowest_ms": {
            kind: round(1e3 * max(shard.slowest[row] for shard in shards), 1) for row, kind in enumerate(KINDS)
        },
        "findings": [{"file": index, "what": what} for index, what in sorted(findings)],
    }
    print_table(report)
    RESULTS.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    sys.exit(bool(findings))


def print_table(report: dict[str, object]) -> None:
    """Print the outcomes by format."""
    outcomes, slowest, findings = report["outcomes"], report["slowest_ms"], report["findings"]
    assert isinstance(outcomes, dict)
    assert isinstance(slowest, dict)
    assert isinstance(findings, list)
    print(f"{report['files']:,} files in {report['seconds']} s; {report['machine']}")
    print(f"{'':6}", *(f"{name:>17}" for name in OUTCOMES), f"{'slowest, ms':>12}")
    for kind, counts in outcomes.items():
        print(f"{kind:6}", *(f"{counts[name]:>17,}" for name in OUTCOMES), f"{slowest[kind]:>12}")
    print(f"{len(findings)} findings")
    for finding in findings[:50]:
        print(f"  file {finding['file']}: {finding['what']}")


if __name__ == "__main__":
    main()
