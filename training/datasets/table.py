"""Any CSV file with the columns ``path`` (relative to the file) and ``mos``; higher is better."""

import csv
from pathlib import Path

from model.contract import Scale
from training.datasets.base import Dataset, DatasetError, Sample, parse_mos


def read(root: Path) -> Dataset:
    """Read a CSV file; the scale runs from its lowest to its highest label.

    Raises:
        DatasetError: The file is missing or has other columns.
    """
    if not root.is_file():
        raise DatasetError(f"{root}: no such CSV file")
    with root.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    try:
        samples = tuple(Sample(root.parent / row["path"], parse_mos(row["mos"])) for row in rows)
    except (KeyError, ValueError) as error:
        raise DatasetError(f"{root}: columns 'path' and 'mos' (a number) are needed: {error}") from error
    labels = [sample.mos for sample in samples]
    if len(set(labels)) < 2:
        raise DatasetError(f"{root}: {len(labels)} pictures with one label cannot be learned from")
    return Dataset(Scale(dataset=root.stem, min=min(labels), max=max(labels)), samples)
