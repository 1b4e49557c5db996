"""Data sets, their samples and their readers."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from model.scale import Scale

Part = Literal["train", "validation", "test", ""]


class DatasetError(ValueError):
    """A data set's files are not as they should be; the message names the file."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A picture and its mean opinion score.

    Attributes:
        path: Where the picture is.
        name: Its name in splits: the file name, with folders where file names repeat.
        mos: On the data set's scale; higher is better, whatever the score file says.
        group: The reference picture or prompt that it shares with others; a split keeps a group together.
        part: Its part in the data set's official split; "" if it has none.
        source: Which of the data set's sources it is from, which may differ in their labels; "" if it has one.
    """

    path: Path
    name: str
    mos: float
    group: str
    part: Part = ""
    source: str = ""


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A data set, in the order of its score file.

    Attributes:
        scale: The scale of its labels, as ``Sample.mos`` has them.
        samples: Its pictures.
        note: How the labels were changed, for people; "" if they were not.

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
        name: Its name in recipes.
        title: Its full name and source.
        pictures: Number of pictures of the complete data set; 0 for users' own.
        layout: The files in its folder, in one line.
        columns: The scores to choose from, the usual one first.
        scale: Scale of the usual scores; None where the labels themselves decide it.
        recognises: Whether a folder holds this data set.
        read: Reads its folder and a column; the pictures need not exist.
    """

    name: str
    title: str
    pictures: int
    layout: str
    columns: tuple[str, ...]
    scale: Scale | None
    recognises: Callable[[Path], bool]
    read: Callable[[Path, str], Dataset]
