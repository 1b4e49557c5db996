"""LIVE in the Wild (CLIVE): 1,162 photos with authentic distortions, MOS 0 to 100.

Source: Ghadiyaram and Bovik, "Massive online crowdsourced study of subjective and objective picture quality",
IEEE TIP 25(1), 2016. The first 7 of its 1,169 pictures trained the raters; they are left out.
"""

from pathlib import Path

from model.scale import Scale
from training.datasets.base import Dataset, DatasetError, Reader, Sample
from training.datasets.files import Folder, any_file
from training.datasets.scorefile import matlab

NAMES, SCORES = "Data/AllImages_release.mat", "Data/AllMOS_release.mat"
TRAINING = 7
SCALE = Scale(dataset="clive", min=0.0, max=100.0)


def read(root: Path, column: str) -> Dataset:
    """Read the two arrays."""
    files = Folder(root)
    images = Folder(files.find("Images"))
    names = [str(name) for name in matlab(files.find(NAMES), "AllImages_release")]
    scores = [float(score) for score in matlab(files.find(SCORES), column)]
    if len(names) != len(scores):
        raise DatasetError(f"{files.find(SCORES)}: {len(scores)} scores for {len(names)} names")
    return Dataset(
        scale=SCALE,
        samples=tuple(
            Sample(path=images.find(name), name=name, mos=mos, group=name)
            for name, mos in list(zip(names, scores, strict=True))[TRAINING:]
        ),
    )


READER = Reader(
    name="clive",
    title="LIVE in the Wild, photos with authentic distortions (Ghadiyaram and Bovik 2016)",
    pictures=1_162,
    layout=f"Images/*; {NAMES}, {SCORES}",
    columns=("AllMOS_release",),
    scale=SCALE,
    recognises=any_file(SCORES),
    read=read,
)
