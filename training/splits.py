"""Seeded splits, kept as JSON by file name, so that a figure can name the very pictures it was measured on."""

import json
import random
from dataclasses import asdict, dataclass
from pathlib import Path

from training.datasets import Dataset, DatasetError, Sample


@dataclass(frozen=True, kw_only=True)
class Split:
    """File names of the training and validation pictures.

    Raises:
        DatasetError: A picture is in both, or one of them is empty.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]

    def __post_init__(self) -> None:
        if shared := set(self.train) & set(self.validation):
            raise DatasetError(f"the split leaks: {min(shared)} is in training and in validation")
        if not self.train or not self.validation:
            raise DatasetError("the split leaves training or validation empty")


def make(dataset: Dataset, *, validation_share: float, seed: int) -> Split:
    """Draw a split: the same for the same pictures, share and seed."""
    names = sorted(sample.name for sample in dataset.samples)
    random.Random(seed).shuffle(names)
    count = round(len(names) * validation_share)
    return Split(train=tuple(sorted(names[count:])), validation=tuple(sorted(names[:count])))


def save(split: Split, file: Path) -> None:
    """Write a split as JSON."""
    file.write_text(json.dumps(asdict(split), indent=0) + "\n", encoding="utf-8")


def load(file: Path) -> Split:
    """Read a split.

    Raises:
        DatasetError: The file cannot be read or is not a split.
    """
    try:
        fields = json.loads(file.read_text(encoding="utf-8"))
        return Split(train=tuple(fields["train"]), validation=tuple(fields["validation"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{file}: not a split file: {error}") from error


def select(dataset: Dataset, names: tuple[str, ...]) -> list[Sample]:
    """Pick samples by name.

    Raises:
        DatasetError: The data set lacks one of them.
    """
    by_name = {sample.name: sample for sample in dataset.samples}
    if absent := [name for name in names if name not in by_name]:
        raise DatasetError(f"the split names {absent[0]} (and {len(absent) - 1} others), which the data set lacks")
    return [by_name[name] for name in names]
