"""BIQ2021: 12,000 photos with authentic distortions, 512x512, MOS 0 to 1 from 30 raters each.

Source: Ahmed and Asif, "BIQ2021: a large-scale blind image quality assessment database",
J. Electronic Imaging 31(5), 2022.
Layout: ``Images/*.jpg`` and ``Train (Images and MOS).csv`` with the columns ``Image Name`` and ``MOS``.
"""

import csv
from pathlib import Path

from model.contract import Scale
from training.datasets.base import Dataset, DatasetError, Sample, parse_mos

LABELS = "Train (Images and MOS).csv"
SCALE = Scale(dataset="biq2021", min=0.0, max=1.0)


def read(root: Path) -> Dataset:
    """Read the official training split, or the part of it that the score file lists.

    Raises:
        DatasetError: The score file is missing or has other columns.
    """
    labels = root / LABELS
    if not labels.is_file():
        raise DatasetError(f"{labels}: no such file; {root} is not a BIQ2021 folder")
    with labels.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    images = root / "Images"
    # Some file names differ from the list by the case of their suffix.
    on_disk = {path.name.lower(): path for path in images.iterdir()} if images.is_dir() else {}
    try:
        samples = tuple(
            Sample(on_disk.get(row["Image Name"].lower(), images / row["Image Name"]), parse_mos(row["MOS"]))
            for row in rows
        )
    except (KeyError, ValueError) as error:
        raise DatasetError(f"{labels}: columns 'Image Name' and 'MOS' (a number) are needed: {error}") from error
    return Dataset(SCALE, samples)
