"""Losses of a batch of predictions, with and without labels.

``x`` are predictions, ``y`` labels, ``dx`` and ``dy`` their differences over all ordered pairs of the batch.

    l1, smooth_l1, l2   distance to the label
    srcc                1 - r, with r Pearson's correlation: what the SMART-IQA paper calls its SRCC loss
    plcc                (1 - r) / 2, as LoDa's paper writes it
    plcc_mse            (1 - r) (3 + r) / 8, what LoDa's code computes
    ranking             relu(|dx| - sign(dx) dy), SMART-IQA's pairwise ranking
    bins                cross-entropy of distributions over bins; the label's is as wide as its raters' mean is unsure
    fidelity            1 - sqrt(p q) - sqrt((1 - p) (1 - q)), p = sigmoid(dy), q = Phi(dx / (0.1 sqrt 2)), and on as
                        a line from three of these standard deviations

All but the first three and ``bins`` leave the scale of the predictions open; it is fitted when training is finished.
For ``bins``, ``x`` are the logits of a distribution, (N, B).
"""

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

LossName = Literal["l1", "smooth_l1", "l2", "srcc", "plcc", "plcc_mse", "ranking", "fidelity", "bins"]
Loss = Callable[[Tensor, Tensor], Tensor]

SCALED = ("l1", "smooth_l1", "l2", "bins")
"""Losses that teach the scale of the labels."""
FIDELITY_SIGMA = 0.1
FIDELITY_REACH = 3.0
"""Standard deviations of a difference of predictions up to which it is the formula. Beyond, it goes on as a line: the
formula has hardly a gradient there, and predictions that start far apart would stay so."""
RATERS_SPREAD = 0.06
"""Standard deviation of the mean label of thirty raters, about, on a scale of 1."""


def make(name: LossName, *, ranking_weight: float = 0.0, ranking_margin: float = 0.0) -> Loss:
    """Make a loss: a function of predictions (N,) and labels (N,) that returns a scalar.

    Args:
        name: See the module.
        ranking_weight: Weight of an added ``hinge`` term; 0 leaves it out.
        ranking_margin: Its margin, in units of the predictions.
    """
    main = _LOSSES[name]
    if not ranking_weight:
        return main
    return lambda x_N, y_N: main(x_N, y_N) + ranking_weight * hinge(x_N, y_N, ranking_margin)


def pearson(x_N: Tensor, y_N: Tensor) -> Tensor:
    """Pearson's correlation; 0 where one side does not vary."""
    x_N, y_N = x_N - x_N.mean(), y_N - y_N.mean()
    return (x_N * y_N).sum().div((x_N.norm() * y_N.norm()).clamp_min(1e-8))


def ranking(x_N: Tensor, y_N: Tensor) -> Tensor:
    """Loss of pairs whose predictions are in the wrong order, or further apart than their labels."""
    dx, dy = _pairs(x_N, y_N)
    direction = torch.where(dx >= 0, 1.0, -1.0)
    return _mean(F.relu(dx.abs() - direction * dy))


def fidelity(x_N: Tensor, y_N: Tensor) -> Tensor:
    """Distance of two probabilities that one picture beats another: by their labels, and by their predictions."""
    dx, dy = _pairs(x_N, y_N, equal_labels=True)
    z = dx / (math.sqrt(2) * FIDELITY_SIGMA)
    within = z.clamp(-FIDELITY_REACH, FIDELITY_REACH)
    # sigmoid(-dy) is 1 - p, which would round to 0 for labels 17 apart, where the root has no gradient.
    p, not_p = torch.sigmoid(dy), torch.sigmoid(-dy)
    formula = 1 - (p * torch.special.ndtr(within)).sqrt() - (not_p * torch.special.ndtr(-within)).sqrt()
    # The slope of the formula at its reach, by |z|; never downwards, so that nothing is gained by going further.
    likely, unlikely = NormalDist().cdf(FIDELITY_REACH), NormalDist().cdf(-FIDELITY_REACH)
    density = NormalDist().pdf(FIDELITY_REACH) / 2
    told, other = torch.where(z > 0, p, not_p), torch.where(z > 0, not_p, p)
    slope = (density * ((other / unlikely).sqrt() - (told / likely).sqrt())).clamp_min(0)
    return _mean(formula + slope * (z - within).abs())


def bins(logits_NB: Tensor, y_N: Tensor) -> Tensor:
    """Cross-entropy of distributions over bins, whose centres lie evenly from 0 to 1.

    Args:
        logits_NB: Their logits.
        y_N: Labels of 0 to 1. A label stands for a normal distribution, as wide as a mean of raters is uncertain.
    """
    centres_B = torch.linspace(0, 1, logits_NB.shape[1], device=y_N.device)
    return F.cross_entropy(logits_NB, (-0.5 * ((y_N[:, None] - centres_B) / RATERS_SPREAD).square()).softmax(dim=1))


def hinge(x_N: Tensor, y_N: Tensor, margin: float) -> Tensor:
    """Loss of pairs that are not in order by at least a margin."""
    dx, dy = _pairs(x_N, y_N)
    return _mean(F.relu(margin - dx * dy.sign()))


def unlabelled(x_ML: Tensor, blanks_N: Tensor, drops_ML: Tensor, *, lowest: float, weight: float) -> Tensor:
    """Loss of pictures without labels: degraded crops must score less than the crop before them, blanks the least.

    Args:
        x_ML: Predictions for crops, each followed by the same crop more and more degraded, (M, L).
        blanks_N: Predictions for blank pictures.
        drops_ML: How far each entry of a row of ``x_ML`` must lie below the one before, (M, L - 1).
        lowest: The prediction for the lowest label, which blanks must have. Degraded crops must not lie below it: all
            scores there are equal, so their order would be lost.
        weight: Weight of the order of degraded crops.
    """
    without_label = torch.cat([x_ML[:, 1:].flatten(), blanks_N])
    return weight * falling(x_ML, drops_ML) + at_most(blanks_N, lowest) + at_least(without_label, lowest)


def falling(x_ML: Tensor, drops_ML: Tensor) -> Tensor:
    """Loss of rows that do not fall far enough from each entry to the next.

    Args:
        x_ML: Predictions (M, L).
        drops_ML: How far each entry must lie below the one before, (M, L - 1).
    """
    return _mean(F.relu(x_ML[:, 1:] - x_ML[:, :-1] + drops_ML).flatten())


def at_most(x_N: Tensor, highest: float) -> Tensor:
    """Loss of predictions above a number."""
    return _mean(F.relu(x_N - highest))


def at_least(x_N: Tensor, lowest: float) -> Tensor:
    """Loss of predictions below a number."""
    return _mean(F.relu(lowest - x_N))


def _pairs(x_N: Tensor, y_N: Tensor, *, equal_labels: bool = False) -> tuple[Tensor, Tensor]:
    """Differences over all ordered pairs; by default of those whose labels differ."""
    dx, dy = x_N[:, None] - x_N, y_N[:, None] - y_N
    others = ~torch.eye(len(x_N), dtype=torch.bool, device=x_N.device)
    kept = others if equal_labels else others & (dy != 0)
    return dx[kept], dy[kept]


def _mean(values: Tensor) -> Tensor:
    """The mean; 0, with a gradient of 0, of no values."""
    return values.sum() / max(len(values), 1)


def _plcc_mse(x_N: Tensor, y_N: Tensor) -> Tensor:
    r = pearson(x_N, y_N)
    return (1 - r) * (3 + r) / 8


_LOSSES: dict[LossName, Loss] = {
    "l1": F.l1_loss,
    "smooth_l1": F.smooth_l1_loss,
    "l2": F.mse_loss,
    "srcc": lambda x_N, y_N: 1 - pearson(x_N, y_N),
    "plcc": lambda x_N, y_N: (1 - pearson(x_N, y_N)) / 2,
    "plcc_mse": _plcc_mse,
    "ranking": ranking,
    "fidelity": fidelity,
    "bins": bins,
}
