"""CSIQ: 30 photos with six kinds of distortion, 866 pictures, DMOS 0 to 1.

Source: Larson and Chandler, "Most apparent distortion: full-reference image quality assessment and the role of
strategy", J. Electronic Imaging 19(1), 2010. Labels are read from ``csiq_label.txt``, lines of a file name such as
``1600.AWGN.1.png`` and a DMOS.
"""

from pathlib import Path

from model.scale import Scale
from training.datasets.base import Dataset, Reader, Sample
from training.datasets.files import Folder, any_file, first_folder
from training.datasets.scorefile import words

SCORES = "csiq_label.txt"
FLAT = "dst_imgs_all"
SCALE = Scale(dataset="csiq", min=0.0, max=1.0)


def read(root: Path, column: str) -> Dataset:
    """Read the label file; pictures lie in one folder or in one for each kind. Labels become 1 minus the DMOS."""
    folder = first_folder(root, FLAT, "dst_imgs")
    flat = folder.name.lower() == FLAT
    images = Folder(folder)
    samples = []
    for row in words(Folder(root).find(SCORES), ("name", column)):
        name = row["name"]
        reference, kind = name.split(".")[0], name.split(".")[1].lower() if name.count(".") > 1 else ""
        samples.append(
            Sample(
                path=images.find(name if flat else f"{kind}/{name}"),
                name=name,
                mos=1.0 - row.number(column),
                group=reference.lower(),
            )
        )
    return Dataset(
        scale=SCALE,
        samples=tuple(samples),
        note="Labels are 1 minus the DMOS, so that higher is better.",
    )


READER = Reader(
    name="csiq",
    title="CSIQ, artificial distortions (Larson and Chandler 2010)",
    pictures=866,
    layout=f"dst_imgs/{{awgn,blur,contrast,fnoise,jpeg,jpeg2000}}/*.png (or {FLAT}/*.png); {SCORES}",
    columns=("dmos",),
    scale=SCALE,
    recognises=any_file(SCORES),
    read=read,
)
