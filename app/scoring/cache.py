"""What is remembered of pictures: their scores, and that the model failed on them."""

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from cachetools import LRUCache

from app.observability.metrics import Metrics
from model.score import QualityScore

QUARANTINE_SECONDS = 300.0
QUARANTINE_PICTURES = 1024


class CacheKey(NamedTuple):
    """All that a score depends on.

    Attributes:
        sha256: Hash of the picture's bytes.
        model: Key of the model, which holds its digest.
        contract: Id of the scoring contract.
        crops: Crops asked for; None for the contract's count, the name of the plan for ``auto``.
    """

    sha256: str
    model: str
    contract: str
    crops: int | str | None


class ScoreCache:
    """The scores that were asked for last. They are exact: the same key always gives the same score.

    Args:
        crops: Crops whose scores are kept, over all pictures; 0 keeps nothing.
        metrics: Where it reports.
    """

    def __init__(self, crops: int, metrics: Metrics) -> None:
        self._scores = LRUCache[CacheKey, QualityScore](crops, getsizeof=lambda score: len(score.crops))
        self._metrics = metrics
        metrics.cache_crops.set_function(lambda: self._scores.currsize)

    def get(self, key: CacheKey) -> QualityScore | None:
        """Find a score, None if it is not there."""
        score = self._scores.get(key)
        if self._scores.maxsize:
            self._metrics.cache.labels("miss" if score is None else "hit").inc()
        return score

    def put(self, key: CacheKey, score: QualityScore) -> None:
        """Keep a score, in the place of those that were not asked for the longest."""
        if len(score.crops) <= self._scores.maxsize:
            self._scores[key] = score


class ImageQuarantined(Exception):
    """The model failed on this picture lately."""


PictureAndModel = tuple[str, str]
"""Hash of the picture, and digest of the model that failed on it."""


class Quarantine:
    """Pictures that the model failed on, kept away from it for five minutes.

    A picture that fails with others and again alone, while the next one goes well, has something in it that the engine
    cannot bear; sent again and again it would cost everybody two batches each time. When one picture after the other
    fails, the engine is at fault, and no picture is blamed.

    Args:
        clock: Seconds from a monotonic clock.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._until: OrderedDict[PictureAndModel, float] = OrderedDict()
        self._streak: set[PictureAndModel] = set()

    def __contains__(self, key: PictureAndModel) -> bool:
        return self._until.get(key, 0.0) > self._clock()

    def failed(self, key: PictureAndModel) -> None:
        """The engine failed on a picture, also when it was alone."""
        self._streak.add(key)

    def went_well(self, key: PictureAndModel) -> None:
        """The engine has answered for a picture: if it failed on just one other before, that one is quarantined."""
        if len(self._streak) == 1 and key not in self._streak:
            (other,) = self._streak
            self._until[other] = self._clock() + QUARANTINE_SECONDS
            self._until.move_to_end(other)
            while len(self._until) > QUARANTINE_PICTURES:
                self._until.popitem(last=False)
        self._streak.clear()
