"""What every reader gives."""

import math
from dataclasses import dataclass
from pathlib import Path

from model.contract import Scale


class DatasetError(ValueError):
    """A data set's files are not as they should be; the message names the file."""


@dataclass(frozen=True)
class Sample:
    """A picture and its mean opinion score, on the data set's own scale."""

    path: Path
    mos: float

    @property
    def name(self) -> str:
        """File name, by which splits know the picture."""
        return self.path.name


@dataclass(frozen=True)
class Dataset:
    """A data set in its file's order.

    Attributes:
        scale: The scale of its labels.
        samples: Its pictures.

    Raises:
        DatasetError: It is empty, its labels are all the same, or two pictures share a name.
    """

    scale: Scale
    samples: tuple[Sample, ...]

    def __post_init__(self) -> None:
        name = self.scale.dataset
        if len({sample.mos for sample in self.samples}) < 2:
            raise DatasetError(f"{name}: {len(self.samples)} pictures with one label cannot be learned from")
        if len({sample.name for sample in self.samples}) < len(self.samples):
            raise DatasetError(f"{name}: two pictures share a file name")


def parse_mos(text: str) -> float:
    """Read a label.

    Raises:
        ValueError: It is not a finite number.
    """
    mos = float(text)
    if not math.isfinite(mos):
        raise ValueError(f"label {text!r} is not a number")
    return mos
