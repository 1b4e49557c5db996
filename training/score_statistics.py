"""What the scores of a checkpoint mean, told from a part of its training pictures."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from model import domain
from model.contract import PERCENTILE_STEP, Contract
from model.scorer import Scorer
from training.datasets import Sample
from training.evaluator import evaluate

SCORED = 800
DESCRIBED = 4000
"""Training pictures whose scores, and whose pixels, are looked at, about."""
GRADES_FROM = (10, 30, 70, 90)
"""Percentiles of their scores from which on a picture is poor, fair, good and excellent."""


def describe(scorer: Scorer, samples: Sequence[Sample], contract: Contract) -> Contract:
    """Add percentiles, grades and domain to a contract.

    Args:
        scorer: Of a checkpoint that gives the contract's scores.
        samples: Pictures that it was trained on; the contract stays as it is if they are fewer than ``domain.LEAST``.
        contract: The contract.

    Raises:
        DatasetError: A picture cannot be decoded.
    """
    if len(samples) < domain.LEAST:
        return contract
    scores = [score.score for score in evaluate(scorer, _some(samples, SCORED)).scores]
    pictures = (contract.decode(sample.path.read_bytes()) for sample in _some(samples, DESCRIBED))
    statistics = [domain.statistics(np.asarray(contract.resized(picture))) for picture in pictures]

    def at(percentages: Sequence[int]) -> tuple[float, ...]:
        return tuple(round(float(score), 2) for score in np.percentile(scores, percentages))

    return dataclasses.replace(
        contract,
        percentiles=at(range(0, 101, PERCENTILE_STEP)),
        grades=at(GRADES_FROM),
        domain=domain.fit(statistics),
    )


def _some(samples: Sequence[Sample], count: int) -> Sequence[Sample]:
    return samples[:: max(len(samples) // count, 1)]
