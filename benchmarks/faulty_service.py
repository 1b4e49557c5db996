"""``smart-iqa serve`` with an engine that fails in three of a hundred batches, for ``benchmarks/chaos.py``.

It never fails while a checkpoint is warmed up and checked against its golden scores.
"""

import random
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from app.batching.workers import WorkerThreads
from cli.main import main
from model.inference.engine import Engine

_chance = random.Random(1)
_here = threading.local()
_compute, _run_at = WorkerThreads._compute, Engine._run_at


def _remember(self: WorkerThreads, replicas: Any, parts: Any, lane: int) -> Any:
    _here.in_batch = True
    try:
        return _compute(self, replicas, parts, lane)
    finally:
        _here.in_batch = False


def _fail_now_and_then(self: Engine, shape: Any, parts: Sequence[Any]) -> Any:
    rows_ND = _run_at(self, shape, parts)
    fate = _chance.random() if getattr(_here, "in_batch", False) else 1.0
    if fate < 0.01:
        raise RuntimeError("injected")
    if fate < 0.02:
        raise torch.OutOfMemoryError("injected")
    return rows_ND * np.float32("nan") if fate < 0.03 else rows_ND


if __name__ == "__main__":
    WorkerThreads._compute = _remember  # type: ignore[method-assign]
    Engine._run_at = _fail_now_and_then  # type: ignore[method-assign]
    main()
