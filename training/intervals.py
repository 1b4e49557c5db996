"""Calibration of intervals: factors of a network's widths, from its scores of photos that it was not trained on."""

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from model.interval import Interval

LEAST = 100
"""Fewest photos of a kind that get factors of their own; others share those of all photos."""
LARGEST = 50.0
"""Largest factor: a network whose widths say nothing must not make them infinite."""


def calibrate(
    interval: Interval, outputs_N: NDArray[np.float64], columns_NK: NDArray[np.float64], labels_N: NDArray[np.float64]
) -> Interval:
    """Choose the factors with which as many labels lie within as the interval promises, half of the others either side.

    Args:
        interval: The interval; its factors are replaced.
        outputs_N: The network's scores of N photos.
        columns_NK: What it gives for their intervals, see ``Interval.around``.
        labels_N: Their labels, in units of the scores.
    """
    kinds_N = kinds(columns_NK)
    tail = (1 - interval.coverage) / 2
    below_N, above_N = (outputs_N - labels_N) / columns_NK[:, 0], (labels_N - outputs_N) / columns_NK[:, 1]
    factors = []
    for kind in range(len(interval.below)):
        own_N = kinds_N == kind
        own_N = own_N if own_N.sum() >= LEAST else np.ones_like(own_N)
        factors.append((conformal(below_N[own_N], 1 - tail), conformal(above_N[own_N], 1 - tail)))
    below, above = zip(*factors, strict=True)
    return dataclasses.replace(interval, below=below, above=above)


def kinds(columns_NK: NDArray[np.float64]) -> NDArray[np.intp]:
    """The kind that each photo is taken for."""
    if columns_NK.shape[1] == 2:
        return np.zeros(len(columns_NK), np.intp)
    most: NDArray[np.intp] = columns_NK[:, 2:].argmax(axis=1)
    return most


def conformal(ratios_N: NDArray[np.float64], share: float) -> float:
    """The value that at least a share of further ratios lie below, if they are drawn as these are."""
    place = min(math.ceil((len(ratios_N) + 1) * share), len(ratios_N))
    return round(float(np.clip(np.sort(ratios_N)[place - 1], 0.0, LARGEST)), 4)
