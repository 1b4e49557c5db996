"""What every reader gives."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from model.contract import Scale

Part = Literal["train", "validation", "test", ""]


class DatasetError(ValueError):
    """A data set's files are not as they should be; the message names the file."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A picture and its mean opinion score.

    Attributes:
        path: Where the picture is.
        name: By which splits know it: its file name, with folders where file names repeat.
        mos: On the data set's scale; higher is better, whatever the score file says.
        group: What it shares with others that must not be torn apart by a split: the reference picture, the prompt.
        part: Where the data set's own split puts it; "" if nowhere.
    """

    path: Path
    name: str
    mos: float
    group: str
    part: Part = ""


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A data set in its file's order.

    Attributes:
        scale: The scale of its labels, as ``Sample.mos`` has them.
        samples: Its pictures.
        note: What was done to the labels, for people; "" if nothing.

    Raises:
        DatasetError: It is empty, its labels are all the same, or two pictures share a name.
    """

    scale: Scale
    samples: tuple[Sample, ...]
    note: str = ""

    def __post_init__(self) -> None:
        name = self.scale.dataset
        if len({sample.mos for sample in self.samples}) < 2:
            raise DatasetError(f"{name}: {len(self.samples)} pictures with one label cannot be learned from")
        seen: set[str] = set()
        for sample in self.samples:
            if sample.name in seen:
                raise DatasetError(f"{name}: {sample.name} is listed twice")
            seen.add(sample.name)


@dataclass(frozen=True, kw_only=True)
class Reader:
    """How to read a data set.

    Attributes:
        name: By which recipes know it.
        title: Its full name and source.
        pictures: How many there are when it is whole; 0 for anybody's own.
        layout: What its folder holds, in one line.
        columns: The scores to choose from, the usual one first.
        scale: Scale of the usual scores; None where the labels themselves decide it.
        recognises: Whether a folder looks like it.
        read: From its folder and the chosen column to samples whose files need not exist.
    """

    name: str
    title: str
    pictures: int
    layout: str
    columns: tuple[str, ...]
    scale: Scale | None
    recognises: Callable[[Path], bool]
    read: Callable[[Path, str], Dataset]
