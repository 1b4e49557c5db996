"""The domain of a checkpoint: whether a picture resembles the photos that the network was trained on.

Twelve statistics describe how a picture varies from pixel to pixel and how many colours it has. A picture whose
statistics are far from the mean of the training photos, by Mahalanobis distance, is outside the domain: a single
colour, noise, a screenshot, a drawing. The check takes about two milliseconds and does not look at the content.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

STATISTICS = 12
EDGE = 40
"""Neighbours that differ by more than this, of 255, lie on two sides of an edge."""
ROUGHLY_NONE = 0.003
"""Added to shares before taking log odds: keeps them finite, and makes smaller shares nearly equal."""
GRAIN = 3
"""Neighbours that differ by at most this, but not by 0, differ by noise or shading."""
PHOTOS_OUTSIDE = 0.006
"""Share of the training photos that lie outside the limit."""
LEAST = 200
"""Fewest training photos from which so small a share can be estimated."""


@dataclass(frozen=True, kw_only=True)
class Domain:
    """Distribution of the statistics over the training photos.

    Attributes:
        mean: Mean of each statistic.
        whitening: Matrix that makes the deviations uncorrelated with variance 1: its lower triangle, row by row.
        limit: Largest distance of a picture inside the domain.

    Raises:
        ValueError: The number of values is wrong, a value is not finite, or the limit is not positive.
    """

    mean: tuple[float, ...]
    whitening: tuple[float, ...]
    limit: float

    def __post_init__(self) -> None:
        if len(self.mean) != STATISTICS or len(self.whitening) != STATISTICS * (STATISTICS + 1) // 2:
            raise ValueError(f"domain: {len(self.mean)} means and {len(self.whitening)} factors do not fit together")
        if not all(map(math.isfinite, (*self.mean, *self.whitening))) or not self.limit > 0:
            raise ValueError("domain: its numbers must be finite, and its limit above 0")

    def distance(self, pixels_HWC: NDArray[np.uint8]) -> float:
        """Mahalanobis distance of a picture (H, W, 3) from the mean of the training photos."""
        return float(np.linalg.norm(self._matrix() @ (statistics(pixels_HWC) - self.mean)))

    def holds(self, pixels_HWC: NDArray[np.uint8]) -> bool:
        """Whether a picture (H, W, 3) is inside the domain."""
        return self.distance(pixels_HWC) <= self.limit

    def _matrix(self) -> NDArray[np.float64]:
        matrix = np.zeros((STATISTICS, STATISTICS))
        matrix[np.tril_indices(STATISTICS)] = self.whitening
        return matrix


def fit(described: Sequence[NDArray[np.float64]]) -> Domain | None:
    """Make the domain of a set of photos from the ``statistics`` of each; None if there are fewer than ``LEAST``."""
    if len(described) < LEAST:
        return None
    values_PS = np.stack(described)
    mean_S = values_PS.mean(axis=0)
    covariance_SS = np.cov(values_PS, rowvar=False) + 1e-6 * np.eye(STATISTICS)
    whitening_SS = np.linalg.inv(np.linalg.cholesky(covariance_SS))
    distances_P = np.linalg.norm((values_PS - mean_S) @ whitening_SS.T, axis=1)
    return Domain(
        mean=tuple(float(f"{value:.6g}") for value in mean_S),
        whitening=tuple(float(f"{value:.6g}") for value in whitening_SS[np.tril_indices(STATISTICS)]),
        limit=float(f"{np.quantile(distances_P, 1 - PHOTOS_OUTSIDE):.6g}"),
    )


def statistics(pixels_HWC: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Compute the ``STATISTICS`` numbers of a picture (H, W, 3).

    Differences to the right are taken on every other row, those down on every other column, colours on every other
    pixel of both. Shares become log odds, whose distribution over photos is closer to a normal one.
    """
    luma_HW = np.asarray(Image.fromarray(pixels_HWC).convert("L"))
    rows, columns = luma_HW[::2].astype(np.int16), luma_HW[:, ::2].T.astype(np.int16, order="C")
    steps = _steps(rows, 1) + _steps(columns, 1)
    levels = np.arange(256)
    step, far = steps @ levels, (_steps(rows, 4) + _steps(columns, 4)) @ levels
    luma = np.bincount(luma_HW[::2, ::2].ravel(), minlength=256) / luma_HW[::2, ::2].size
    shades = luma[luma > 0]
    # 16 levels per channel.
    coarse_HWC = (pixels_HWC[::2, ::2] >> 4).astype(np.uint16)
    coarse_HW = coarse_HWC[..., 0] << 8 | coarse_HWC[..., 1] << 4 | coarse_HWC[..., 2]
    colours = np.sort(np.bincount(coarse_HW.ravel(), minlength=4096) / coarse_HW.size)[::-1]
    variance = float(luma @ levels**2 - (luma @ levels) ** 2)
    return np.array(
        [
            _log_odds(steps[0] / 2),
            _log_odds(steps[1 : GRAIN + 1].sum() / 2),
            _log_odds(steps[EDGE + 1 :].sum() / 2),
            math.log(step / 2 + 0.05),
            step / (far + 0.1),
            math.sqrt(max(variance, 0.0)),
            -float(shades @ np.log2(shades)),
            _log_odds(luma.max()),
            _log_odds(np.sort(luma)[-4:].sum()),
            _log_odds(colours[0]),
            _log_odds(colours[:4].sum()),
            math.log(1 + np.count_nonzero(colours > 1e-4)),
        ]
    )


def _log_odds(share: float) -> float:
    return math.log((share + ROUGHLY_NONE) / (1 - share + ROUGHLY_NONE))


def _steps(rows: NDArray[np.int16], lag: int) -> NDArray[np.float64]:
    """Shares (256,) of the absolute differences 0 .. 255 between pixels of a row that are ``lag`` apart."""
    differences = np.abs(rows[:, lag:] - rows[:, :-lag]).ravel()
    shares: NDArray[np.float64] = np.bincount(differences, minlength=256) / max(differences.size, 1)
    return shares
