"""Autotuning: the number of threads, and of items per batch, with which an engine is fastest on this CPU.

The measurement takes about three seconds at most, and its result is cached in a file. The choice changes the time that
a score takes, never the score: candidates that give other bits are rejected.
"""

import contextlib
import hashlib
import json
import logging
import math
import os
import platform
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from model.inference import processors
from model.inference.engine import Engine
from model.views import Items

log = logging.getLogger("smart_iqa.engine")

FILE = "calibration.json"
ROUNDS = 4
"""Times that each candidate is measured, by turns, so that other load on the machine affects all of them alike."""
BUDGET_SECONDS = 3.0
"""Slow networks are measured fewer times, so that it takes about this long; those that are too slow, not at all."""
USUAL = 8
"""Items per batch if nothing is measured."""
WORTH = 1.04
"""A larger batch, which makes other requests wait, must be faster than a smaller one by this factor."""


class Setting(NamedTuple):
    """The choice: threads of the engines of this process, and items per batch."""

    threads: int
    cap: int


def cache_folder() -> Path | None:
    """Folder of the cache: ``$XDG_CACHE_HOME/smart-iqa``, or ``~/.cache/smart-iqa``; None for users without a home."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "smart-iqa"
    except RuntimeError:
        return None


def set_threads(threads: int = 0) -> None:
    """Set the threads of this process: so many, or, by 0, as torch chose, but none that would only wait for a turn."""
    usable = processors.usable()
    if threads:
        torch.set_num_threads(threads)
    elif torch.get_num_threads() > usable and not os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(usable)


def autotune(engine: Engine, digest: str, *, threads: int = 0, folder: Path | None = None) -> Setting:
    """Set the batch size of an engine and the threads of this process to what is fastest, measured or from the cache.

    Args:
        engine: A warmed engine on a CPU.
        digest: The digest of the checkpoint of the engine.
        threads: A fixed number of threads; 0 chooses it.
        folder: Folder of the cache; ``cache_folder()`` if None.
    """
    folder = folder or cache_folder()
    key = _key(engine, digest, threads)
    known = _read(folder)
    setting = _setting(known.get(key), engine)
    if setting is None:
        setting = _measure(engine, [threads] if threads else _thread_counts())
        if setting is None:
            usual = next((shape for shape in engine.shapes if shape >= USUAL), engine.shapes[-1])
            setting = Setting(threads or torch.get_num_threads(), usual)
        else:
            _write(folder, {**known, key: setting})
    torch.set_num_threads(setting.threads)
    engine.limit(setting.cap)
    return setting


def _measure(engine: Engine, thread_counts: list[int]) -> Setting | None:
    """The fastest setting; None if that would take too long."""
    probe = engine.contract.probe(engine.shapes[-1], engine.item_shapes[0])
    usual = torch.get_num_threads()
    reference = engine.predict(probe)
    # Each batch size is about half of the next one, so that all of them together take as long as two of the largest.
    round_seconds = 2 * _seconds(engine, probe) * len(thread_counts)
    rounds = min(ROUNDS, int(BUDGET_SECONDS / round_seconds))
    if not rounds:
        return None
    agreeing = []
    for threads in thread_counts:
        torch.set_num_threads(threads)
        if np.array_equal(engine.predict(probe), reference):
            agreeing.append(threads)
    seconds: dict[Setting, float] = {}
    for _ in range(rounds):
        for threads in agreeing:
            torch.set_num_threads(threads)
            for shape in engine.shapes:
                setting = Setting(threads, shape)
                seconds[setting] = min(seconds.get(setting, math.inf), _seconds(engine, probe[:shape]) / shape)
    if not seconds:
        return Setting(usual, engine.shapes[-1])
    fastest = min(seconds.values())
    good = [setting for setting, taken in seconds.items() if taken <= WORTH * fastest]
    return min(good, key=lambda setting: (setting.cap, seconds[setting]))


def _seconds(engine: Engine, items: Items) -> float:
    began = time.perf_counter()
    engine.run([items])
    return time.perf_counter() - began


def _thread_counts() -> list[int]:
    """The candidates: half of the usable processors, which may be all physical cores, and all of them."""
    count = processors.usable()
    return sorted({max(count // 2, 1), count})


def _key(engine: Engine, digest: str, threads: int) -> str:
    capability = torch.backends.cpu.get_cpu_capability()
    facts = (
        *(digest, engine.contract.id, engine.precision, torch.__version__, _processor(), capability),
        *(_thread_counts(), threads, engine.shapes),
    )
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line
    return platform.processor()


def _write(folder: Path | None, content: dict[str, object]) -> None:
    # The cache is optional; without it every start measures again.
    if folder is None:
        log.info("the user has no home, so every start measures threads and batch sizes; XDG_CACHE_HOME names a folder")
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        staging = (folder / FILE).with_suffix(f".{os.getpid()}.writing")
        staging.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        os.replace(staging, folder / FILE)
    except OSError as error:
        log.info("every start measures threads and batch sizes: %s cannot be written (%s)", folder, error.strerror)


def _read(folder: Path | None) -> dict[str, object]:
    if folder is None:
        return {}
    with contextlib.suppress(OSError, ValueError):
        content = json.loads((folder / FILE).read_text(encoding="utf-8"))
        if isinstance(content, dict):
            return content
    return {}


def _setting(entry: object, engine: Engine) -> Setting | None:
    """Check an entry of the cache; None if it is damaged or does not fit this engine or machine."""
    if isinstance(entry, list) and len(entry) == 2 and all(type(number) is int for number in entry):
        setting = Setting(*entry)
        if setting.cap in engine.shapes and 1 <= setting.threads <= _thread_counts()[-1]:
            return setting
    return None
