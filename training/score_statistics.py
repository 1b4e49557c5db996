"""Percentiles, grades and input domain of a checkpoint, from a sample of its training pictures."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from model import domain
from model.contract import PERCENTILE_STEP, Contract
from model.scorer import Scorer
from training.datasets import Sample
from training.evaluator import evaluate

SCORED = 800
"""Approximate number of pictures that are scored, for percentiles and grades."""
DESCRIBED = 4000
"""Approximate number of pictures whose pixels are measured, for the domain."""
GRADES_FROM = (10, 30, 70, 90)
"""Percentiles of the scores at which the grades poor, fair, good and excellent begin."""


def describe(scorer: Scorer, samples: Sequence[Sample], contract: Contract) -> Contract:
    """Add percentiles, grades and domain to a contract.

    Args:
        scorer: The checkpoint.
        samples: Its training pictures; with fewer than ``domain.LEAST`` the contract stays as it is.
        contract: Its contract.

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
