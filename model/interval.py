"""The interval around a score that holds most people's mean opinions. Imports no torch.

The network gives two widths for each picture, below its score and above, and how likely each kind of photo is. The
widths are stretched by a factor, the mean of the kinds' own by these probabilities. The kinds' factors are chosen on
photos that the network was not trained on, so that the intervals of each kind hold as many opinions as they promise:
split-conformal prediction, after Romano et al., "Conformalized Quantile Regression", NeurIPS 2019, by kind as Mondrian
conformal prediction does (Vovk et al., 2005).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Interval:
    """How a network's widths become an interval.

    Attributes:
        coverage: Share of the photos whose mean opinion lies within, 0 to 1.
        below: Factor of the width below the score, for each kind.
        above: Factor of the width above it, for each kind.
        outside: Further factor of both for pictures outside the domain.
        spread: How widely opinions lie around a score, as a share of half the network's own widths together: what
            ``model.comparison`` reckons with. Not of the interval: its factors widen many intervals for a few odd
            labels.

    Raises:
        ValueError: A number is out of range, or there are not as many factors below as above.
    """

    coverage: float = 0.9
    below: tuple[float, ...] = (1.0,)
    above: tuple[float, ...] = (1.0,)
    outside: float = 2.0
    spread: float = 0.5

    def __post_init__(self) -> None:
        factors = (*self.below, *self.above, self.outside, self.spread)
        if not 0 < self.coverage < 1 or not self.below or len(self.below) != len(self.above):
            raise ValueError("interval: coverage must be between 0 and 1, and each kind needs two factors")
        if not all(math.isfinite(factor) and factor >= 0 for factor in factors):
            raise ValueError("interval: its factors must be finite, and not below 0")

    @property
    def columns(self) -> int:
        """How many numbers the network gives: two widths, and a probability for each kind if there are several."""
        return 2 + (len(self.below) if len(self.below) > 1 else 0)

    def deviation(self, columns: NDArray[np.float64], *, outside: bool) -> float:
        """How widely opinions lie around a score, as ``model.comparison.probability`` needs it.

        Args:
            columns: As for ``around``.
            outside: As for ``around``.
        """
        return self.spread * float(columns[0] + columns[1]) / 2 * (self.outside if outside else 1.0)

    def around(self, raw: float, columns: NDArray[np.float64], *, outside: bool) -> tuple[float, float]:
        """The interval around a score.

        Args:
            raw: The score, as the network gives it.
            columns: What the network gives for its interval, ``columns`` numbers.
            outside: Whether the picture is outside the domain.

        Returns:
            Its lower and its upper end, as the network would give them.
        """
        likely = columns[2:].tolist() if len(columns) > 2 else [1.0]
        factor = self.outside if outside else 1.0
        # Summed one by one, in order: every machine gets the same digits.
        below = factor * sum(share * own for share, own in zip(likely, self.below, strict=True))
        above = factor * sum(share * own for share, own in zip(likely, self.above, strict=True))
        return raw - below * float(columns[0]), raw + above * float(columns[1])
