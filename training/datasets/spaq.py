"""SPAQ: 11,125 smartphone photos, MOS 0 to 100.

Source: Fang et al., "Perceptual quality assessment of smartphone photography", CVPR 2020. There is no official split.
"""

from pathlib import Path

from model.scale import Scale
from training.datasets.base import Dataset, Reader, Sample
from training.datasets.files import Folder, any_file
from training.datasets.scorefile import table

SCORES = "Annotations/MOS and Image attribute scores.xlsx"
TWIN = "Annotations/MOS and Image attribute scores.csv"
SCALE = Scale(dataset="spaq", min=0.0, max=100.0)


def read(root: Path, column: str) -> Dataset:
    """Read the spreadsheet, or its CSV twin."""
    files = Folder(root)
    scores = files.find(SCORES) if files.find(SCORES).is_file() or not files.find(TWIN).is_file() else files.find(TWIN)
    images = Folder(files.find("TestImage"))
    return Dataset(
        scale=SCALE,
        samples=tuple(
            Sample(path=images.find(name), name=name, mos=row.number(column), group=name)
            for row in table(scores, ("Image name", column))
            for name in [row["Image name"]]
        ),
    )


READER = Reader(
    name="spaq",
    title="SPAQ, smartphone photos (Fang et al. 2020)",
    pictures=11_125,
    layout=f"TestImage/*.jpg; {SCORES} (or .csv)",
    columns=("MOS", "Brightness", "Colorfulness", "Contrast", "Noisiness", "Sharpness"),
    scale=SCALE,
    recognises=any_file(SCORES, TWIN),
    read=read,
)
