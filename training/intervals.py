"""Training of the head for intervals, and calibration of its widths, on scores of photos that were not trained on."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.contract import Contract
from model.interval import Interval
from model.networks.findings import IntervalHead
from training import preferences
from training.descriptions import fit
from training.preferences import Bin, Judged

LEAST = 100
"""Fewest photos of a kind that get factors of their own; others share those of all photos."""
STEPS = 100
"""Steps in which factors are found."""
LEAST_STEP = 0.01
"""Least that a factor is multiplied by in a step, squared."""
LARGEST = 20.0
"""Largest factor: odd labels of one kind must not make the intervals of all photos that look a little like it wide."""
KIND_WEIGHT = 0.1
"""Weight of the cross-entropy of the kinds beside the loss of the ends."""


@dataclass(frozen=True, kw_only=True)
class Scored:
    """Photos with scores of networks that were not trained on them.

    Attributes:
        described_NI: Their descriptions, on a common scale.
        outputs_N: Their scores, in units of the network's output.
        labels_N: Their labels, in the same units.
        kinds_N: The kind of each photo, from 0.
        folds_N: Which network scored it, from 0.
        kind_names: Names of the kinds.
        comparable_N: Whether each label can be compared with others: whether its source was not left out.
    """

    described_NI: Tensor
    outputs_N: NDArray[np.float64]
    labels_N: NDArray[np.float64]
    kinds_N: NDArray[np.intp]
    folds_N: NDArray[np.intp]
    kind_names: Sequence[str]
    comparable_N: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """How many labels lie within the intervals of some photos.

    Attributes:
        photos: Which photos, in words.
        count: How many.
        within: Share of the labels within their intervals.
        below: Share below.
        above: Share above.
        width: Mean width of the intervals, in points of 100.
    """

    photos: str
    count: int
    within: float
    below: float
    above: float
    width: float


def train(
    head: IntervalHead, scored: Scored, contract: Contract, *, seed: int
) -> tuple[Interval, list[Coverage], list[Bin]]:
    """Train a head for intervals, calibrate its widths, and measure how well such intervals hold.

    The factors of calibration come from heads that were not trained on the photos: one for each fold, trained on the
    others. Those heads are measured as well, each fold with factors from the others.

    Args:
        head: The head, with an output for each kind; it is changed.
        scored: The photos.
        contract: Gives scale and interval; the interval's factors are not read.
        seed: Seed of the fits.

    Returns:
        The calibrated interval; the coverage of each fold, of each kind and of all photos; and how often what is stated
        of pairs holds.
    """
    assert contract.interval is not None
    tail = (1 - contract.interval.coverage) / 2
    start = {name: value.clone() for name, value in head.state_dict().items()}
    folds = range(int(scored.folds_N.max()) + 1)
    columns_NK = np.empty((len(scored.labels_N), contract.interval.columns))
    for fold in folds:
        own_N = scored.folds_N == fold
        head.load_state_dict(start)
        _fit(head, scored, ~own_N, tail, seed)
        columns_NK[own_N] = _columns(head, scored, own_N)
    ends_N2 = np.empty((len(columns_NK), 2))
    for fold in folds:
        own_N = scored.folds_N == fold
        others = scored.outputs_N[~own_N], columns_NK[~own_N], scored.labels_N[~own_N], scored.kinds_N[~own_N]
        interval = calibrate(contract.interval, *others)
        pairs = zip(scored.outputs_N[own_N], columns_NK[own_N], strict=True)
        ends_N2[own_N] = [interval.around(output, row, outside=False) for output, row in pairs]
    head.load_state_dict(start)
    _fit(head, scored, np.ones(len(columns_NK), bool), tail, seed)
    groups = {f"fold {fold}": scored.folds_N == fold for fold in folds}
    groups |= {name: scored.kinds_N == kind for kind, name in enumerate(scored.kind_names)}
    groups["all"] = np.ones(len(columns_NK), bool)
    measured = [_coverage(name, ends_N2[own_N], scored.labels_N[own_N], contract) for name, own_N in groups.items()]
    everything = scored.outputs_N, columns_NK, scored.labels_N, scored.kinds_N
    spread, reliability = preferences.train(_judged(scored, columns_NK, contract), seed=seed)
    return dataclasses.replace(calibrate(contract.interval, *everything), spread=spread), measured, reliability


def _judged(scored: Scored, columns_NK: NDArray[np.float64], contract: Contract) -> Judged:
    """Photos whose labels can be compared, with scores and widths as they are served, in points of 100."""
    scale, chosen_N = contract.scale, scored.comparable_N

    def points(outputs_N: NDArray[np.float64]) -> NDArray[np.float64]:
        raw_N = contract.slope * outputs_N[chosen_N] + contract.intercept
        return np.array([scale.to_percent(float(raw)) for raw in raw_N])

    widths_N = scale.spread_to_percent(abs(contract.slope)) * (columns_NK[chosen_N, 0] + columns_NK[chosen_N, 1])
    return Judged(
        scores_N=points(scored.outputs_N),
        widths_N=widths_N,
        labels_N=points(scored.labels_N),
        folds_N=scored.folds_N[chosen_N],
    )


def _fit(head: IntervalHead, scored: Scored, chosen_N: NDArray[np.bool_], tail: float, seed: int) -> None:
    """Train a head on some of the photos, by the pinball loss of both ends and the cross-entropy of the kind."""
    outputs_N, labels_N = (torch.from_numpy(values[chosen_N]).float() for values in (scored.outputs_N, scored.labels_N))
    kinds_N = torch.from_numpy(scored.kinds_N[chosen_N])

    def loss(noisy_BI: Tensor, places: Tensor) -> Tensor:
        columns_BK: Tensor = head(noisy_BI, outputs_N[places])
        low_B, high_B = outputs_N[places] - columns_BK[:, 0], outputs_N[places] + columns_BK[:, 1]
        ends = pinball(low_B, labels_N[places], tail) + pinball(high_B, labels_N[places], 1 - tail)
        if columns_BK.shape[1] == 2:
            return ends
        right_B = columns_BK[:, 2:].gather(1, kinds_N[places, None]).clamp_min(1e-6)
        return ends - KIND_WEIGHT * right_B.log().mean()

    fit(head, scored.described_NI[torch.from_numpy(chosen_N)], loss, seed=seed)


def pinball(x_N: Tensor, y_N: Tensor, share: float) -> Tensor:
    """Loss that is least where ``share`` of the labels lie below the predictions."""
    above_N = y_N - x_N
    loss: Tensor = torch.maximum(share * above_N, (share - 1) * above_N).mean()
    return loss


def _columns(head: IntervalHead, scored: Scored, chosen_N: NDArray[np.bool_]) -> NDArray[np.float64]:
    outputs_N = torch.from_numpy(scored.outputs_N[chosen_N]).float()
    with torch.inference_mode():
        columns_NK: Tensor = head(scored.described_NI[torch.from_numpy(chosen_N)], outputs_N)
    return np.asarray(columns_NK.double())


def _coverage(photos: str, ends_N2: NDArray[np.float64], labels_N: NDArray[np.float64], contract: Contract) -> Coverage:
    """Measure intervals, cut off at the ends of the scale as those of scores are."""
    scale = contract.scale
    edges = [contract.output(scale.min), contract.output(scale.max)]
    low_N, high_N = ends_N2.clip(min(edges), max(edges)).T
    below, above = float((labels_N < low_N).mean()), float((labels_N > high_N).mean())
    width = scale.spread_to_percent(abs(contract.slope) * float((high_N - low_N).mean()))
    return Coverage(photos=photos, count=len(labels_N), within=1 - below - above, below=below, above=above, width=width)


def calibrate(
    interval: Interval,
    outputs_N: NDArray[np.float64],
    columns_NK: NDArray[np.float64],
    labels_N: NDArray[np.float64],
    kinds_N: NDArray[np.intp],
) -> Interval:
    """Choose the factors with which as many labels of each kind lie within as the interval promises.

    Half of the others lie below, half above.

    Args:
        interval: The interval; its factors are replaced.
        outputs_N: The network's scores of N photos.
        columns_NK: What it gives for their intervals, see ``Interval.around``.
        labels_N: Their labels, in units of the scores.
        kinds_N: The kind that each photo is of.
    """
    share = (1 + interval.coverage) / 2
    likely_NK = columns_NK[:, 2:] if columns_NK.shape[1] > 2 else np.ones((len(columns_NK), 1))
    below_N, above_N = (outputs_N - labels_N) / columns_NK[:, 0], (labels_N - outputs_N) / columns_NK[:, 1]
    below, above = (_factors(ratios_N, likely_NK, kinds_N, share) for ratios_N in (below_N, above_N))
    return dataclasses.replace(interval, below=below, above=above)


def _factors(
    ratios_N: NDArray[np.float64], likely_NK: NDArray[np.float64], kinds_N: NDArray[np.intp], share: float
) -> tuple[float, ...]:
    """A factor for each kind, so that a share of its ratios lies below the mean of the factors by likelihood."""
    members = [kinds_N == kind for kind in range(likely_NK.shape[1])]
    members = [own_N if own_N.sum() >= LEAST else np.ones_like(own_N) for own_N in members]
    factors_K = np.ones(len(members))
    for _ in range(STEPS):
        stretched_N = ratios_N / (likely_NK @ factors_K)
        # Each step goes half of the way, because all kinds move at once.
        factors_K *= [math.sqrt(max(conformal(stretched_N[own_N], share), LEAST_STEP)) for own_N in members]
        factors_K = factors_K.clip(0.0, LARGEST)
    return tuple(round(float(factor), 4) for factor in factors_K)


def conformal(ratios_N: NDArray[np.float64], share: float) -> float:
    """The value that at least a share of further ratios lie below, if they are drawn as these are."""
    place = min(math.ceil((len(ratios_N) + 1) * share), len(ratios_N))
    return round(float(np.clip(np.sort(ratios_N)[place - 1], 0.0, LARGEST)), 4)
