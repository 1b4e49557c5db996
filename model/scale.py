"""Scales of scores. Imports no torch."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Scale:
    """The raw scale of a network: the range of the labels of the data set that it was trained on."""

    dataset: str
    min: float
    max: float
    higher_is_better: bool = True

    def __post_init__(self) -> None:
        if not self.min < self.max:
            raise ValueError(f"scale: min {self.min} is not below max {self.max}")

    def to_percent(self, raw: float) -> float:
        """Convert a raw score to 0 (worst) .. 100 (best), clipped to that range."""
        share = (raw - self.min) / (self.max - self.min)
        return 100 * min(max(share if self.higher_is_better else 1 - share, 0.0), 1.0)

    def spread_to_percent(self, raw: float) -> float:
        """Convert a difference of raw scores to points of 100."""
        return 100 * raw / (self.max - self.min)
