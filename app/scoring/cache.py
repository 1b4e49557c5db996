"""The score cache, and the quarantine of pictures that the model failed on."""

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from cachetools import LRUCache

from app.observability.metrics import Metrics
from model.score import QualityScore

QUARANTINE_SECONDS = 300.0
QUARANTINE_PICTURES = 1024


class CacheKey(NamedTuple):
    """Everything that a score depends on.

    Attributes:
        sha256: Hash of the picture's bytes.
        model: Key of the model, which holds its digest.
        contract: Id of the scoring contract.
        crops: Requested number of crops; None for the contract's count, the id of the plan for ``auto``.
        calibration: Id of the calibration that corrects it; "" for none.
    """

    sha256: str
    model: str
    contract: str
    crops: int | str | None
    calibration: str = ""


class ScoreCache:
    """The scores that were used last (LRU). They are exact: the same key always gives the same score.

    Args:
        crops: Capacity, in crops of all pictures together; 0 turns the cache off.
        metrics: Counts hits and misses.
    """

    def __init__(self, crops: int, metrics: Metrics) -> None:
        self._scores = LRUCache[CacheKey, QualityScore](crops, getsizeof=lambda score: len(score.crops))
        self._metrics = metrics
        metrics.cache_crops.set_function(lambda: self._scores.currsize)

    def get(self, key: CacheKey) -> QualityScore | None:
        """Look a score up; None if it is not cached."""
        score = self._scores.get(key)
        if self._scores.maxsize:
            self._metrics.cache.labels("miss" if score is None else "hit").inc()
        return score

    def put(self, key: CacheKey, score: QualityScore) -> None:
        """Cache a score; the least recently used ones make way for it."""
        if len(score.crops) <= self._scores.maxsize:
            self._scores[key] = score


class ImageQuarantined(Exception):
    """The model failed on this picture lately."""


PictureAndModel = tuple[str, str]
"""Hash of the picture, and digest of the model that failed on it."""


class Quarantine:
    """Pictures that the model failed on; they are refused for five minutes.

    If a picture fails in a batch with others and again alone, and the next picture succeeds, the picture is at fault.
    Without the quarantine it would cost two batches each time that it is sent. If several pictures fail in a row, the
    engine is at fault, and none is quarantined.

    Args:
        clock: Returns seconds of a monotonic clock.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._until: OrderedDict[PictureAndModel, float] = OrderedDict()
        self._streak: set[PictureAndModel] = set()

    def __contains__(self, key: PictureAndModel) -> bool:
        return self._until.get(key, 0.0) > self._clock()

    def failed(self, key: PictureAndModel) -> None:
        """Note that the engine failed on a picture, also in a batch of its own."""
        self._streak.add(key)

    def went_well(self, key: PictureAndModel) -> None:
        """Note that the engine succeeded on a picture. If just one other failed before it, that one is quarantined."""
        if len(self._streak) == 1 and key not in self._streak:
            (failed,) = self._streak
            self._until[failed] = self._clock() + QUARANTINE_SECONDS
            self._until.move_to_end(failed)
            while len(self._until) > QUARANTINE_PICTURES:
                self._until.popitem(last=False)
        self._streak.clear()
