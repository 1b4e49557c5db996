"""BIQ2021: 12,000 photos with authentic distortions, 512x512, MOS 0 to 1 from 30 raters each.

Source: Ahmed and Asif, "BIQ2021: a large-scale blind image quality assessment database",
J. Electronic Imaging 31(5), 2022. Its two score files are its official split.
"""

from pathlib import Path

from model.scale import Scale
from training.datasets.base import Dataset, DatasetError, Part, Reader, Sample
from training.datasets.files import Folder, any_file
from training.datasets.scorefile import table

PARTS: dict[str, Part] = {"Train (Images and MOS).csv": "train", "Test (Images and MOS).csv": "test"}
SCALE = Scale(dataset="biq2021", min=0.0, max=1.0)


def read(root: Path, column: str) -> Dataset:
    """Read whichever of the two score files are there."""
    files = Folder(root)
    found = {file: part for name, part in PARTS.items() if (file := files.find(name)).is_file()}
    if not found:
        raise DatasetError(f"{root / next(iter(PARTS))}: no such file; {root} is not a BIQ2021 folder")
    images = Folder(files.find("Images"))
    samples = tuple(
        Sample(
            path=images.find(row["Image Name"]),
            name=row["Image Name"],
            mos=row.number(column),
            group=row["Image Name"],
            part=part,
            source=row["Image Name"].partition(" ")[0],
        )
        for file, part in found.items()
        for row in table(file, ("Image Name", column))
    )
    return Dataset(scale=SCALE, samples=samples)


READER = Reader(
    name="biq2021",
    title="BIQ2021, photos with authentic distortions (Ahmed and Asif 2022)",
    pictures=12_000,
    layout="Images/*.jpg; Train (Images and MOS).csv, Test (Images and MOS).csv",
    columns=("MOS",),
    scale=SCALE,
    recognises=any_file(*PARTS),
    read=read,
)
