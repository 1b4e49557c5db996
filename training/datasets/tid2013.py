"""TID2013: 25 photos, each with 24 distortions at 5 levels, 3,000 pictures, MOS 0 to 9.

Source: Ponomarenko et al., "Image database TID2013: peculiarities, results and perspectives", Signal Processing: Image
Communication 30, 2015. The list and the disk disagree on the case of letters.
"""

from pathlib import Path

from model.scale import Scale
from training.datasets.base import Dataset, Reader, Sample
from training.datasets.files import Folder, any_file
from training.datasets.scorefile import words

SCORES = "mos_with_names.txt"
SCALE = Scale(dataset="tid2013", min=0.0, max=9.0)


def read(root: Path, column: str) -> Dataset:
    """Read the list; characters 2 and 3 of a name are the number of its reference."""
    files = Folder(root)
    images = Folder(files.find("distorted_images"))
    return Dataset(
        scale=SCALE,
        samples=tuple(
            Sample(path=images.find(name), name=name, mos=row.number(column), group=name[1:3])
            for row in words(files.find(SCORES), (column, "name"))
            for name in [row["name"]]
        ),
    )


READER = Reader(
    name="tid2013",
    title="TID2013, artificial distortions (Ponomarenko et al. 2015)",
    pictures=3_000,
    layout=f"distorted_images/i01_01_1.bmp ...; {SCORES}",
    columns=("mos",),
    scale=SCALE,
    recognises=any_file(SCORES),
    read=read,
)
