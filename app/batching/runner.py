"""What happens to a batch on a lane's thread: its engine's ``run``, timed, and watched by others for hangs.

Neither torch nor a web framework is imported here.
"""

import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from app.batching.jobs import Engine, Items, Rows

log = logging.getLogger("smart_iqa.batcher")


class Computed(NamedTuple):
    """What became of a batch.

    Attributes:
        rows_ND: What the engine gave; of no use beside an error.
        error: What it raised, if it did.
        started: When it began, on the batcher's clock.
        seconds: How long it took.
        device: Name of the device that it ran on.
    """

    rows_ND: Rows
    error: Exception | None
    started: float
    seconds: float
    device: str

    def fault(self, crops: int) -> Exception | None:
        """What is wrong with it, as the answer to that many crops."""
        return self.error or _fault(self.rows_ND, crops)


def _fault(rows_ND: Rows, crops: int) -> Exception | None:
    # Not even an array, perhaps: an exception here, on the event loop, would leave all callers of the batch waiting.
    if not isinstance(rows_ND, np.ndarray) or rows_ND.dtype.kind != "f" or rows_ND.ndim != 2 or len(rows_ND) != crops:
        return ValueError("not a row of numbers for each crop")
    return None if np.isfinite(rows_ND).all() else ArithmeticError("a row is not a number")


class _Running(NamedTuple):
    device: str
    began: float


class Runner:
    """Runs batches, one at a time on each lane.

    Args:
        clock: Seconds from a monotonic clock.
        hang_seconds: A batch that runs for longer will not come back.
    """

    def __init__(self, clock: Callable[[], float], hang_seconds: float) -> None:
        self._clock = clock
        self._hang_seconds = hang_seconds
        # By lane; each is written by its own thread.
        self._running: list[_Running | None] = []

    def open(self, lanes: int) -> None:
        """Be ready for that many lanes."""
        self._running += [None] * (lanes - len(self._running))

    @property
    def hanging(self) -> list[str]:
        """Devices of the lanes that hang."""
        now = self._clock()
        return [one.device for one in self._running if one is not None and now - one.began > self._hang_seconds]

    def run(self, replicas: Sequence[Engine], parts: list[Items], lane: int) -> Computed:
        """Run a batch on a lane's own replica of its engine; what that raises is part of the answer."""
        engine, started = replicas[lane], self._clock()
        self._running[lane] = _Running(engine.device, started)
        # What fails has had the device too: its time is told as well.
        error: Exception | None = None
        rows_ND: Rows = np.empty((0, 0), np.float32)
        try:
            rows_ND = engine.run(parts)
        except Exception as caught:
            log.exception("a batch failed")
            # The traceback's frames hold the batch's memory on the device, which the retry will need.
            error = caught.with_traceback(None)
        finally:
            self._running[lane] = None
        return Computed(rows_ND, error, started, self._clock() - started, engine.device)
