"""AGIQA-3K: 2,982 generated pictures of 300 prompts, scores 0 to 5.

Source: Li et al., "AGIQA-3K: an open database for AI-generated image quality assessment", IEEE TCSVT 34(8), 2024.
``mos_quality`` judges the picture, ``mos_align`` how well it fits its prompt.
"""

from pathlib import Path

from model.scale import Scale
from training.datasets.base import Dataset, Reader, Sample
from training.datasets.files import Folder
from training.datasets.scorefile import table

SCORES = "data.csv"
COLUMNS = ("mos_quality", "mos_align")
SCALE = Scale(dataset="agiqa3k", min=0.0, max=5.0)


def read(root: Path, column: str) -> Dataset:
    """Read the list; pictures of one prompt belong together."""
    files = Folder(root)
    return Dataset(
        scale=SCALE,
        samples=tuple(
            Sample(path=files.find(row["name"]), name=row["name"], mos=row.number(column), group=row["prompt"])
            for row in table(files.find(SCORES), ("name", "prompt", column))
        ),
    )


def recognises(root: Path) -> bool:
    """``data.csv`` is a common name: its first line must have the columns too."""
    file = Folder(root).find(SCORES)
    if not file.is_file():
        return False
    with file.open(encoding="utf-8", errors="replace") as lines:
        return set(COLUMNS) <= set(lines.readline().strip().split(","))


READER = Reader(
    name="agiqa3k",
    title="AGIQA-3K, generated pictures (Li et al. 2024)",
    pictures=2_982,
    layout="*.jpg and data.csv in one folder",
    columns=COLUMNS,
    scale=SCALE,
    recognises=recognises,
    read=read,
)
