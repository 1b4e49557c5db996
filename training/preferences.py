"""How sure it is which of two photos people prefer: fitted and checked on pairs of photos that were not trained on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from model.comparison import probability

PAIRS = 20_000
"""Pairs of each fold."""
BINS = np.linspace(0.5, 1, 11).round(2)
"""Edges of the bins of probabilities that reliability is told for."""
LEAST, MOST = 0.01, 2.0
"""Between which the spread is looked for."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """Photos with scores of networks that were not trained on them, in points of 100.

    Attributes:
        scores_N: Their scores.
        widths_N: The network's own widths below and above each score, together.
        labels_N: People's mean opinions, in any unit.
        folds_N: Which network scored each, from 0.
    """

    scores_N: NDArray[np.float64]
    widths_N: NDArray[np.float64]
    labels_N: NDArray[np.float64]
    folds_N: NDArray[np.intp]


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Pairs for which about the same probability was stated.

    Attributes:
        low: Lower edge of the bin.
        high: Upper edge.
        pairs: How many.
        stated: Mean of the stated probabilities that people prefer the one with the higher score.
        held: Share of the pairs in which they did.
    """

    low: float
    high: float
    pairs: int
    stated: float
    held: float


@dataclass(frozen=True, kw_only=True)
class _Pairs:
    """Pairs of photos of one fold each, the one with the higher score first.

    Attributes:
        lead_P: By how much the first one's score is higher.
        width_P: Half of both photos' widths, together.
        won_P: Whether people prefer it.
        folds_P: The fold.
    """

    lead_P: NDArray[np.float64]
    width_P: NDArray[np.float64]
    won_P: NDArray[np.bool_]
    folds_P: NDArray[np.intp]


def train(judged: Judged, *, seed: int) -> tuple[float, list[Bin]]:
    """Fit how widely opinions lie within intervals, and check what is stated of pairs by it.

    Args:
        judged: The photos.
        seed: Seed of the pairs.

    Returns:
        The spread, as in ``Interval``; and the reliability, with the spread of each fold's pairs from the others.
    """
    pairs = _draw(judged, np.random.default_rng(seed))
    stated_P = np.empty(len(pairs.lead_P))
    for fold in np.unique(pairs.folds_P):
        own_P = pairs.folds_P == fold
        stated_P[own_P] = _stated(pairs, _fit(pairs, ~own_P))[own_P]
    return round(_fit(pairs, np.ones(len(stated_P), bool)), 4), reliability(stated_P, pairs.won_P)


def reliability(stated_P: NDArray[np.float64], won_P: NDArray[np.bool_]) -> list[Bin]:
    """How often what was stated with a probability of 0.5 to 1 held, by probability; without empty bins."""
    places_P = np.clip(np.searchsorted(BINS, stated_P, side="right") - 1, 0, len(BINS) - 2)
    return [
        Bin(
            low=float(BINS[place]),
            high=float(BINS[place + 1]),
            pairs=int(own_P.sum()),
            stated=float(stated_P[own_P].mean()),
            held=float(won_P[own_P].mean()),
        )
        for place in range(len(BINS) - 1)
        if (own_P := places_P == place).any()
    ]


def _draw(judged: Judged, rng: np.random.Generator) -> _Pairs:
    chosen: list[NDArray[np.intp]] = []
    for fold in np.unique(judged.folds_N):
        own = np.flatnonzero(judged.folds_N == fold)
        chosen.append(rng.choice(own, (PAIRS, 2)))
    pairs_P2 = np.concatenate(chosen)
    # Of photos that people like the same, none is preferred.
    pairs_P2 = pairs_P2[judged.labels_N[pairs_P2[:, 0]] != judged.labels_N[pairs_P2[:, 1]]]
    falling_P2 = np.take_along_axis(pairs_P2, np.argsort(-judged.scores_N[pairs_P2], axis=1, kind="stable"), axis=1)
    first_P, second_P = falling_P2.T
    return _Pairs(
        lead_P=judged.scores_N[first_P] - judged.scores_N[second_P],
        width_P=np.hypot(judged.widths_N[first_P], judged.widths_N[second_P]) / 2,
        won_P=judged.labels_N[first_P] > judged.labels_N[second_P],
        folds_P=judged.folds_N[first_P],
    )


def _stated(pairs: _Pairs, spread: float) -> NDArray[np.float64]:
    return probability(pairs.lead_P / (spread * pairs.width_P))


def _fit(pairs: _Pairs, chosen_P: NDArray[np.bool_]) -> float:
    def loss(logarithm: float) -> float:
        stated_P = _stated(pairs, float(np.exp(logarithm)))[chosen_P].clip(1e-6, 1 - 1e-6)
        return -float(np.log(np.where(pairs.won_P[chosen_P], stated_P, 1 - stated_P)).mean())

    bounds: Sequence[float] = (float(np.log(LEAST)), float(np.log(MOST)))
    return float(np.exp(optimize.minimize_scalar(loss, bounds=bounds, method="bounded").x))
