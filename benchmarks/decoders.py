"""Cost of decoding in processes, compared with decoding in threads.

Both are set up as the service does it, with as many processes as threads, and take turns in one run. It prints a table
and writes ``benchmarks/results/decoders.json``.

    alone   milliseconds for one picture at a time, median
    loaded  pictures per second with all threads busy, and the processes' share of what the threads do
"""

import argparse
import asyncio
import hashlib
import json
import os
import platform
import statistics
import time
from pathlib import Path

import PIL
from PIL import Image

from app.decode.decoder import Decoder
from app.decode.sandbox import Sandbox
from app.observability.metrics import Metrics
from app.settings import Settings
from benchmarks.measure import resident_megabytes
from model import checkpoint
from model.contract import Contract
from model.images import Limits
from model.inference.allocator import keep_freed_memory
from model.options import DEFAULT_CHECKPOINT
from tests.conftest import EXAMPLES, encode

RESULTS = Path(__file__).parent / "results" / "decoders.json"
SIZES = {"12 MP": (4000, 3000), "0.2 MP": (512, 384)}
MODES = ("threads", "processes")


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="turns of threads and processes")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of each turn")
    arguments = parser.parse_args()
    asyncio.run(measure(arguments.rounds, arguments.seconds))


async def measure(rounds: int, seconds: float) -> None:
    """Measure both by turns."""
    settings = Settings()
    keep_freed_memory()
    contract = checkpoint.inspect(DEFAULT_CHECKPOINT)[0].contract
    photo = Image.open(EXAMPLES[0])
    pictures = {name: encode(photo.resize(size), quality=90) for name, size in SIZES.items()}
    sandbox = Sandbox(
        workers=settings.decode_threads,
        memory_bytes=settings.decoder_memory_bytes,
        seconds=settings.decode_seconds,
        replaced=Metrics().decoders_replaced,
    )
    decoders = {mode: decoder_of(settings, sandbox if mode == "processes" else None) for mode in MODES}
    alone: dict[str, dict[str, list[float]]] = {name: {mode: [] for mode in MODES} for name in SIZES}
    loaded: dict[str, dict[str, list[float]]] = {name: {mode: [] for mode in MODES} for name in SIZES}
    for decoder in decoders.values():
        for picture in pictures.values():
            await loop(decoder, picture, contract, 0.2)
    for _ in range(rounds):
        for name, picture in pictures.items():
            for mode, decoder in decoders.items():
                alone[name][mode].append(statistics.median(await loop(decoder, picture, contract, seconds / 2)))
                began = time.perf_counter()
                loops = (loop(decoder, picture, contract, seconds) for _ in range(settings.decode_threads))
                count = sum(map(len, await asyncio.gather(*loops)))
                loaded[name][mode].append(count / (time.perf_counter() - began))
    pids = [worker.process.pid for worker in sandbox._idle.queue]
    memory = statistics.mean(map(resident_megabytes, pids))
    for decoder in decoders.values():
        decoder.close()
    report = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Pillow {PIL.__version__}",
        "threads": settings.decode_threads,
        "pictures": {name: row(alone[name], loaded[name], len(pictures[name])) for name in SIZES},
        "process_resident_mb": round(memory),
    }
    RESULTS.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=2))


def decoder_of(settings: Settings, sandbox: Sandbox | None) -> Decoder:
    """A decoder as the service has it."""
    return Decoder(
        Limits(max_pixels=settings.max_pixels),
        threads=settings.decode_threads,
        max_decodes=settings.max_decodes,
        max_inflight_pixels=settings.max_inflight_pixels,
        sandbox=sandbox,
        metrics=Metrics(),
    )


async def loop(decoder: Decoder, picture: bytes, contract: Contract, seconds: float) -> list[float]:
    """Decode one picture after the other, and give the milliseconds that each took."""
    times, sha256 = [], hashlib.sha256(picture).hexdigest()
    end = time.perf_counter() + seconds
    while (began := time.perf_counter()) < end:
        await decoder.decode(picture, sha256, contract, None, preview=False)
        times.append(1e3 * (time.perf_counter() - began))
    return times


def row(alone: dict[str, list[float]], loaded: dict[str, list[float]], size: int) -> dict[str, float]:
    """The figures of one picture; ratios are medians over the turns, each taken side by side."""
    ratios = [there / here for here, there in zip(loaded["threads"], loaded["processes"], strict=True)]
    extra = [there - here for here, there in zip(alone["threads"], alone["processes"], strict=True)]
    return {
        "bytes": size,
        **{f"{mode}_ms": round(statistics.median(alone[mode]), 2) for mode in MODES},
        "extra_ms": round(statistics.median(extra), 2),
        **{f"{mode}_per_second": round(statistics.median(loaded[mode]), 1) for mode in MODES},
        "share": round(statistics.median(ratios), 3),
        "share_least": round(min(ratios), 3),
        "share_most": round(max(ratios), 3),
    }


if __name__ == "__main__":
    main()
