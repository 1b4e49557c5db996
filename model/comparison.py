"""Which of several pictures people prefer, how sure that is, and in which defects they differ. Imports no torch."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.images import ImageWarning
from model.score import QualityScore

LEAST, MOST = 2, 16
"""Pictures that are compared at a time, at least and at most."""
SUREST = 0.999
"""Highest probability that is told: no pair is quite sure."""
UNSURE = 0.9
"""Highest probability for two pictures outside the domain, of which the model knows nothing."""
LEAST_DEVIATION = 1e-6
"""Keeps the probability of equal scores without any deviation a number."""
TELLING = 0.2
"""Difference of severities from which a defect is told as one in which two pictures differ."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A defect in which two pictures differ.

    Attributes:
        defect: Its name.
        first: Its severity in the first picture.
        second: Its severity in the second one.
    """

    defect: str
    first: float
    second: float


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two pictures compared.

    Attributes:
        first: Place of the first one among the pictures, from 0.
        second: Place of the second one.
        preferred: Probability that people's mean opinion of the first one is the higher one, rounded to three decimals.
        duplicate: Whether both are the same file.
        because: The defects in which they differ, the greatest difference first.
    """

    first: int
    second: int
    preferred: float
    duplicate: bool
    because: tuple[Difference, ...]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Several pictures compared.

    Attributes:
        order: Their places, the best picture first.
        pairs: Each with each.
    """

    order: tuple[int, ...]
    pairs: tuple[Pair, ...]

    def to_dict(self) -> dict[str, Any]:
        """The comparison as a JSON object."""
        return asdict(self)


def compare(scores: Sequence[QualityScore | None]) -> Comparison:
    """Compare pictures, each with each.

    Args:
        scores: Their scores, of one model that gives intervals; None for one that has none, which is left out.

    Raises:
        ValueError: The model gives no intervals.
    """
    scored = {place: score for place, score in enumerate(scores) if score is not None}
    pairs = (_pair(first, second, scored[first], scored[second]) for first, second in combinations(scored, 2))
    # Equal ones keep their order.
    falling = sorted(scored, key=lambda place: -scored[place].score)
    return Comparison(order=tuple(falling), pairs=tuple(pairs))


def preferred(one: QualityScore, other: QualityScore) -> float:
    """The probability that people's mean opinion of a picture is higher than that of another one, 0 to 1.

    Opinions are taken to lie around both scores as widely as the network's own widths say. How widely within those was
    fitted on pairs of photos that were not trained on: ``training/preferences.py``.

    Raises:
        ValueError: The model gives no intervals.
    """
    if one.interval is None or other.interval is None:
        raise ValueError(f"{one.model.name} gives no intervals, which comparing needs")
    strange = all(ImageWarning.OUT_OF_DOMAIN in score.warnings for score in (one, other))
    most = UNSURE if strange else SUREST
    deviation = max(math.hypot(one.interval.deviation, other.interval.deviation), LEAST_DEVIATION)
    share = float(probability(np.array([(one.score - other.score) / deviation]))[0])
    return min(max(share, 1 - most), most)


def probability(leads_N: NDArray[np.float64]) -> NDArray[np.float64]:
    """The probabilities that one opinion is higher than another, from how many deviations its score is higher.

    By Student's distribution with three degrees of freedom: gross errors are more frequent than a normal one allows.
    """
    t_N = leads_N / math.sqrt(3)
    shares_N: NDArray[np.float64] = 0.5 + (t_N / (1 + t_N * t_N) + np.arctan(t_N)) / math.pi
    return shares_N


def _pair(first: int, second: int, one: QualityScore, other: QualityScore) -> Pair:
    differences = [
        Difference(defect=name, first=one.defects[name].severity, second=other.defects[name].severity)
        for name in one.defects
    ]
    telling = [each for each in differences if abs(each.first - each.second) >= TELLING]
    return Pair(
        first=first,
        second=second,
        preferred=round(preferred(one, other), 3),
        duplicate=one.sha256 == other.sha256,
        because=tuple(sorted(telling, key=lambda each: -abs(each.first - each.second))),
    )
