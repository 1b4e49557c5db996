"""Readers of picture quality data sets."""

from collections.abc import Callable, Mapping
from pathlib import Path

from training.datasets import biq2021, table
from training.datasets.base import Dataset, DatasetError, Sample

__all__ = ["READERS", "Dataset", "DatasetError", "Sample", "read"]

READERS: Mapping[str, Callable[[Path], Dataset]] = {"biq2021": biq2021.read, "csv": table.read}


def read(name: str, root: Path | str) -> Dataset:
    """Read a data set and check that all its pictures are there.

    Args:
        name: One of ``READERS``.
        root: Its folder; for ``csv``, the CSV file.

    Raises:
        DatasetError: The name is unknown, the files are not as they should be, or pictures are missing.
    """
    if name not in READERS:
        raise DatasetError(f"no data set is called {name!r}; there are {', '.join(READERS)}")
    dataset = READERS[name](Path(root))
    missing = [sample.path for sample in dataset.samples if not sample.path.is_file()]
    if missing:
        others = f" (and {len(missing) - 1} others)" if len(missing) > 1 else ""
        raise DatasetError(f"{missing[0]}: no such picture{others}")
    return dataset
