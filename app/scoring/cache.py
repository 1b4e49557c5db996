"""Scores that were given before. They are exact: the same bytes, checkpoint and options always give the same score."""

from typing import NamedTuple

from cachetools import LRUCache

from app.observability.metrics import Metrics
from model.score import QualityScore


class CacheKey(NamedTuple):
    """Everything that a score depends on.

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
    """The scores that were asked for last.

    Args:
        crops: Crops whose scores are kept, over all pictures; 0 keeps nothing.
        metrics: Where it reports.
    """

    def __init__(self, crops: int, metrics: Metrics) -> None:
        self._scores = LRUCache[CacheKey, QualityScore](crops, getsizeof=lambda score: len(score.crops))
        self._metrics = metrics
        metrics.cache_crops.set_function(lambda: self._scores.currsize)

    def get(self, name: CacheKey) -> QualityScore | None:
        """Find a score, None if it is not there."""
        score = self._scores.get(name)
        if self._scores.maxsize:
            self._metrics.cache.labels("miss" if score is None else "hit").inc()
        return score

    def put(self, name: CacheKey, score: QualityScore) -> None:
        """Keep a score, in the place of those that were not asked for the longest."""
        if len(score.crops) <= self._scores.maxsize:
            self._scores[name] = score
