"""``smart-iqa serve`` with an engine that fails in three of a hundred batches, for ``benchmarks/chaos.py``.

It never fails while a checkpoint is warmed and proven: what is loaded is sound.
"""

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from app.batcher import Batcher
from cli.main import main
from model.engine import Engine

_chance = random.Random(1)
_in_batch = False
_timed, _run_at = Batcher._timed, Engine._run_at


def _remember(self: Batcher, engine: Any, parts: Any) -> Any:
    global _in_batch
    _in_batch = True
    try:
        return _timed(self, engine, parts)
    finally:
        _in_batch = False


def _fail_now_and_then(self: Engine, shape: Any, parts: Sequence[Any]) -> Any:
    rows_ND = _run_at(self, shape, parts)
    fate = _chance.random() if _in_batch else 1.0
    if fate < 0.01:
        raise RuntimeError("injected")
    if fate < 0.02:
        raise torch.OutOfMemoryError("injected")
    return rows_ND * np.float32("nan") if fate < 0.03 else rows_ND


if __name__ == "__main__":
    Batcher._timed = _remember  # type: ignore[method-assign]
    Engine._run_at = _fail_now_and_then  # type: ignore[method-assign]
    main()
