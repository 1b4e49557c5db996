"""Ranges of activations, which int8 layers are scaled by; they travel with the checkpoint."""

from collections.abc import Mapping
from typing import NamedTuple

LEVELS = 255


class Range(NamedTuple):
    """The values that an activation takes."""

    low: float
    high: float

    @property
    def scale(self) -> float:
        """Width of one of the 255 steps."""
        return max(max(self.high, 0.0) - min(self.low, 0.0), 1e-6) / LEVELS

    @property
    def zero(self) -> int:
        """The step that stands for 0, which is always one of them."""
        return round(-min(self.low, 0.0) / self.scale)


Ranges = Mapping[str, tuple[Range, Range]]
"""Of inputs and outputs of the layers to quantise, by their names."""
