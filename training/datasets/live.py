"""LIVE, release 2: 29 photos with five kinds of distortion, 779 pictures, realigned DMOS.

Source: Sheikh et al., "A statistical evaluation of recent full reference image quality assessment algorithms",
IEEE TIP 15(11), 2006. The arrays list the pictures of five folders one after another, the undistorted copies among
them, which are left out.
"""

from pathlib import Path

from model.scale import Scale
from training.datasets.base import Dataset, DatasetError, Reader, Sample
from training.datasets.files import Folder, any_file
from training.datasets.scorefile import matlab

FOLDERS = {"jp2k": 227, "jpeg": 233, "wn": 174, "gblur": 174, "fastfading": 174}
SCORES, REFERENCES = "dmos_realigned.mat", "refnames_all.mat"


def read(root: Path, column: str) -> Dataset:
    """Read the arrays; labels become the highest DMOS minus the DMOS."""
    files = Folder(root)
    names = [f"{folder}/img{number}.bmp" for folder, count in FOLDERS.items() for number in range(1, count + 1)]
    dmos = matlab(files.find(SCORES), column)
    undistorted = matlab(files.find(SCORES), "orgs")
    references = matlab(files.find(REFERENCES), "refnames_all")
    if not len(dmos) == len(undistorted) == len(references) == len(names):
        raise DatasetError(
            f"{files.find(SCORES)}: {len(dmos)} scores, {len(undistorted)} marks and {len(references)} references "
            f"for the {len(names)} pictures of {', '.join(FOLDERS)}"
        )
    kept = [place for place, original in enumerate(undistorted) if not int(original)]
    worst, best = max(float(dmos[place]) for place in kept), min(float(dmos[place]) for place in kept)
    return Dataset(
        scale=Scale(dataset="live", min=0.0, max=worst - best),
        samples=tuple(
            Sample(
                path=files.find(names[place]),
                name=names[place],
                mos=worst - float(dmos[place]),
                group=str(references[place]).lower(),
            )
            for place in kept
        ),
        note=f"Labels are {worst:.4f} minus the realigned DMOS, so that higher is better.",
    )


READER = Reader(
    name="live",
    title="LIVE release 2, artificial distortions (Sheikh et al. 2006)",
    pictures=779,
    layout=f"{', '.join(FOLDERS)}, each with img1.bmp ...; {SCORES}, {REFERENCES}",
    columns=("dmos_new",),
    scale=None,
    recognises=any_file(SCORES),
    read=read,
)
